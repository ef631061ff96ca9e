"""``certctl init``: the configuration file, the directories and nginx's base file."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import click

from certctl.app import identity
from certctl.app.batch import Party, finish
from certctl.app.config_file import write
from certctl.app.context import House
from certctl.app.directories import prepare_directories
from certctl.app.mode_switch import Plan, bring_pairs_over, move, plan, require_nginx
from certctl.app.ownership import require_write
from certctl.app.report import Report, Rows
from certctl.app.toml_edit import Key
from certctl.cli.framework import Invocation, command
from certctl.cli.opening import inspect_house, open_house
from certctl.cli.output.choose import open_report
from certctl.io import accounts
from certctl.io.fsuid import as_root
from certctl.stories.journey import Journey
from certctl.values import Mode, Preview

_NEXT = "Next: certctl doctor, then: certctl issue DOMAIN"
_UNITS_DIFFER = (
    "Next, for whichever is installed, as units differ by mode: certctl timer install; "
    "certctl serve --install, or start your certctl serve again"
)


def _identity(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command an option for each value that says who the operator is."""
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
    old = inspect_house(invocation, is_new=True) if dry_run else open_house(invocation, alone=True, is_new=True)
    report = open_report(invocation)
    require_write(old.file, old.path(old.settings.nginx.conf_dir))
    found = {("nginx", key): value for key, value in old.found.items()}  # or a second nginx would take its place
    said = found | values | ({("nginx", "mode"): mode} if mode else {})
    host = plan(old, said, invocation.root)
    host = replace(host, new=host.new.in_mode(mode)) if mode else host
    new, config = host.new, host.config
    if not dry_run:
        _make_accounts(new)
    new.web.require_access()
    included, base = _include_file(new), new.web.preview_base()
    new.web.foresee_base(will_be_included=bool(included))
    previews = [config, *included, *base]
    if not invocation.json and not invocation.quiet:
        click.echo("".join(preview.diff() for preview in previews), nl=False)
    _warn(new, values, report)
    changes = [str(preview.path) for preview in previews if preview.diff()]
    if dry_run:
        report.data({"would_write": changes}, "" if changes else "Nothing would change.")
        return 0
    if mode:
        require_nginx(new)
        write(new, included)
        journeys = _move(host, said, report)
    else:
        journeys = _settle_in(new, [config, *included], report)
    failing = Party([journey for journey in journeys if not journey.ok], [])
    if failing.results:
        return finish(failing, report, str)
    if not any(preview.diff() for preview in [*included, *base]):
        new.web.require_sound()  # nginx has tested nothing yet
    done = [[str(preview.path), _what_became(preview)] for preview in previews]
    done += [["sites", f"{len(journeys)} served in mode {mode}"]] if mode else []
    report.data({"wrote": changes}, Rows(["", ""], done, [_NEXT if new.mode is old.mode else _UNITS_DIFFER]))
    return 0


def _warn(house: House, values: Mapping[Key, str], report: Report) -> None:
    """Say what somebody should know who believes that the configuration is done."""
    for variable in identity.overridden(house, values):
        report.warn(f"{variable} in the environment wins over what the file says")
    if borrowed := identity.borrowed(house):
        report.warn(f"{borrowed[0]}; next: {borrowed[1]}")


def _what_became(preview: Preview) -> str:
    if not preview.diff():
        return "in place"
    return "written" if preview.text else "removed"


@as_root()
def _make_accounts(house: House) -> None:
    """Make the user and the group first: nginx takes no ``user`` line with a group that is not there."""
    if house.settings.nginx.mode != "blocks":
        accounts.create(house.settings.serve.user, house.settings.nginx.group)


def _settle_in(house: House, files: Sequence[Preview], report: Report) -> Sequence[Journey]:
    prepare_directories(house)
    write(house, files)
    house.web.install_base()
    return bring_pairs_over(house, report)


def _move(host: Plan, said: Mapping[Key, str], report: Report) -> Sequence[Journey]:
    report.expect(len(host.new.store.domains()))
    return move(host, host.written_down(said), report)


@as_root()
def _include_file(house: House) -> list[Preview]:
    """Return one line that makes nginx include our directory, where Debian's layout has a place for it."""
    directory = house.path(house.settings.nginx.conf_dir)
    path = house.path(house.settings.nginx.config).parent / "conf.d/certctl.conf"
    if house.web.is_included() or not (path.parent.is_dir() and house.web.reads(path)):
        return []
    text = f"# managed by certctl: server blocks of customers' domains\ninclude {directory}/*.conf;\n"
    return [Preview(path, text, path.read_text(encoding="utf-8") if path.exists() else "")]
