"""``certctl init``: the configuration file, the directories and nginx's base file."""

from collections.abc import Callable, Mapping
from typing import Any

import click

from certctl.app import identity
from certctl.app.batch import Batch, finish
from certctl.app.context import Context
from certctl.app.report import Report, Rows
from certctl.app.setup import carry_out, foresee
from certctl.app.toml_edit import Key
from certctl.cli.framework import Invocation, command
from certctl.cli.opening import inspect_context, open_context
from certctl.cli.output.choose import open_report
from certctl.values import Mode, Preview

_NEXT = "Next: certctl doctor, then: certctl issue DOMAIN"
_UNITS_DIFFER = (
    "Next, for whichever is installed, as units differ by mode: certctl timer install; "
    "certctl serve --install, or start your certctl serve again"
)


def _identity(command: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate a command with an option for each value of the operator's identity."""
    for value in reversed(identity.VALUES):
        command = click.option(value.option, metavar=value.placeholder, help=value.help)(command)
    return command


@command(
    "init",
    """
    certctl init --dry-run      the diff of everything it would write
    certctl init --target NAME --approval-url URL --zone ZONE --email ADDR      who you are
    certctl init
    certctl init --mode shared  serve all names by one catch-all block from now on
    """,
)
@click.option("--dry-run", is_flag=True, help="Show the diff; write nothing.")
@click.option("--mode", type=click.Choice([*map(str, Mode)]), help="Move the host to another way of serving.")
@_identity
@click.pass_obj
def init(invocation: Invocation, /, dry_run: bool, mode: str | None, **given: str | None) -> int:  # noqa: FBT001
    """Write a commented configuration, certctl's directories and nginx's base file.

    The base file answers ACME challenges on port 80 for every name and refuses TLS for unknown ones. Everything
    is shown as a diff first; nginx tests it and it is taken back if refused. Files of yours are never
    overwritten, and running it again changes nothing.

    With --target, --approval-url, --zone and --email it says in the configuration who you are; of a file that is
    there exactly those lines change.

    With --mode it takes every site along, back and forth, and nobody notices: docs/how-to/choose-a-mode.md.
    """
    values = identity.checked(given)
    old = inspect_context(invocation, is_new=True) if dry_run else open_context(invocation, alone=True, is_new=True)
    report = open_report(invocation)
    setup = foresee(old, values, mode, only_looks=dry_run)
    if not invocation.json and not invocation.quiet:
        click.echo("".join(preview.diff() for preview in setup.previews), nl=False)
    _warn(setup.host.new, values, report)
    changes = [str(preview.path) for preview in setup.previews if preview.diff()]
    if dry_run:
        report.data({"would_write": changes}, "" if changes else "Nothing would change.")
        return 0
    journeys = carry_out(setup, report)
    failing = Batch([journey for journey in journeys if not journey.ok], [])
    if failing.results:
        return finish(failing, report, str)
    done = [[str(preview.path), _what_became(preview)] for preview in setup.previews]
    done += [["sites", f"{len(journeys)} served in mode {mode}"]] if mode else []
    units = _NEXT if setup.host.new.mode is old.mode else _UNITS_DIFFER
    report.data({"wrote": changes}, Rows(["", ""], done, [units]))
    return 0


def _warn(context: Context, values: Mapping[Key, str], report: Report) -> None:
    """Warn of values that the environment overrides, and of defaults meant for another operator."""
    for variable in identity.overridden(context, values):
        report.warn(f"{variable} in the environment wins over what the file says")
    if foreign_defaults := identity.foreign_defaults(context):
        report.warn(f"{foreign_defaults[0]}; next: {foreign_defaults[1]}")


def _what_became(preview: Preview) -> str:
    if not preview.diff():
        return "in place"
    return "written" if preview.text else "removed"
