"""Our own target and addresses, with which a customer's records are compared."""

from collections.abc import Iterable
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address, ip_address

import dns.name
from dns.name import Name
from dns.rdata import Rdata
from dns.rdatatype import AAAA, A

from certctl.dns.ask import Outcome
from certctl.dns.resolver import Resolver
from certctl.dns.settings import DnsSettings
from certctl.dns.zone import no_resolver
from certctl.errors import Unreachable
from certctl.slugs import Slug

Address = IPv4Address | IPv6Address
Addresses = frozenset[Address]


class Target:
    """The name customers must point to, and its addresses, resolved when they are first needed."""

    def __init__(self, settings: DnsSettings, resolver: Resolver) -> None:
        self.name: Name = dns.name.from_text(settings.target)
        self.extra = frozenset(map(ip_address, settings.addresses))
        self._text = settings.target
        self._resolver = resolver

    @cached_property
    def addresses(self) -> Addresses:
        """Return every address that is ours: those of the target, and the configured ones.

        Raises:
            Unreachable: ``dns-target-broken``, the target does not resolve in full: half of its addresses
                would make the other half look foreign.
        """
        replies = self._resolver.in_parallel(lambda kind: self._resolver.resolve_cached(self.name, kind), (A, AAAA))
        silent = next((reply for reply in replies if reply.outcome is Outcome.SILENT), None)
        if silent and not self._resolver.resolves_tld(self.name):
            raise no_resolver(self._resolver, self.name, silent)
        found = addresses(value for reply in replies for value in reply.values)
        if not found or not all(reply.usable for reply in replies):
            raise Unreachable(
                Slug.DNS_TARGET_BROKEN,
                f"our own target {self._text} does not resolve, so no customer's page can be reached",
                seen=[
                    f"{kind}: {reply.detail or reply.outcome.value}"
                    for kind, reply in zip(("A", "AAAA"), replies, strict=True)
                ],
                expected=[f"{self._text}. A or AAAA records with this service's addresses"],
                next=["certctl doctor"],
            )
        return found | self.extra


def addresses(values: Iterable[Rdata]) -> Addresses:
    """Return A and AAAA records as address objects, which compare equal in any spelling."""
    return frozenset(ip_address(value.to_text()) for value in values)


def listed(some: Iterable[Address]) -> str:
    """Return addresses as text, IPv4 first, separated by commas."""
    return ", ".join(map(str, in_order(some)))


def in_order(some: Iterable[Address]) -> list[Address]:
    """Return addresses sorted, IPv4 first."""
    return sorted(some, key=lambda one: (one.version, int(one)))
