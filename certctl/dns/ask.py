"""One DNS query to one server (RFC 1035): its ``Reply`` comes back, whatever the server does.

No exception of dnspython's or the socket's leaves this module: a crafted answer once stopped a whole controller
(GHSA-gx3x-vq4p-mhhv). A reply that cannot be read counts as no reply.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rdtypes.ANY.CNAME
from dns.message import Message
from dns.name import Name
from dns.rcode import Rcode
from dns.rdata import Rdata
from dns.rdatatype import CNAME, RdataType
from dns.rrset import RRset

from certctl.io.clock import Deadline

MAX_LINKS = 8
_PAYLOAD = 1232  # dnsflagday.net 2020: fits every path unfragmented
_MAX_LINES = 8


class Outcome(StrEnum):
    """The kinds of reply that the verification tells apart."""

    RECORDS = "records"
    NO_DATA = "no such record"
    NO_NAME = "NXDOMAIN"
    FAILED = "failed"
    SILENT = "silent"


@dataclass(frozen=True, slots=True)
class Server:
    """A DNS server to query: recursive (a resolver), or authoritative for zones of its own."""

    address: str
    port: int
    name: str
    recursive: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply of one server to one query.

    Attributes:
        alias: The target of the name's CNAME, if it has one.
        values: Records of the type asked for; a recursive server's are those at the end of the chain.
        lines: All records of the answer in zone file form.
        owner: The name the values belong to: the queried one, or the end of its CNAME chain.
        detail: The reason why there is no usable reply; empty otherwise.
        ttl: The seconds for which all of its records may be cached.
    """

    server: Server
    outcome: Outcome
    alias: Name | None = None
    values: tuple[Rdata, ...] = ()
    lines: tuple[str, ...] = ()
    owner: Name | None = None
    detail: str = ""
    ttl: int = 0

    @property
    def usable(self) -> bool:
        """Tell whether the server answered: with records, or that there are none."""
        return self.outcome not in {Outcome.FAILED, Outcome.SILENT}


def ask(server: Server, name: Name, kind: RdataType, *, patience: timedelta, deadline: Deadline) -> Reply:
    """Return a server's reply over UDP, or over TCP when UDP brings nothing or a truncated answer (RFC 7766 §5)."""
    try:
        with _only_unanswered():
            response = _converse(server, name, kind, patience.total_seconds(), deadline)
            return _read(server, name, kind, response)
    except _Unanswered as error:
        return Reply(server, Outcome.SILENT, detail=str(error))


class _Unanswered(Exception):
    pass


@contextmanager
def _only_unanswered() -> Iterator[None]:
    """Turn any exception in the block into ``_Unanswered``, with its reason."""
    try:
        yield
    except _Unanswered:
        raise
    except dns.exception.Timeout as error:
        raise _Unanswered("no answer in time") from error
    except OSError as error:
        raise _Unanswered((error.strerror or "the network failed").lower()) from error
    except Exception as error:  # parsers of hostile bytes fail in ways their authors never listed
        raise _Unanswered(f"an answer that cannot be read ({type(error).__name__})") from error


def _converse(server: Server, name: Name, kind: RdataType, patience: float, deadline: Deadline) -> Message:
    query = dns.message.make_query(name, kind, use_edns=0, payload=_PAYLOAD)
    if not server.recursive:
        query.flags &= ~dns.flags.RD
    response = _exchange(server, query, patience, deadline)
    if response.rcode() in {Rcode.FORMERR, Rcode.NOTIMP, Rcode.BADVERS}:
        query.use_edns(edns=False)  # RFC 6891 §7: it may be older than EDNS
        response = _exchange(server, query, patience, deadline)
    return response


def _exchange(server: Server, query: Message, patience: float, deadline: Deadline) -> Message:
    """Return the response to a query; other datagrams are ignored, as any host may send those."""
    try:
        with _only_unanswered():
            return dns.query.udp(
                query,
                server.address,
                timeout=_time(patience, deadline),
                port=server.port,
                ignore_unexpected=True,
                ignore_errors=True,
                raise_on_truncation=True,
            )
    except _Unanswered:
        return dns.query.tcp(query, server.address, timeout=_time(patience, deadline), port=server.port)


def _time(patience: float, deadline: Deadline) -> float:
    if not (left := deadline.remaining()):
        raise _Unanswered("no time was left to ask")
    return min(patience, left)


def _read(server: Server, name: Name, kind: RdataType, response: Message) -> Reply:
    rcode = response.rcode()
    if rcode not in {Rcode.NOERROR, Rcode.NXDOMAIN}:
        return Reply(server, Outcome.FAILED, detail=dns.rcode.to_text(rcode))
    if not server.recursive and not response.flags & dns.flags.AA:
        return Reply(server, Outcome.SILENT, detail="does not answer for this zone")
    chain = _chain(response, name, 0 if kind == CNAME else MAX_LINKS if server.recursive else 1)
    links, end = [link for link, _ in chain], chain[-1][1] if chain else name
    found = _rrset(response, end, kind)
    own = _rrset(response, name, CNAME)
    nothing = Outcome.NO_NAME if rcode == Rcode.NXDOMAIN else Outcome.NO_DATA
    outcome = Outcome.RECORDS if found else nothing
    rrsets = [*links, found] if found else links
    values = tuple(sorted(found)) if found else ()
    ttl = min((rrset.ttl for rrset in rrsets), default=0)
    return Reply(server, outcome, _target(own) if own else None, values, _lines(rrsets), end, ttl=ttl)


def _chain(response: Message, name: Name, limit: int) -> list[tuple[RRset, Name]]:
    """Return (CNAME record set, its target) of each link in an answer, in whatever order they stand in it."""
    chain: list[tuple[RRset, Name]] = []
    while len(chain) < limit and (link := _rrset(response, name, CNAME)):
        name = _target(link)
        chain.append((link, name))
    return chain


def _rrset(response: Message, name: Name, kind: RdataType) -> RRset | None:
    return response.get_rrset(response.answer, name, dns.rdataclass.IN, kind)


def _target(rrset: RRset) -> Name:
    rdata = rrset[0]
    if not isinstance(rdata, dns.rdtypes.ANY.CNAME.CNAME):
        raise _Unanswered("an answer that cannot be read")
    return rdata.target


def _lines(rrsets: list[RRset]) -> tuple[str, ...]:
    lines = [
        f"{rrset.name} {rrset.ttl} {dns.rdatatype.to_text(rrset.rdtype)} {rdata.to_text()}"
        for rrset in rrsets
        for rdata in sorted(rrset)
    ]
    more = len(lines) - _MAX_LINES
    return (*lines[:_MAX_LINES], f"… and {more} more") if more > 0 else tuple(lines)
