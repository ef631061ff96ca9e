"""DNS-01 (RFC 8555 §8.4): present all TXT records, poll every nameserver, and only then let the CA validate.

An order that is given up before that counts as a new order at the CA, never as a failed validation.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta

from certctl.ca.solvers.base import DNS_01, Challenge, Look, unseen
from certctl.errors import CertctlError, Interrupted, Refused
from certctl.ports.manual_dns import ManualOperator
from certctl.slugs import Slug
from certctl.txt_records import TxtDemand, TxtSight

_FIRST_PAUSE = timedelta(seconds=1)
_LONGEST_PAUSE = timedelta(seconds=10)
_IN_A_ROW = 2  # one name may stand for many machines (anycast): a second look meets another
_MARGIN = timedelta(minutes=1)  # before the CA forgets the order


class PropagatingDns01:
    """Implements ``solvers.base.Solver`` for one order of a zone and its wildcard, on any kind of record writer.

    Attributes:
        stands: Whether the record must stay after validation (dns-persist-01).
        proof: The record shown to the CA, as text; empty until all nameservers agreed.
    """

    challenge_type = DNS_01
    stands = False

    def __init__(self, operator: ManualOperator, order_ends: Callable[[], datetime | None]) -> None:
        self._operator = operator
        self._order_ends = order_ends
        self._demand: TxtDemand | None = None
        self.proof = ""

    def present(self, challenges: Sequence[Challenge]) -> None:
        """Pass the wanted records to the prompt, with what the nameservers show already."""
        until = self._order_ends()
        gives_up = self._operator.clock.now() + self._operator.patience
        ends = min(gives_up, until - _MARGIN) if until else gives_up
        values = distinct(challenges)
        self._demand = TxtDemand(values, self._look(challenges[0].domain), until, ends, self.stands)
        self._operator.prompt.demand(self._demand)

    def wait(self, challenges: Sequence[Challenge]) -> None:
        """Return when every nameserver shows every value.

        Raises:
            Refused: ``ca-challenge-aborted``, the wait's limit or the order's expiry came first.
            Interrupted: the person stopped the wait.
        """
        if self._demand is None:
            raise AssertionError("nothing was demanded yet")
        zone, sight = challenges[0].domain, self._demand.sight
        try:
            sight = self._watch(zone, self._demand)
        except (KeyboardInterrupt, Interrupted) as stopped:
            message = f"stopped before the CA looked at {sight.asked}: {_SPENT}"
            given_up = Interrupted(Slug.INTERRUPTED, message, next=self._again(zone))
            raise _given_up(given_up, self._demand, sight) from stopped
        finally:
            self._operator.prompt.over()
        self.proof = f"TXT {sight.owner} = {', '.join(self._demand.values)}"

    def watched(self, challenges: Sequence[Challenge]) -> AbstractContextManager[Look]:  # noqa: ARG002
        """Return a ``Look`` that reports nothing: the CA asks the nameservers."""
        return unseen()

    def clean_up(self, challenges: Sequence[Challenge]) -> None:
        """Do nothing: the person who added the records removes them."""

    def _watch(self, zone: str, demand: TxtDemand) -> TxtSight:
        clock, pause, agreed, sight = self._operator.clock, _FIRST_PAUSE, 0, demand.sight
        while True:
            agreed = agreed + 1 if sight.agrees(demand.values) else 0
            self._operator.prompt.sighted(demand, sight)
            if agreed == _IN_A_ROW:
                return sight
            left = (demand.patience_ends or clock.now()) - clock.now()
            if left <= timedelta(0):
                raise self._never_agreed(zone, demand, sight)
            clock.pause(min(_FIRST_PAUSE if agreed else pause, left))
            pause = min(pause * 1.3, _LONGEST_PAUSE)
            sight = self._look(zone)

    def _never_agreed(self, zone: str, demand: TxtDemand, sight: TxtSight) -> CertctlError:
        late = [answer.server for answer in sight.answers if not answer.holds(demand.values)]
        who = ", ".join(late) or "the nameservers, which could not be asked"
        message = f"not every nameserver showed the records of {sight.owner} in time; missing: {who}. {_SPENT}"
        return _given_up(Refused(Slug.CA_CHALLENGE_ABORTED, message, next=self._again(zone)), demand, sight)

    def _look(self, zone: str) -> TxtSight:
        return self._operator.watch.look(zone)

    def _again(self, zone: str) -> list[str]:
        if self._operator.finishes:
            return [f"certctl wildcard {zone} --finish"]
        return [f"certctl wildcard {zone}", f"certctl wildcard {zone} --wait 1d"]


_SPENT = "one order was spent, and no validation failed, because the CA did not look"


def _given_up(error: CertctlError, demand: TxtDemand, sight: TxtSight) -> CertctlError:
    answers = [f"{answer.server}: {answer.said_of(demand.values)}" for answer in sight.answers]
    others = [f'{sight.owner} has "{other}" too' for other in sight.others(demand.values)]
    error.seen = (*answers, *others, *sight.notes)
    error.expected = tuple(f'{sight.owner}. {demand.ttl} TXT "{value}"' for value in demand.values)
    error.quota_used = True
    return error


def distinct(challenges: Sequence[Challenge]) -> tuple[str, ...]:
    """Return the values for the one TXT name, each once, sorted, so that they do not depend on the CA's order."""
    return tuple(sorted({challenge.validation for challenge in challenges}))
