"""Pure: how a domain's way ended, in one word, and whether somebody should be woken for it.

The journal, the alerts and the exit code of a timer's run all read this; none of them judges by itself.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from certctl.errors import CertctlError, Interrupted, WaitsFor, Who
from certctl.values import Certificate, DomainRow, State

PARKED = frozenset({State.MOVED, State.UNWANTED})


class Word(StrEnum):
    """What became of a domain (public: the first word of a line in the journal)."""

    ISSUED = "issued"
    RENEWED = "renewed"
    RETURNED = "returned"
    PARKED = "parked"
    RESTING = "resting"
    FAILED = "failed"
    DONE = "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The facts at the end of a domain's way.

    Attributes:
        at: When it ended.
        before: What the store knew when it set out; None for a new domain, or when the story did not look.
        after: What the store knows now.
        error: Why it ended early.
        obtained: The CA made a certificate on the way.
        late: Renewal has been due for so long that half of the time left for it is gone.
        forced: The operator insisted.
    """

    at: datetime
    before: DomainRow | None = None
    after: DomainRow | None = None
    error: CertctlError | None = None
    obtained: bool = False
    late: bool = False
    forced: bool = False

    @property
    def word(self) -> Word:
        """Say it in one word."""
        if self.error:
            resting = Word.RESTING if self.error.kind.waits_for is WaitsFor.REST else Word.FAILED
            return Word.PARKED if self.after and self.after.state in PARKED else resting
        if self.obtained:
            return Word.RENEWED if self.before and self.before.certificate else Word.ISSUED
        if self.before and self.before.state in PARKED and self.after and self.after.state is State.ACTIVE:
            return Word.RETURNED
        return Word.DONE

    @property
    def is_news(self) -> bool:
        """Tell whether the domain's state is another one than before."""
        return self.before is None or self.after is None or self.before.state is not self.after.state

    @property
    def certificate(self) -> Certificate | None:
        """Return what is in force for the domain, or about to be."""
        return self.after.certificate if self.after else None

    @property
    def days_left(self) -> int | None:
        """Return how many whole days were left of the certificate it set out with."""
        row = self.before or self.after
        return row.certificate.remaining(self.at).days if row and row.certificate else None

    @property
    def reason(self) -> str:
        """Say why it was renewed: the operator insisted, the CA asked for it, or its share of life is up."""
        if self.forced:
            return "forced"
        suggestion = self.before.suggestion if self.before else None
        asked = suggestion and suggestion.renew_at and suggestion.renew_at <= self.at
        return "ari" if asked else "share"

    @property
    def wakes(self) -> bool:
        """Tell whether a run by a timer should fail for this (exit ≠ 0, ``OnFailure=``).

        It does for what the operator can mend. Trouble of the CA's, of the network's or of nobody's mends itself,
        unless the certificate gets late over it. A customer's matters, and a parked domain, never wake anybody.
        """
        if self.error is None or self.word is Word.PARKED:
            return False
        if isinstance(self.error, Interrupted) or self.error.kind.who is Who.OPERATOR:
            return True
        return self.late and self.error.kind.who is not Who.CUSTOMER
