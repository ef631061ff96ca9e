"""Choose the domains a run renews: those that were named, or all that are due."""

from collections.abc import Iterable, Sequence

from certctl.app.batch import Batch, start
from certctl.app.context import Context
from certctl.app.given import Given
from certctl.app.report import Report
from certctl.domain import Domain
from certctl.due import is_late
from certctl.errors import ConfigInvalid
from certctl.slugs import Slug
from certctl.stories.journey import Journey
from certctl.stories.quota import backing_off, command_for
from certctl.stories.result import PARKED, JourneyResult
from certctl.values import DomainRow, State


def named(names: Iterable[Given], context: Context, report: Report, *, insists: bool) -> Batch:
    """Return a batch of the domains that were named; one that has no certificate to renew is rejected."""
    batch = start(names, context, report, insists=insists, wildcards=True)
    known, refused = [], list(batch.refused)
    for journey in batch.journeys:
        if _is_renewable(context.store.domain(journey.domain)):
            known.append(journey)
        else:
            refused.append(JourneyResult(domain=str(journey.domain), error=_unknown(journey.domain)))
    return Batch(known, refused)


def _is_renewable(row: DomainRow | None) -> bool:
    return row is not None and (row.certificate is not None or bool(row.damage)) and row.state is not State.REMOVED


def _unknown(domain: Domain) -> ConfigInvalid:
    return ConfigInvalid(
        Slug.UNKNOWN_DOMAIN,
        f"there is no certificate of {domain} to renew",
        next=[command_for(domain), "certctl status --all"],
    )


def foreseen(batch: Batch, context: Context, report: Report) -> Batch:
    """Return the batch with what a run would do with each domain (``--dry-run``): renew, leave alone, or refuse."""
    from certctl.stories.damage import damaged
    from certctl.stories.renew import is_waiting, resting
    from certctl.stories.wildcard import by_hand, needs_person

    due, refused = [], list(batch.refused)
    for journey in batch.journeys:
        row = context.store.domain(journey.domain)
        if row is None or not (journey.insists or is_waiting(row, context.world)):
            report.note(f"{journey.domain}: not due")
        elif row.damage and not journey.insists:
            refused.append(JourneyResult(domain=str(row.domain), error=damaged(row)))
        elif needs_person(row):
            refused.append(JourneyResult(domain=str(row.domain), error=by_hand(row, context.world)))
        elif not journey.insists and resting(context.world, [row]):
            refused.append(_asleep(row, context))
        else:
            due.append(journey)
    return Batch(due, refused)


def due(context: Context, report: Report, *, insists: bool, asks: bool, limit: int | None = None) -> Batch:
    """Return a batch of all domains that are due; the CA is asked for its suggestions (ARI) only if ``asks``.

    With a limit it has at most that many, soonest to expire first. Parked domains do not count: a look at each
    costs the CA nothing, and those that stay parked would take the turn of others in every run.
    """
    from certctl.stories.renew import refresh_suggestions, resting, waiting

    world = context.world
    if insists:
        everything = [row.domain for row in context.store.domains() if _is_renewable(row)]
        return Batch([Journey(domain, report, insists=True) for domain in everything[:limit]], [])
    if asks:
        refresh_suggestions(world)
    rows = world.candidates()
    asleep = [_asleep(row, context) for row in resting(world, rows)]
    if asleep:
        report.note(f"{len(asleep)} resting after a failure at the CA: certctl status --failing")
    for text in _reminders(rows, context, asks=asks):
        report.note(text)
    late = [sleeper for sleeper in asleep if sleeper.late]
    return Batch([Journey(row.domain, report) for row in _limited(waiting(world, rows), limit)], late)


def _limited(rows: Sequence[DomainRow], limit: int | None) -> Sequence[DomainRow]:
    counted = [row for row in rows if row.state not in PARKED]
    kept = {row.domain for row in counted[:limit]}
    return [row for row in rows if row.state in PARKED or row.domain in kept]


def _reminders(rows: Sequence[DomainRow], context: Context, *, asks: bool) -> list[str]:
    """Return a line for each wildcard that a person must renew; a dry run writes no reminder into the history."""
    from certctl.stories.renew import is_waiting
    from certctl.stories.wildcard import by_hand, needs_person, reminders

    if asks:
        return [reminder.text for reminder in reminders(context.world, rows)]
    return [
        by_hand(row, context.world).message for row in rows if needs_person(row) and is_waiting(row, context.world)
    ]


def _asleep(row: DomainRow, context: Context) -> JourneyResult:
    """Return the result of a domain in its back-off; once its renewal is late this fails the run."""
    now, certificate = context.clock.now(), row.certificate
    error = backing_off(row, row.retry_at or now, now)
    late = certificate is not None and is_late(certificate, now, context.settings.renewal.fallback_fraction)
    return JourneyResult(
        domain=str(row.domain),
        state=row.state,
        certificate=certificate,
        error=error,
        at=now,
        before=row,
        after=row,
        late=late,
    )
