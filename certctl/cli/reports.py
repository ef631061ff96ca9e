"""How a run speaks: one JSON document, or text for people (which alone needs rich)."""

import json
from collections.abc import Sequence
from typing import Any, Protocol

import click

from certctl.cli.base import Invocation
from certctl.cli.outcome import Outcome, document, error_json, exit_code
from certctl.domain import Domain
from certctl.errors import CertctlError
from certctl.stories.journey import Journey, Listener, Step, StepTaken


class Report(Listener, Protocol):
    """What every command talks to."""

    def expect(self, count: int) -> None:
        """Learn how many domains will arrive."""
        ...

    def results(self, outcomes: Sequence[Outcome]) -> int:
        """Say how it ended for each domain; return the exit code."""
        ...

    def data(self, payload: Any, text: str, *, ok: bool = True) -> None:  # noqa: ANN401
        """Say the result of a command that is about no domain; ``text`` may use rich's table syntax-free lines."""
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

    def expect(self, count: int) -> None:
        """Say nothing."""

    def results(self, outcomes: Sequence[Outcome]) -> int:
        """Print the results."""
        self._print(document(self._command, outcomes))
        return int(exit_code(outcomes))

    def data(self, payload: Any, text: str, *, ok: bool = True) -> None:  # noqa: ANN401, ARG002
        """Print the payload under ``data``."""
        self._print({"schema": f"certctl.{self._command}/1", "ok": ok, "data": payload})

    def failure(self, error: CertctlError) -> None:
        """Print the error."""
        self._print(
            {"schema": f"certctl.{self._command}/1", "ok": False, "results": [], "error": error_json(error)}
        )

    @staticmethod
    def _print(value: dict[str, Any]) -> None:
        click.echo(json.dumps(value, indent=2))


def open_report(invocation: Invocation) -> Report:
    """Return the report this run asked for."""
    if invocation.json:
        return JsonReport(invocation)
    from certctl.cli.report import TextReport

    return TextReport(invocation)
