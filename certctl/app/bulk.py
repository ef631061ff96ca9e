"""A run over many names: it leaves a reserve of the CA's limits, reports its progress, and can be continued."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

from certctl.app.context import Context
from certctl.app.progress import OrderForecast, RunProgress
from certctl.app.report import Report
from certctl.budget import BULK, Bucket, Limit, Spend, leaving
from certctl.errors import Interrupted, WaitsFor
from certctl.slugs import Slug
from certctl.stories.journey import Journey


@contextmanager
def bulk(journeys: Sequence[Journey], context: Context, report: Report) -> Iterator[Mapping[Bucket, Limit]]:
    """Yield the limits that a run over this many names may use, by bucket; report progress and what is left.

    Raises:
        Interrupted: Ctrl-C or SIGTERM, with the number of names that are done.
    """
    if len(journeys) < 2:  # noqa: PLR2004 - more than one is many
        yield context.world.limits
        return
    limits = leaving(context.world.limits, BULK)
    outlook = _outlook(limits, context)
    report.expect(len(journeys), RunProgress(len(journeys), _new(journeys, context), context.clock, outlook))
    try:
        yield limits
    except KeyboardInterrupt as error:
        raise _stopped(journeys) from error
    errors = [journey.error for journey in journeys if journey.error]
    left = sum(error.kind.waits_for is WaitsFor.BUDGET for error in errors)
    if left and outlook:
        report.note(
            f"{left} had to stay behind: {outlook.said(left)}. Give the same names again, or --wait-for-limits."
        )


def _outlook(limits: Mapping[Bucket, Limit], context: Context) -> OrderForecast | None:
    orders = limits.get(Bucket.ORDERS)
    if orders is None:
        return None
    return OrderForecast(orders, partial(context.store.spent, Spend(Bucket.ORDERS, ""), orders), context.clock)


def _new(journeys: Sequence[Journey], context: Context) -> int:
    """Count the names for which the store has no certificate: each needs an order."""
    rows = (context.store.domain(journey.domain) for journey in journeys)
    return sum(row is None or row.certificate is None for row in rows)


def _stopped(journeys: Sequence[Journey]) -> Interrupted:
    done = sum(journey.ok and journey.ended_at is not None for journey in journeys)
    return Interrupted(
        Slug.INTERRUPTED,
        f"stopped with {done} of {len(journeys)} names done; what was in force before still is",
        expected=["the same command again, with the same names: it goes on here, and orders nothing twice"],
        next=["certctl issue - < NAMES", "certctl status"],
    )
