"""``certctl renew`` and ``certctl remove``."""

import click

from certctl.cli.base import Invocation, command
from certctl.cli.names import Party, finish, set_out
from certctl.cli.outcome import Outcome, exit_code, outcome
from certctl.cli.reports import Report, open_report
from certctl.cli.wiring import House, open_house
from certctl.stories.journey import Journey


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

    Nothing due is success. A domain whose DNS left us is parked, keeps being served, and is not a failure.
    """
    from certctl.stories.ending import PARKED
    from certctl.stories.renew import renew as story

    house, report = open_house(invocation), open_report(invocation)
    party = set_out(domains, house, report, insists=force) if domains else _due(house, report, insists=force)
    party = Party(party.journeys[:limit], party.refused)
    if dry_run:
        return finish(party, report, lambda o: f"{o.domain}: due")
    story(party.journeys, house.world, jobs=jobs or house.settings.renewal.jobs)
    if not party.journeys and not party.refused:
        report.data([], "Nothing is due.") if not invocation.json else report.results([], str)
        return 0
    finish(party, report, _renewed)
    counted = [o for o in (*party.refused, *map(outcome, party.journeys)) if o.state not in PARKED]
    return int(exit_code(counted))


def _due(house: House, report: Report, *, insists: bool) -> Party:
    from certctl.stories.renew import waiting

    rows = house.store.domains() if insists else waiting(house.world)
    journeys = [Journey(row.domain, report, insists=insists) for row in rows if row.certificate]
    report.expect(len(journeys))
    return Party(journeys, [])


def _renewed(done: Outcome) -> str:
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
    party = set_out(domains, house, report)
    for journey in party.journeys:
        story(journey, house.world, revoke=revoke, keep_certificate=keep_certificate)
    return finish(party, report, lambda o: f"{o.domain}: " + ("removed" if o.changed else "already gone"))
