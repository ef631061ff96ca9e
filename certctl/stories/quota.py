"""The CA's rate limits as certctl keeps them: our own ledger of requests, and the back-off after a failure.

A request that would be refused is not sent (exit 6 with the time to wait). A domain in its back-off is not ordered
by any command or the daemon, unless the operator insists.
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
    """The next order is allowed after ``wait``; a run that waits for it must release its locks."""

    def __init__(self, wait: timedelta) -> None:
        super().__init__(f"no order for {wait}")
        self.wait = wait


def request_for(domain: Domain, *, renewal: bool) -> Request:
    """Return the request for a domain's certificate as the CA will count it."""
    return Request(domain.names, (registered_domain(domain),), renewal)


@contextmanager
def spending(request: Request, world: World) -> Iterator[None]:
    """Take the tokens for one request to the CA, if its limits allow it, and settle them after the block.

    The tokens are taken before the request, so that two domains never take the same last one; those the CA did not
    count are refunded.

    Raises:
        RateLimited: ``budget-exhausted``: the CA would refuse, or what is left is reserved; the block is not run.
        NoOrderYet: as above for orders, in a run that waits for them.
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
    """Take the tokens for a request; return the moment under which the ledger has them."""
    now = world.clock.now()
    missing = world.store.take(request.needed, [*request.order, *request.certificate], world.limits, now)
    if missing is None:
        return now
    spend, wait = missing
    if spend.bucket is Bucket.ORDERS and world.waits_for_orders:
        raise NoOrderYet(wait)
    raise _exhausted(spend, wait, world)


def refuse_in_backoff(row: DomainRow, world: World) -> None:
    """Refuse a domain that is in its back-off.

    Raises:
        RateLimited: ``backing-off``, with the time to wait.
    """
    if row.retry_at and row.retry_at > world.clock.now():
        raise backing_off(row, row.retry_at, world.clock.now())


def backing_off(row: DomainRow, until: datetime, now: datetime) -> RateLimited:
    """Return the error for a domain in its back-off."""
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


def backoff_until(domain: Domain, error: CertctlError, world: World) -> datetime | None:
    """Return the end of a domain's back-off after this error; None when it was no attempt that the CA counts."""
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
    """Tell whether the engine was killed after it had placed an order: the next attempt places another one."""
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
