"""The interface of a run's report; ``cli/output`` implements it as text, JSON and journal lines."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from certctl.app.progress import RunProgress
from certctl.app.result import FailurePredicate, failed
from certctl.errors import CertctlError
from certctl.stories.journey import Listener
from certctl.stories.result import JourneyResult

Describe = Callable[[JourneyResult], str]


@dataclass(frozen=True, slots=True)
class Rows:
    """A table without a format. A row's first cell may be a mark: ok, warning or problem."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


class Report(Listener, Protocol):
    """The report of one run, which every command writes to."""

    def expect(self, count: int, pace: RunProgress | None = None) -> None:
        """Take note how many domains will be done, and of the object that counts their progress."""
        ...

    def results(
        self,
        results: Sequence[JourneyResult],
        describe: Describe,
        fails: FailurePredicate = failed,
        beside: CertctlError | None = None,
    ) -> int:
        """Report the result of each domain, and ``beside``, an error of the run itself; return the exit code."""
        ...

    def listing(self, results: Sequence[JourneyResult], shown: Rows, **beside: object) -> int:
        """Show a table about domains, with the keys of ``beside`` added in JSON; return 0."""
        ...

    def data(self, payload: Any, shown: Rows | str, *, ok: bool = True) -> None:  # noqa: ANN401
        """Show the result of a command that is about no domain."""
        ...

    def note(self, text: str) -> None:
        """Print a remark that is no result."""
        ...

    def failure(self, error: CertctlError) -> None:
        """Report the error that ended the whole run."""
        ...
