"""Pure: what became of one domain in one run, the one word for it, and whether somebody should be woken for it.

Reports, JSON, the journal, alerts and the exit code of a timer's run all read this; none of them judges itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from certctl.dns_records import DnsRecord
from certctl.errors import CertctlError, Interrupted, NotReady, WaitsFor, Who
from certctl.txt_records import TxtDemand
from certctl.values import Certificate, DomainRow, State

PARKED = frozenset({State.MOVED, State.UNWANTED})


class Disposition(StrEnum):
    """What became of a domain (public: the first word of a line in the journal)."""

    ISSUED = "issued"
    RENEWED = "renewed"
    RETURNED = "returned"
    PARKED = "parked"
    RESTING = "resting"
    FAILED = "failed"
    DONE = "done"


class Step(StrEnum):
    """The steps of the one sentence (public: the ``steps`` of every JSON result)."""

    VERIFY = "verify"
    APPROVE = "approve"
    PROBE = "probe"
    ORDER = "order"
    OBTAIN = "obtain"
    PUBLISH = "publish"
    RELOAD = "reload"
    CONFIRM = "confirm"
    REVOKE = "revoke"
    ADOPT = "adopt"


@dataclass(frozen=True, slots=True)
class StepTaken:
    """One step that ended. ``ms`` is wall time."""

    name: Step
    ok: bool
    ms: int
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JourneyResult:
    """What became of one domain: of its journey, or of a name that was refused at the door.

    Attributes:
        domain: Its name, as it was given where it is no domain.
        changed: Whether anything on this host or at the CA is different because of this run.
        state: What the store says of it, or a word for how it is.
        certificate: What it has now, from the store or from the CA.
        error: Why its journey ended early.
        warnings: What somebody should mend although the journey went on.
        demand: What a person must put into DNS before the story can go on.
        proof: The records that prove it, for whoever asked for nothing but that.
        still_approved: After a removal, whether the operator would approve it again; None when nobody said.
        at: When its journey ended; None where there was none, where it was only looked at, or leaves no trace.
        before: What the store knew when it set out; None for a new domain, or when the story did not look.
        after: What the store knew at its end.
        late: Renewal had been due for so long that half of the time left for it was gone.
        forced: The operator insisted.
    """

    domain: str
    changed: bool = False
    state: str | None = None
    certificate: Certificate | None = None
    steps: Sequence[StepTaken] = ()
    error: CertctlError | None = None
    warnings: Sequence[CertctlError] = ()
    demand: TxtDemand | None = None
    proof: Sequence[DnsRecord] = ()
    still_approved: bool | None = None
    at: datetime | None = None
    before: DomainRow | None = None
    after: DomainRow | None = None
    late: bool = False
    forced: bool = False

    @property
    def ok(self) -> bool:
        """Tell whether nothing failed."""
        return self.error is None

    @property
    def records(self) -> Sequence[DnsRecord]:
        """Return the records that the domain's DNS lacks, or those that prove it."""
        return self.error.facts.records if isinstance(self.error, NotReady) else self.proof

    @property
    def disposition(self) -> Disposition:
        """Say it in one word."""
        if self.at is None:
            return Disposition.DONE if self.ok else Disposition.FAILED
        if self.error:
            resting = Disposition.RESTING if self.error.kind.waits_for is WaitsFor.REST else Disposition.FAILED
            return Disposition.PARKED if self.after and self.after.state in PARKED else resting
        if any(step.name is Step.OBTAIN and step.ok for step in self.steps):
            return Disposition.RENEWED if self.before and self.before.certificate else Disposition.ISSUED
        if self.before and self.before.state in PARKED and self.after and self.after.state is State.ACTIVE:
            return Disposition.RETURNED
        return Disposition.DONE

    @property
    def is_news(self) -> bool:
        """Tell whether the domain's state is another one than before."""
        return self.before is None or self.after is None or self.before.state is not self.after.state

    @property
    def in_force(self) -> Certificate | None:
        """Return what was in force for the domain at the end, or about to be."""
        return self.after.certificate if self.after else None

    @property
    def days_left(self) -> int | None:
        """Return how many whole days were left of the certificate it set out with."""
        row = self.before or self.after
        return row.certificate.remaining(self.at).days if self.at and row and row.certificate else None

    @property
    def reason(self) -> str:
        """Say why it was renewed: the operator insisted, the CA asked for it, or its share of life is up."""
        if self.forced:
            return "forced"
        suggestion = self.before.suggestion if self.before else None
        asked = suggestion and suggestion.renew_at and self.at and suggestion.renew_at <= self.at
        return "ari" if asked else "share"

    @property
    def wakes(self) -> bool:
        """Tell whether a run by a timer should fail for this (exit ≠ 0, ``OnFailure=``).

        It does for what the operator can mend. Trouble of the CA's, of the network's or of nobody's mends itself,
        unless the certificate gets late over it. A customer's matters, and a parked domain, never wake anybody.
        """
        if self.at is None or self.error is None:
            return not self.ok
        if self.disposition is Disposition.PARKED:
            return False
        if isinstance(self.error, Interrupted) or self.error.kind.who is Who.OPERATOR:
            return True
        return self.late and self.error.kind.who is not Who.CUSTOMER
