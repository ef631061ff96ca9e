"""How a run speaks: one JSON document, lines for the journal, or text for people (which alone needs rich)."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import click

from certctl.app.progress import Pace
from certctl.app.result import Judge, document, error_json, exit_code, failed
from certctl.cli.framework import Invocation
from certctl.domain import Domain
from certctl.errors import CertctlError
from certctl.io.escape import one_line
from certctl.stories.journey import Journey, Listener
from certctl.stories.result import JourneyResult, Step, StepTaken

Say = Callable[[JourneyResult], str]


@dataclass(frozen=True, slots=True)
class Rows:
    """A table before anybody chose how it looks. A row's first cell may be a mark: ok, warning or problem."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


class Report(Listener, Protocol):
    """What every command talks to."""

    def expect(self, count: int, pace: Pace | None = None) -> None:
        """Learn how many domains will arrive, and who knows when."""
        ...

    def results(
        self, results: Sequence[JourneyResult], say: Say, fails: Judge = failed, beside: CertctlError | None = None
    ) -> int:
        """Say how it ended for each domain, and what is wrong with the run beside them; return the exit code."""
        ...

    def listing(self, results: Sequence[JourneyResult], shown: Rows, **beside: object) -> int:
        """Show a table about domains, and in JSON what is said beside it; return 0."""
        ...

    def data(self, payload: Any, shown: Rows | str, *, ok: bool = True) -> None:  # noqa: ANN401
        """Say the result of a command that is about no domain."""
        ...

    def note(self, text: str) -> None:
        """Say something on the side."""
        ...

    def failure(self, error: CertctlError) -> None:
        """Say what ended the whole run."""
        ...


class JsonReport:
    """Exactly one document on stdout, also on failure."""

    def __init__(self, invocation: Invocation) -> None:
        self._command = invocation.command

    def started(self, domain: Domain, step: Step) -> None:
        """Say nothing: only the end is printed."""

    def ended(self, domain: Domain, step: StepTaken) -> None:
        """Say nothing."""

    def arrived(self, journey: Journey) -> None:
        """Say nothing."""

    def expect(self, count: int, pace: Pace | None = None) -> None:
        """Say nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""

    def warn(self, text: str) -> None:
        """Say it where it is in nobody's way."""
        click.echo(f"warning: {one_line(text)}", err=True)

    def results(
        self,
        results: Sequence[JourneyResult],
        say: Say,  # noqa: ARG002 - the words are for people
        fails: Judge = failed,
        beside: CertctlError | None = None,
    ) -> int:
        """Print the results."""
        _print(document(self._command, results, fails, beside))
        return int(exit_code(results, fails, beside))

    def listing(self, results: Sequence[JourneyResult], shown: Rows, **beside: object) -> int:  # noqa: ARG002
        """Print the results; what is listed may be failing, the listing did not."""
        _print(document(self._command, results) | {"ok": True, **beside})
        return 0

    def data(self, payload: Any, shown: Rows | str, *, ok: bool = True) -> None:  # noqa: ANN401, ARG002
        """Print the payload under ``data``."""
        _print({"schema": f"certctl.{self._command}/1", "ok": ok, "data": payload})

    def failure(self, error: CertctlError) -> None:
        """Print the error."""
        _print({"schema": f"certctl.{self._command}/1", "ok": False, "results": [], "error": error_json(error)})


def _print(value: dict[str, Any]) -> None:
    click.echo(json.dumps(value, indent=2))


def open_report(invocation: Invocation) -> Report:
    """Return the report this run asked for; under systemd the one that speaks the journal's language."""
    if invocation.json:
        return JsonReport(invocation)
    from certctl.cli.output.journal import JournalReport, is_journal
    from certctl.cli.output.text import TextReport

    text = TextReport(invocation)
    return JournalReport(invocation, text, shows_results=not is_journal(1)) if is_journal(2) else text
