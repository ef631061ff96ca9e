"""``certctl budget``: what the CA's limits still allow, by our own ledger."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

import click

from certctl.app.batch import parse_name
from certctl.app.context import Context
from certctl.app.report import Rows
from certctl.budget import BULK, FIRST_VISITS, Bucket, Limit, Spend, leaving
from certctl.cli.commands.completion import known_domains
from certctl.cli.framework import Invocation, command
from certctl.cli.opening import inspect_context
from certctl.cli.output.choose import open_report

_WIDTH = 20
_SHOWN = 10


@command(
    "budget",
    """
    certctl budget                       the account, and whatever is nearly used up
    certctl budget status.example.com    everything that counts for one domain
    certctl budget '*.example.com'       and for a wildcard of your own
    """,
)
@click.argument("domain", required=False, shell_complete=known_domains)
@click.pass_obj
def budget(invocation: Invocation, domain: str | None) -> int:
    """Show what the CA's limits still allow, and when the next request is allowed.

    Computed from our own ledger of past requests; the CA is not asked. What another certctl or another account
    spent for the same names is not in it.
    """
    context, report = inspect_context(invocation), open_report(invocation)
    now = context.clock.now()
    gauges = [_gauge(spend, limit, context, now) for spend, limit in _spends(domain, context, now)]
    rows = [[g.bucket, g.key, _bar(g.left / g.capacity), f"{int(g.left)} of {g.capacity}", g.next] for g in gauges]
    notes = [] if domain else _kept(context.limits)
    if not context.limits:
        notes = [f"no limits are known for {context.settings.ca.directory} ([ca] limits)"]
    report.data([asdict(g) for g in gauges], Rows(["limit", "for", "", "left", "next"], rows, notes))
    return 0


def _spends(domain: str | None, context: Context, now: datetime) -> Iterator[tuple[Spend, Limit]]:
    """Yield each bucket to show with its limit: those of one domain, or the account's and the most used others."""
    if domain:
        from certctl.stories.quota import request_for

        wanted = request_for(parse_name(domain, context), renewal=False).needed
        yield from ((spend, context.limits[spend.bucket]) for spend in wanted if spend.bucket in context.limits)
        return
    for bucket, limit in context.limits.items():
        keys = [""] if bucket is Bucket.ORDERS else context.store.spent_keys(bucket, limit, now)[:_SHOWN]
        yield from ((Spend(bucket, key), limit) for key in keys)


def _kept(limits: Mapping[Bucket, Limit]) -> list[str]:
    """Return a line for each reserve of new orders."""
    if Bucket.ORDERS not in limits:
        return []
    bulk, visits = (limits[Bucket.ORDERS].keeping(reserve) for reserve in (BULK, FIRST_VISITS))
    return [
        f"Many names at once leave {bulk.reserve} orders for {bulk.others};",
        f"first visitors leave {visits.reserve} for {visits.others}.",
    ]


@dataclass(frozen=True, slots=True)
class Gauge:
    """One bucket of the ledger now; ``kept_from_…`` is the reserve such a run leaves to others."""

    bucket: str
    key: str
    capacity: int
    left: float
    next: str
    retry_after: int
    kept_from_bulk: int
    kept_from_first_visits: int


def _gauge(spend: Spend, limit: Limit, context: Context, now: datetime) -> Gauge:
    spent = context.store.spent(spend, limit, now)
    wait = round(limit.wait(spent, now).total_seconds())
    left = max(0.0, round(limit.tokens(spent, now), 2))
    next_one = f"in {timedelta(seconds=wait)}" if wait else "now"
    bulk, visits = (leaving({spend.bucket: limit}, r)[spend.bucket].reserve for r in (BULK, FIRST_VISITS))
    return Gauge(spend.bucket, spend.key or "this account", limit.capacity, left, next_one, wait, bulk, visits)


def _bar(share: float) -> str:
    full = round(_WIDTH * share)
    return "█" * full + "░" * (_WIDTH - full)
