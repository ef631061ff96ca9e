"""The store as the stories see it: the truth that nginx and the CA are measured by."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Protocol

from certctl.budget import Bucket, Limit, Spend
from certctl.domain import Domain
from certctl.due import Shares
from certctl.slugs import Slug
from certctl.values import (
    Certificate,
    DnsSolver,
    DomainRow,
    Event,
    Issued,
    Mode,
    Pem,
    Removal,
    State,
    Suggestion,
)


class Store(Protocol):
    """The truth: domains, certificate versions, approvals, failures, events."""

    def together(self) -> AbstractContextManager[None]:
        """Make one transaction of all that this thread writes inside: all of it happens, or nothing."""
        ...

    def domain(self, domain: Domain) -> DomainRow | None:
        """Return what is known of a domain, or None."""
        ...

    def domains(self) -> Sequence[DomainRow]:
        """Return every domain that was not removed, by name, each with its newest certificate."""
        ...

    def candidates(self, now: datetime, shares: Shares) -> Sequence[DomainRow]:
        """Return at least every domain with which something is the matter, or whose certificate is due.

        A superset: the stories judge. What is left out is active, automatic, served, without an error and not due.
        """
        ...

    def ari_due(self, now: datetime) -> Sequence[DomainRow]:
        """Return the active domains about whose certificate the CA should be asked again (ARI)."""
        ...

    def keep(self, issued: Issued) -> Certificate:
        """Store a new version with its key, make the domain active and forget its failures; mend a damaged row.

        The number of a version that was in use already, as in the mirror, is kept where it is free.
        """
        ...

    def has(self, domain: Domain, fingerprint: str) -> bool:
        """Tell whether a certificate is one of the versions that are here."""
        ...

    def served(self, certificate: Certificate) -> None:
        """Note that this version was seen on the wire."""
        ...

    def pem(self, certificate: Certificate) -> Pem:
        """Return the chain and key of a stored version."""
        ...

    def set_state(self, domain: Domain, state: State) -> None:
        """Move a domain to another state of its life, creating it when it is new; active forgets its last error."""
        ...

    def failed(self, domain: Domain, slug: Slug, retry_at: datetime | None) -> None:
        """Note a failure; with a moment to retry at it was an attempt at the CA and counts."""
        ...

    def take(
        self, needed: Sequence[Spend], taken: Sequence[Spend], limits: Mapping[Bucket, Limit], at: datetime
    ) -> tuple[Spend, timedelta] | None:
        """Write tokens into the ledger if all that is needed is there; else say what is missing and how long."""
        ...

    def spend(self, spends: Sequence[Spend], at: datetime) -> None:
        """Write tokens that the CA took into the ledger."""
        ...

    def refund(self, spends: Sequence[Spend], at: datetime) -> None:
        """Take tokens out of the ledger again that were written down at this moment and not taken."""
        ...

    def spent(self, spend: Spend, limit: Limit, at: datetime) -> Sequence[datetime]:
        """Return when tokens of this bucket and key were taken, as far back as it still matters then."""
        ...

    def forgive(self, spend: Spend) -> None:
        """Empty a bucket that a success empties."""
        ...

    def suggest(self, suggestions: Sequence[tuple[Certificate, Suggestion]]) -> None:
        """Remember when the CA would like these certificates renewed."""
        ...

    def set_mode(self, domain: Domain, mode: Mode | None) -> None:
        """Remember how nginx serves this domain; None is as the host serves everyone."""
        ...

    def set_solver(self, domain: Domain, solver: DnsSolver) -> None:
        """Remember how a wildcard's challenge is solved, for its renewals."""
        ...

    def remember_answer(self, domain: Domain, *, approved: bool, at: datetime) -> None:
        """Remember a yes of the approval endpoint, and when; a no ends it."""
        ...

    def remembered_yes(self, domain: Domain) -> datetime | None:
        """Return when the endpoint last said yes, unless it has said no since."""
        ...

    def record(self, event: Event) -> None:
        """Append to the history."""
        ...

    def events(self, domain: str | None, limit: int) -> Sequence[Event]:
        """Return the history, newest first."""
        ...

    def begin_removal(self, domain: Domain, removal: Removal) -> None:
        """Mark a domain removed, and remember what is to be done about it until ``forget`` says that it is done."""
        ...

    def half_removed(self) -> Sequence[DomainRow]:
        """Return the domains whose removal was begun and is not done."""
        ...

    def reaches_back(self, before: datetime) -> bool:
        """Tell whether the history or the ledger begins before a moment."""
        ...

    def prune(self, before: datetime, limits: Mapping[Bucket, Limit], at: datetime) -> Iterator[int]:
        """Delete what was written before a moment and counts no more; yield how many rows each transaction took.

        The newest event of each domain stays, and what a limit counts at ``at``; domains are never deleted.
        """
        ...

    def forget(self, domain: Domain, *, keep_certificate: bool) -> None:
        """Mark a domain removed; unless told otherwise delete its certificates and keys."""
        ...
