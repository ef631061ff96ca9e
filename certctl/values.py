"""The values that parties and stories exchange: frozen, and validated when they are made."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path

from certctl.dns_records import DnsRecord
from certctl.domain import Domain
from certctl.formats import file_diff


@dataclass(frozen=True, slots=True)
class Delegation:
    """Proof that a domain ends at our target, or is a zone of our own. Only ``certctl.dns`` makes one."""

    domain: Domain
    target: str
    records: tuple[DnsRecord, ...]
    summary: str


@dataclass(frozen=True, slots=True)
class Approval:
    """Proof of the operator's yes. Only ``certctl.approval`` makes one."""

    delegation: Delegation
    given_at: datetime
    remembered: bool
    summary: str

    @property
    def domain(self) -> Domain:
        """Return the domain that was approved."""
        return self.delegation.domain


@dataclass(frozen=True, slots=True)
class Pem:
    """The PEM files of a TLS server: full chain and private key. The key never appears in a repr."""

    fullchain: str
    private_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Certificate:
    """The facts of one certificate version; its PEM stays in the store until it is published.

    Attributes:
        domain: The name it is kept under; ``names`` are all its SANs.
        version: Counts up per domain from 1; 0 before the store has it.
        fingerprint: SHA-256 over the leaf's DER, lower-case hex.
        serial: Hex, as browsers show it.
    """

    domain: Domain
    names: tuple[str, ...]
    serial: str
    issuer: str
    not_before: datetime
    not_after: datetime
    key_type: str
    fingerprint: str
    version: int = 0

    @property
    def lifetime(self) -> timedelta:
        """Return how long the CA made it valid for."""
        return self.not_after - self.not_before

    def remaining(self, now: datetime) -> timedelta:
        """Return how much of its life is left; negative once it has expired."""
        return self.not_after - now


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate that the CA has issued and we have checked, not yet in the store."""

    certificate: Certificate
    pem: Pem
    proof: str = ""

    @property
    def summary(self) -> str:
        """Return it in half a line; with the manual challenge also what proved it."""
        days = self.certificate.lifetime.total_seconds() / 86400
        made = f"{self.certificate.issuer}, {self.certificate.key_type}, {days:.3g} days"
        return f"{made}; {self.proof}" if self.proof else made


class Mode(StrEnum):
    """How nginx serves a domain: by a server block of its own, or by one that all domains share."""

    BLOCKS = "blocks"
    SHARED = "shared"
    LUA = "lua"


class State(StrEnum):
    """The state of a domain in the store (docs/explanation/life-of-a-domain.md)."""

    PENDING = "pending"
    ACTIVE = "active"
    MOVED = "moved"
    UNWANTED = "unwanted"
    REMOVED = "removed"


class Removal(StrEnum):
    """What a removal does besides taking the domain out of nginx: keep or revoke the certificate."""

    FORGET = "forget"
    KEEP = "keep"
    REVOKE = "revoke"
    REVOKE_AND_KEEP = "revoke-and-keep"

    @property
    def keeps(self) -> bool:
        """Tell whether the certificate and its key stay in the store."""
        return self in {Removal.KEEP, Removal.REVOKE_AND_KEEP}

    @property
    def revokes(self) -> bool:
        """Tell whether the CA is asked to revoke the certificate."""
        return self in {Removal.REVOKE, Removal.REVOKE_AND_KEEP}


@dataclass(frozen=True, slots=True)
class Site:
    """A domain as nginx should serve it: its certificate and its PEM.

    Attributes:
        mode: How, when that is not the host's mode.
    """

    certificate: Certificate
    pem: Pem
    mode: Mode | None = None

    @property
    def domain(self) -> Domain:
        """Return the name of the site."""
        return self.certificate.domain


@dataclass(frozen=True, slots=True)
class Done:
    """The result of a step, in words for a person."""

    summary: str
    changed: bool = True


@dataclass(frozen=True, slots=True)
class Suggestion:
    """When the CA would like a renewal (ARI, RFC 9773).

    Attributes:
        renew_at: A moment in the CA's window; None when it offers no window or could not be asked.
        ask_at: When to ask again.
    """

    renew_at: datetime | None
    ask_at: datetime


CHALLENGE_LABEL = "_acme-challenge"  # RFC 8555 §8.4
STANDING_LABEL = "_validation-persist"  # draft-ietf-acme-dns-persist-00


@dataclass(frozen=True, slots=True)
class DnsSolver:
    """How a wildcard's challenge is solved: by DNS-01, or by dns-persist-01.

    Attributes:
        plugin: ``manual``; ``persist`` for one record that stands for good; or the name of a certbot DNS plugin
            such as ``rfc2136``.
        options: The plugin's own options, such as ``{"credentials": "/etc/certctl/rfc2136.ini"}``.
    """

    plugin: str
    options: tuple[tuple[str, str], ...] = ()

    @property
    def is_manual(self) -> bool:
        """Tell whether a person must add the TXT records."""
        return self.plugin == "manual"

    @property
    def is_standing(self) -> bool:
        """Tell whether one record proves every renewal (dns-persist-01)."""
        return self.plugin == "persist"

    @property
    def method(self) -> str:
        """Return the kind of challenge, as CAA's ``validationmethods`` names it (RFC 8657 §4)."""
        return "dns-persist-01" if self.is_standing else "dns-01"

    @property
    def label(self) -> str:
        """Return the label before the zone in the name of the TXT record, such as ``_acme-challenge``."""
        return STANDING_LABEL if self.is_standing else CHALLENGE_LABEL


@dataclass(frozen=True, slots=True)
class DomainRow:
    """A domain's row in the store.

    Attributes:
        attempts: Failures at the CA since the last success; they set the back-off.
        retry_at: Before this moment only an operator who insists may ask the CA again.
        solver: None means HTTP-01.
        served: The certificate version that was last seen on the wire; 0 when none was.
        mode: How nginx serves it, where the operator chose that for it; None is the host's mode.
        removal: What its removal does, until that is finished; None otherwise.
        damage: Which fields the store cannot read; their values here are defaults, on which nothing is decided.
    """

    domain: Domain
    state: State
    since: datetime
    certificate: Certificate | None
    attempts: int
    last_error: str | None
    retry_at: datetime | None
    suggestion: Suggestion | None = None
    solver: DnsSolver | None = None
    served: int = 0
    mode: Mode | None = None
    removal: Removal | None = None
    damage: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """One event of the history."""

    at: datetime
    domain: str
    step: str
    ok: bool
    slug: str | None
    detail: str


class Level(StrEnum):
    """The severity of a finding."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of ``certctl doctor``: what was looked at, how it is, and the fix."""

    area: str
    level: Level
    text: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Preview:
    """A generated file as it would be written, and as it is."""

    path: Path
    text: str
    current: str

    def diff(self) -> str:
        """Return the change as a unified diff; empty when there is none."""
        return file_diff(self.path, self.current, self.text)
