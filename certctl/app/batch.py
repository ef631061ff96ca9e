"""Names from the command line or stdin → domains, and a story told for each of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from certctl.app.context import Context
from certctl.app.given import Given
from certctl.app.report import Describe, Report
from certctl.app.result import FailurePredicate, failed
from certctl.domain import Domain, parse_domain, parse_wildcard
from certctl.errors import CertctlError, NameRejected
from certctl.stories.journey import Journey
from certctl.stories.result import JourneyResult


@dataclass(frozen=True, slots=True)
class Batch:
    """The names of one run: a journey for each that could be parsed, and a result for each that was rejected.

    Attributes:
        error: What is wrong with the run as a whole, beside its domains.
    """

    journeys: Sequence[Journey]
    refused: Sequence[JourneyResult]
    error: CertctlError | None = None

    @property
    def results(self) -> Sequence[JourneyResult]:
        """Return one result for each name, the rejected ones first."""
        return [*self.refused, *(journey.result for journey in self.journeys)]


def start(
    names: Iterable[Given], context: Context, report: Report, *, insists: bool = False, wildcards: bool = False
) -> Batch:
    """Parse each name and start a journey for it; one bad name never stops the others.

    Each domain gets one journey, however often and in whatever spelling it was given. ``wildcards`` accepts names
    such as ``*.example.com`` too, under which the store keeps the operator's own zone.
    """
    journeys: dict[Domain, Journey] = {}
    refused = []
    for given in names:
        try:
            domain = parse_name(given.text, context) if wildcards else parse_domain(given.text, context.names)
        except NameRejected as error:
            if given.line:
                error.message = f"line {given.line}: {error.message}"
            refused.append(JourneyResult(domain=given.text, error=error))
            continue
        for warning in domain.warnings:
            report.note(f"{domain}: {warning}")
        journeys.setdefault(domain, Journey(domain, report, insists=insists))
    report.expect(len(journeys))
    return Batch(list(journeys.values()), refused)


def parse_name(text: str, context: Context) -> Domain:
    """Parse a customer's domain or a wildcard of the operator's.

    Raises:
        NameRejected: with a slug ``name-…``.
    """
    return parse_wildcard(text, context.own_names) if text.startswith("*.") else parse_domain(text, context.names)


def finish(batch: Batch, report: Report, describe: Describe, fails: FailurePredicate = failed) -> int:
    """Report the result of each name; return the exit code."""
    return report.results(batch.results, describe, fails, batch.error)
