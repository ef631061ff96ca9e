"""What a story asks of the four parties and of locks, and what several hosts may assume of them.

Facades in ``dns/``, ``approval/``, ``ca/`` and ``nginx/`` fit these Protocols structurally. One contract suite for
each runs on the fake and on the real facade (tests/contract).
"""

from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol

from certctl.domain import Domain
from certctl.txt_records import TxtDemand
from certctl.values import (
    Approval,
    Certificate,
    Delegation,
    DnsSolver,
    Done,
    Issued,
    Pem,
    Site,
    Suggestion,
)


class Dns(Protocol):
    """Party 1: verifies that a domain ends at our target."""

    def verify(self, domain: Domain) -> Delegation:
        """Prove that the domain's CNAME or addresses are ours and that CAA allows our CA.

        Raises:
            NotReady: the customer's DNS must change.
            Unreachable: no nameserver answered, which is not a no.
        """
        ...

    def verify_own(self, domain: Domain, solver: DnsSolver) -> Delegation:
        """Prove that the zone of our own wildcard is there, that CAA allows it, and that its solver can work.

        Raises:
            NotReady: the zone's DNS must change.
            Unreachable: no nameserver answered.
        """
        ...


class Operator(Protocol):
    """Party 2: knows whether the operator wants a domain."""

    def approve(self, delegation: Delegation) -> Approval:
        """Ask the approval endpoint.

        Raises:
            NotApproved: an explicit no.
            Unreachable: no answer, which is neither a yes nor a no.
        """
        ...

    def approve_again(self, delegation: Delegation) -> Approval:
        """Ask again about a live domain; without an answer a yes of the last 30 days still counts.

        Raises:
            NotApproved: an explicit no.
            Unreachable: no answer, and no yes recent enough.
        """
        ...

    def approve_own(self, delegation: Delegation) -> Approval:
        """Approve a name in a zone that is the operator's own by configuration; the endpoint is not asked.

        Raises:
            NotApproved: it is not.
        """
        ...

    def would_approve(self, domain: Domain) -> bool | None:
        """Ask about a domain without storing the answer; None when there is none."""
        ...


class CertificateAuthority(Protocol):
    """Party 3: the CA, which turns an approval into a certificate that we have checked."""

    def obtain(self, approval: Approval, solver: DnsSolver | None = None, *, replaces: Pem | None = None) -> Issued:
        """Make a key, have the CA sign it, and check what came back; without a solver by HTTP-01.

        With ``replaces`` the CA may be told which certificate this one renews (ARI, RFC 9773 §5).

        When the CA has issued the certificate of an interrupted attempt, that is finished without a new order.

        Raises:
            Refused, RateLimited, Unreachable, Busy: see ``certctl.errors``.
        """
        ...

    def begin(self, approval: Approval) -> TxtDemand:
        """Place the order for a manual wildcard, or find the one begun before; ``obtain`` finishes it later.

        Raises:
            Refused, RateLimited, Unreachable, Busy: as in ``obtain``.
        """
        ...

    def require_ready(self) -> Done:
        """Check that the CA's directory can be had and its ``Date`` agrees with our clock; the answer is cached.

        Raises:
            Unreachable: no usable answer.
            ConfigInvalid: ``clock-wrong``.
        """
        ...

    def suggestion(self, certificate: Certificate, pem: Pem) -> Suggestion:
        """Ask the CA for its suggested renewal window (ARI, RFC 9773).

        It never fails: a CA without ARI, or without an answer, suggests nothing and is asked again later.
        """
        ...

    def acknowledge_stored(self, certificate: Certificate) -> None:
        """Remove the working directory of a certificate: nginx has it, or it is about to be replaced.

        Raises:
            Busy: another run is making one for this domain right now.
            ConfigInvalid: ``state-unwritable``.
        """
        ...

    def unacknowledged(self) -> Collection[str]:
        """Return the stems (``Domain.stem``) of the domains that have a working directory."""
        ...

    def abandon(self, domain: Domain) -> None:
        """Remove every working directory of a domain that is removed, also one with an order under way.

        Raises: as ``acknowledge_stored``.
        """
        ...

    def revoke(self, certificate: Certificate, pem: Pem) -> None:
        """Ask the CA to revoke a certificate (RFC 8555 §7.6)."""
        ...


class Change(Protocol):
    """One transaction over what nginx serves; see ``WebServer.change``."""

    def publish(self) -> Done:
        """Write the mirror and the server blocks of all sites, then run ``nginx -t``."""
        ...

    def reload(self) -> Done:
        """Reload nginx if anything differs from what it runs, and prove that new workers took over."""
        ...

    def confirm(self, domain: Domain) -> Done:
        """Prove by a TLS handshake with SNI that the site's own leaf is served."""
        ...


class WebServer(Protocol):
    """Party 4: nginx, its server blocks and the mirror it reads."""

    def change(self, sites: Sequence[Site], *, gone: Sequence[Domain] = ()) -> AbstractContextManager[Change]:
        """Hold nginx's lock for a change; on any exception roll everything back and reload.

        Args:
            sites: Sites to publish. Publishing what is already there changes nothing.
            gone: Domains to take out; their pairs are put aside for 14 days (``discard`` deletes them).

        Raises:
            WebServerFailed: the previous configuration is in force again.
            Busy: another run holds nginx's lock for too long.
        """
        ...

    def require_challenge(self, domain: Domain) -> Done:
        """Request a token of our own from nginx over HTTP, as the CA requests this domain's (RFC 8555 §8.3).

        Raises:
            WebServerFailed: ``nginx-not-running``; ``nginx-challenge-intercepted``, something else answers.
        """
        ...

    def require_room(self, domain: Domain) -> None:
        """Check that there is room to publish a certificate of this domain; ``require_challenge`` does so too.

        Raises:
            ConfigInvalid: ``state-unwritable``.
        """
        ...

    def require_tls(self) -> Done:
        """Check that nginx speaks TLS, or raise ``nginx-not-running``."""
        ...

    def names(self) -> Sequence[Domain]:
        """Return the domains that have files of ours in nginx's directories, also those the store does not know."""
        ...

    def leaf(self, domain: Domain) -> str | None:
        """Return the fingerprint (SHA-256, hex) of the leaf in force for a domain; None where there is none."""
        ...

    def in_force(self, domain: Domain, now: datetime) -> Site:
        """Return a domain's site as it is in force, read from the mirror and checked like a certificate from a CA.

        Raises:
            Unreachable: ``store-knows-less``: certificate and key are no valid pair.
        """
        ...

    def require_shown(self, site: Site) -> None:
        """Check that nginx serves this site's certificate in a TLS handshake.

        Raises:
            Unreachable: ``store-knows-less``.
        """
        ...

    def discard(self, domain: Domain) -> None:
        """Delete the pair that was put aside when a domain was taken out."""
        ...


class Locks(Protocol):
    """Locks between threads and processes of this host."""

    def domain(self, domain: Domain) -> AbstractContextManager[None]:
        """Hold one domain's lock for the block; wait for it, then raise Busy."""
        ...
