"""The output of a run as JSON: one document on stdout (docs/reference/json.md)."""

import json
from collections.abc import Sequence
from typing import Any

import click

from certctl.app.progress import RunProgress
from certctl.app.report import Describe, Rows
from certctl.app.result import FailurePredicate, document, error_json, exit_code, failed
from certctl.cli.framework import Invocation
from certctl.domain import Domain
from certctl.errors import CertctlError
from certctl.io.escape import one_line
from certctl.stories.journey import Journey
from certctl.stories.result import JourneyResult, Step, StepTaken


class JsonReport:
    """A report that prints exactly one document on stdout, also on failure."""

    def __init__(self, invocation: Invocation) -> None:
        self._command = invocation.command

    def started(self, domain: Domain, step: Step) -> None:
        """Do nothing: the document is printed at the end."""

    def ended(self, domain: Domain, step: StepTaken) -> None:
        """Do nothing: the document has every step at the end."""

    def arrived(self, journey: Journey) -> None:
        """Do nothing: the document has every result at the end."""

    def expect(self, count: int, pace: RunProgress | None = None) -> None:
        """Do nothing: JSON shows no progress."""

    def note(self, text: str) -> None:
        """Do nothing: a remark is no part of the document."""

    def warn(self, text: str) -> None:
        """Print a warning on stderr, apart from the document."""
        click.echo(f"warning: {one_line(text)}", err=True)

    def results(
        self,
        results: Sequence[JourneyResult],
        describe: Describe,  # noqa: ARG002 - the words are for people
        fails: FailurePredicate = failed,
        beside: CertctlError | None = None,
    ) -> int:
        """Print the document with the results; return the exit code."""
        _print(document(self._command, results, fails, beside))
        return int(exit_code(results, fails, beside))

    def listing(self, results: Sequence[JourneyResult], shown: Rows, **beside: object) -> int:  # noqa: ARG002
        """Print the document with the results and the keys of ``beside``; return 0, whatever is listed."""
        _print(document(self._command, results) | {"ok": True, **beside})
        return 0

    def data(self, payload: Any, shown: Rows | str, *, ok: bool = True) -> None:  # noqa: ANN401, ARG002
        """Print the document with the payload under ``data``."""
        _print({"schema": f"certctl.{self._command}/1", "ok": ok, "data": payload})

    def failure(self, error: CertctlError) -> None:
        """Print the document with the error."""
        _print({"schema": f"certctl.{self._command}/1", "ok": False, "results": [], "error": error_json(error)})


def _print(value: dict[str, Any]) -> None:
    click.echo(json.dumps(value, indent=2))
