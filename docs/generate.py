#!/usr/bin/env python3
"""Write docs/reference from the code: commands, exit codes, errors, configuration, metrics and JSON schemas.

``python docs/generate.py`` writes, ``python docs/generate.py --check`` names what is stale and exits 1.
A fact stands in the code once; these pages repeat it for readers. tests/meta/test_docs.py keeps them fresh.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).resolve().parents[1]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from certctl.app.config_file import commented  # noqa: E402
from certctl.cli import root as command_line  # noqa: E402
from certctl.cli.commands.inspect import explanation  # noqa: E402
from certctl.cli.framework import GLOBAL_OPTIONS  # noqa: E402
from certctl.config import Settings  # noqa: E402
from certctl.errors import CATALOGUE, CertctlError, ExitCode, Kind, Who  # noqa: E402
from certctl.io.clock import SystemClock  # noqa: E402
from certctl.serve.answers import Kind as AnswerKind  # noqa: E402
from certctl.serve.metrics import Metrics  # noqa: E402
from certctl.values import Mode  # noqa: E402
from docs.schemas import schemas  # noqa: E402

REFERENCE = ROOT / "docs" / "reference"
_MADE = "<!-- Made by docs/generate.py from {}; do not edit. -->\n"
_ACTORS = {
    Who.CUSTOMER: "the customer",
    Who.OPERATOR: "the operator",
    Who.CA: "the CA",
    Who.NOBODY: "nobody; time does",
}
_OWN_WORDS = {
    ExitCode.DONE: "Done, or nothing to do.",
    ExitCode.USAGE: "The command line is wrong, or the text is not an acceptable domain name.",
}
_A_RUN_OVER_EVERYTHING = """## A run over everything

`certctl renew` without a DOMAIN is what a timer runs. It fails, with the code above, only for what needs a person:

| who acts, by the error | the run fails |
| --- | --- |
| the operator | yes |
| the CA, or nobody: it is down or asks to wait, no resolver answers, the budget is used up, a domain rests | \
when the certificate is late: half of the time for its renewal is gone |
| the customer | never |
| anyone, and the domain is parked | never |

So `OnFailure=` and a mail from cron mean that somebody is needed. `certctl renew DOMAIN` fails for whatever fails,
as every other command does.
"""


def pages() -> dict[Path, str]:
    """Return every generated file and its text."""
    made = {
        "commands.md": commands(),
        "exit-codes.md": exit_codes(),
        "errors.md": errors(),
        "configuration.md": configuration(),
        "metrics.md": metrics(),
    }
    made |= {f"schema/{name}": json.dumps(schema, indent=2) + "\n" for name, schema in schemas().items()}
    return {REFERENCE / name: text for name, text in made.items()}


def stale() -> list[Path]:
    """Return the files that are not what the code says, and those of the schema directory nobody makes."""
    wanted = pages()
    differing = [path for path, text in wanted.items() if not path.exists() or path.read_text("utf-8") != text]
    return differing + [path for path in sorted((REFERENCE / "schema").glob("*")) if path not in wanted]


# Metrics.


def metrics() -> str:
    """Describe every metric from the registry that ``/metrics`` prints."""
    counted = Metrics(SystemClock(), lambda: True, Mode.LUA)
    labels = {m._name: m._labelnames for m in vars(counted).values() if hasattr(m, "_labelnames")}  # noqa: SLF001
    rows = [
        f"| `{metric.name}{'_total' if metric.type == 'counter' else ''}` | {metric.type} "
        f"| {', '.join(f'`{label}`' for label in labels[metric.name]) or 'none'} | {metric.documentation} |"
        for metric in counted.registry.collect()
    ]
    kinds = ", ".join(f"`{kind}`" for kind in AnswerKind)
    return "\n".join(
        [
            "# Metrics",
            "",
            _MADE.format("certctl/serve/metrics.py"),
            "`certctl serve` answers `GET /metrics` on its unix socket, in Prometheus' text format:",
            "",
            "```console",
            "# curl --unix-socket /run/certctl/serve.sock http://certctl/metrics",
            "```",
            "",
            "| metric | type | labels | what |",
            "| --- | --- | --- | --- |",
            *rows,
            "",
            f"`answer` is one of {kinds}. `code` is a slug of [errors](errors.md), empty for `ready`",
            "and `preparing`.",
            "No label holds a name of a customer, so their number does not grow.",
            "",
            "`GET /status` says the same in one JSON document; `certctl status` shows it in a line.",
            "",
        ]
    )


# Commands.


def commands() -> str:
    """Describe every command from click's own tree."""
    context = click.Context(command_line, info_name="certctl")
    parts = [
        _MADE.format("certctl/cli"),
        "# Commands\n",
        f"{command_line.help}\n",
        "## Global options\n",
        "They stand before or after the command. stdout gets the result, stderr progress and errors.\n",
        _options(context, list(command_line.params)),
    ]
    for title, names in command_line.sections.items():
        parts += [f"## {title}\n", *(_command(name, context) for name in names)]
    return "\n".join(parts)


def _command(name: str, parent: click.Context, level: int = 3) -> str:
    group = parent.command
    assert isinstance(group, click.Group)  # noqa: S101 - only groups have commands
    command = group.get_command(parent, name)
    if command is None:
        raise LookupError(f"{parent.command_path} {name} cannot be loaded")
    context = click.Context(command, info_name=name, parent=parent)
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    own = [parameter for parameter in command.params if parameter not in GLOBAL_OPTIONS]
    parts = [f"{'#' * level} `{context.command_path}`\n", f"```text\n{usage}\n```\n", f"{_plain(command.help)}\n"]
    if table := _options(context, own):
        parts.append(table)
    if command.epilog:
        parts.append("```console\n" + "\n".join(_examples(command.epilog)) + "\n```\n")
    if isinstance(command, click.Group):
        parts += [_command(child, context, level + 1) for child in command.list_commands(context)]
    return "\n".join(parts)


def _options(context: click.Context, parameters: list[click.Parameter]) -> str:
    found = (parameter.get_help_record(context) for parameter in parameters)
    records = [record for record in found if record and record[1]]  # an argument is in the usage line
    if not records:
        return ""
    return _table(["option", "what it does"], [[f"`{_cell(names)}`", _cell(text)] for names, text in records])


def _examples(epilog: str) -> Iterator[str]:
    """Yield the example lines as a shell session, without click's mark against rewrapping."""
    for line in epilog.replace("\b", "").splitlines():
        if line.strip() and line.strip() != "Examples:":
            yield "$ " + line.strip()


def _plain(text: str | None) -> str:
    return "\n".join(line.strip() for line in (text or "").replace("\b", "").splitlines()).strip()


# Exit codes and errors.


def exit_codes() -> str:
    """List the codes and which errors end with them."""
    rows = []
    for code in ExitCode:
        slugs = [kind.slug for kind in CATALOGUE.values() if kind.family.exit_code is code]
        links = ", ".join(f"[{slug}](errors.md#{slug})" for slug in slugs)
        rows.append([str(int(code)), f"`{code.name}`", _meaning(code), links or "none"])
    return "\n".join(
        [
            _MADE.format("certctl/errors.py"),
            "# Exit codes\n",
            "A batch whose failures all share one code exits with that code; otherwise with 1.",
            "Nothing to do is 0. `certctl doctor` exits with 1 if anything is broken.\n",
            _table(["code", "name", "meaning", "errors"], rows),
            _A_RUN_OVER_EVERYTHING,
        ]
    )


def _meaning(code: ExitCode) -> str:
    if code in _OWN_WORDS:
        return _OWN_WORDS[code]
    families = {kind.family for kind in CATALOGUE.values() if kind.family.exit_code is code}
    return " ".join(sorted(_first_line(family) for family in families))


def _first_line(family: type[CertctlError]) -> str:
    return (family.__doc__ or "").partition("\n")[0]


def errors() -> str:
    """Print the catalogue with the long text of each error."""
    rows = [[f"[{k.slug}](#{k.slug})", str(int(k.family.exit_code)), k.who, k.summary] for k in CATALOGUE.values()]
    return "\n".join(
        [
            _MADE.format("certctl/errors.py and certctl/explain.md"),
            "# Errors\n",
            "Every error has one of these stable slugs.",
            "`certctl explain SLUG` prints the same text on the host, offline.\n",
            _table(["slug", "exit", "who acts", "what"], rows),
            *(_error(kind) for kind in CATALOGUE.values()),
        ]
    )


def _error(kind: Kind) -> str:
    again = (
        "may succeed later without any change of yours" if kind.retryable else "fails again until something changes"
    )
    return (
        f"## {kind.slug}\n\nExit code {int(kind.family.exit_code)}. Who acts: {_ACTORS[kind.who]}. "
        f"Trying again {again}.\n\n{explanation(kind.slug)}\n"
    )


# Configuration.


def configuration() -> str:
    """Describe every key from the descriptions in the settings."""
    schema = Settings.model_json_schema()
    defaults = Settings.model_construct()
    parts = [
        _MADE.format("certctl/config.py"),
        "# Configuration\n",
        "TOML, in the file given by `--config`, else by `$CERTCTL_CONFIG`, else `/etc/certctl/config.toml`.",
        "Every key is optional. A variable of the environment wins over the file; lists and tables are JSON there,",
        """such as `CERTCTL_DNS__RESOLVERS='["192.0.2.53:53"]'`.""",
        "An unknown key is an error. All faults are reported at once.",
        "`certctl config show` prints what is in force; `certctl init` writes the file with these comments.\n",
    ]
    for section, field in Settings.model_fields.items():
        model = field.annotation
        described: Mapping[str, Any] = schema["$defs"][getattr(model, "__name__", "")]
        values = getattr(defaults, section)
        rows = [
            [
                f"`{key}`",
                f"`{json.dumps(getattr(values, key))}`",
                _cell(facts.get("description", "")),
                _cell(_allowed(facts)),
                f"`CERTCTL_{section}__{key}`".upper(),
            ]
            for key, facts in described["properties"].items()
        ]
        parts += [
            f"## [{section}]\n",
            f"{described['description']}\n",
            _table(["key", "default", "meaning", "allowed", "environment"], rows),
        ]
    parts += ["## The whole file, as `certctl init` writes it\n", f"```toml\n{_sample()}```\n"]
    return "\n".join(parts)


def _sample() -> str:
    """Return the commented sample without its first line, which names the version."""
    return commented(Settings.model_construct()).partition("\n")[2].lstrip("\n")


def _allowed(facts: Mapping[str, Any]) -> str:
    if "enum" in facts or "const" in facts:
        return ", ".join(f"`{value}`" for value in facts.get("enum", [facts.get("const")]))
    low = [f"at least {facts['minimum']}"] if "minimum" in facts else []
    low += [f"more than {facts['exclusiveMinimum']}"] if "exclusiveMinimum" in facts else []
    high = [f"at most {facts['maximum']}"] if "maximum" in facts else []
    high += [f"less than {facts['exclusiveMaximum']}"] if "exclusiveMaximum" in facts else []
    kind = {"array": "list of text", "object": "table of text", "string": "text"}.get(facts["type"], facts["type"])
    return ", ".join([kind, *low, *high])


# Markdown.


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def main(arguments: list[str]) -> int:
    """Write the pages, or only say which are stale."""
    old = stale()
    if "--check" in arguments:
        sys.stdout.writelines(f"stale: {path.relative_to(ROOT)}\n" for path in old)
        return 1 if old else 0
    wanted = pages()
    for path in old:
        if path in wanted:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted[path], encoding="utf-8")
        else:
            path.unlink()
        sys.stdout.write(f"{path.relative_to(ROOT)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
