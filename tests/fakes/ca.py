"""Party 3 without a network: a CA that signs for real, counts its orders, and fails when told to."""

from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import trustme

from certctl.ca.certificate import describe
from certctl.domain import Domain
from certctl.errors import CertctlError, ConfigInvalid, Refused, Unreachable
from certctl.slugs import Slug
from certctl.txt_records import OrderOrigin, TxtDemand, TxtSight
from certctl.values import Approval, Certificate, DnsSolver, Done, Issued, Pem, Suggestion


@dataclass
class FakeCa:
    """Signs what is asked for with an intermediate of its own.

    Attributes:
        blocked: Names it never signs.
        broken: Names whose challenge it cannot validate.
        failures: An error of your choice by name.
        outage: It gives no answer at all.
        clock_differs: Its clock and ours do not agree.
        orders: How many orders it took; a refused name makes none.
        lifetime: How long its certificates are valid.
        clock: What time it is for the CA.
        revoked: Fingerprints.
        solved_by: How each name's challenge was solved, None for HTTP-01.
        suggested: When it would like a renewal (ARI).
        replaced: Fingerprints of the certificates whose renewals were ordered.
        left: What lies where it was made: an order for its domain that is not settled first ends with it.
    """

    blocked: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)
    failures: dict[str, CertctlError] = field(default_factory=dict)
    outage: bool = False
    clock_differs: bool = False
    orders: int = 0
    lifetime: timedelta = timedelta(days=90)
    clock: datetime | None = None
    revoked: set[str] = field(default_factory=set)
    suggested: dict[Domain, datetime] = field(default_factory=dict)
    solved_by: dict[Domain, DnsSolver | None] = field(default_factory=dict)
    replaced: list[str] = field(default_factory=list)
    _begun: dict[Domain, datetime] = field(default_factory=dict)
    left: dict[Domain, Issued] = field(default_factory=dict)
    _root: trustme.CA = field(default_factory=trustme.CA)
    _intermediate: trustme.CA | None = None

    @property
    def root_pem(self) -> str:
        """Return what verifies its certificates."""
        return self._root.cert_pem.bytes().decode()

    def obtain(self, approval: Approval, solver: DnsSolver | None = None, *, replaces: Pem | None = None) -> Issued:
        domain = approval.domain
        with suppress(Refused):  # a damaged one cannot be named to a CA, which is no reason to refuse
            self.replaced += [describe(replaces.fullchain, domain).fingerprint] if replaces else []
        self.solved_by[domain] = solver
        if domain in self.left:
            return self.left[domain]
        self.require_ready()
        if domain.name in self.blocked:
            raise Refused(Slug.CA_REJECTED_IDENTIFIER, f"the CA does not sign {domain}")
        if domain.name in self.failures:
            raise self.failures[domain.name]
        self.orders += domain not in self._begun
        self._begun.pop(domain, None)
        if domain.name in self.broken:
            raise Refused(Slug.CA_UNAUTHORIZED, f"the CA was shown something else by {domain}", quota_used=True)
        issued = self._sign(domain)
        self.left[domain] = issued
        return issued

    def begin(self, approval: Approval) -> TxtDemand:
        domain = approval.domain
        self.require_ready()
        opened = OrderOrigin.SAME if domain in self._begun or domain in self.left else OrderOrigin.NEW
        self.orders += opened is OrderOrigin.NEW
        until = self._begun.setdefault(domain, (self.clock or datetime.now(UTC)) + timedelta(days=7))
        asked = f"_acme-challenge.{domain.zone}"
        return TxtDemand(("A" * 43, "B" * 43), TxtSight(asked, asked, domain.zone), until, opened=opened)

    def require_ready(self) -> Done:
        if self.outage:
            raise Unreachable(Slug.CA_UNREACHABLE, "the CA gave no usable answer")
        if self.clock_differs:
            raise ConfigInvalid(Slug.CLOCK_WRONG, "this host's clock is wrong")
        return Done("the CA's directory answers", changed=False)

    def suggestion(self, certificate: Certificate, pem: Pem) -> Suggestion:
        assert "PRIVATE KEY" in pem.private_key
        now = self.clock or datetime.now(UTC)
        renew_at = None if self.outage else self.suggested.get(certificate.domain)
        return Suggestion(renew_at, now + timedelta(hours=6))

    def acknowledge_stored(self, certificate: Certificate) -> None:
        made = self.left.get(certificate.domain)
        if made and made.certificate.fingerprint == certificate.fingerprint:
            del self.left[certificate.domain]

    def unacknowledged(self) -> set[str]:
        return {domain.stem for domain in (*self.left, *self._begun)}

    def abandon(self, domain: Domain) -> None:
        self.left.pop(domain, None)
        self._begun.pop(domain, None)

    def revoke(self, certificate: Certificate, pem: Pem) -> None:
        if self.outage:
            raise Unreachable(Slug.CA_UNREACHABLE, "the CA gave no usable answer")
        assert "PRIVATE KEY" in pem.private_key
        self.revoked.add(certificate.fingerprint)

    def _sign(self, domain: Domain) -> Issued:
        self._intermediate = self._intermediate or self._root.create_child_ca()
        now = self.clock or datetime.now(UTC)
        leaf = self._intermediate.issue_cert(
            *((domain.name, domain.zone) if domain.is_wildcard else (domain.name,)),
            not_before=now - timedelta(minutes=1),
            not_after=now - timedelta(minutes=1) + self.lifetime,
        )
        fullchain = "".join(pem.bytes().decode() for pem in leaf.cert_chain_pems)
        key = leaf.private_key_pem.bytes().decode()
        return Issued(describe(fullchain, domain), Pem(fullchain, key))
