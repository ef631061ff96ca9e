"""``certctl renew`` and ``certctl remove``."""

import click

from certctl.cli.base import Invocation, command
from certctl.cli.names import Party, finish, set_out
from certctl.cli.outcome import Judge, Outcome, failed, wakes
from certctl.cli.reports import Report, open_report
from certctl.cli.wiring import House, open_house
from certctl.due import is_late
from certctl.stories.ending import Ending, Word
from certctl.stories.journey import Journey
from certctl.stories.spending import backing_off
from certctl.values import DomainRow


@command(
    "renew",
    """
    certctl renew                       what the timer runs: whatever is due
    certctl renew --dry-run             what would be renewed
    certctl renew status.example.com --force
    """,
)
@click.argument("domains", nargs=-1, metavar="[DOMAIN]...")
@click.option("--dry-run", is_flag=True, help="Only say what is due.")
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
    from certctl.cli.alerts import alert
    from certctl.stories.renew import renew as story

    house, report = open_house(invocation), open_report(invocation)
    party, fails = _named(domains, house, report, insists=force) if domains else _due(house, report, insists=force)
    party = Party(party.journeys[:limit], party.refused)
    if dry_run:
        return finish(party, report, lambda o: f"{o.domain}: due")
    report.expect(len(party.journeys))
    story(party.journeys, house.world, jobs=jobs or house.settings.renewal.jobs)
    code = finish(party, report, _renewed, fails)
    alert(house, party.outcomes, code, report, whole=not domains)
    return code


def _named(names: tuple[str, ...], house: House, report: Report, *, insists: bool) -> tuple[Party, Judge]:
    """Set out for the domains a person named: whatever fails, the person wants to know."""
    return set_out(names, house, report, insists=insists, wildcards=True), failed


def _due(house: House, report: Report, *, insists: bool) -> tuple[Party, Judge]:
    """Set out for everything that is due, as a timer does."""
    from certctl.stories.renew import everyone, resting, waiting
    from certctl.stories.wildcard import reminders

    world = house.world
    if insists:
        return Party(
            [Journey(r.domain, report, insists=True) for r in house.store.domains() if r.certificate], []
        ), wakes
    rows = everyone(world)
    asleep = [_asleep(row, house) for row in resting(world, rows)]
    if asleep:
        report.note(f"{len(asleep)} resting after a failure at the CA: certctl status --failing")
    for reminder in reminders(world, rows):
        report.note(reminder.text)
    late = [sleeper for sleeper in asleep if sleeper.ending and sleeper.ending.late]
    return Party([Journey(row.domain, report) for row in waiting(world, rows)], late), wakes


def _asleep(row: DomainRow, house: House) -> Outcome:
    """Say of a domain that is left alone why; when it gets late over it, that is a failure of the run."""
    now, certificate = house.clock.now(), row.certificate
    error = backing_off(row, row.retry_at or now, now)
    late = certificate is not None and is_late(certificate, now, house.settings.renewal.fallback_fraction)
    ending = Ending(at=now, before=row, after=row, error=error, late=late)
    return Outcome(str(row.domain), state=row.state, certificate=certificate, error=error, ending=ending)


def _renewed(done: Outcome) -> str:
    if done.ending and done.ending.word is Word.RETURNED:
        return f"{done.domain}: points here and is wanted again"
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
@click.argument("domains", nargs=-1, required=True, metavar="DOMAIN...|-")
@click.option("--revoke", is_flag=True, help="Ask the CA to revoke the certificate as well.")
@click.option("--keep-certificate", is_flag=True, help="Keep certificate and key in the store.")
@click.pass_obj
def remove(
    invocation: Invocation,
    domains: tuple[str, ...],
    revoke: bool,  # noqa: FBT001
    keep_certificate: bool,  # noqa: FBT001
) -> int:
    """Take domains out of nginx, prove that they are gone, and forget their certificates and keys."""
    from certctl.stories.remove import remove as story

    house, report = open_house(invocation), open_report(invocation)
    party = set_out(domains, house, report, wildcards=True)
    for journey in party.journeys:
        story(journey, house.world, revoke=revoke, keep_certificate=keep_certificate)
    return finish(party, report, lambda o: f"{o.domain}: " + ("removed" if o.changed else "already gone"))
