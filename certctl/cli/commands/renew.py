"""``certctl renew``: renew every certificate that is due."""

import click

from certctl.app.batch import Batch, finish
from certctl.app.renewals import due, foreseen, named
from certctl.app.result import failed, fails_timer_run
from certctl.cli.commands.completion import known_domains
from certctl.cli.framework import Invocation, command, expand
from certctl.cli.opening import inspect_context, open_context
from certctl.cli.output.choose import open_report
from certctl.stories.journey import Journey
from certctl.stories.result import Disposition, JourneyResult
from certctl.values import State


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
@click.option(
    "--limit",
    type=click.IntRange(1),
    help="At most this many in one run, soonest to expire first; parked ones are looked at besides.",
)
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
    from certctl.stories.pruning import prune, remove_working_directories
    from certctl.stories.remove import finish_removals
    from certctl.stories.renew import renew as story

    context, report = (inspect_context if dry_run else open_context)(invocation), open_report(invocation)
    asks = not dry_run
    if domains:
        batch, fails = named(expand(domains), context, report, insists=force), failed
        batch = Batch(batch.journeys[:limit], batch.refused)
    else:
        batch, fails = due(context, report, insists=force, asks=asks, limit=limit), fails_timer_run
    batch = batch if asks else foreseen(batch, context, report)
    if dry_run:
        return finish(batch, report, lambda o: f"{o.domain}: due", fails)
    report.expect(len(batch.journeys))
    ended = [] if domains else finish_removals(context.world, lambda domain: Journey(domain, report))
    story(batch.journeys, context.world, jobs=jobs or context.settings.renewal.jobs)
    batch = Batch([*ended, *batch.journeys], batch.refused)
    code = finish(batch, report, _renewed, fails)
    alert(context, batch.results, code, report, whole=not domains)
    if not domains:
        remove_working_directories(context.world)
        prune(context.world)
    return code


def _renewed(done: JourneyResult) -> str:
    if done.disposition is Disposition.RETURNED:
        return f"{done.domain}: points here and is wanted again"
    if done.state == State.REMOVED:
        return f"{done.domain}: removed, as was begun"
    if not done.changed or not done.certificate:
        return f"{done.domain}: not due"
    return f"{done.domain}: renewed, expires {done.certificate.not_after:%Y-%m-%d}"
