"""Which domains a run renews: those a person named, or whatever is due, as a timer wants it."""

from collections.abc import Iterable, Sequence

from certctl.app.batch import Party, set_out
from certctl.app.context import House
from certctl.app.report import Report
from certctl.domain import Domain
from certctl.due import is_late
from certctl.errors import ConfigInvalid
from certctl.slugs import Slug
from certctl.stories.journey import Journey
from certctl.stories.quota import backing_off, command_for
from certctl.stories.result import JourneyResult
from certctl.values import DomainRow, State


def named(names: Iterable[str], house: House, report: Report, *, insists: bool) -> Party:
    """Set out for the domains a person named; one that has nothing to renew is refused at the door."""
    party = set_out(names, house, report, insists=insists, wildcards=True)
    known, refused = [], list(party.refused)
    for journey in party.journeys:
        if _is_renewable(house.store.domain(journey.domain)):
            known.append(journey)
        else:
            refused.append(JourneyResult(domain=str(journey.domain), error=_unknown(journey.domain)))
    return Party(known, refused)


def _is_renewable(row: DomainRow | None) -> bool:
    return row is not None and (row.certificate is not None or bool(row.damage)) and row.state is not State.REMOVED


def _unknown(domain: Domain) -> ConfigInvalid:
    return ConfigInvalid(
        Slug.UNKNOWN_DOMAIN,
        f"there is no certificate of {domain} to renew",
        next=[command_for(domain), "certctl status --all"],
    )


def foreseen(party: Party, house: House, report: Report) -> Party:
    """Tell what a run would do, by what is known: renew, leave alone, or refuse."""
    from certctl.stories.damage import damaged
    from certctl.stories.renew import is_waiting, resting
    from certctl.stories.wildcard import by_hand, needs_person

    due, refused = [], list(party.refused)
    for journey in party.journeys:
        row = house.store.domain(journey.domain)
        if row is None or not (journey.insists or is_waiting(row, house.world)):
            report.note(f"{journey.domain}: not due")
        elif row.damage and not journey.insists:
            refused.append(JourneyResult(domain=str(row.domain), error=damaged(row)))
        elif needs_person(row):
            refused.append(JourneyResult(domain=str(row.domain), error=by_hand(row, house.world)))
        elif not journey.insists and resting(house.world, [row]):
            refused.append(_asleep(row, house))
        else:
            due.append(journey)
    return Party(due, refused)


def due(house: House, report: Report, *, insists: bool, asks: bool) -> Party:
    """Set out for everything that is due, as a timer does; without asking, by what the store knows."""
    from certctl.stories.renew import refresh_suggestions, resting, waiting

    world = house.world
    if insists:
        everything = [row.domain for row in house.store.domains() if _is_renewable(row)]
        return Party([Journey(domain, report, insists=True) for domain in everything], [])
    if asks:
        refresh_suggestions(world)
    rows = world.candidates()
    asleep = [_asleep(row, house) for row in resting(world, rows)]
    if asleep:
        report.note(f"{len(asleep)} resting after a failure at the CA: certctl status --failing")
    for text in _reminders(rows, house, asks=asks):
        report.note(text)
    late = [sleeper for sleeper in asleep if sleeper.late]
    return Party([Journey(row.domain, report) for row in waiting(world, rows)], late)


def _reminders(rows: Sequence[DomainRow], house: House, *, asks: bool) -> list[str]:
    """Say which wildcards wait for a person; only a run that is meant also writes into the history that it did."""
    from certctl.stories.renew import is_waiting
    from certctl.stories.wildcard import by_hand, needs_person, reminders

    if asks:
        return [reminder.text for reminder in reminders(house.world, rows)]
    return [by_hand(row, house.world).message for row in rows if needs_person(row) and is_waiting(row, house.world)]


def _asleep(row: DomainRow, house: House) -> JourneyResult:
    """Say of a domain that is left alone why; when it gets late over it, that is a failure of the run."""
    now, certificate = house.clock.now(), row.certificate
    error = backing_off(row, row.retry_at or now, now)
    late = certificate is not None and is_late(certificate, now, house.settings.renewal.fallback_fraction)
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
