"""The decision whether a domain ends at our target or at our addresses."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from ipaddress import IPv6Address

import dns.name
from dns.rdatatype import AAAA, NS, A

from certctl.dns.ask import Outcome
from certctl.dns.chain import Chain, disagree, follow
from certctl.dns.facts import dns_record, not_ready
from certctl.dns.hints import near_miss, record_under_doubled_zone
from certctl.dns.resolver import Resolver
from certctl.dns.target import Address, Addresses, Target, addresses, in_order, listed
from certctl.dns.zone import ZoneAnswer, Zones, plain
from certctl.dns_records import DnsFacts, DnsRecord, RecordVerdict
from certctl.domain import Domain, delegated_by_registry, registered_domain
from certctl.errors import NotReady, Unreachable
from certctl.slugs import Slug
from certctl.values import Delegation

ZoneAnswers = tuple[ZoneAnswer, ...]


class Decision:
    """Decides about one domain; each error names the record to create or change."""

    def __init__(self, domain: Domain, target: Target, resolver: Resolver, zones: Zones) -> None:
        self._domain = domain
        self._target = target
        self._resolver = resolver
        self._zones = zones

    def decide(self) -> Delegation:
        """Return the proof that the domain's CNAMEs end at our target, or its addresses are all ours.

        Raises:
            NotReady: the domain does not end at us.
            Unreachable: DNS could not be queried.
        """
        self._require_registered()
        chain = follow(self._zones, dns.name.from_text(self._domain.name), self._target.name)
        if chain.end == self._target.name:
            _ = self._target.addresses
            return self._proof(
                f"CNAME → {plain(self._target.name)}", chain.answers[:1], [self._cname(chain.aliases)]
            )
        if chain.outcome is Outcome.NO_NAME:
            raise self._nothing_there(chain)
        kinds = (A, AAAA)
        return self._compare_addresses(
            chain, self._resolver.in_parallel(lambda kind: self._zones.ask_nameservers(chain.end, kind), kinds)
        )

    def _require_registered(self) -> None:
        """Refuse a name below a registered domain that does not exist: then nothing below does (RFC 8020 §2).

        Invented names thus cost one query to a resolver, and none to a registry's nameservers. A name with a CNAME
        exists, whatever its target; and a name below no public suffix may exist at our resolver alone.
        """
        top = registered_domain(self._domain)
        reply = self._resolver.resolve_cached(dns.name.from_text(top), NS)
        is_nothing = reply.outcome is Outcome.NO_NAME and reply.alias is None
        if is_nothing and delegated_by_registry(self._domain) == top:
            raise not_ready(
                Slug.DNS_NO_SUCH_NAME,
                f"{top} does not exist in DNS: it is misspelt, or nobody has registered it",
                DnsFacts(
                    records=self._records_to_create(),
                    asked=(f"asked the resolver {reply.server.name}",),
                    seen=(f"{top}. {reply.outcome.value}",),
                ),
            )

    def _compare_addresses(self, chain: Chain, answers: ZoneAnswers) -> Delegation:
        """Return the proof that all addresses are ours, for apex names and flattened CNAMEs.

        No foreign address may be among them, and there must be one: Let's Encrypt prefers IPv6 and falls back to
        IPv4 only when the connection times out.
        """
        found = addresses(value for answer in answers for reply in answer.replies for value in reply.values)
        if not found:
            raise self._nothing_there(chain)
        ours = self._target.extra if found <= self._target.extra else self._target.addresses
        for answer in answers:
            if len({_verdict(addresses(reply.values), ours) for reply in answer.replies}) > 1:
                raise disagree(chain.end, answer)
        lines = (*chain.lines, *(line for answer in answers for line in answer.lines))
        if found <= ours:
            standing = [
                self._address(one, RecordVerdict.RIGHT, (*chain.aliases, str(one))) for one in in_order(found)
            ]
            return self._proof(f"{listed(found)} {'are' if len(found) > 1 else 'is'} ours", answers[:1], standing)
        raise self._foreign(chain, lines, found - ours, found & ours)

    def _proof(self, what: str, answers: ZoneAnswers, records: Sequence[DnsRecord]) -> Delegation:
        agreed = "".join(f", {answer.summary}" for answer in answers)
        return Delegation(self._domain, plain(self._target.name), tuple(records), what + agreed)

    def _nothing_there(self, chain: Chain) -> NotReady:
        nothing = "does not exist in DNS" if chain.outcome is Outcome.NO_NAME else "has no address in DNS"
        if len(chain.names) > 1:
            return self._elsewhere(chain, f"its CNAME leads to {plain(chain.names[1])}, which {nothing}")
        hint, lines = record_under_doubled_zone(self._zones, chain.names[0])
        if chain.outcome is Outcome.NO_NAME:
            slug, problem = Slug.DNS_NO_SUCH_NAME, "does not exist in DNS"
        else:
            slug, problem = Slug.DNS_NO_DATA, "exists in DNS but has neither a CNAME nor an address"
        seen = (*chain.seen, f"{self._domain}. {chain.outcome.value}", *lines)
        facts = DnsFacts(records=self._records_to_create(), asked=chain.asked, seen=seen, hint=hint)
        return not_ready(slug, f"{self._domain} {problem}", facts)

    def _elsewhere(
        self, chain: Chain, where: str, lines: tuple[str, ...] = (), found: Addresses = frozenset()
    ) -> NotReady:
        facts = DnsFacts(
            records=self._records_to_create(chain.aliases, found),
            asked=chain.asked,
            seen=tuple(dict.fromkeys((*chain.seen, *lines))),
            hint=near_miss(self._zones, chain, self._target.name),
        )
        problem = f"{self._domain} does not point here yet: {where}, not to {plain(self._target.name)}"
        return not_ready(Slug.DNS_CNAME_MISMATCH, problem, facts)

    def _foreign(self, chain: Chain, lines: tuple[str, ...], foreign: Addresses, ours: Addresses) -> NotReady:
        if len(chain.names) > 1 and not ours:
            return self._elsewhere(chain, f"its CNAME leads to {plain(chain.names[1])}", lines, foreign)
        verb = "are" if len(foreign) > 1 else "is"
        stray = bool(ours) and all(isinstance(address, IPv6Address) for address in foreign)
        if stray:
            slug, problem = (
                Slug.DNS_STRAY_IPV6,
                f"its IPv6 address {listed(foreign)} is not ours, and CAs prefer IPv6",
            )
        elif ours:
            slug, problem = Slug.DNS_ADDRESS_MISMATCH, f"of its addresses {listed(foreign)} {verb} not ours"
        else:
            slug, problem = Slug.DNS_ADDRESS_MISMATCH, f"{listed(foreign)} {verb} not ours"
        unwanted = [self._address(one, RecordVerdict.UNWANTED, (str(one),)) for one in in_order(foreign) if ours]
        facts = DnsFacts(
            records=(*self._records_to_create(chain.aliases, foreign | ours), *unwanted),
            asked=chain.asked,
            seen=tuple(dict.fromkeys((*chain.seen, *lines))),
        )
        return not_ready(slug, f"{self._domain} does not point here yet: {problem}", facts)

    def _records_to_create(
        self, aliases: Sequence[str] = (), found: Addresses = frozenset()
    ) -> tuple[DnsRecord, ...]:
        """Return the records to create: a CNAME, or addresses at an apex, where RFC 1034 §3.6.2 allows none."""
        seen = (*aliases, *map(str, in_order(found)))
        verdict = RecordVerdict.DIFFERENT if seen else RecordVerdict.MISSING
        if registered_domain(self._domain) != self._domain.zone:
            return (replace(self._cname(seen), verdict=verdict),)
        ours = self._target.extra
        with suppress(Unreachable):
            ours = self._target.addresses
        rows = [self._at_apex(one, found) for one in in_order(ours)]
        alias = f"{plain(self._target.name)}."
        return (*rows, dns_record("ALIAS", self._domain.name, alias, RecordVerdict.MISSING, aliases))

    def _at_apex(self, ours: Address, found: Addresses) -> DnsRecord:
        """Return the record to create for one address of ours, with what its type has there now."""
        beside = [str(one) for one in in_order(found) if one.version == ours.version]
        verdict = RecordVerdict.DIFFERENT if beside else RecordVerdict.MISSING
        return self._address(ours, RecordVerdict.RIGHT if ours in found else verdict, beside)

    def _address(self, address: Address, verdict: RecordVerdict, seen: Sequence[str]) -> DnsRecord:
        kind = "AAAA" if isinstance(address, IPv6Address) else "A"
        return dns_record(kind, self._domain.name, str(address), verdict, seen)

    def _cname(self, seen: Sequence[str]) -> DnsRecord:
        target = f"{plain(self._target.name)}."
        return dns_record("CNAME", self._domain.name, target, RecordVerdict.RIGHT, seen)


def _verdict(found: Addresses, ours: Addresses) -> tuple[bool, bool]:
    """Return (has addresses, all are ours) of one nameserver's reply; which of several it picks does not matter."""
    return bool(found), found <= ours
