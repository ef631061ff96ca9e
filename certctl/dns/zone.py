"""The zone of a name (RFC 9499 "zone cut"), its nameservers, and the replies of them all.

The customer's own nameservers decide: a resolver may have the old record cached for hours.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

import dns.rdtypes.ANY.NS
from dns.name import Name
from dns.rdatatype import AAAA, NS, A, RdataType

from certctl.dns.ask import Outcome, Reply, Server
from certctl.dns.facts import not_ready
from certctl.dns.resolver import MAX_AT_ONCE, Resolver
from certctl.dns.settings import DnsSettings
from certctl.dns_records import DnsFacts
from certctl.errors import Unreachable
from certctl.slugs import Slug

ONE_LABEL = 2  # dnspython counts the root

# IPv6 that is routed lies in 2000::/3 (RFC 4291 §2.4). What ipaddress calls global beside it, such as ::/96 and
# fec0::/10, a gateway may turn into an address of our own network; so it may with 6to4 (RFC 3056). In 2001::/23 and
# 3fff::/20 (RFC 9637) are protocols and examples, and no nameservers.
_ROUTED = ip_network("2000::/3")
_NO_HOSTS = tuple(map(ip_network, ("2001::/23", "2002::/16", "3fff::/20")))


@dataclass(frozen=True, slots=True)
class Zone:
    """A zone and its nameservers; ``unusable`` has a line for each nameserver without a usable address."""

    name: Name
    servers: tuple[Server, ...]
    unusable: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ZoneAnswer:
    """The replies of all nameservers of a zone to one query; at least one is usable.

    Attributes:
        unanswered: The nameservers without a usable reply, one line each.
        zone: The zone whose nameservers replied; None when only the resolver could be asked.
    """

    replies: tuple[Reply, ...]
    unanswered: tuple[str, ...] = ()
    zone: Name | None = None

    @property
    def asked(self) -> str:
        """Return the sentence that names the servers asked."""
        names = ", ".join(reply.server.name for reply in self.replies)
        if self.zone is None:
            return f"asked the resolver {names}"
        return f"asked {names} (nameservers of {plain(self.zone)}, just now)"

    @property
    def lines(self) -> tuple[str, ...]:
        """Return the records of all replies as zone file lines, each once."""
        return tuple(dict.fromkeys(line for reply in self.replies for line in reply.lines))

    @property
    def summary(self) -> str:
        """Return how many nameservers agree, in a few words."""
        if self.zone is None:
            return "by the resolver"
        total = len(self.replies) + len(self.unanswered)
        return f"{len(self.replies)} of {total} nameservers agree" if total > 1 else "by its only nameserver"


class Zones:
    """Finds zones and queries their nameservers, for one verification."""

    def __init__(self, resolver: Resolver, settings: DnsSettings) -> None:
        self._resolver = resolver
        self._settings = settings
        self._zones: dict[Name, Zone] = {}

    def cut(self, name: Name) -> Name:
        """Return the zone of a name: its closest ancestor with NS records.

        Raises:
            Unreachable: no resolver answered.
        """
        for ancestor in ancestors(name):
            reply = self._resolver.resolve_cached(ancestor, NS)
            if reply.outcome is Outcome.SILENT:
                raise no_resolver(self._resolver, ancestor, reply)
            if reply.outcome is Outcome.RECORDS and reply.alias is None:
                return ancestor
        return Name(name.labels[-2:])

    def zone_of(self, name: Name) -> Zone:
        """Return the zone of a name with the addresses of its nameservers.

        Raises:
            Unreachable: no resolver answered.
        """
        cut = self.cut(name)
        if cut not in self._zones:
            values = self._resolver.resolve_cached(cut, NS).values
            names = sorted(value.target for value in values if isinstance(value, dns.rdtypes.ANY.NS.NS))[
                :MAX_AT_ONCE
            ]
            found = self._resolver.in_parallel(self._server, names)
            servers = tuple(server for server in found if isinstance(server, Server))
            self._zones[cut] = Zone(cut, servers, tuple(line for line in found if isinstance(line, str)))
        return self._zones[cut]

    def resolver_works(self, name: Name) -> bool:
        """Tell whether a missing answer is about the name, and not our resolver's failure."""
        return self._resolver.resolves_tld(name)

    def ask_nameservers(self, name: Name, kind: RdataType) -> ZoneAnswer:
        """Return the replies of all nameservers of a name's zone; the resolver's when none can be asked.

        Raises:
            NotReady: ``dns-servfail``, the nameservers fail.
            Unreachable: ``dns-unreachable``, no server answered.
        """
        if not self._settings.asks_nameservers or len(name) <= ONE_LABEL:
            return self._resolver_says(name, kind, ())
        zone = self.zone_of(name)
        replies = self._resolver.in_parallel(lambda server: self._resolver.ask(server, name, kind), zone.servers)
        failures = [reply for reply in replies if not reply.usable]
        unanswered = (*(f"{reply.server.name}: {reply.detail}" for reply in failures), *zone.unusable)
        if usable := tuple(reply for reply in replies if reply.usable):
            return ZoneAnswer(usable, unanswered, zone.name)
        if any(reply.outcome is Outcome.FAILED for reply in failures):
            raise not_ready(
                Slug.DNS_SERVFAIL,
                f"the nameservers of {plain(zone.name)} fail when asked about {plain(name)}",
                DnsFacts(seen=unanswered),
                expected=[f"an answer about {plain(name)}"],
            )
        return self._resolver_says(name, kind, unanswered)

    def _resolver_says(self, name: Name, kind: RdataType, unanswered: tuple[str, ...]) -> ZoneAnswer:
        reply = self._resolver.resolve(name, kind)
        if reply.usable:
            return ZoneAnswer((reply,), unanswered)
        if reply.outcome is Outcome.SILENT or not self._resolver.resolves_tld(name):
            raise no_resolver(self._resolver, name, reply, unanswered)
        raise not_ready(
            Slug.DNS_SERVFAIL,
            f"the DNS of {plain(name)} is broken: the resolver answers {reply.detail}",
            DnsFacts(seen=(f"{reply.server.name}: {reply.detail}", *unanswered)),
            expected=[f"an answer about {plain(name)}"],
        )

    def _server(self, name: Name) -> Server | str:
        """Return a nameserver with its address, or the line that says why it cannot be asked."""
        label = plain(name)
        found = self._resolver.resolve_cached(name, A).values or self._resolver.resolve_cached(name, AAAA).values
        if not found:
            return f"{label}: has no address"
        address = found[0].to_text()
        if not self._settings.admits_private_nameservers and not is_public(address):
            return f"{label}: its address {address} is not public and was not asked"
        return Server(address, self._settings.nameserver_port, label)


def no_resolver(resolver: Resolver, name: Name, reply: Reply, unanswered: Iterable[str] = ()) -> Unreachable:
    """Return the error for a query that no resolver answered, which says nothing about the domain."""
    asked = ", ".join(server.name for server in resolver.servers)
    return Unreachable(
        Slug.DNS_UNREACHABLE,
        f"no resolver could answer about {plain(name)} (asked {asked}: {reply.detail})",
        seen=(f"{reply.server.name}: {reply.detail}", *unanswered),
        expected=["a resolver that answers, if only no, in /etc/resolv.conf or in [dns] resolvers"],
        next=["certctl doctor"],
    )


def ancestors(name: Name) -> Iterable[Name]:
    """Yield a name and its ancestors, without the root."""
    while len(name) >= ONE_LABEL:
        yield name
        name = name.parent()


def plain(name: Name) -> str:
    """Return a name as people write it, without the final dot; odd bytes stay escaped as in a zone file."""
    return name.to_text(omit_final_dot=True)


def is_public(address: str) -> bool:
    """Tell whether an address is outside our own network: customers choose their nameservers' addresses."""
    ip = ip_address(address)
    is_routed = ip.version == 4 or (ip in _ROUTED and not any(ip in network for network in _NO_HOSTS))  # noqa: PLR2004
    return is_routed and ip.is_global and not ip.is_multicast
