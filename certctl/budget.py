"""Pure: what the CA's limits still allow, and when a failed domain may try again.

Let's Encrypt counts in token buckets (rate-limits page of 2026-08-05): a bucket of ``capacity`` tokens gains one
every ``refill``; a request takes one, and is refused when there is none. The same arithmetic over our own ledger
of past requests says beforehand what would be refused. Revoking a certificate gives nothing back.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal
from urllib.parse import urlsplit

_LADDER = (timedelta(minutes=1), timedelta(minutes=10), timedelta(minutes=100), timedelta(days=1))


class Bucket(StrEnum):
    """What a CA counts; the value is the metric's label and the ledger's key."""

    ORDERS = "orders"
    CERTIFICATES = "certificates"
    DUPLICATES = "duplicates"
    FAILURES = "failed-authorizations"
    CONSECUTIVE = "consecutive-failures"


@dataclass(frozen=True, slots=True)
class Reserve:
    """The share of new orders that one kind of run leaves to others, and the name of those others."""

    share: float
    others: str


BULK = Reserve(0.2, "first visitors, renewals and names issued one at a time")
FIRST_VISITS = Reserve(0.05, "renewals and names an operator issues")


@dataclass(frozen=True, slots=True)
class Limit:
    """One token bucket.

    Attributes:
        capacity: Tokens when it is full.
        refill: How long one token takes to come back.
        per: What it is counted by, in words.
        reserve: Tokens that are left for others.
        others: The name of those others, for messages.
    """

    capacity: int
    refill: timedelta
    per: str
    reserve: int = 0
    others: str = ""

    @property
    def memory(self) -> timedelta:
        """Return how long an empty bucket takes to refill."""
        return self.capacity * self.refill

    def latest(self, now: datetime) -> datetime:
        """Return until when a stored request counts: a later one was written by a wrong clock."""
        return now + self.memory

    def raised(self, capacity: int) -> "Limit":
        """Return this limit with a capacity the CA granted: more tokens come back in the same time."""
        return replace(self, capacity=capacity, refill=self.memory / capacity)

    def keeping(self, reserve: Reserve) -> "Limit":
        """Return this limit with a share of its capacity left for others, at most all but one token."""
        kept = min(self.capacity - 1, round(self.capacity * reserve.share))
        return replace(self, reserve=kept, others=reserve.others)

    def tokens(self, spent: Iterable[datetime], now: datetime) -> float:
        """Return how many tokens are left after these requests, of a bucket that was full before them.

        A request with a time in the future, by a clock that was ahead, counts as made just now.
        """
        return self._level(self.capacity, spent, now)

    def is_told_by(self, spent: Iterable[datetime], now: datetime) -> bool:
        """Tell whether requests before these no longer matter.

        They do not once the bucket has been full in between. One that is used without a pause, as by a long import,
        is never full: then the whole history is needed.
        """
        return self._level(0, spent, now) == self._level(self.capacity, spent, now)

    def forgotten(self, spent: Sequence[datetime], now: datetime) -> int:
        """Return how many of the earliest requests no longer matter: the bucket was full again after them."""
        level, last, count = 0.0, None, 0
        for index, moment in enumerate([*sorted(min(moment, now) for moment in spent), now]):
            level = level if last is None else min(self.capacity, level - 1 + (moment - last) / self.refill)
            count = index if level >= self.capacity else count
            last = moment
        return count

    def _level(self, level: float, spent: Iterable[datetime], now: datetime) -> float:
        last = None
        for moment in [*sorted(min(moment, now) for moment in spent), now]:
            level = level if last is None else min(self.capacity, level - 1 + (moment - last) / self.refill)
            last = moment
        return level

    def wait(self, spent: Iterable[datetime], now: datetime, requests: int = 1) -> timedelta:
        """Return how long until so many more requests are allowed; zero when they are allowed now."""
        missing = requests + self.reserve - self.tokens(spent, now)
        return max(timedelta(0), missing * self.refill)


LETS_ENCRYPT: Mapping[Bucket, Limit] = {
    Bucket.ORDERS: Limit(300, timedelta(seconds=36), "account"),
    Bucket.CERTIFICATES: Limit(50, timedelta(minutes=202), "registered domain"),
    Bucket.DUPLICATES: Limit(5, timedelta(hours=34), "exact set of names"),
    Bucket.FAILURES: Limit(5, timedelta(minutes=12), "name"),
    Bucket.CONSECUTIVE: Limit(1152, timedelta(days=1), "name; a success empties it"),
}
"""Figures of 2026-08-05. The CA raises the first two on request ([ca] limit_overrides), the others never."""

LETS_ENCRYPT_STAGING: Mapping[Bucket, Limit] = {
    Bucket.ORDERS: Limit(1500, timedelta(seconds=7.2), "account"),
    Bucket.DUPLICATES: Limit(30_000, timedelta(days=7) / 30_000, "exact set of names"),
    Bucket.FAILURES: Limit(200, timedelta(seconds=18), "name"),
    Bucket.CONSECUTIVE: Limit(3600, timedelta(hours=6), "name; a success empties it"),
}
"""Of its staging environment; certificates per registered domain are as good as unlimited there."""


def limits_at(directory: str, wanted: Literal["auto", "letsencrypt", "none"]) -> Mapping[Bucket, Limit]:
    """Return the limits of the CA with this directory; one we know nothing of has none, unless they are wanted."""
    host = urlsplit(directory).hostname or ""
    at_home = host.endswith(".letsencrypt.org")
    if wanted == "none" or (wanted == "auto" and not at_home):
        return {}
    return LETS_ENCRYPT_STAGING if at_home and "staging" in host else LETS_ENCRYPT


def leaving(limits: Mapping[Bucket, Limit], reserve: Reserve) -> Mapping[Bucket, Limit]:
    """Return the limits less a reserve of the account's new orders.

    The other buckets belong to one name or one registered domain each, so nothing of them has to be reserved.
    """
    return {b: limit.keeping(reserve) if b is Bucket.ORDERS else limit for b, limit in limits.items()}


@dataclass(frozen=True, slots=True)
class Spend:
    """One token of one bucket: the ledger is made of these."""

    bucket: Bucket
    key: str


@dataclass(frozen=True, slots=True)
class Request:
    """A certificate about to be ordered, as the CA will count it.

    Attributes:
        names: All names in it.
        registered: Their registered domains (one label below a public suffix).
        renewal: The CA has signed exactly these names before: then orders and certificates per registered
            domain are not counted. (A renewal by ARI with ``replaces`` is not counted at all.)
        begins: Only the order is placed now; the certificate comes with another request.
    """

    names: tuple[str, ...]
    registered: tuple[str, ...]
    renewal: bool = False
    begins: bool = False

    @property
    def order(self) -> Sequence[Spend]:
        """Return the tokens that placing the order takes."""
        return [] if self.renewal else [Spend(Bucket.ORDERS, "")]

    @property
    def certificate(self) -> Sequence[Spend]:
        """Return the tokens that the certificate takes when it is issued."""
        if self.begins:
            return []
        duplicate = Spend(Bucket.DUPLICATES, ",".join(sorted(self.names)))
        return [duplicate] + (
            [] if self.renewal else [Spend(Bucket.CERTIFICATES, name) for name in self.registered]
        )

    @property
    def failure(self) -> Sequence[Spend]:
        """Return the tokens that a failed validation takes."""
        hosts = sorted({name.removeprefix("*.") for name in self.names})
        return [Spend(bucket, host) for bucket in (Bucket.FAILURES, Bucket.CONSECUTIVE) for host in hosts]

    @property
    def needed(self) -> Sequence[Spend]:
        """Return all tokens that must be free before the CA is asked."""
        return [*self.order, *self.certificate, *self.failure]


def backoff(attempts: int) -> timedelta:
    """Return the back-off after the n-th failure in a row at the CA, the first being 1.

    Let's Encrypt's integration guide: one minute, ten minutes, a hundred minutes, then daily.
    """
    return _LADDER[min(attempts, len(_LADDER)) - 1]
