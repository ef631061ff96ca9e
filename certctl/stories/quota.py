"""What a request to the CA takes from its limits, kept in our own ledger, and the rest after a failure.

A request that would be refused is not sent (exit 6 with the time to wait). Failures are remembered and backed
off; a domain that rests is not asked about at the CA, whoever calls, unless the operator insists.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from math import ceil

from certctl.budget import Bucket, Request, Spend, backoff
from certctl.domain import Domain, registered_domain
from certctl.errors import AtCa, CertctlError, RateLimited
from certctl.ports.world import World
from certctl.slugs import Slug
from certctl.values import DomainRow


class NoOrderYet(Exception):
    """The next order is allowed after ``wait``, and this run goes on then; it must hold nothing meanwhile."""

    def __init__(self, wait: timedelta) -> None:
        super().__init__(f"no order for {wait}")
        self.wait = wait


def request_for(domain: Domain, *, renewal: bool) -> Request:
    """Describe the certificate for a domain as the CA will count it."""
    return Request(domain.names, (registered_domain(domain),), renewal)


@contextmanager
def spending(request: Request, world: World) -> Iterator[None]:
    """Let one request to the CA through if its limits allow it, and write down what it took.

    The tokens are written down before the CA is asked, so that the last one is not taken twice by two domains at
    the same moment; what the CA did not take comes back.

    Raises:
        RateLimited: ``budget-exhausted``: the CA would refuse, or what is left is for others; it is not asked.
        NoOrderYet: the same about orders, in a run that waits for them.
    """
    now = _take(request, world)
    try:
        yield
    except CertctlError as error:
        world.store.refund([] if error.quota_used else request.order, now)
        world.store.refund([] if _may_have_been_made(error) else request.certificate, now)
        if error.kind.at_ca is AtCa.VALIDATION:
            world.store.spend(request.failure, now)
        raise
    for spend in request.failure:
        if spend.bucket is Bucket.CONSECUTIVE:
            world.store.forgive(spend)


def _take(request: Request, world: World) -> datetime:
    """Take the tokens for a request and return the moment they were written down at."""
    now = world.clock.now()
    missing = world.store.take(request.needed, [*request.order, *request.certificate], world.limits, now)
    if missing is None:
        return now
    spend, wait = missing
    if spend.bucket is Bucket.ORDERS and world.waits_for_orders:
        raise NoOrderYet(wait)
    raise _exhausted(spend, wait, world)


def keep_resting(row: DomainRow, world: World) -> None:
    """Refuse a domain whose last attempt failed too recently.

    Raises:
        RateLimited: ``backing-off``, with the time to wait.
    """
    if row.retry_at and row.retry_at > world.clock.now():
        raise backing_off(row, row.retry_at, world.clock.now())


def backing_off(row: DomainRow, until: datetime, now: datetime) -> RateLimited:
    """Describe a domain that rests."""
    return RateLimited(
        Slug.BACKING_OFF,
        f"{row.domain} failed {row.attempts} times at the CA, last with {row.last_error}: it rests",
        expected=[f"the next try not before {until:%Y-%m-%d %H:%M:%S} UTC"],
        next=[f"certctl log {row.domain}", f"{command_for(row.domain)} --force"],
        retry_after=ceil((until - now).total_seconds()),
    )


def command_for(domain: Domain) -> str:
    """Return the command that gets a domain its certificate."""
    return f"certctl wildcard {domain.zone}" if domain.is_wildcard else f"certctl issue {domain}"


def rest(domain: Domain, error: CertctlError, world: World) -> datetime | None:
    """Return until when a domain rests after this error; None when nothing that counts was asked of the CA."""
    if not _was_attempt(error):
        return None
    row = world.store.domain(domain)
    pause = timedelta(seconds=error.retry_after) if error.retry_after else backoff((row.attempts if row else 0) + 1)
    return world.clock.now() + pause


def _may_have_been_made(error: CertctlError) -> bool:
    return error.kind.at_ca is AtCa.UNSURE or _was_cut_short(error)


def _was_attempt(error: CertctlError) -> bool:
    return error.kind.at_ca not in {AtCa.NOTHING, AtCa.CUT_SHORT} or _was_cut_short(error)


def _was_cut_short(error: CertctlError) -> bool:
    """Tell whether the engine was killed after the CA had taken an order: each of these costs another one."""
    return error.kind.at_ca is AtCa.CUT_SHORT and error.quota_used


def _exhausted(spend: Spend, wait: timedelta, world: World) -> RateLimited:
    limit = world.limits[spend.bucket]
    what = f"the CA's limit on {spend.bucket.replace('-', ' ')} per {limit.per}"
    is_kept = wait <= limit.reserve * limit.refill
    kept = f"what is left of {what} ({limit.reserve} of {limit.capacity}) is kept for {limit.others}"
    return RateLimited(
        Slug.BUDGET_EXHAUSTED,
        kept if is_kept else f"{what} is used up" + (f" for {spend.key}" if spend.key else ""),
        expected=[f"one more in {timedelta(seconds=ceil(wait.total_seconds()))}"],
        next=["certctl budget"],
        retry_after=ceil(wait.total_seconds()),
    )
