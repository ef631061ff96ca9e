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
    """Party 1: does the domain end at our target?"""

    def verify(self, domain: Domain) -> Delegation:
        """Prove that the domain's CNAME or addresses are ours and that CAA allows our CA.

        Raises:
            NotReady: the customer's DNS must change.
            Unreachable: nobody answered, which is not a no.
        """
        ...

    def verify_own(self, domain: Domain, solver: DnsSolver) -> Delegation:
        """Prove that the zone of our own wildcard is there, that CAA allows it, and that its solver can work.

        Raises:
            NotReady: the zone's DNS must change.
            Unreachable: nobody answered.
        """
        ...


class Operator(Protocol):
    """Party 2: does the operator want this domain?"""

    def approve(self, delegation: Delegation) -> Approval:
        """Ask the approval endpoint.

        Raises:
            NotApproved: an explicit no.
            Unreachable: no answer, which is neither a yes nor a no.
        """
        ...

    def approve_again(self, delegation: Delegation) -> Approval:
        """Ask again about a live domain; when nobody answers, a yes of the last 30 days still counts.

        Raises:
            NotApproved: an explicit no.
            Unreachable: no answer, and no yes recent enough.
        """
        ...

    def approve_own(self, delegation: Delegation) -> Approval:
        """Approve a name in a zone that is the operator's own by configuration; nobody is asked.

        Raises:
            NotApproved: it is not.
        """
        ...

    def would_approve(self, domain: Domain) -> bool | None:
        """Tell what the answer about a domain would be now, and remember nothing; None when there is none."""
        ...


class CertificateAuthority(Protocol):
    """Party 3: turns an approval into a checked certificate."""

    def obtain(self, approval: Approval, solver: DnsSolver | None = None, *, replaces: Pem | None = None) -> Issued:
        """Make a key, have the CA sign it, and check what came back; without a solver by HTTP-01.

        With ``replaces`` the CA may be told which certificate this one renews (ARI, RFC 9773 §5).

        An interrupted attempt whose certificate the CA already made is taken up again without a new order.

        Raises:
            Refused, RateLimited, Unreachable, Busy: see ``certctl.errors``.
        """
        ...

    def begin(self, approval: Approval) -> TxtDemand:
        """Make the order for a wildcard by hand, or find the one begun before; ``obtain`` goes on with it later.

        Raises:
            Refused, RateLimited, Unreachable, Busy: as in ``obtain``.
        """
        ...

    def require_ready(self) -> Done:
        """Ask the CA for its directory and the time, now and then, as ``obtain`` does before it orders.

        Raises:
            Unreachable: no usable answer.
            ConfigInvalid: ``clock-wrong``.
        """
        ...

    def suggestion(self, certificate: Certificate, pem: Pem) -> Suggestion:
        """Ask when the CA would like this certificate renewed (ARI, RFC 9773).

        Never fails: a CA without ARI, or one that cannot be asked, suggests nothing and is asked again later.
        """
        ...

    def acknowledge_stored(self, certificate: Certificate) -> None:
        """Take note that this certificate is in the mirror, or is to be replaced: what is left of making it can go.

        Raises:
            Busy: another run is making one for this domain right now.
            ConfigInvalid: ``state-unwritable``.
        """
        ...

    def unsettled(self) -> Collection[str]:
        """Return the stems of the domains of which something is left of making a certificate."""
        ...

    def abandon(self, domain: Domain) -> None:
        """Remove what is left of making any certificate of a domain that leaves, an order under way included.

        Raises: as ``acknowledge_stored``.
        """
        ...

    def revoke(self, certificate: Certificate, pem: Pem) -> None:
        """Ask the CA to revoke a certificate (RFC 8555 §7.6)."""
        ...


class Change(Protocol):
    """One guarded change of what nginx serves; see ``WebServer.change``."""

    def publish(self) -> Done:
        """Write the mirror and the server blocks of all sites, then let nginx test the whole."""
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
        """Guard a change: hold nginx's lock; on any exception put everything back and reload.

        Args:
            sites: Sites to publish. Publishing what is already there changes nothing.
            gone: Domains to take out; their pairs are put aside for 14 days (``discard`` deletes them).

        Raises:
            WebServerFailed: the previous configuration is in force again.
            Busy: another run holds nginx's lock for too long.
        """
        ...

    def require_challenge(self, domain: Domain) -> Done:
        """Ask for a token of our own as the CA would ask for this domain's.

        Raises:
            WebServerFailed: ``nginx-not-running``; ``nginx-challenge-intercepted``, something else answers.
        """
        ...

    def require_room(self, domain: Domain) -> None:
        """Refuse to order for a domain what could not be published here; ``require_challenge`` does so, too.

        Raises:
            ConfigInvalid: ``state-unwritable``.
        """
        ...

    def require_tls(self) -> Done:
        """Raise ``nginx-not-running`` where no TLS is spoken."""
        ...

    def names(self) -> Sequence[Domain]:
        """Return the domains nginx has files of ours for, whatever the store knows."""
        ...

    def leaf(self, domain: Domain) -> str | None:
        """Return the SHA-256 of the leaf that our files have in force for a domain, None where there is none."""
        ...

    def in_force(self, domain: Domain, now: datetime) -> Site:
        """Return a domain as our files have it in force, looked at as what a CA hands over is.

        Raises:
            Unreachable: ``store-knows-less``: it is no pair that the store could take in.
        """
        ...

    def require_shown(self, site: Site) -> None:
        """Refuse a pair that nginx does not show in a handshake.

        Raises:
            Unreachable: ``store-knows-less``.
        """
        ...

    def discard(self, domain: Domain) -> None:
        """Delete what was put aside of a domain that was taken out."""
        ...


class Locks(Protocol):
    """Locks between threads and processes of this host."""

    def domain(self, domain: Domain) -> AbstractContextManager[None]:
        """Hold one domain while its certificate is obtained; waits, then raises Busy."""
        ...
