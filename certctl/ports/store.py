"""The store's interface for the stories: the authoritative state, to which nginx and the CA are compared."""

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
    """The authoritative state: domains, certificate versions, approvals, failures, events."""

    def together(self) -> AbstractContextManager[None]:
        """Make all that this thread writes in the block one transaction."""
        ...

    def domain(self, domain: Domain) -> DomainRow | None:
        """Return the row of a domain, removed or not; None when there is none."""
        ...

    def domains(self) -> Sequence[DomainRow]:
        """Return every domain that was not removed, by name, each with its newest certificate."""
        ...

    def candidates(self, now: datetime, shares: Shares) -> Sequence[DomainRow]:
        """Return at least every domain that has a fault or a certificate that is due.

        It is a superset, from which the stories choose. Left out is only what is active, automatic, served, without
        an error and not due.
        """
        ...

    def ari_due(self, now: datetime) -> Sequence[DomainRow]:
        """Return the active domains with a certificate that has no suggestion of the CA's (ARI), or an old one."""
        ...

    def keep(self, issued: Issued) -> Certificate:
        """Store a new version with its key, make the domain active and forget its failures; mend a damaged row.

        The number of a version that was in use already, as in the mirror, is kept where it is free.
        """
        ...

    def has(self, domain: Domain, fingerprint: str) -> bool:
        """Tell whether the store has a certificate of a domain with this fingerprint (SHA-256, hex)."""
        ...

    def served(self, certificate: Certificate) -> None:
        """Write down that this version was seen in a TLS handshake with nginx."""
        ...

    def pem(self, certificate: Certificate) -> Pem:
        """Return the chain and key of a stored version."""
        ...

    def set_state(self, domain: Domain, state: State) -> None:
        """Move a domain to another state of its life, creating it when it is new; active forgets its last error."""
        ...

    def failed(self, domain: Domain, slug: Slug, retry_at: datetime | None) -> None:
        """Write a failure down; with ``retry_at`` it was an attempt at the CA and counts for the back-off."""
        ...

    def take(
        self, needed: Sequence[Spend], taken: Sequence[Spend], limits: Mapping[Bucket, Limit], at: datetime
    ) -> tuple[Spend, timedelta] | None:
        """Take tokens in the ledger if all of ``needed`` are free; else return a missing one and its wait."""
        ...

    def spend(self, spends: Sequence[Spend], at: datetime) -> None:
        """Write tokens that the CA took into the ledger."""
        ...

    def refund(self, spends: Sequence[Spend], at: datetime) -> None:
        """Delete tokens from the ledger that were written at this moment and that the CA did not count."""
        ...

    def spent(self, spend: Spend, limit: Limit, at: datetime) -> Sequence[datetime]:
        """Return when tokens of this bucket and key were taken, as far back as it matters at ``at``."""
        ...

    def forgive(self, spend: Spend) -> None:
        """Delete the tokens of a bucket that a success resets, such as consecutive failures."""
        ...

    def suggest(self, suggestions: Sequence[tuple[Certificate, Suggestion]]) -> None:
        """Store the CA's suggestions (ARI) for these certificates."""
        ...

    def set_mode(self, domain: Domain, mode: Mode | None) -> None:
        """Store the mode of this domain; None is the host's."""
        ...

    def set_solver(self, domain: Domain, solver: DnsSolver) -> None:
        """Store the solver of a wildcard's challenge, for its renewals."""
        ...

    def remember_answer(self, domain: Domain, *, approved: bool, at: datetime) -> None:
        """Store a yes of the approval endpoint with its time; a no deletes it."""
        ...

    def remembered_yes(self, domain: Domain) -> datetime | None:
        """Return when the endpoint last said yes; None when it never did or has said no since."""
        ...

    def record(self, event: Event) -> None:
        """Append an event to the history."""
        ...

    def events(self, domain: str | None, limit: int) -> Sequence[Event]:
        """Return the history, newest first."""
        ...

    def begin_removal(self, domain: Domain, removal: Removal) -> None:
        """Mark a domain removed, and store what is still to be done for that until ``forget`` is called."""
        ...

    def half_removed(self) -> Sequence[DomainRow]:
        """Return the domains with a removal that was begun and is not finished."""
        ...

    def reaches_back(self, before: datetime) -> bool:
        """Tell whether the history or the ledger has rows from before a moment."""
        ...

    def prune(self, before: datetime, limits: Mapping[Bucket, Limit], at: datetime) -> Iterator[int]:
        """Delete rows written before a moment that no longer count; yield how many each transaction deleted.

        The newest event of each domain stays, as do tokens that a limit counts at ``at``; domains are never
        deleted.
        """
        ...

    def forget(self, domain: Domain, *, keep_certificate: bool) -> None:
        """Mark a domain removed; unless told otherwise delete its certificates and keys."""
        ...
