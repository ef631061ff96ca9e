"""Where a failure outside any domain becomes words and an exit code."""

import sys
import traceback

import click

from certctl.cli.framework import Invocation
from certctl.cli.output.choose import open_report
from certctl.cli.sudo import explained
from certctl.errors import CertctlError, ExitCode, Interrupted, NameRejected, unforeseen
from certctl.slugs import Slug


def report_failure(error: BaseException, invocation: Invocation) -> int:
    """Show an error that ended the whole run; a traceback only with -vv."""
    known = explained(error if isinstance(error, CertctlError) else _translated(error), invocation)
    if invocation.verbose > 1:
        traceback.print_exception(error, file=sys.stderr)
    try:
        open_report(invocation).failure(known)
    except OSError:  # stdout takes nothing, not even JSON
        invocation.json = False
        open_report(invocation).failure(known)
    return int(known.exit_code)


def report_usage(error: click.ClickException, invocation: Invocation) -> int:
    """Say in JSON that the command line is wrong."""
    invocation.json = True
    context = getattr(error, "ctx", None)
    if context:
        invocation.command = "-".join(context.command_path.split()[1:]) or invocation.command
    open_report(invocation).failure(NameRejected(Slug.USAGE, error.format_message(), next=["certctl --help"]))
    return int(ExitCode.USAGE)


def _translated(error: BaseException) -> CertctlError:
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return Interrupted(
            Slug.INTERRUPTED, "stopped; what was in force before still is", next=["certctl reconcile"]
        )
    return unforeseen(error)
