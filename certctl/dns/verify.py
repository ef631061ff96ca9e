"""The facade of DNS (party 1): prove that a domain ends at our target and that CAA allows our CA."""

from collections.abc import Callable
from dataclasses import replace

import dns.name
from dns.rdatatype import A

from certctl.dns.caa import CaaPolicy, check_caa
from certctl.dns.decision import Decision
from certctl.dns.message import forwardable
from certctl.dns.propagation import require_writable
from certctl.dns.resolver import Resolver
from certctl.dns.resolver_cache import ResolverCache
from certctl.dns.settings import DnsSettings
from certctl.dns.target import Target, listed
from certctl.dns.zone import ONE_LABEL, Zones, plain
from certctl.domain import Domain
from certctl.errors import CertctlError, NotReady
from certctl.slugs import Slug
from certctl.values import Delegation, DnsSolver, Finding, Level


class CustomerDns:
    """Implements ``parties.Dns``; safe to use from several threads, which share one cache.

    Args:
        settings: Whom to ask, and what is ours.
        account_uri: Returns the URL of our account at the CA, to judge ``accounturi`` (RFC 8657 §3). It is asked
            each time, as the first order makes the account; while it is empty that parameter is only reported.
    """

    def __init__(self, settings: DnsSettings, account_uri: Callable[[], str] = str) -> None:
        self._settings = settings
        self._account_uri = account_uri
        self._cache = ResolverCache()

    def verify(self, domain: Domain) -> Delegation:
        """Return the proof that the domain's CNAME or addresses are ours, once CAA allows our CA.

        Bounded by ``settings.deadline``. Only resolvers and nameservers are queried; the addresses a domain points
        to are compared, never contacted.

        Raises:
            NotReady: the customer's DNS must change.
            Unreachable: no server answered, or our own target is broken; neither says anything about the domain.
        """
        resolver = Resolver(self._settings, self._cache)
        zones = Zones(resolver, self._settings)
        policy = CaaPolicy(self._settings.ca_identities, self._account_uri())
        try:
            delegation = Decision(domain, Target(self._settings, resolver), resolver, zones).decide()
            allowed = check_caa(zones, domain, policy)
        except NotReady as error:
            error.next = (f"certctl issue {domain} --wait 30m", f"certctl verify {domain} --message", *error.next)
            raise
        return replace(delegation, summary=f"{delegation.summary}; {allowed}")

    def verify_own(self, domain: Domain, solver: DnsSolver) -> Delegation:
        """Return the proof that the zone of our own wildcard exists, CAA allows it, and its solver can work.

        The zone's addresses are not compared: DNS-01 (RFC 8555 §8.4) proves control of it, and no customer is
        involved.

        Raises:
            NotReady: the zone does not exist, CAA forbids our CA, or ``dns-delegation``.
            Unreachable: no server answered.
        """
        zones = Zones(Resolver(self._settings), self._settings)
        name = dns.name.from_text(domain.zone)
        zone = zones.zone_of(name)
        if len(zone.name) <= ONE_LABEL:
            raise NotReady(
                Slug.DNS_NO_SUCH_NAME,
                f"no zone holds {domain.zone}: it is not registered, or has no nameservers",
                expected=[f"NS records for {domain.zone}"],
            )
        where = require_writable(zones, domain, solver)
        policy = CaaPolicy(self._settings.ca_identities, self._account_uri(), solver.method)
        allowed = check_caa(zones, domain, policy)
        told = f"zone {plain(zone.name)}" + (f"; {where}" if where else "")
        return Delegation(domain, domain.zone, (), f"{told}; {allowed}")

    def forwardable(self, domain: Domain, outcome: CertctlError | Delegation | None) -> str:
        """Return the letter an operator forwards to the customer (``verify --message``)."""
        return forwardable(domain, outcome)

    def examine(self) -> list[Finding]:
        """Return the findings of ``certctl doctor`` about our resolver and our target."""
        try:
            resolver = Resolver(self._settings)
            ours = Target(self._settings, resolver).addresses
        except CertctlError as error:
            return [Finding("dns", Level.PROBLEM, error.message, "; ".join(error.expected))]
        return [
            *self._examine_resolvers(resolver),
            Finding("dns", Level.OK, f"the target {self._settings.target} resolves to {listed(ours)}"),
        ]

    def _examine_resolvers(self, resolver: Resolver) -> list[Finding]:
        """Query each resolver alone: where one of several is dead, all that is asked first waits for it."""
        target = dns.name.from_text(self._settings.target)
        replies = resolver.in_parallel(lambda server: resolver.ask(server, target, A), resolver.servers)
        answering = ", ".join(reply.server.name for reply in replies if reply.usable)
        place = "[dns] resolvers" if self._settings.resolvers else str(self._settings.resolv_conf)
        return [
            Finding("dns", Level.OK, f"the resolver answers ({answering})"),
            *(
                Finding(
                    "dns",
                    Level.WARNING,
                    f"the resolver {reply.server.name} does not: {reply.detail}",
                    f"take it out of {place}, or mend it",
                )
                for reply in replies
                if not reply.usable
            ),
        ]
