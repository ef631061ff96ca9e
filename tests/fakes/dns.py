"""Party 1 as a fake that holds state: what the customers' DNS says is set, never what ``verify`` returns."""

from dataclasses import dataclass, field

from certctl.dns.facts import dns_record
from certctl.dns_records import RecordVerdict
from certctl.domain import Domain
from certctl.errors import CertctlError, NotReady, Unreachable
from certctl.slugs import Slug
from certctl.values import Delegation, DnsSolver

OURS = frozenset({"198.51.100.7", "2001:db8::7"})


@dataclass
class FakeDns:
    """The world's DNS; a name it does not know does not exist.

    Attributes:
        cnames, addresses: What names point to.
        caa: The CA that a name's CAA record allows.
        broken: Names whose nameservers answer SERVFAIL; ``silent``: names nobody answers about;
            ``torn``: names whose nameservers disagree.
        delegated: Where the challenge's CNAME of a zone leads.
        asked: Every domain that was verified, in order.
    """

    target: str = "status.hyperping.test"
    ca: str = "letsencrypt.org"
    target_resolves: bool = True
    cnames: dict[str, str] = field(default_factory=dict)
    addresses: dict[str, set[str]] = field(default_factory=dict)
    caa: dict[str, str] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)
    torn: set[str] = field(default_factory=set)
    delegated: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def verify(self, domain: Domain) -> Delegation:
        """Decide as the real one does, from the state."""
        self.asked.append(domain.name)
        delegation = self._decide(domain)
        allowed = self.caa.get(domain.name, self.ca)
        if allowed != self.ca:
            line = f'{domain}. 300 CAA 0 issue "{allowed}"'
            wanted = f'{domain}. CAA 0 issue "{self.ca}"'
            raise self._problem(Slug.CAA_FORBIDS, domain, f"CAA forbids {self.ca}", line, wanted)
        return delegation

    def verify_own(self, domain: Domain, solver: DnsSolver) -> Delegation:
        """Decide about a zone of our own: it exists unless it is broken or silent, and CAA allows it."""
        self.asked.append(domain.name)
        for names, slug in ((self.silent, Slug.DNS_UNREACHABLE), (self.broken, Slug.DNS_SERVFAIL)):
            if domain.zone in names:
                raise self._problem(slug, domain, f"{domain.zone}: {slug}", f"{domain.zone}: {slug}")
        if self.delegated.get(domain.zone) and solver.plugin == "rfc2136":
            raise self._problem(
                Slug.DNS_DELEGATION, domain, "its challenge is a CNAME", self.delegated[domain.zone]
            )
        if self.caa.get(domain.zone, self.ca) != self.ca:
            raise self._problem(Slug.CAA_FORBIDS, domain, f"CAA forbids {self.ca}", self.caa[domain.zone])
        return Delegation(domain, domain.zone, (), f"zone {domain.zone}")

    def _decide(self, domain: Domain) -> Delegation:
        name = domain.name
        for names, slug in (
            (self.silent, Slug.DNS_UNREACHABLE),
            (self.broken, Slug.DNS_SERVFAIL),
            (self.torn, Slug.DNS_DISAGREE),
        ):
            if name in names:
                raise self._problem(slug, domain, f"{name}: {slug}", f"{name}: {slug}")
        if name in self.cnames:
            return self._by_cname(domain, self.cnames[name])
        if name in self.addresses:
            return self._by_address(domain, self.addresses[name])
        raise self._problem(Slug.DNS_NO_SUCH_NAME, domain, f"{name} does not exist in DNS", f"{name}. NXDOMAIN")

    def _by_cname(self, domain: Domain, end: str) -> Delegation:
        line = f"{domain}. 300 CNAME {end}."
        if end.lower().removesuffix(".") != self.target:
            raise self._problem(Slug.DNS_CNAME_MISMATCH, domain, f"{domain} leads to {end}", line)
        if not self.target_resolves:
            raise self._problem(Slug.DNS_TARGET_BROKEN, domain, f"{self.target} does not resolve", line)
        record = dns_record("CNAME", domain.name, f"{self.target}.", RecordVerdict.RIGHT, [end])
        return Delegation(domain, self.target, (record,), f"CNAME → {self.target}")

    def _by_address(self, domain: Domain, found: set[str]) -> Delegation:
        lines = [f"{domain}. 300 {'AAAA' if ':' in one else 'A'} {one}" for one in sorted(found)]
        foreign = found - OURS
        if not foreign:
            records = tuple(
                dns_record("AAAA" if ":" in one else "A", domain.name, one, RecordVerdict.RIGHT, [one])
                for one in sorted(found)
            )
            return Delegation(domain, self.target, records, f"{', '.join(sorted(found))} ours")
        stray = foreign != found and all(":" in one for one in foreign)
        slug = Slug.DNS_STRAY_IPV6 if stray else Slug.DNS_ADDRESS_MISMATCH
        raise self._problem(slug, domain, f"{sorted(foreign)} not ours", lines[0])

    def _problem(self, slug: Slug, domain: Domain, message: str, seen: str, expected: str = "") -> CertctlError:
        family = Unreachable if slug in {Slug.DNS_UNREACHABLE, Slug.DNS_TARGET_BROKEN} else NotReady
        return family(
            slug,
            message,
            seen=[seen],
            expected=[expected or f"{domain}. CNAME {self.target}."],
            next=[f"certctl issue {domain} --wait 30m", f"certctl verify {domain} --message"],
        )
