"""``certctl renew`` and ``certctl remove``."""

from collections.abc import Sequence

import click

from certctl.app.batch import Party, finish, set_out
from certctl.app.context import House
from certctl.app.report import Report
from certctl.app.result import failed, wakes
from certctl.cli.commands.completion import known_domains
from certctl.cli.framework import Invocation, command
from certctl.cli.opening import inspect_house, open_house
from certctl.cli.output.choose import open_report
from certctl.domain import Domain
from certctl.due import is_late
from certctl.errors import ConfigInvalid
from certctl.slugs import Slug
from certctl.stories.journey import Journey
from certctl.stories.quota import backing_off, command_for
from certctl.stories.result import Disposition, JourneyResult
from certctl.values import DomainRow, Removal, State

_NAMED = 3
_WISHES = {
    (False, False): Removal.FORGET,
    (False, True): Removal.KEEP,
    (True, False): Removal.REVOKE,
    (True, True): Removal.REVOKE_AND_KEEP,
}


@command(
    "renew",
    """
    certctl renew                       what the timer runs: whatever is due
    certctl renew --dry-run             what would be renewed
    certctl renew status.example.com --force
    """,
)
@click.argument("domains", nargs=-1, metavar="[DOMAIN]...", shell_complete=known_domains)
@click.option("--dry-run", is_flag=True, help="Only say what is due, by what is known; ask and write nothing.")
@click.option("--force", is_flag=True, help="Renew even what is not due (spends the CA's limits).")
@click.option("--limit", type=click.IntRange(1), help="At most this many in one run, soonest to expire first.")
@click.option("--jobs", type=click.IntRange(1, 64), help="Certificates at once [default: [renewal] jobs].")
@click.pass_obj
def renew(
    invocation: Invocation,
    domains: tuple[str, ...],
    dry_run: bool,  # noqa: FBT001
    force: bool,  # noqa: FBT001
    limit: int | None,
    jobs: int | None,
) -> int:
    """Renew every certificate that is due, then publish them all with one reload.

    Nothing due is success. A domain whose DNS left us is parked, keeps being served, and is not a failure. Without
    a DOMAIN it fails only for what the operator can mend, and for a certificate that is late: as a timer should.
    """
    from certctl.app.alerts import alert
    from certctl.stories.leftovers import let_copies_go
    from certctl.stories.pruning import prune
    from certctl.stories.remove import finish_removals
    from certctl.stories.renew import renew as story

    house, report = (inspect_house if dry_run else open_house)(invocation), open_report(invocation)
    asks = not dry_run
    if domains:
        party, fails = _named(domains, house, report, insists=force), failed
    else:
        party, fails = _due(house, report, insists=force, asks=asks), wakes
    party = party if asks else _foreseen(party, house, report)
    party = Party(party.journeys[:limit], party.refused)
    if dry_run:
        return finish(party, report, lambda o: f"{o.domain}: due", fails)
    report.expect(len(party.journeys))
    ended = [] if domains else finish_removals(house.world, lambda domain: Journey(domain, report))
    story(party.journeys, house.world, jobs=jobs or house.settings.renewal.jobs)
    party = Party([*ended, *party.journeys], party.refused)
    code = finish(party, report, _renewed, fails)
    alert(house, party.results, code, report, whole=not domains)
    if not domains:
        let_copies_go(house.world)
        prune(house.world)
    return code


def _named(names: tuple[str, ...], house: House, report: Report, *, insists: bool) -> Party:
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


def _foreseen(party: Party, house: House, report: Report) -> Party:
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


def _due(house: House, report: Report, *, insists: bool, asks: bool) -> Party:
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


def _renewed(done: JourneyResult) -> str:
    if done.disposition is Disposition.RETURNED:
        return f"{done.domain}: points here and is wanted again"
    if done.state == State.REMOVED:
        return f"{done.domain}: removed, as was begun"
    if not done.changed or not done.certificate:
        return f"{done.domain}: not due"
    return f"{done.domain}: renewed, expires {done.certificate.not_after:%Y-%m-%d}"


@command(
    "remove",
    """
    certctl remove status.example.com
    certctl remove status.example.com --revoke
    """,
)
@click.argument("domains", nargs=-1, required=True, metavar="DOMAIN...|-", shell_complete=known_domains)
@click.option("--revoke", is_flag=True, help="Ask the CA to revoke the certificate as well.")
@click.option("--keep-certificate", is_flag=True, help="Keep certificate and key in the store.")
@click.pass_obj
def remove(
    invocation: Invocation,
    domains: tuple[str, ...],
    revoke: bool,  # noqa: FBT001
    keep_certificate: bool,  # noqa: FBT001
) -> int:
    """Take domains out of nginx, prove that they are gone, and forget their certificates and keys.

    Take them off at your approval endpoint too: it is asked, and you are told when it still says yes. For ten
    minutes first visits of a removed name are refused, and nobody is asked. Where 'certctl serve' runs, a visit
    after that brings the name back if the endpoint says yes then. 'certctl issue DOMAIN' brings it back at once.
    """
    from certctl.stories.remove import remove as story

    house, report = open_house(invocation), open_report(invocation)
    party = set_out(domains, house, report, wildcards=True)
    for journey in party.journeys:
        story(journey, house.world, _WISHES[revoke, keep_certificate])
    _say_who_may_return(party, report)
    return finish(party, report, lambda o: f"{o.domain}: " + ("removed" if o.changed else "already gone"))


def _say_who_may_return(party: Party, report: Report) -> None:
    """Warn of the domains that their next visitor may bring back, because the operator still approves them."""
    wanted = [str(journey.domain) for journey in party.journeys if journey.still_approved]
    if not wanted:
        return
    which = ", ".join(wanted[:_NAMED]) + (f" and {len(wanted) - _NAMED} more" if len(wanted) > _NAMED else "")
    report.warn(
        f"still approved: {which}. Where 'certctl serve' runs, a visit in ten minutes or later brings that back,"
        " unless the approval endpoint says no by then, or [approval] deny"
    )
