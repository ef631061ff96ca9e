"""The output of a run for systemd's journal: one line a domain, with a priority, without timestamp or colour.

A line is a word and ``key=value`` pairs. A value with anything but plain characters in it is quoted, so text from
outside never forges a second field, a line or a priority (docs/reference/events.md).
"""

import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from threading import Lock
from typing import Any

import click

from certctl.app.progress import RunProgress
from certctl.app.report import Describe, Report, Rows
from certctl.app.result import FailurePredicate, exit_code, failed
from certctl.cli.framework import Invocation
from certctl.domain import Domain
from certctl.errors import CertctlError, Who
from certctl.formats import rfc3339
from certctl.io.escape import one_line
from certctl.stories.journey import Journey
from certctl.stories.result import Disposition, JourneyResult, Step, StepTaken

_PLAIN = re.compile(r"[A-Za-z0-9._:/@+*,-]+")
_LONGEST = 300


class Priority(IntEnum):
    """The levels of syslog(3) that certctl uses."""

    ACT = 3
    WARNING = 4
    NOTICE = 5
    ROUTINE = 6
    DEBUG = 7


def is_journal(descriptor: int) -> bool:
    """Tell whether a stream goes to the journal: JOURNAL_STREAM is its device and inode (systemd.exec(5))."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


@dataclass(frozen=True, slots=True)
class Line:
    """A line and its priority; as text it has the prefix of sd-daemon(3), such as ``<5>``."""

    priority: Priority
    text: str

    def __str__(self) -> str:
        """Return the line as the journal reads it, after its prefix."""
        return f"<{self.priority:d}>{self.text}"


def line(priority: Priority, word: str, **fields: object) -> Line:
    """Return a line of a word and ``key=value`` fields; a field that is None is left out."""
    said = "".join(f" {name}={_value(str(value))}" for name, value in fields.items() if value is not None)
    return Line(priority, f"{word}{said}")


def _value(text: str) -> str:
    """Return a value, quoted unless it is plain; one_line has escaped control and format characters before."""
    safe = one_line(text, _LONGEST)
    return safe if _PLAIN.fullmatch(safe) else '"' + safe.replace("\\", "\\\\").replace('"', '\\"') + '"'


class JournalReport:
    """A report that writes journal lines to stderr, and the results a user asked for to stdout.

    Args:
        invocation: ``-q`` leaves out lines on which no one has to act, ``-v`` adds every step.
        text: The report that prints tables and texts on stdout.
        shows_results: Whether results are printed on stdout too, because it is not the journal.
    """

    def __init__(self, invocation: Invocation, text: Report, *, shows_results: bool) -> None:
        self._up_to = {True: Priority.WARNING, False: Priority.ROUTINE}[invocation.quiet]
        if invocation.verbose:
            self._up_to = Priority.DEBUG
        self._text = text
        self._shows_results = shows_results
        self._began = time.monotonic()
        self._said: set[str] = set()
        self._guard = Lock()

    def expect(self, count: int, pace: RunProgress | None = None) -> None:
        """Do nothing: the summary has the counts."""

    def started(self, domain: Domain, step: Step) -> None:
        """Do nothing: a step is logged when it ends."""

    def ended(self, domain: Domain, step: StepTaken) -> None:
        """Log a step at debug priority."""
        self._print(
            line(Priority.DEBUG, "step", domain=domain, name=step.name, ok=step.ok, ms=step.ms, said=step.detail)
        )

    def arrived(self, journey: Journey) -> None:
        """Log the result of a domain as soon as its journey ends."""
        if journey.ended_at:
            self._said.add(str(journey.domain))
            self._print(_line_of(journey.result))

    def results(
        self,
        results: Sequence[JourneyResult],
        describe: Describe,
        fails: FailurePredicate = failed,
        beside: CertctlError | None = None,
    ) -> int:
        """Log the results that were not logged yet, nginx's reload and a summary; return the exit code."""
        for o in results:
            if o.domain not in self._said:
                self._print(_line_of_result(o, describe))
            if o.ok and self._shows_results:
                click.echo(one_line(describe(o)))
        if told := _nginx(results):
            self._print(told)
        if beside:
            self.failure(beside)
        self._print(self._summary(results))
        return int(exit_code(results, fails, beside))

    def listing(self, results: Sequence[JourneyResult], shown: Rows, **beside: object) -> int:
        """Print the table on stdout; return 0."""
        return self._text.listing(results, shown, **beside)

    def data(self, payload: Any, shown: Rows | str, *, ok: bool = True) -> None:  # noqa: ANN401
        """Print the result on stdout."""
        self._text.data(payload, shown, ok=ok)

    def note(self, text: str) -> None:
        """Log a remark at routine priority."""
        self._print(line(Priority.ROUTINE, "note", said=text))

    def warn(self, text: str) -> None:
        """Log what an operator should mend."""
        self._print(line(Priority.WARNING, "warning", said=text))

    def failure(self, error: CertctlError) -> None:
        """Log the error that ended the whole run."""
        fields = {"code": error.slug, "who": error.kind.who, "message": error.message}
        self._print(line(Priority.ACT, "failed", **fields, next=error.next[0]))

    def _summary(self, results: Sequence[JourneyResult]) -> Line:
        words = [o.disposition for o in results]
        counts = {str(word): words.count(word) for word in Disposition if word is not Disposition.DONE}
        seconds = time.monotonic() - self._began
        return line(Priority.ROUTINE, "summary", **counts, duration=f"{seconds:.1f}s")

    def _print(self, said: Line) -> None:
        if said.priority <= self._up_to:
            with self._guard:
                click.echo(said, err=True)


def _line_of(o: JourneyResult) -> Line:
    """Return the line about a journey that ended."""
    if o.error:
        return _line_of_failure(o, o.error)
    word = o.disposition
    if word is Disposition.DONE:
        return line(Priority.DEBUG, word, domain=o.domain)
    if word is Disposition.RETURNED:
        return line(Priority.NOTICE, word, domain=o.domain, days_left=o.days_left)
    return line(
        Priority.ROUTINE,
        word,
        domain=o.domain,
        days_left=o.days_left if word is Disposition.RENEWED else None,
        reason=o.reason if word is Disposition.RENEWED else None,
        took=f"{sum(step.ms for step in o.steps) / 1000:.1f}s",
        expires=rfc3339(o.in_force.not_after) if o.in_force else None,
    )


def _line_of_failure(o: JourneyResult, error: CertctlError) -> Line:
    row = o.after
    fields: dict[str, object] = {"domain": o.domain, "code": error.slug, "who": error.kind.who}
    if o.disposition is Disposition.PARKED:
        priority = Priority.NOTICE if o.is_news else Priority.DEBUG
        fields |= {"state": row.state, "since": rfc3339(row.since)} if row else {}
    else:
        priority = Priority.ACT if o.fails_timer_run else Priority.WARNING
        retry = rfc3339(row.retry_at) if row and row.retry_at and o.at and row.retry_at > o.at else None
        fields |= {"attempt": row.attempts if row else None, "retry": retry}
    return line(priority, o.disposition, **fields, days_left=o.days_left, message=error.message)


def _line_of_result(o: JourneyResult, describe: Describe) -> Line:
    """Return the line about a domain without a journey: its name was rejected, or it was a dry run."""
    if o.at:
        return _line_of(o)
    if o.error:
        priority = Priority.ACT if o.error.kind.who is Who.OPERATOR else Priority.WARNING
        fields = {"code": o.error.slug, "who": o.error.kind.who, "message": o.error.message}
        return line(priority, o.disposition, domain=o.domain, **fields)
    return line(Priority.ROUTINE, o.disposition, domain=o.domain, said=describe(o))


def _nginx(results: Sequence[JourneyResult]) -> Line | None:
    """Return the line about nginx's reload, None without one. A reload that domains share is a step of each."""
    deployed = [
        step for o in results if o.ok and o.changed for step in o.steps if step.ok and step.name is Step.RELOAD
    ]
    if not deployed:
        return None
    reloads = len({id(step) for step in deployed})
    ending = "reload" if reloads == 1 else "reloads"
    noun = "certificate" if len(deployed) == 1 else "certificates"
    return Line(Priority.ROUTINE, f"nginx: {len(deployed)} {noun} changed, test passed, {reloads} {ending}")
