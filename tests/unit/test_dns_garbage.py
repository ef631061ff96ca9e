"""Servers that answer with anything at all: no foreign exception ever comes out, and time is bounded."""

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certctl.dns import CustomerDns, DnsSettings
from certctl.dns.ask import Outcome, Reply, Server, ask
from certctl.domain import Domain
from certctl.errors import NotReady, Unreachable
from certctl.io.clock import Deadline
from certctl.sandbox.dns_ports import bind_everywhere

LONG = 60.0
NAME = dns.name.from_text("status.acme.com")
Script = Callable[[bytes], bytes | None]


def silence(_: bytes) -> bytes | None:
    return None


@contextmanager
def scripted(udp: Script, tcp: Script = silence) -> Iterator[int]:
    """Run a server on one loopback port that answers as the scripts say."""
    ((packets, streams),), port = bind_everywhere(["127.0.0.1"], 0)
    with packets, streams:
        threads = [
            threading.Thread(target=_serve_udp, args=(packets, udp)),
            threading.Thread(target=_serve_tcp, args=(streams, tcp)),
        ]
        for thread in threads:
            thread.start()
        try:
            yield port
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
                last.sendto(b"", ("127.0.0.1", port))
            streams.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()


def _serve_udp(packets: socket.socket, script: Script) -> None:
    while True:
        query, sender = packets.recvfrom(4096)
        if not query:
            return
        if answer := script(query):
            packets.sendto(answer, sender)


def _serve_tcp(streams: socket.socket, script: Script) -> None:
    with suppress(OSError):
        while True:
            stream, _ = streams.accept()
            with stream, suppress(OSError, struct.error):
                stream.settimeout(2)
                size = struct.unpack("!H", stream.recv(2))[0]
                if answer := script(stream.recv(size)):
                    stream.sendall(struct.pack("!H", len(answer)) + answer)


def look(port: int, *, patience: float = 0.1, kind: dns.rdatatype.RdataType = dns.rdatatype.CNAME) -> Reply:
    server = Server("127.0.0.1", port, "ns1.acme.com")
    deadline = Deadline.after(timedelta(seconds=2 * LONG))
    return ask(server, NAME, kind, patience=timedelta(seconds=patience), deadline=deadline)


def good(query: bytes, text: str = "status.hyperping.test.", kind: str = "CNAME") -> bytes:
    response = dns.message.make_response(dns.message.from_wire(query))
    response.flags |= dns.flags.AA
    response.answer.append(dns.rrset.from_text(NAME, 300, "IN", kind, text))
    return response.to_wire()


def wrong_id(query: bytes) -> bytes:
    return bytes((query[0] ^ 0xFF, query[1])) + good(query)[2:]


def wrong_question(query: bytes) -> bytes:
    other = dns.message.make_query("other.acme.com", "CNAME", id=int.from_bytes(query[:2], "big"))
    return dns.message.make_response(other).to_wire()


def header(query: bytes, answers: int) -> bytes:
    return query[:2] + b"\x84\x00" + struct.pack("!4H", 1, answers, 0, 0) + query[12 : 12 + NAME_BYTES + 4]


NAME_BYTES = len(NAME.to_wire() or b"")


def compression_loop(query: bytes) -> bytes:
    start = len(header(query, 1))
    return header(query, 1) + struct.pack("!H", 0xC000 | start) + struct.pack("!HHIH", 5, 1, 300, 2) + b"\xc0\x0c"


def forward_pointer(query: bytes) -> bytes:
    start = len(header(query, 1)) + 12
    return (
        header(query, 1)
        + b"\xc0\x0c"
        + struct.pack("!HHIH", 5, 1, 300, 2)
        + struct.pack("!H", 0xC000 | (start + 50))
    )


def short_rdata(query: bytes) -> bytes:
    return header(query, 1) + b"\xc0\x0c" + struct.pack("!HHIH", 5, 1, 300, 200) + b"\x03abc"


def more_answers_than_there_are(query: bytes) -> bytes:
    return header(query, 65535)


def an_address_of_seven_bytes(query: bytes) -> bytes:
    return header(query, 1) + b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 300, 7) + b"1234567"


GARBAGE: dict[str, Script] = {
    "wrong id": wrong_id,
    "wrong question": wrong_question,
    "compression loop": compression_loop,
    "pointer forward": forward_pointer,
    "rdata past the end": short_rdata,
    "too few answers": more_answers_than_there_are,
    "address of seven bytes": an_address_of_seven_bytes,
    "header only": lambda query: query[:2] + b"\x84\x00",
    "empty tail": lambda query: good(query)[:-1],
    "trailing bytes": lambda query: good(query) + b"\x00" * 40,
    "the query itself": lambda query: query,
    "zeros": lambda query: query[:2] + bytes(600),
    "ones": lambda query: query[:2] + b"\xff" * 600,
    "text": lambda _: b"HTTP/1.1 200 OK\r\n\r\n",
}


@pytest.mark.parametrize("script", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_over_udp_and_tcp_is_no_answer(script: Script) -> None:
    with scripted(script, script) as port:
        reply = look(port)
    assert reply.outcome is Outcome.SILENT
    assert reply.detail
    assert reply.detail.isprintable()


@pytest.mark.parametrize("script", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_over_udp_does_not_hide_a_good_answer_over_tcp(script: Script) -> None:
    with scripted(script, good) as port:
        reply = look(port)
    assert reply.alias == dns.name.from_text("status.hyperping.test")


def test_a_forged_packet_before_the_answer_is_passed_over() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as packets:
        packets.bind(("127.0.0.1", 0))

        def serve() -> None:
            query, sender = packets.recvfrom(4096)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as somebody_else:
                somebody_else.sendto(good(query, "evil.example.net."), sender)
            packets.sendto(wrong_id(query), sender)
            packets.sendto(b"\x00", sender)
            packets.sendto(good(query), sender)

        thread = threading.Thread(target=serve)
        thread.start()
        reply = look(packets.getsockname()[1], patience=2)
        thread.join()
    assert reply.alias == dns.name.from_text("status.hyperping.test")


def test_records_in_reverse_order_are_read_all_the_same() -> None:
    def backwards(query: bytes) -> bytes:
        response = dns.message.make_response(dns.message.from_wire(query))
        response.flags |= dns.flags.AA
        response.answer.append(dns.rrset.from_text("end.acme.com.", 300, "IN", "A", "198.51.100.7"))
        response.answer.append(dns.rrset.from_text("mid.acme.com.", 300, "IN", "CNAME", "end.acme.com."))
        response.answer.append(dns.rrset.from_text(NAME, 300, "IN", "CNAME", "mid.acme.com."))
        return response.to_wire()

    with scripted(backwards) as port:
        resolver = Server("127.0.0.1", port, "resolver", recursive=True)
        reply = ask(
            resolver,
            NAME,
            dns.rdatatype.A,
            patience=timedelta(seconds=1),
            deadline=Deadline.after(timedelta(seconds=3)),
        )
    assert [value.to_text() for value in reply.values] == ["198.51.100.7"]
    assert reply.lines[0].startswith("status.acme.com. 300 CNAME mid.acme.com.")


def test_a_servers_records_about_other_names_are_not_believed() -> None:
    def pushy(query: bytes) -> bytes:
        response = dns.message.make_response(dns.message.from_wire(query))
        response.flags |= dns.flags.AA
        response.answer.append(dns.rrset.from_text("other.acme.com.", 300, "IN", "CNAME", "status.hyperping.test."))
        return response.to_wire()

    with scripted(pushy) as port:
        assert look(port).outcome is Outcome.NO_DATA


def test_an_answer_without_authority_is_not_a_nameservers() -> None:
    def cached(query: bytes) -> bytes:
        return good(query)[:2] + b"\x80\x00" + good(query)[4:]

    with scripted(cached) as port:
        assert look(port).outcome is Outcome.SILENT


def test_a_server_older_than_edns_is_asked_without_it() -> None:
    def old(query: bytes) -> bytes:
        if dns.message.from_wire(query).edns < 0:
            return good(query)
        return query[:2] + b"\x84\x01" + bytes(8)

    with scripted(old) as port:
        assert look(port, patience=LONG).outcome is Outcome.RECORDS


def test_64_kilobytes_of_addresses_are_read_and_shown_in_few_lines() -> None:
    def huge(query: bytes) -> bytes:
        count = 4000
        rows = b"".join(
            b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 300, 4) + struct.pack("!I", n) for n in range(count)
        )
        return header(query, count) + rows

    def too_long(query: bytes) -> bytes:
        return query[:2] + b"\x86\x00" + header(query, 0)[4:]  # as a response that was cut (TC)

    with scripted(too_long, huge) as port:
        reply = look(port, patience=LONG, kind=dns.rdatatype.A)
    assert len(reply.values) == 4000
    assert len(reply.lines) < 12


def test_a_connection_that_is_cut_or_starved_ends_in_time() -> None:
    def half(query: bytes) -> bytes:
        return good(query)[: len(good(query)) // 2]

    with scripted(silence, half) as port:
        assert look(port).outcome is Outcome.SILENT


@pytest.fixture(scope="module")
def mad() -> Iterator[tuple[int, list[Script]]]:
    """Run one server whose script can be exchanged."""
    current: list[Script] = [silence]

    def script(query: bytes) -> bytes | None:
        return current[0](query)

    with scripted(script, script) as port:
        yield port, current


@settings(max_examples=100)
@given(tail=st.binary(min_size=1, max_size=300), aligned=st.booleans())
def test_whatever_bytes_come_back_nothing_foreign_escapes(
    mad: tuple[int, list[Script]],
    tail: bytes,
    aligned: bool,  # noqa: FBT001
) -> None:
    port, current = mad
    current[0] = lambda query: (header(query, 1) if aligned else query[:2]) + tail
    assert look(port, patience=0.02).outcome in set(Outcome)


@pytest.mark.parametrize("script", GARBAGE.values(), ids=GARBAGE.keys())
def test_the_facade_turns_a_mad_resolver_into_an_error_of_ours(script: Script) -> None:
    with scripted(script, script) as port:
        batch = CustomerDns(
            replace(
                DnsSettings("status.hyperping.test", resolvers=(f"127.0.0.1:{port}",)),
                patience=timedelta(seconds=0.05),
                deadline=timedelta(seconds=1),
            )
        )
        with pytest.raises((NotReady, Unreachable)):
            batch.verify(Domain("status.acme.com"))
        assert batch.examine()
