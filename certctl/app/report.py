"""What a run says while it works and in the end; ``cli/output`` decides how that looks."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from certctl.app.progress import Pace
from certctl.app.result import Judge, failed
from certctl.errors import CertctlError
from certctl.stories.journey import Listener
from certctl.stories.result import JourneyResult

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
