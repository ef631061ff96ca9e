"""The command line: the tree of commands, and ``run``, which turns every failure into an exit code.

Only click is imported here; everything else waits until its command runs (a test watches ``sys.modules``).
"""

import os
import sys

import click

from certctl import __version__
from certctl.cli.framework import GLOBAL_OPTIONS, Invocation, LazyGroup, print_version

_COMMANDS = {
    "Everyday": {
        "issue": ("issue:issue", "Take domains from a bare name to live HTTPS."),
        "wildcard": ("wildcard:wildcard", "Take your own zone, *.ZONE and ZONE, to live HTTPS by DNS."),
        "renew": ("renew:renew", "Renew every certificate that is due."),
        "status": ("status:status", "Show every domain, or one in full."),
        "remove": ("remove:remove", "Take domains out of nginx and forget their certificates."),
    },
    "Find out why": {
        "verify": ("inspect:verify", "Check a domain's DNS and CAA; change nothing."),
        "approval": ("inspect:approval", "Ask the approval endpoint."),
        "confirm": ("nginx:confirm", "Shake hands with nginx: which certificate is really served?"),
        "doctor": ("doctor:doctor", "Check this host; say the fix for each fault."),
        "budget": ("budget:budget", "Show what the CA's limits still allow."),
        "log": ("inspect:log", "Show what happened, newest first."),
        "explain": ("inspect:explain", "Explain an error at length, offline."),
    },
    "Step by step": {
        "obtain": ("issue:obtain", "Get certificates into the store; leave nginx alone."),
        "publish": ("nginx:publish", "Write server blocks from the store and test them; no reload."),
        "reload": ("nginx:reload", "Test nginx, reload it, prove it."),
        "reconcile": ("nginx:reconcile", "Make the mirror and nginx equal to the store."),
    },
    "Set up": {
        "init": ("init:init", "Write the configuration and nginx's base file; shows a diff first."),
        "serve": ("serve:serve", "Get certificates for first visitors: the on-the-fly daemon."),
        "timer": ("timer:timer", "Renew by systemd timer or cron."),
        "config": ("config:config", "Show, validate and explain the configuration."),
        "completion": ("completion:completion", "Print the completion script for a shell."),
        "sandbox": ("sandbox:sandbox", "A private CA, DNS, approval endpoint and nginx to play in."),
    },
}  # fmt: skip

_EPILOG = """\b
Examples:
  certctl issue status.example.com            the whole way, one domain
  certctl issue - < customers.txt             many, one name a line
  certctl verify status.example.com           why does it not point here?
  certctl status --failing                    what needs a person"""

root = LazyGroup(
    "certctl",
    _COMMANDS,
    params=[
        *GLOBAL_OPTIONS,
        click.Option(
            ["--version"], is_flag=True, is_eager=True, expose_value=False, callback=print_version,
            help="Print the version and exit.",
        ),
    ],
    help="HTTPS for your customers' own domains on nginx.",
    epilog=_EPILOG,
)  # fmt: skip


def main() -> None:
    """Run the command line and exit with a documented code."""
    if "_CERTCTL_COMPLETE" in os.environ:
        from certctl.cli.commands.completion import answer

        sys.exit(answer(root))
    from certctl.cli.signals import listen
    from certctl.cli.streams import prepare, release

    prepare()
    listen()
    code = run(sys.argv[1:], Invocation())
    release()
    sys.exit(code)


def run(arguments: list[str], invocation: Invocation) -> int:
    """Run one command and return its exit code; every exception is reported here."""
    invocation.words = tuple(arguments)
    try:
        code = root.main(arguments, prog_name="certctl", standalone_mode=False, obj=invocation)
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as shown:
        if invocation.json:
            return _usage(click.UsageError("Missing command.", shown.ctx), json=True, invocation=invocation)
        shown.show()
        return 2
    except click.ClickException as error:
        return _usage(error, "--json" in arguments, invocation)
    except (Exception, KeyboardInterrupt, SystemExit, click.Abort) as error:  # noqa: BLE001 - the one boundary
        from certctl.cli.boundary import report_failure

        return report_failure(error, invocation)
    return int(code or 0)


def _usage(error: click.ClickException, json: bool, invocation: Invocation) -> int:  # noqa: FBT001
    if json:
        from certctl.cli.boundary import report_usage

        return report_usage(error, invocation)
    from certctl.io.escape import one_line

    message = "\n".join(map(one_line, error.format_message().expandtabs(4).split("\n")))
    click.UsageError(message, getattr(error, "ctx", None)).show()
    return error.exit_code


__all__ = ["__version__", "main", "root", "run"]
