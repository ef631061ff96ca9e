"""Names from the command line or stdin → domains, and a story told for each of them."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from certctl.cli.outcome import Outcome, outcome
from certctl.cli.reports import Report, Say
from certctl.cli.wiring import House
from certctl.domain import Domain, parse_domain
from certctl.errors import NameRejected
from certctl.stories.journey import Journey

_MAX_LINE = 1000


@dataclass(frozen=True, slots=True)
class Party:
    """Those who set out together: the journeys, and the names that were refused at the door."""

    journeys: Sequence[Journey]
    refused: Sequence[Outcome]


def set_out(names: Sequence[str], house: House, report: Report, *, insists: bool = False) -> Party:
    """Parse each name and start a journey for it; one bad name never stops the others.

    Each domain travels once, however often and in whatever spelling it was given.
    """
    journeys: dict[Domain, Journey] = {}
    refused = []
    for text in expand(names):
        try:
            domain = parse_domain(text, house.names)
        except NameRejected as error:
            refused.append(Outcome(text, error=error))
            continue
        for warning in domain.warnings:
            report.note(f"{domain}: {warning}")
        journeys.setdefault(domain, Journey(domain, report, insists=insists))
    report.expect(len(journeys))
    return Party(list(journeys.values()), refused)


def expand(names: Iterable[str]) -> Iterable[str]:
    """Replace ``-`` by the names on stdin, one a line; blank lines and ``#`` comments do not count."""
    for name in names:
        if name != "-":
            yield name
            continue
        for line in sys.stdin.buffer:
            text = line[:_MAX_LINE].decode("utf-8", "surrogateescape").removesuffix("\n").removesuffix("\r")
            if text and not text.startswith("#"):
                yield text


def finish(party: Party, report: Report, say: Say) -> int:
    """Report what became of everyone; return the exit code."""
    return report.results([*party.refused, *map(outcome, party.journeys)], say)
