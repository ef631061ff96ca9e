"""``certctl init``: the configuration file, the directories and nginx's base file."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from certctl import __version__
from certctl.cli import identity
from certctl.cli.base import Invocation, command
from certctl.cli.config_line import with_value
from certctl.cli.move import bring_pairs_over, move
from certctl.cli.names import Party, finish
from certctl.cli.reports import Report, Rows, open_report
from certctl.cli.state import prepare_directories
from certctl.cli.sudo import require_write
from certctl.cli.wiring import House, open_new_house
from certctl.config import parse
from certctl.io import accounts
from certctl.io.files import PUBLIC, make_directory, rewrite, writing
from certctl.io.rights import as_root
from certctl.stories.journey import Journey
from certctl.values import Mode, Preview

if TYPE_CHECKING:
    from certctl.config import Settings

_CONFIG_MODE = 0o640
_NEXT = "Next: certctl doctor, then: certctl issue DOMAIN"
_UNITS_DIFFER = (
    "Next, for whichever is installed, as units differ by mode: certctl timer install; "
    "certctl serve --install, or start your certctl serve again"
)


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
@identity.options
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
    old, report = open_new_house(invocation), open_report(invocation)
    require_write(invocation, old.file, old.path(old.settings.nginx.conf_dir))
    found = {("nginx", key): value for key, value in old.found.items()}  # or a second nginx would take its place
    config = _config_file(old, found | values | ({("nginx", "mode"): mode} if mode else {}))
    new = old.set_to(parse(config.text, old.file, invocation.root))
    new = new.in_mode(mode) if mode else new
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
    if mode and any(row.certificate for row in new.store.domains()):
        new.web.require_running("the move would take every site out of an nginx that cannot show it")
    journeys = _move(old, new, config, included, report) if mode else _settle_in(new, [config, *included], report)
    failing = Party([journey for journey in journeys if not journey.ok], [])
    if failing.outcomes:
        return finish(failing, report, str)
    if not any(preview.diff() for preview in [*included, *base]):
        new.web.require_sound()  # nginx has tested nothing yet
    done = [[str(preview.path), _what_became(preview)] for preview in previews]
    done += [["sites", f"{len(journeys)} served in mode {mode}"]] if mode else []
    report.data({"wrote": changes}, Rows(["", ""], done, [_NEXT if new.mode is old.mode else _UNITS_DIFFER]))
    return 0


def _warn(house: House, values: Mapping[identity.Key, str], report: Report) -> None:
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
    _write(house, files)
    house.web.install_base()
    return bring_pairs_over(house, report)


def _move(
    old: House, new: House, config: Preview, included: Sequence[Preview], report: Report
) -> Sequence[Journey]:
    """Move the sites; the configuration says so last, so that a run cut short is not half believed."""
    _write(new, included)
    journeys = move(old, new, report)
    _write(new, [config])
    return journeys


def _write(house: House, previews: Sequence[Preview]) -> None:
    for preview in previews:
        if preview.diff():
            with writing(preview.path), as_root():
                make_directory(preview.path.parent, 0o755)
                rewrite(preview.path, preview.text, _CONFIG_MODE if preview.path == house.file else PUBLIC)


@as_root()
def _config_file(house: House, values: Mapping[identity.Key, str]) -> Preview:
    """Return the configuration with these values; where there is none, a commented one with what is in force."""
    current = house.file.read_bytes().decode("utf-8") if house.file.exists() else ""
    text = current if house.file.exists() else commented(house.settings)
    for (section, key), value in values.items():
        text = with_value(text, section, key, value)
    return Preview(house.file, text, current)


def commented(settings: "Settings") -> str:
    """Write every key with its meaning; one that nobody set stays commented out."""
    lines = [f"# certctl {__version__}: every key is optional; 'certctl config show' prints what is in force."]
    for section, model in settings:
        defaults = type(model)()
        lines += ["", f"[{section}]"]
        for key, field in type(model).model_fields.items():
            value = getattr(model, key)
            mark = "# " if value == getattr(defaults, key) and key not in model.model_fields_set else ""
            lines.append(f"{mark}{key} = {_toml(value)}  # {field.description}")
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(k)} = {json.dumps(v)}" for k, v in value.items()) + " }"
    return json.dumps(list(value) if isinstance(value, tuple) else value)


@as_root()
def _include_file(house: House) -> list[Preview]:
    """Return one line that makes nginx include our directory, where Debian's layout has a place for it."""
    directory = house.path(house.settings.nginx.conf_dir)
    path = house.path(house.settings.nginx.config).parent / "conf.d/certctl.conf"
    if house.web.is_included() or not (path.parent.is_dir() and house.web.reads(path)):
        return []
    text = f"# managed by certctl: server blocks of customers' domains\ninclude {directory}/*.conf;\n"
    return [Preview(path, text, path.read_text(encoding="utf-8") if path.exists() else "")]
