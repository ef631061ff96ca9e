"""``certctl config``: show, validate and explain the configuration."""

import json
from urllib.parse import urlsplit

import click

from certctl.app.identity import foreign_defaults
from certctl.app.report import Rows
from certctl.cli.framework import Command, Group, Invocation
from certctl.cli.opening import read_context
from certctl.cli.output.choose import open_report

_HIDDEN = "(set)"


@click.group("config", cls=Group)
def config() -> None:
    """Show, validate and explain the configuration."""


@config.command("show", cls=Command)
@click.pass_obj
def show(invocation: Invocation) -> int:
    """Print every setting in force, from file, environment and defaults; secrets stay hidden."""
    context = read_context(invocation)
    values = {
        section: {key: _shown(section, key, value) for key, value in keys.items()}
        for section, keys in context.settings.model_dump(mode="json").items()
    }
    rows = [
        [f"{section}.{key}", json.dumps(value)] for section, keys in values.items() for key, value in keys.items()
    ]
    open_report(invocation).data(values, Rows(["key", "value"], rows))
    return 0


def _shown(section: str, key: str, value: object) -> object:
    """Return a setting as it is shown: of a secret only whether it is set."""
    from certctl.config import SECRETS

    if (section, key) == ("approval", "url"):
        return _without_secrets(str(value))
    if key not in SECRETS or not value:
        return value
    return dict.fromkeys(value, _HIDDEN) if isinstance(value, dict) else _HIDDEN


def _without_secrets(url: str) -> str:
    """Return a URL without the parts that may hold a token: the query and the user information."""
    parts = urlsplit(url)
    query = _HIDDEN if parts.query else ""
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query=query, fragment="").geturl()


@config.command("validate", cls=Command)
@click.pass_obj
def validate(invocation: Invocation) -> int:
    """Check the configuration; all faults are reported at once (exit 10)."""
    context, report = read_context(invocation), open_report(invocation)
    if found := foreign_defaults(context):
        report.warn(f"{found[0]}; next: {found[1]}")
    report.data({"file": str(context.file), "valid": True}, f"{context.file}: valid")
    return 0


@config.command("path", cls=Command)
@click.pass_obj
def path(invocation: Invocation) -> int:
    """Print which file is read."""
    file = read_context(invocation).file
    open_report(invocation).data({"file": str(file), "exists": file.exists()}, str(file))
    return 0


@config.command("schema", cls=Command)
@click.pass_obj
def schema(invocation: Invocation) -> int:
    """Print the JSON Schema of the configuration file."""
    from certctl.config import Settings

    value = Settings.model_json_schema()
    open_report(invocation).data(value, json.dumps(value, indent=2))
    return 0
