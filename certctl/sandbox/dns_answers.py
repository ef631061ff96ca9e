"""The responses of the sandbox's DNS server: pure functions from a world and a query.

RFC 1034 §4.3.2 in its simple form: CNAMEs followed, wildcards at the closest encloser (RFC 4592), names that
exist only as ancestors give no data (RFC 8020), and every negative answer carries the zone's SOA (RFC 2308).
"""

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

from certctl.sandbox.dns_view import Viewpoint, as_name
from certctl.sandbox.zone_file import Record

_MAX_CHAIN = 16
_HEADER = 12
_IN = dns.rdataclass.IN


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
    """Return a response with only a code."""
    response = dns.message.make_response(query, our_payload=1232)
    response.set_rcode(rcode)
    response.flags |= dns.flags.AA
    return response


def truncated(query: dns.message.Message) -> dns.message.Message:
    """Return a truncated response, after which a client asks over TCP (RFC 7766 §5)."""
    response = dns.message.make_response(query)
    response.flags |= dns.flags.TC
    return response


def format_error(wire: bytes) -> bytes | None:
    """Return FORMERR (RFC 1035 §4.1.1) for a query with a readable header, else None."""
    if len(wire) < _HEADER or wire[2] & 0x80:
        return None
    return wire[:2] + bytes((0x80, dns.rcode.FORMERR)) + bytes(8)


def _answer_one(response: dns.message.Message, view: Viewpoint, name: Name, kind: RdataType) -> Name | None:
    """Add the records of one name to the response; return the target of its CNAME if that is to be followed."""
    found = view.at(name)
    if kind != CNAME and (aliases := [record for record in found if record.type == "CNAME"]):
        response.answer.append(_rrset(name, CNAME, aliases))
        return as_name(aliases[-1].value)
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
