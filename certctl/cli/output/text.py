"""The output of a run as text for people; the only module that imports rich.

stdout gets the result, stderr progress and errors. All text from outside is escaped here, once.
"""

import sys
from collections.abc import Iterator, Sequence
from threading import Lock
from typing import Any

from rich.cells import cell_len
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from certctl.app.progress import RunProgress
from certctl.app.report import Describe, Rows
from certctl.app.result import FailurePredicate, exit_code, failed
from certctl.cli.framework import Invocation
from certctl.domain import Domain
from certctl.errors import CertctlError, Who
from certctl.io.escape import one_line
from certctl.stories.journey import Journey
from certctl.stories.result import JourneyResult, Step, StepTaken

_FULL_BLOCKS = 3
_SEEN_LINES = 20
_NO_WIDTH = 10_000
_FANCY_ROWS = 200
_COLORS: dict[str, dict[str, Any]] = {
    "auto": {},
    "never": {"no_color": True, "color_system": None},
    "always": {"force_terminal": True},
}
_STYLES = {"ok": "green", "problem": "bold red", "warning": "yellow", "failing": "bold red", "moved": "yellow"}
_ACTORS = {
    Who.CUSTOMER: "the customer",
    Who.OPERATOR: "you, the operator",
    Who.CA: "the CA",
    Who.NOBODY: "nobody: try again later",
}


class TextReport:
    """A report of plain lines; colours, a spinner and a progress bar only on a terminal."""

    def __init__(self, invocation: Invocation) -> None:
        settings: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False, "soft_wrap": True}
        settings |= _COLORS[invocation.color]
        self._out, self._err = _console(settings), _console(settings | {"stderr": True})
        self._quiet = invocation.quiet
        self._verbose = invocation.verbose
        self._single = True
        self._live: Progress | None = None
        self._pace: RunProgress | None = None
        self._guard = Lock()
        fancy = "utf" in (sys.stderr.encoding or "").lower()
        self._marks = {True: "✓" if fancy else "ok", False: "✗" if fancy else "FAIL"}

    def expect(self, count: int, pace: RunProgress | None = None) -> None:
        """Show one domain step by step, many as a progress bar and one line each."""
        self._stop()
        self._single, self._pace = count == 1, pace
        if count > 1 and self._err.is_terminal and not self._quiet:
            self._live = Progress(
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
                TextColumn("{task.fields[rest]}"), console=self._err, transient=True,
            )  # fmt: skip
            self._live.add_task("domains", total=count, rest=pace.rest if pace else "")
            self._live.start()

    def started(self, domain: Domain, step: Step) -> None:
        """Show a spinner with the step that began."""
        if self._single and self._err.is_terminal and not self._quiet:
            self._live = Progress(
                SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(),
                console=self._err, transient=True,
            )  # fmt: skip
            self._live.add_task(f"{step}  {domain}", total=None)
            self._live.start()

    def ended(self, domain: Domain, step: StepTaken) -> None:
        """Replace the spinner by a line with the step's result."""
        with self._guard:
            if self._single:
                self._stop()
            if self._quiet or not (self._single or self._verbose):
                return
            where = "" if self._single else f"{domain} "
            time = f"{step.ms / 1000:.1f} s" if step.ms >= 1000 else f"{step.ms} ms"  # noqa: PLR2004 - ms in a second
            line = Text.assemble(
                "  ", (self._marks[step.ok], "green" if step.ok else "bold red"),
                f" {where}{step.name:<9}{one_line(step.detail)}  ", (time, "dim"),
            )  # fmt: skip
            self._err.print(line)

    def arrived(self, journey: Journey) -> None:
        """Print a line about the domain and advance the progress bar."""
        with self._guard:
            if self._single:
                return
            if not self._quiet:
                self._err.print(self._short(str(journey.domain), journey.error))
            self._advance(ok=journey.ok)

    def _advance(self, *, ok: bool) -> None:
        if self._pace:
            self._pace.arrived(ok=ok)
        if self._live:
            self._live.update(self._live.task_ids[0], advance=1, rest=self._pace.rest if self._pace else "")
        elif self._pace and not self._quiet and (line := self._pace.line()):
            self._err.print(Text(line, style="dim"))

    def results(
        self,
        results: Sequence[JourneyResult],
        describe: Describe,
        fails: FailurePredicate = failed,
        beside: CertctlError | None = None,
    ) -> int:
        """Print the result of each domain, and a full block for the first failures; return the exit code.

        With ``-q`` only failures are printed for which the run fails.
        """
        self._stop()
        failures = [o for o in results if o.error and (fails(o) or not self._quiet)]
        shown = len(failures) if self._verbose else _FULL_BLOCKS
        for o in failures[:shown]:
            if o.error:
                self.failure(o.error)
        if beside:
            self.failure(beside)
        if self._quiet:
            for o in failures[shown:]:
                self._err.print(self._short(o.domain, o.error))
        elif results or not beside:
            self._sum_up(results, describe)
        return int(exit_code(results, fails, beside))

    def _sum_up(self, results: Sequence[JourneyResult], describe: Describe) -> None:
        fine = [o for o in results if o.ok]
        for o in fine:
            self._out.print(Text(describe(o)))
        if not results:
            self._out.print(Text("Nothing to do."))
        if len(results) > 1:
            changed = sum(o.changed for o in results)
            self._out.print(Text(f"{len(fine)} ok, {len(results) - len(fine)} failed, {changed} changed"))

    def _short(self, domain: str, error: CertctlError | None) -> Text:
        said = f"error[{error.slug}]: {one_line(error.message)}" if error else "done"
        return Text(f"{self._marks[error is None]} {one_line(domain)}  {said}")

    def listing(self, results: Sequence[JourneyResult], shown: Rows, **beside: object) -> int:  # noqa: ARG002 - the rows say it
        """Print the table; return 0."""
        self.data(None, shown)
        return 0

    def data(self, payload: Any, shown: Rows | str, *, ok: bool = True) -> None:  # noqa: ANN401, ARG002
        """Print the text or the table on stdout."""
        if self._quiet and ok:
            return
        if isinstance(shown, str):
            self._out.print(Text("\n".join(one_line(line) for line in shown.splitlines())))
            return
        if not self._out.is_terminal or len(shown.rows) > _FANCY_ROWS:
            self._out.file.writelines(line + "\n" for line in _plain_table(shown))
            self._out.file.flush()
            return
        table = Table(box=None, pad_edge=False, show_header=any(shown.columns), header_style="dim")
        for column in shown.columns:
            table.add_column(column.upper(), overflow="fold", no_wrap=column is not shown.columns[-1])
        for row in shown.rows:
            table.add_row(*(Text(one_line(cell), style=_STYLES.get(cell, "")) for cell in row))
        notes = [Text(one_line(note)) for note in shown.notes]
        _show(self._out, Group(*([table] if shown.rows else []), *notes))

    def note(self, text: str) -> None:
        """Print a remark on stderr."""
        if not self._quiet:
            self._err.print(Text(one_line(text)))

    def warn(self, text: str) -> None:
        """Print a warning on stderr, also with ``-q``."""
        self._err.print(Text.assemble(("warning", "yellow"), f": {one_line(text)}"))

    def failure(self, error: CertctlError) -> None:
        """Print the block about an error: what happened, was seen, should be, who acts, and what to type."""
        self._stop()
        head = Text.assemble((f"error[{error.slug}]", "bold red"), f": {one_line(error.message)}")
        cost = "a request to the CA was spent" if error.quota_used else "none: the CA's limits were not touched"
        parts = [
            ("seen", self._some(error.seen)),
            ("should be", list(error.expected)),
            ("who acts", [_ACTORS[error.kind.who]]),
            ("wait", [f"{error.retry_after} s"] if error.retry_after else []),
            ("cost", [cost] if error.quota_used or error.kind.family.exit_code.value in {3, 4, 5, 6} else []),
            ("next", list(error.next)),
        ]
        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True, style="dim")
        table.add_column(overflow="fold")
        for name, lines in parts:
            for position, line in enumerate(lines):
                table.add_row("" if position else f"  {name}", Text(one_line(line)))
        _show(self._err, Group(head, table))

    def _some(self, lines: Sequence[str]) -> list[str]:
        """Return the first lines and how many more there are; all with ``-v``."""
        if self._verbose or len(lines) <= _SEEN_LINES:
            return list(lines)
        return [*lines[:_SEEN_LINES], f"and {len(lines) - _SEEN_LINES} more: -v shows all"]

    def _stop(self) -> None:
        if self._live:
            self._live.stop()
            self._live = None


class LiveTable:
    """A table that is redrawn in place while a person waits; ``is_possible`` only on a terminal."""

    def __init__(self, invocation: Invocation) -> None:
        self._console = _console(_COLORS[invocation.color] | {"stderr": True, "highlight": False, "markup": False})
        self._live: Live | None = None
        self.is_possible = self._console.is_terminal

    def show(self, shown: Rows) -> None:
        """Draw the table, in the place of the last one."""
        table = Table(box=None, show_header=False, padding=(0, 0, 0, 2))
        for row in shown.rows:
            table.add_row(*(Text(one_line(cell), style=_STYLES.get(cell, "")) for cell in row))
        drawn = Group(table, *(Text(one_line(note), style="dim") for note in shown.notes))
        if self._live is None:
            self._live = Live(drawn, console=self._console, refresh_per_second=4)
            self._live.start()
        self._live.update(drawn)

    def stop(self) -> None:
        """Stop redrawing and leave the last table on the screen."""
        if self._live:
            self._live.stop()
            self._live = None


def _console(settings: dict[str, Any]) -> Console:
    """Return a console of rich; lines are not wrapped when it is no terminal."""
    console = Console(**settings)
    return console if console.is_terminal else Console(**settings, width=_NO_WIDTH)


def _plain_table(shown: Rows) -> Iterator[str]:
    """Yield the lines of a table with aligned columns, without rich, which needs 3 s for 10,000 rows."""
    head = [[column.upper() for column in shown.columns]] if any(shown.columns) else []
    rows = head + [[one_line(cell) for cell in row] for row in shown.rows]
    if shown.rows:
        widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = (cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True))
            yield "  ".join(cells).rstrip()
    yield from (one_line(note) for note in shown.notes)


def _show(console: Console, what: Group) -> None:
    """Print a table without trailing spaces."""
    with console.capture() as captured:
        console.print(what)
    console.file.writelines(line.rstrip() + "\n" for line in captured.get().splitlines())
    console.file.flush()
