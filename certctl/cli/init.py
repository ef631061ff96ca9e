"""``certctl init``: the configuration file, the directories and nginx's base file."""

import json
from typing import TYPE_CHECKING

import click

from certctl import __version__
from certctl.cli.base import Invocation, command
from certctl.cli.reports import Rows, open_report
from certctl.cli.state import prepare_directories
from certctl.cli.wiring import House, open_house
from certctl.io.files import PUBLIC, make_directory, write_atomic, writing
from certctl.values import Preview

if TYPE_CHECKING:
    from certctl.config import Settings

_CONFIG_MODE = 0o640


@command(
    "init",
    """
    certctl init --dry-run      the diff of everything it would write
    certctl init
    """,
)
@click.option("--dry-run", is_flag=True, help="Show the diff; write nothing.")
@click.pass_obj
def init(invocation: Invocation, dry_run: bool) -> int:  # noqa: FBT001
    """Write a commented configuration, certctl's directories and nginx's base file.

    The base file answers ACME challenges on port 80 for every name and refuses TLS for unknown ones. Everything
    is shown as a diff first; nginx tests it and it is taken back if refused. Files of yours are never
    overwritten, and running it again changes nothing.
    """
    house, report = open_house(invocation), open_report(invocation)
    previews = [_config_file(house), *_include_file(house), *house.web.preview_base()]
    if not invocation.json and not invocation.quiet:
        click.echo("".join(preview.diff() for preview in previews), nl=False)
    changes = [str(preview.path) for preview in previews if preview.diff()]
    if dry_run:
        report.data({"would_write": changes}, "" if changes else "Nothing would change.")
        return 0
    done = _write(house, previews[:-1])
    base = house.web.install_base()
    done.append([str(previews[-1].path), base.summary])
    report.data({"wrote": changes}, Rows(["", ""], done, ["Next: certctl doctor, then: certctl issue DOMAIN"]))
    return 0


def _write(house: House, previews: list[Preview]) -> list[list[str]]:
    prepare_directories(house)
    lines = []
    for preview in previews:
        changed = bool(preview.diff())
        if changed:
            with writing(preview.path):
                make_directory(preview.path.parent, 0o755)
                write_atomic(preview.path, preview.text, _CONFIG_MODE if preview.path == house.file else PUBLIC)
        lines.append([str(preview.path), "written" if changed else "in place"])
    return lines


def _config_file(house: House) -> Preview:
    """Return the configuration as it is, or a commented one with the values in force when there is none."""
    if house.file.exists():
        text = house.file.read_text(encoding="utf-8")
        return Preview(house.file, text, text)
    return Preview(house.file, commented(house.settings), "")


def commented(settings: "Settings") -> str:
    """Write every key with its meaning; a key at its default stays commented out."""
    lines = [f"# certctl {__version__}: every key is optional; 'certctl config show' prints what is in force."]
    for section, model in settings:
        defaults = type(model)()
        lines += ["", f"[{section}]"]
        for key, field in type(model).model_fields.items():
            value = getattr(model, key)
            mark = "# " if value == getattr(defaults, key) else ""
            lines.append(f"{mark}{key} = {_toml(value)}  # {field.description}")
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(k)} = {json.dumps(v)}" for k, v in value.items()) + " }"
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def _include_file(house: House) -> list[Preview]:
    """Return one line that makes nginx include our directory, where Debian's layout has a place for it."""
    directory = house.path(house.settings.nginx.conf_dir)
    place = house.path(house.settings.nginx.config).parent / "conf.d"
    if house.web.is_included() or not place.is_dir():
        return []
    path = place / "certctl.conf"
    text = f"# managed by certctl: server blocks of customers' domains\ninclude {directory}/*.conf;\n"
    return [Preview(path, text, path.read_text(encoding="utf-8") if path.exists() else "")]
