"""Pure: the result of one domain in one run, its disposition, and whether a timer's run fails for it.

Reports, JSON, the journal, alerts and the exit code are all derived from it; none of them decides for itself.
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
    """What became of a domain, in one word (public: the first word of a line in the journal)."""

    ISSUED = "issued"
    RENEWED = "renewed"
    RETURNED = "returned"
    PARKED = "parked"
    RESTING = "resting"
    FAILED = "failed"
    DONE = "done"


class Step(StrEnum):
    """The steps of a story (public: the ``steps`` of every JSON result)."""

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
    """One step that ended. ``ms`` is wall time in milliseconds."""

    name: Step
    ok: bool
    ms: int
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JourneyResult:
    """The result of one domain: of its journey, or of a name that was rejected before there was one.

    Attributes:
        domain: Its name; the text as it was given when it is no domain.
        changed: Whether anything on this host or at the CA is different because of this run.
        state: Its state in the store, or for a listing its condition in one word.
        certificate: What it has now, from the store or from the CA.
        error: Why its journey ended early.
        warnings: Faults that an operator should mend although the journey went on.
        demand: What a person must put into DNS before the story can go on.
        proof: The DNS records that prove the delegation, for ``certctl verify``.
        still_approved: After a removal, whether the operator would approve it again; None without an answer.
        at: When its journey ended; None without a journey, or for one that writes nothing.
        before: The store's row at the start; None for a new domain, or when the story did not read it.
        after: The store's row at the end.
        listed: The store's row, in a list of domains that nothing was done for.
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
    listed: DomainRow | None = None
    late: bool = False
    forced: bool = False

    @property
    def ok(self) -> bool:
        """Tell whether the journey ended without an error."""
        return self.error is None

    @property
    def records(self) -> Sequence[DnsRecord]:
        """Return the records that the domain's DNS lacks, or those that prove it."""
        return self.error.facts.records if isinstance(self.error, NotReady) else self.proof

    @property
    def disposition(self) -> Disposition:
        """Return the result in one word."""
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
        """Tell whether the domain's state is another one than at the start."""
        return self.before is None or self.after is None or self.before.state is not self.after.state

    @property
    def in_force(self) -> Certificate | None:
        """Return the certificate that the domain had at the end: the one it was served with, or is about to be."""
        return self.after.certificate if self.after else None

    @property
    def days_left(self) -> int | None:
        """Return how many whole days were left of the certificate at the start; None without one."""
        row = self.before or self.after
        return row.certificate.remaining(self.at).days if self.at and row and row.certificate else None

    @property
    def reason(self) -> str:
        """Return why it was renewed: ``forced`` by the operator, ``ari`` (the CA asked), ``share`` of life."""
        if self.forced:
            return "forced"
        suggestion = self.before.suggestion if self.before else None
        asked = suggestion and suggestion.renew_at and self.at and suggestion.renew_at <= self.at
        return "ari" if asked else "share"

    @property
    def fails_timer_run(self) -> bool:
        """Tell whether a run by a timer should fail for this (exit ≠ 0, ``OnFailure=``).

        It does for faults that the operator can mend, and for every fault but a customer's once the certificate is
        late: those of the CA and the network pass by themselves before that. It never does for a customer's fault
        or a parked domain.
        """
        if self.at is None or self.error is None:
            return not self.ok
        if self.disposition is Disposition.PARKED:
            return False
        if isinstance(self.error, Interrupted) or self.error.kind.who is Who.OPERATOR:
            return True
        return self.late and self.error.kind.who is not Who.CUSTOMER
