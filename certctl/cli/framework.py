"""Groups that load commands when they run, and options that stand before or after the command."""

import codecs
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from certctl import __version__
from certctl.app.given import Given

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from certctl.app.context import Source
    from certctl.errors import Kind, NameRejected

Commands = Mapping[str, Mapping[str, tuple[str, str]]]
_MAX_LINE = 1000
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass
class Invocation:
    """How certctl was called: the arguments, and the global options, which may stand anywhere among them."""

    command: str = "certctl"
    config: Path | None = None
    root: Path | None = None
    json: bool = False
    quiet: bool = False
    verbose: int = 0
    color: str = "auto"
    words: Sequence[str] = ()

    @property
    def source(self) -> "Source":
        """Return where the configuration is read from."""
        from certctl.app.context import Source

        return Source(self.config, self.root)


def print_version(context: click.Context, _parameter: click.Parameter, asked: bool) -> None:  # noqa: FBT001
    """Print the version and exit (a click callback)."""
    if asked:
        click.echo(f"certctl {__version__}")
        context.exit()


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:  # noqa: ANN401
    """Store a global option in the invocation (a click callback); one given after the command wins."""
    source = context.get_parameter_source(str(parameter.name))
    if value is not None and source is click.core.ParameterSource.COMMANDLINE:
        invocation = context.find_object(Invocation)
        if invocation is not None:
            setattr(invocation, str(parameter.name), value)


def _option(*names: str, **attributes: Any) -> click.Option:  # noqa: ANN401
    return click.Option(names, expose_value=False, callback=_remember, **attributes)


GLOBAL_OPTIONS = (
    _option("--config", type=click.Path(path_type=Path, readable=False), metavar="FILE",
            help="Configuration file [default: $CERTCTL_CONFIG, then /etc/certctl/config.toml]."),
    _option("--root", type=click.Path(path_type=Path, file_okay=False, readable=False), metavar="DIR",
            help="Relocate every path below DIR (sandbox, tests)."),
    _option("--json", is_flag=True, help="Print exactly one JSON document on stdout."),
    _option("-q", "--quiet", is_flag=True, help="Print nothing on success."),
    _option("-v", "--verbose", count=True, help="Say more; -vv shows tracebacks."),
    _option("--color", type=click.Choice(["auto", "always", "never"]), default="auto", show_default=True,
            help="Colours; NO_COLOR is honoured."),
)  # fmt: skip


class Command(click.Command):
    """A command that takes the global options too, shown in a section of their own."""

    def __init__(self, *args: Any, **attributes: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **attributes)
        taken = {name for parameter in self.params for name in parameter.opts}
        self.params += [option for option in GLOBAL_OPTIONS if not taken & set(option.opts)]

    def invoke(self, context: click.Context) -> Any:  # noqa: ANN401
        """Store the command's name for reports, then run it."""
        invocation = context.find_object(Invocation)
        if invocation is not None:
            path = context.command_path.split()[1:]
            invocation.command = "-".join(path) or "certctl"
        return super().invoke(context)

    def format_options(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command's own options before the global ones."""
        records: dict[bool, list[tuple[str, str]]] = {False: [], True: []}
        for parameter in self.get_params(context):
            record = parameter.get_help_record(context)
            if record is not None:
                records[parameter in GLOBAL_OPTIONS].append(record)
        for is_global, title in ((False, "Options"), (True, "Global options")):
            if records[is_global]:
                with formatter.section(title):
                    formatter.write_dl(records[is_global])


class Group(click.Group):
    """A group that takes the global options too, between its name and a command's."""

    def __init__(self, *args: Any, **attributes: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **attributes)
        self.params += GLOBAL_OPTIONS


class LazyGroup(click.Group):
    """A group that knows the name and help line of each command, and imports its module only to run it."""

    def __init__(self, name: str, sections: Commands, **attributes: Any) -> None:  # noqa: ANN401
        super().__init__(name, **attributes)
        self.sections = sections
        self.table = {command: entry for section in sections.values() for command, entry in section.items()}

    def invoke(self, context: click.Context) -> Any:  # noqa: ANN401
        """Run the command; click would turn a broken pipe, even a socket's, into a silent exit 1 (click 8.5)."""
        try:
            return super().invoke(context)
        except BrokenPipeError as error:
            from certctl.errors import Internal
            from certctl.slugs import Slug

            raise Internal(Slug.INTERNAL, f"a pipe or connection broke: {error}") from error

    def list_commands(self, _context: click.Context) -> list[str]:
        """Return the names of the commands in the order of the help."""
        return list(self.table)

    def shell_complete(self, context: click.Context, incomplete: str) -> "list[CompletionItem[Any]]":
        """Complete a command's name without importing a single command."""
        from click.shell_completion import CompletionItem

        lines = {name: text for commands in self.sections.values() for name, (_, text) in commands.items()}
        named = [CompletionItem(name, help=lines[name]) for name in self.table if name.startswith(incomplete)]
        return named + click.Command.shell_complete(self, context, incomplete)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        """Return a command, imported now; None when there is none of that name."""
        if name not in self.table:
            return None
        module, _, attribute = self.table[name][0].partition(":")
        command = getattr(import_module(f"certctl.cli.commands.{module}"), attribute)
        return command if isinstance(command, click.Command) else None

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that was typed; for an unknown one suggest the nearest name."""
        try:
            return super().resolve_command(context, args)
        except click.UsageError as error:
            from difflib import get_close_matches

            near = get_close_matches(args[0], self.table, n=1)
            if not near:
                raise
            raise click.UsageError(f"{error.message} Did you mean '{near[0]}'?", error.ctx) from error

    def format_commands(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections of commands without importing one."""
        width = max(map(len, self.table))
        for title, commands in self.sections.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), text) for name, (_, text) in commands.items()])


class Duration(click.ParamType[timedelta]):
    """The click type of a duration such as ``90s``, ``10m`` or ``2h``."""

    name = "duration"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> timedelta:  # noqa: ANN401
        """Return the duration; fail with a usage error when the text is none."""
        if isinstance(value, timedelta):
            return value
        number, unit = str(value)[:-1], str(value)[-1:]
        if unit not in _UNITS or not number.isascii() or not number.isdigit() or len(number) > 6:  # noqa: PLR2004
            self.fail(f"{value!a} is not a duration such as 90s, 10m or 2h", parameter, context)
        return timedelta(seconds=int(number) * _UNITS[unit])


class ErrorKind(click.ParamType["Kind"]):
    """The click type of an error's slug: it completes in a shell, and of a wrong one it says which was meant."""

    name = "slug"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> "Kind":  # noqa: ANN401
        """Return the kind of error; fail with a usage error when there is none of that name."""
        from certctl.errors import CATALOGUE, kind_of

        kind = kind_of(str(value))
        if kind is None:
            from difflib import get_close_matches

            near = get_close_matches(str(value), CATALOGUE, n=3)
            hint = f"Did you mean {', '.join(near)}?" if near else "'certctl explain' lists them all."
            self.fail(f"there is no error {value!a}. {hint}", parameter, context)
        return kind

    def shell_complete(
        self, _context: click.Context, _parameter: click.Parameter, incomplete: str
    ) -> "list[CompletionItem[Any]]":
        """Return the slugs that begin so."""
        from click.shell_completion import CompletionItem

        from certctl.errors import CATALOGUE

        return [CompletionItem(str(slug)) for slug in CATALOGUE if slug.startswith(incomplete)]


def command(name: str, examples: str) -> Callable[[Callable[..., Any]], click.Command]:
    """Return a decorator that declares a command with examples below its help."""
    listed = "\b\nExamples:\n" + "\n".join("  " + line.strip() for line in examples.strip().splitlines())
    return click.command(name, cls=Command, epilog=listed)


def expand(names: Iterable[str]) -> Iterator[Given]:
    """Yield the names, with ``-`` replaced by those on stdin: one a line, no blank lines, no ``#`` comments.

    Lists come out of spreadsheets and editors: a byte order mark and blanks around a name are no part of it there.

    Raises:
        NameRejected: ``usage``: stdin is UTF-16.
    """
    for name in names:
        if name != "-":
            yield Given(name)
            continue
        for number, line in enumerate(sys.stdin.buffer, 1):
            start = line[:_MAX_LINE]
            if number == 1 and start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                raise _utf16_refused()
            text = start.removeprefix(codecs.BOM_UTF8 if number == 1 else b"").decode("utf-8", "surrogateescape")
            if (text := text.strip(" \t\r\n")) and not text.startswith("#"):
                yield Given(text, number)


def _utf16_refused() -> "NameRejected":
    from certctl.errors import NameRejected
    from certctl.slugs import Slug

    return NameRejected(
        Slug.USAGE, "the names on stdin are UTF-16, and have to be UTF-8", next=["iconv -f UTF-16 -t UTF-8 NAMES"]
    )
