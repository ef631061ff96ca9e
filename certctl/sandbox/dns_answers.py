"""What the sandbox's DNS server answers: pure, from a world and a query to a response.

RFC 1034 §4.3.2 in its simple form: CNAMEs followed, wildcards at the closest encloser (RFC 4592), names that
exist only as ancestors give no data (RFC 8020), and every negative answer carries the zone's SOA (RFC 2308).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
from dns.name import Name
from dns.rdatatype import CNAME, SOA, RdataType

from certctl.sandbox.zone_file import DnsWorld, FaultRule, Record

_MAX_CHAIN = 16
_HEADER = 12
_IN = dns.rdataclass.IN


@dataclass(frozen=True, slots=True)
class Viewpoint:
    """One server address looking at the world; the resolver sees all zones, a nameserver its own."""

    world: DnsWorld
    address: str
    is_resolver: bool

    def zone(self, name: Name) -> Name | None:
        """Return the deepest declared zone that holds a name."""
        zones = [zone for zone in map(_name, self.world.zones) if name.is_subdomain(zone)]
        return max(zones, key=len, default=None)

    def serves(self, zone: Name | None) -> bool:
        """Tell whether this address answers for a zone."""
        if self.is_resolver:
            return True
        return zone is not None and self.address in self._nameservers(zone).values()

    def records(self, name: Name) -> list[Record]:
        """Return a name's records as this address sees them."""
        here = [record for record in self._all() if _name(record.name) == name]
        limited = [record for record in here if record.only == self.address]
        return limited or [record for record in here if not record.only]

    def exists(self, name: Name) -> bool:
        """Tell whether a name has records or lies above one that has (an empty non-terminal)."""
        seen = (r for r in self._all() if r.only in {"", self.address})
        return any(_name(record.name).is_subdomain(name) for record in seen)

    def at(self, name: Name) -> list[Record]:
        """Return the records that answer for a name, a wildcard's included."""
        zone = self.zone(name)
        if self.exists(name) or zone is None:
            return self.records(name)
        encloser = name.parent()
        while encloser != zone and not self.exists(encloser):
            encloser = encloser.parent()
        return self.records(Name((b"*", *encloser.labels)))

    def fault(self, name: Name, kind: RdataType) -> FaultRule | None:
        """Return the fault that holds here for a question, the newest first."""
        for rule in reversed(self.world.faults):
            here = rule.only in {"", self.address} and rule.type in {"", dns.rdatatype.to_text(kind)}
            if here and name.is_subdomain(_name(rule.name)):
                return rule
        return None

    def _nameservers(self, zone: Name) -> dict[str, str]:
        return dict(self.world.zones[zone.to_text(omit_final_dot=True).lower()])

    def _all(self) -> Iterator[Record]:
        """Yield the records of the file and those a zone has by being declared."""
        yield from self.world.records
        written = {(record.name, record.type) for record in self.world.records}
        for zone, nameservers in self.world.zones.items():
            first = next(iter(nameservers), "ns.invalid")
            made = [Record(zone, "SOA", f"{first}. hostmaster.{zone}. 1 3600 600 86400 60")]
            made += [Record(zone, "NS", name + ".") for name in nameservers]
            made += [Record(name, "A", address) for name, address in nameservers.items()]
            yield from (record for record in made if (record.name, record.type) not in written)


def answer(query: dns.message.Message, view: Viewpoint) -> dns.message.Message:
    """Answer one well-formed query as a server at this viewpoint would."""
    response = dns.message.make_response(query, recursion_available=view.is_resolver, our_payload=1232)
    question = query.question[0]
    name, kind = question.name, question.rdtype
    if not view.serves(view.zone(name)):
        response.set_rcode(dns.rcode.REFUSED)
        return response
    if not view.is_resolver:
        response.flags |= dns.flags.AA
    for _ in range(_MAX_CHAIN):
        alias = _answer_one(response, view, name, kind)
        if alias is None:
            return response
        if not view.serves(view.zone(alias)):
            return response
        name = alias
    response.set_rcode(dns.rcode.SERVFAIL)
    return response


def failure(query: dns.message.Message, rcode: dns.rcode.Rcode) -> dns.message.Message:
    """Answer with nothing but a code."""
    response = dns.message.make_response(query, our_payload=1232)
    response.set_rcode(rcode)
    response.flags |= dns.flags.AA
    return response


def truncated(query: dns.message.Message) -> dns.message.Message:
    """Answer "ask again over TCP" (RFC 7766 §5)."""
    response = dns.message.make_response(query)
    response.flags |= dns.flags.TC
    return response


def format_error(wire: bytes) -> bytes | None:
    """Answer FORMERR (RFC 1035 §4.1.1) to a query of which only the header can be read, else nothing."""
    if len(wire) < _HEADER or wire[2] & 0x80:
        return None
    return wire[:2] + bytes((0x80, dns.rcode.FORMERR)) + bytes(8)


def _answer_one(response: dns.message.Message, view: Viewpoint, name: Name, kind: RdataType) -> Name | None:
    """Add what one name has; return the name it is an alias of, if the question goes on there."""
    found = view.at(name)
    if kind != CNAME and (aliases := [record for record in found if record.type == "CNAME"]):
        response.answer.append(_rrset(name, CNAME, aliases))
        return _name(aliases[-1].value)
    if wanted := [record for record in found if record.type == dns.rdatatype.to_text(kind)]:
        response.answer.append(_rrset(name, kind, wanted))
        return None
    if not found and not view.exists(name):
        response.set_rcode(dns.rcode.NXDOMAIN)
    _say_no(response, view, name)
    return None


def _say_no(response: dns.message.Message, view: Viewpoint, name: Name) -> None:
    zone = view.zone(name)
    soa = [record for record in view.records(zone) if record.type == "SOA"] if zone else []
    root = Record(".", "SOA", "a.root. hostmaster.root. 1 3600 600 86400 60")
    response.authority.append(_rrset(zone or dns.name.root, SOA, soa or [root]))


def _rrset(name: Name, kind: RdataType, records: list[Record]) -> dns.rrset.RRset:
    rrset = dns.rrset.RRset(name, _IN, kind)
    for record in records:
        rrset.add(dns.rdata.from_text(_IN, kind, record.value, origin=dns.name.root, relativize=False), record.ttl)
    return rrset


def _name(text: str) -> Name:
    return dns.name.from_text(text)
