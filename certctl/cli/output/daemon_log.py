"""The daemon's log: one journal line for each decision, with a rate limit."""

import asyncio
from collections import Counter
from datetime import timedelta

import click

from certctl.cli.framework import Invocation
from certctl.cli.output.journal import Line, Priority, is_journal, line
from certctl.formats import rfc3339
from certctl.io.clock import Clock
from certctl.serve.answers import Answer, Kind
from certctl.serve.ondemand import FlightResult
from certctl.serve.rate_limit import TokenBucket
from certctl.serve.settings import Rate

_LINES = Rate(burst=60, refill=timedelta(seconds=1))
_MINUTE = timedelta(minutes=1)
_PRIORITIES = {Kind.REFUSED: Priority.ROUTINE, Kind.PREPARING: Priority.ROUTINE}


class DaemonLogWriter:
    """Writes the daemon's log to stderr: lines with a priority for the journal, else with a timestamp.

    Refusals beyond the rate limit are counted and summed up once a minute. A new certificate is always logged.
    """

    def __init__(self, invocation: Invocation, clock: Clock, every: timedelta = _MINUTE) -> None:
        self._up_to = Priority.WARNING if invocation.quiet else Priority.ROUTINE
        if invocation.verbose:
            self._up_to = Priority.DEBUG
        self._clock = clock
        self._to_journal = is_journal(2)
        self._lines: dict[Priority, TokenBucket] = {}
        self._unsaid: Counter[str] = Counter()
        self._every = every.total_seconds()

    def note(self, text: str) -> None:
        """Log a routine event."""
        self._print(line(Priority.ROUTINE, "note", said=text))

    def warn(self, text: str) -> None:
        """Log what an operator should mend."""
        self._print(line(Priority.WARNING, "warning", said=text))

    def answered(self, answer: Answer) -> None:
        """Count a visitor who was turned away as busy; every other answer is logged when its flight ends."""
        if answer.kind is Kind.BUSY:
            self._leave_unsaid(answer)

    def flight_ended(self, result: FlightResult) -> None:
        """Log how a flight ended, or count it when the rate limit is reached."""
        if result.answer.kind is Kind.READY:
            self._print(_ready(result))
        elif self._may_speak(priority := _PRIORITIES.get(result.answer.kind, Priority.WARNING)):
            self._print(_not_ready(result, priority))
        else:
            self._leave_unsaid(result.answer)

    def _may_speak(self, priority: Priority) -> bool:
        """Take a line from the rate limit of this priority; tell whether there was one."""
        now = self._clock.now().timestamp()
        lines = self._lines.setdefault(priority, TokenBucket(_LINES, now))
        if lines.missing(now):
            return False
        lines.take()
        return True

    def _leave_unsaid(self, answer: Answer) -> None:
        if not self._unsaid:
            asyncio.get_running_loop().call_later(self._every, self._sum_up)
        self._unsaid[str(answer.slug or answer.kind)] += 1

    def _sum_up(self) -> None:
        fields: dict[str, object] = {"seconds": round(self._every), "total": self._unsaid.total(), **self._unsaid}
        self._unsaid.clear()
        self._print(line(Priority.NOTICE, "unsaid", **fields))

    def _print(self, said: Line) -> None:
        if said.priority <= self._up_to:
            click.echo(said if self._to_journal else f"{rfc3339(self._clock.now())} {said.text}", err=True)


def _ready(result: FlightResult) -> Line:
    """Return the line about a name that is served; at debug priority when it already was."""
    outcome = result.outcome
    return line(
        Priority.ROUTINE if outcome.changed else Priority.DEBUG,
        outcome.word,
        domain=result.domain,
        took=f"{result.seconds:.3f}s",
        expires=rfc3339(outcome.expires) if outcome.expires else None,
    )


def _not_ready(result: FlightResult, priority: Priority) -> Line:
    outcome, answer = result.outcome, result.answer
    return line(
        priority,
        answer.kind,
        domain=result.domain,
        code=answer.slug,
        who=outcome.who or None,
        took=f"{result.seconds:.3f}s",
        again_in=f"{answer.seconds}s",
        message=outcome.message or None,
    )
