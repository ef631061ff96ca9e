"""The rate limit on new names from visits: per registered domain, and overall."""

import time
from collections.abc import Callable

from certctl.domain import Domain, registered_domain
from certctl.serve.memory import RecentAnswers
from certctl.serve.settings import Rate

_SHARES = 10_000


class TokenBucket:
    """One token bucket, in memory."""

    def __init__(self, rate: Rate, now: float) -> None:
        self._burst = float(rate.burst)
        self._refill = rate.refill.total_seconds()
        self._level = self._burst
        self._at = now

    def missing(self, now: float) -> float:
        """Return the seconds until there is a token; 0 when there is one."""
        self._level = min(self._burst, self._level + (now - self._at) / self._refill)
        self._at = now
        return max(0.0, (1 - self._level) * self._refill)

    def take(self) -> None:
        """Take one token, which ``missing`` has found."""
        self._level -= 1


class RateLimiter:
    """A token bucket per registered domain and one for all; a name needs a token of both."""

    def __init__(self, share: Rate, overall: Rate, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._share = share
        self._full_after = share.burst * share.refill.total_seconds()
        self._shares: RecentAnswers[str, TokenBucket] = RecentAnswers(_SHARES, now)
        self._overall = TokenBucket(overall, now())

    def take(self, domain: Domain) -> float:
        """Take the tokens for one name and return 0; else return how many seconds until there are some."""
        now, owner = self._now(), registered_domain(domain)
        known = self._shares.get(owner)
        share = known[0] if known else TokenBucket(self._share, now)
        if wait := max(share.missing(now), self._overall.missing(now)):
            return wait
        share.take()
        self._overall.take()
        self._shares.put(owner, share, self._full_after)
        return 0.0
