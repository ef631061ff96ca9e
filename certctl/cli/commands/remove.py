"""``certctl remove``: take domains out of nginx and forget their certificates."""

import click

from certctl.app.batch import Batch, finish, start
from certctl.app.report import Report
from certctl.cli.commands.completion import known_domains
from certctl.cli.framework import Invocation, command, expand
from certctl.cli.opening import open_context
from certctl.cli.output.choose import open_report
from certctl.values import Removal

_NAMED = 3
_WISHES = {
    (False, False): Removal.FORGET,
    (False, True): Removal.KEEP,
    (True, False): Removal.REVOKE,
    (True, True): Removal.REVOKE_AND_KEEP,
}


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

    context, report = open_context(invocation), open_report(invocation)
    batch = start(expand(domains), context, report, wildcards=True)
    for journey in batch.journeys:
        story(journey, context.world, _WISHES[revoke, keep_certificate])
    _say_who_may_return(batch, report)
    return finish(batch, report, lambda o: f"{o.domain}: " + ("removed" if o.changed else "already gone"))


def _say_who_may_return(batch: Batch, report: Report) -> None:
    """Warn of each removed domain that the approval endpoint still approves: its next visitor may bring it back."""
    wanted = [str(journey.domain) for journey in batch.journeys if journey.still_approved]
    if not wanted:
        return
    which = ", ".join(wanted[:_NAMED]) + (f" and {len(wanted) - _NAMED} more" if len(wanted) > _NAMED else "")
    report.warn(
        f"still approved: {which}. Where 'certctl serve' runs, a visit in ten minutes or later brings that back,"
        " unless the approval endpoint says no by then, or [approval] deny"
    )
