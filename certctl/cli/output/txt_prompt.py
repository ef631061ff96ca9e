"""Show a person which TXT records to add, and which nameservers have them; always on stderr."""

from collections.abc import Sequence

import click

from certctl.app.report import Rows
from certctl.cli.framework import Invocation
from certctl.domain import Domain
from certctl.io.clock import Clock
from certctl.io.escape import one_line
from certctl.io.interrupt import raise_if_stopping
from certctl.stories.journey import Journey, Listener
from certctl.stories.result import Step, StepTaken
from certctl.txt_records import TxtDemand, TxtSight

_DAY = 86400
_HOUR = 3600


class TxtPrompt:
    """Fits ``ports.manual_dns.Prompt``.

    The records are shown even with ``-q`` and ``--json``: without them the run cannot go on.
    """

    def __init__(self, invocation: Invocation, clock: Clock) -> None:
        from certctl.cli.output.text import LiveTable

        self._clock = clock
        self._table = LiveTable(invocation)
        self._said: set[str] = set()
        self._quiet = invocation.quiet or invocation.json

    def demand(self, demand: TxtDemand) -> None:
        """Print all records to add, at once."""
        _say(_demanded(demand, self._left(demand)))

    def sighted(self, demand: TxtDemand, sight: TxtSight) -> None:
        """Redraw the table of nameservers, or print a line for each that changed when stderr is no terminal.

        Raises:
            Interrupted: this process was asked to stop.
        """
        raise_if_stopping("while waiting for DNS")
        lines = [[answer.server, answer.said_of(demand.values)] for answer in sight.answers]
        if self._table.is_possible and not self._quiet:
            marks = [[a.server, *_marks(a.values, demand), a.said_of(demand.values)] for a in sight.answers]
            self._table.show(Rows([], marks, [*sight.notes, f"  {self._outlook(demand, sight)}"]))
        elif not self._quiet:
            for text in [": ".join(line) for line in lines] + list(sight.notes):
                if text not in self._said:
                    _say([text])
            self._said = {": ".join(line) for line in lines} | set(sight.notes)

    def over(self) -> None:
        """Stop redrawing the table."""
        self._table.stop()

    def _outlook(self, demand: TxtDemand, sight: TxtSight) -> str:
        if sight.agrees(demand.values):
            return "all of them agree: the CA may look now"
        return f"{self._left(demand)}; Ctrl-C: no failed check, one order used"

    def _left(self, demand: TxtDemand) -> str:
        ends = demand.patience_ends or self._clock.now()
        left = max(0, int((ends - self._clock.now()).total_seconds()))
        if left >= _DAY:
            return f"{left / _DAY:.1f} days left"
        return f"{left // 60} min {left % 60} s left" if left < _HOUR else f"{left / _HOUR:.1f} hours left"


class WithoutSpinner:
    """A listener that keeps the report's spinner off while the table of TXT records is drawn."""

    def __init__(self, report: Listener) -> None:
        self._report = report

    def started(self, domain: Domain, step: Step) -> None:
        """Pass every step on to the report but the one in which records are added."""
        if step is not Step.OBTAIN:
            self._report.started(domain, step)

    def ended(self, domain: Domain, step: StepTaken) -> None:
        """Pass the end of a step on to the report."""
        self._report.ended(domain, step)

    def arrived(self, journey: Journey) -> None:
        """Pass the journey on to the report."""
        self._report.arrived(journey)

    def warn(self, text: str) -> None:
        """Pass the warning on to the report."""
        self._report.warn(text)


def _demanded(demand: TxtDemand, left: str) -> Sequence[str]:
    sight = demand.sight
    watched = "every nameserver" if len(sight.answers) != 1 else "the nameserver"
    watched += f" of {sight.zone}" if sight.zone else ""
    return [*records(demand), f"Watching {watched}; the CA looks once all of them agree. {left}.", ""]


def records(demand: TxtDemand) -> Sequence[str]:
    """Return the lines to show: which records to create, which exist already, and until when the order is open."""
    sight, several = demand.sight, len(demand.values) > 1
    what, stay = ("BOTH records", "both") if several else ("this record", "it")
    how_long = "for good" if demand.stands else "until the end"
    short = sight.owner.removesuffix(f".{sight.zone}") if sight.zone else ""
    hint = f'      (some panels want only "{short}")' if short and short != sight.owner else ""
    mark = "{number})  " if several or not demand.stands else ""
    values = [f"{mark.format(number=n)}{value}{_already(value, sight)}" for n, value in enumerate(demand.values, 1)]
    until = [f"The CA keeps the order open until {demand.until:%Y-%m-%d %H:%M} UTC."] if demand.until else []
    return [
        "",
        f"Create {what}, and keep {stay} {how_long}:",
        "",
        f"  name    {sight.owner}{hint}",
        f"  type    TXT       TTL {demand.ttl}",
        f"  value   {values[0]}",
        *(f"          {value}" for value in values[1:]),
        "",
        *_remarks(demand),
        *until,
    ]


def _remarks(demand: TxtDemand) -> list[str]:
    sight = demand.sight
    remarks = [f"note: {note}" for note in sight.notes]
    if sight.asked != sight.owner:
        remarks.append(f"note: {sight.asked} is a CNAME: the record belongs where it leads, to {sight.owner}")
    from_where = "beside it" if demand.stands else "from an earlier run"
    return remarks + [
        f"note: {other} stands there {from_where}: harmless, it may stay or go"
        for other in sight.others(demand.values)
    ]


def _already(value: str, sight: TxtSight) -> str:
    having = [answer.server for answer in sight.answers if value in answer.values]
    if not having:
        return ""
    return "   already there" if len(having) == len(sight.answers) else f"   already at {', '.join(having)}"


def _marks(values: Sequence[str], demand: TxtDemand) -> list[str]:
    return ["✓" if value in values else "·" for value in demand.values]


def _say(lines: Sequence[str]) -> None:
    for line in lines:
        click.echo(one_line(line), err=True)
