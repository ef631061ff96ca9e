"""The sandbox's DNS server answers as real ones do, shows every fault on demand, and never falls over."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dns.flags
import dns.message
import dns.opcode
import dns.query
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certctl.errors import ConfigInvalid
from certctl.sandbox import zone_file
from certctl.sandbox.dns_server import DnsServer
from certctl.sandbox.zone_file import DnsWorld, Fault, FaultRule, Record
from tests.fakes.dns_world import NS1, NS2, RESOLVER, DnsTown, town


@pytest.fixture
def world(tmp_path: Path) -> Iterator[DnsTown]:
    with town(tmp_path) as running:
        yield running


def query(world: DnsTown, name: str, kind: str, *, at: str = RESOLVER, tcp: bool = False) -> dns.message.Message:
    question = dns.message.make_query(name, kind, use_edns=0, payload=1232)
    if tcp:
        return dns.query.tcp(question, at, port=world.server.port, timeout=60)
    return dns.query.udp(question, at, port=world.server.port, timeout=60)


def answers(response: dns.message.Message) -> list[str]:
    return [line for rrset in response.answer for line in rrset.to_text().splitlines()]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("A", "192.0.2.1"),
        ("AAAA", "2001:db8::1"),
        ("TXT", '"a text" "in two"'),
        ("CAA", '0 issue "ca.example"'),
        ("MX", "10 mail.acme.com."),
        ("CNAME", "x.nowhere.net."),
    ],
)
@pytest.mark.parametrize("tcp", [False, True])
def test_records_of_every_type_are_served(world: DnsTown, kind: str, value: str, tcp: bool) -> None:  # noqa: FBT001
    world.add("www.acme.com", kind, value)
    assert answers(query(world, "www.acme.com", kind, tcp=tcp))[0] == f"www.acme.com. 300 IN {kind} {value}"


def test_a_zone_has_an_soa_and_nameservers_with_addresses(world: DnsTown) -> None:
    world.add("www.acme.com", "A", "192.0.2.1")
    assert sorted(answers(query(world, "acme.com", "NS"))) == [
        "acme.com. 300 IN NS ns1.acme.com.",
        "acme.com. 300 IN NS ns2.acme.com.",
    ]
    assert answers(query(world, "ns1.acme.com", "A")) == [f"ns1.acme.com. 300 IN A {NS1}"]
    assert answers(query(world, "acme.com", "SOA"))[0].startswith("acme.com. 300 IN SOA ns1.acme.com.")


def test_the_resolver_follows_a_cname_and_a_nameserver_stays_in_its_zones(world: DnsTown) -> None:
    world.add("www.acme.com", "CNAME", "host.other.net.")
    world.add("host.other.net", "A", "192.0.2.1")
    world.declare("other.net", {"ns1.other.net": NS2})
    assert len(answers(query(world, "www.acme.com", "A"))) == 2
    assert len(answers(query(world, "www.acme.com", "A", at=NS1))) == 1
    assert len(answers(query(world, "www.acme.com", "A", at=NS2))) == 2


def test_only_nameservers_speak_with_authority_and_only_the_resolver_recurses(world: DnsTown) -> None:
    world.add("www.acme.com", "A", "192.0.2.1")
    resolver, nameserver = query(world, "www.acme.com", "A"), query(world, "www.acme.com", "A", at=NS1)
    assert (bool(resolver.flags & dns.flags.AA), bool(resolver.flags & dns.flags.RA)) == (False, True)
    assert (bool(nameserver.flags & dns.flags.AA), bool(nameserver.flags & dns.flags.RA)) == (True, False)


@pytest.mark.parametrize(
    ("name", "rcode"),
    [("acme.com", "NOERROR"), ("a.acme.com", "NOERROR"), ("b.acme.com", "NXDOMAIN"), ("zz", "NXDOMAIN")],
)
def test_no_data_and_no_name_differ_and_carry_the_soa(world: DnsTown, name: str, rcode: str) -> None:
    world.add("x.a.acme.com", "A", "192.0.2.1")
    response = query(world, name, "TXT")
    assert dns.rcode.to_text(response.rcode()) == rcode
    assert not response.answer
    assert response.authority[0].rdtype == dns.rdatatype.SOA


def test_a_nameserver_refuses_what_it_does_not_serve(world: DnsTown) -> None:
    assert query(world, "nowhere.net", "A", at=NS1).rcode() == dns.rcode.REFUSED


def test_a_wildcard_answers_below_it_but_not_for_names_that_exist(world: DnsTown) -> None:
    world.add("*.acme.com", "TXT", '"wild"')
    world.add("own.acme.com", "A", "192.0.2.1")
    assert answers(query(world, "any.acme.com", "TXT")) == ['any.acme.com. 300 IN TXT "wild"']
    assert answers(query(world, "a.b.acme.com", "TXT")) == ['a.b.acme.com. 300 IN TXT "wild"']
    assert not query(world, "own.acme.com", "TXT").answer
    assert query(world, "x.own.acme.com", "TXT").rcode() == dns.rcode.NXDOMAIN


def test_a_record_limited_to_one_address_hides_the_others_there(world: DnsTown) -> None:
    world.add("www.acme.com", "A", "192.0.2.1")
    world.add("www.acme.com", "A", "192.0.2.2", only=NS2)
    seen = [answers(query(world, "www.acme.com", "A", at=at))[0][-1] for at in (RESOLVER, NS1, NS2)]
    assert seen == ["1", "1", "2"]


@pytest.mark.parametrize("fault", [Fault.SERVFAIL, Fault.REFUSED, Fault.NXDOMAIN])
def test_a_fault_holds_for_a_name_and_below_and_can_be_limited(world: DnsTown, fault: Fault) -> None:
    world.add("www.acme.com", "A", "192.0.2.1")
    world.fault("acme.com", fault, kind="A", only=NS1)
    assert dns.rcode.to_text(query(world, "www.acme.com", "A", at=NS1).rcode()) == fault.upper()
    assert query(world, "www.acme.com", "A", at=NS2).rcode() == dns.rcode.NOERROR
    assert query(world, "www.acme.com", "AAAA", at=NS1).rcode() == dns.rcode.NOERROR


def test_dropped_delayed_and_truncated_answers_are_what_they_say(world: DnsTown) -> None:
    world.add("www.acme.com", "A", "192.0.2.1")
    world.fault("www.acme.com", Fault.TRUNCATE)
    assert query(world, "www.acme.com", "A").flags & dns.flags.TC
    assert answers(query(world, "www.acme.com", "A", tcp=True))
    world.fault("www.acme.com", Fault.DELAY, seconds=0.2)
    started = time.monotonic()
    assert answers(query(world, "www.acme.com", "A"))
    assert time.monotonic() - started >= 0.2
    world.fault("www.acme.com", Fault.DROP)
    with pytest.raises(dns.exception.Timeout):
        dns.query.udp(dns.message.make_query("www.acme.com", "A"), RESOLVER, 0.2, world.server.port)


def test_a_slow_question_does_not_hold_up_another(world: DnsTown) -> None:
    world.add("www.acme.com", "A", "192.0.2.1")
    world.fault("slow.acme.com", Fault.DELAY, seconds=5)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(dns.message.make_query("slow.acme.com", "A").to_wire(), (RESOLVER, world.server.port))
        assert answers(query(world, "www.acme.com", "A"))


def test_a_cname_loop_fails_at_the_resolver(world: DnsTown) -> None:
    world.add("a.acme.com", "CNAME", "b.acme.com.")
    world.add("b.acme.com", "CNAME", "a.acme.com.")
    assert query(world, "a.acme.com", "A").rcode() == dns.rcode.SERVFAIL


def test_what_is_too_large_for_a_datagram_is_truncated(world: DnsTown) -> None:
    for number in range(120):
        world.add("www.acme.com", "A", f"192.0.2.{number}")
    assert query(world, "www.acme.com", "A").flags & dns.flags.TC
    assert len(answers(query(world, "www.acme.com", "A", tcp=True))) == 120


def test_the_log_counts_what_was_asked(world: DnsTown) -> None:
    query(world, "WWW.Acme.com", "TXT", at=NS1, tcp=True)
    asked = world.server.log[-1]
    assert (asked.address, asked.name, asked.type, asked.transport) == (NS1, "www.acme.com", "TXT", "tcp")


@settings(max_examples=60)
@given(st.binary(max_size=100))
def test_no_packet_stops_the_server(running: DnsServer, packet: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(packet, (RESOLVER, running.port))
        client.sendto(b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00" + packet, (RESOLVER, running.port))
    with socket.create_connection((RESOLVER, running.port), 2) as client:
        client.sendall(packet)
    reply = dns.query.udp(dns.message.make_query("a.acme.com", "A"), RESOLVER, 3, running.port)
    assert reply.rcode() == dns.rcode.NXDOMAIN


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DnsServer]:
    with DnsServer(tmp_path_factory.mktemp("dns") / "none.json") as server:
        yield server


def test_what_it_cannot_read_or_do_is_answered_with_a_code(running: DnsServer) -> None:
    def exchange(packet: bytes) -> int:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(3)
            client.sendto(packet, (RESOLVER, running.port))
            return client.recv(512)[3] & 0x0F

    notify = dns.message.make_query("acme.com", "SOA")
    notify.set_opcode(dns.opcode.NOTIFY)
    assert exchange(b"\x12\x34\x01\x00\x00\x01" + bytes(6) + b"\xff\xff") == dns.rcode.FORMERR
    assert exchange(notify.to_wire()) == dns.rcode.NOTIMP
    assert exchange(b"\x12\x34\x01\x00" + bytes(8)) == dns.rcode.NOTIMP


def test_a_world_file_that_is_broken_leaves_the_old_world_in_force(world: DnsTown, tmp_path: Path) -> None:
    world.add("www.acme.com", "A", "192.0.2.1")
    assert answers(query(world, "www.acme.com", "A"))
    (tmp_path / "zones.json").write_text('{"zones": {}, "records": [{"name": "x"}]', encoding="utf-8")
    assert answers(query(world, "www.acme.com", "A"))
    world.add("www.acme.com", "TXT", '"back"')
    assert answers(query(world, "www.acme.com", "TXT"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_as_a_program_it_says_when_it_is_ready_and_ends_when_told(tmp_path: Path, number: signal.Signals) -> None:
    file = tmp_path / "zones.json"
    zone_file.save(file, zone_file.add(DnsWorld(), Record("www.acme.com", "A", "192.0.2.1")))
    argv = [sys.executable, "-m", "certctl.sandbox.dns_server", "--file", str(file), "--address", "127.0.0.1"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=dict(os.environ)) as child:
        try:
            assert child.stdout
            word, port = child.stdout.readline().split()
            assert word == "ready"
            reply = dns.query.udp(dns.message.make_query("www.acme.com", "A"), RESOLVER, 3, int(port))
            assert answers(reply) == ["www.acme.com. 300 IN A 192.0.2.1"]
            child.send_signal(number)
            assert child.wait(60) == 0
        finally:
            child.kill()


def test_two_servers_share_a_machine_but_not_a_port(tmp_path: Path) -> None:
    with DnsServer(tmp_path / "a.json") as one, DnsServer(tmp_path / "b.json") as other:
        assert one.port != other.port
        with pytest.raises(OSError, match="in use"):
            DnsServer(tmp_path / "c.json", port=one.port)


def test_the_world_survives_the_file(tmp_path: Path) -> None:
    file = tmp_path / "zones.json"
    world = zone_file.add(DnsWorld(), Record("WWW.Acme.com.", "txt", '"x"', 60, NS1))
    world = zone_file.set_fault(world, FaultRule("Acme.com", Fault.DELAY, "a", NS2, 0.5))
    zone_file.save(file, world)
    assert zone_file.load(file) == world
    assert world.records[0] == Record("www.acme.com", "TXT", '"x"', 60, NS1)
    assert world.faults == (FaultRule("acme.com", Fault.DELAY, "A", NS2, 0.5),)


def test_a_world_is_changed_by_adding_and_removing() -> None:
    world = zone_file.add(DnsWorld(), Record("www.acme.com", "CNAME", "a.net."))
    world = zone_file.add(world, Record("www.acme.com", "CNAME", "b.net."))
    assert [record.value for record in world.records] == ["b.net."]
    for value in ('"1"', '"2"', '"2"'):
        world = zone_file.add(world, Record("t.acme.com", "TXT", value))
    assert [record.value for record in world.records] == ["b.net.", '"1"', '"2"']
    assert not zone_file.remove(zone_file.remove(world, "T.acme.com."), "www.acme.com", "cname").records
    assert list(world.zones) == ["acme.com"]


def test_faults_are_cleared_by_name_or_all_at_once() -> None:
    world = DnsWorld()
    for name in ("a.com", "b.com"):
        world = zone_file.set_fault(world, FaultRule(name, Fault.DROP))
    assert [rule.name for rule in zone_file.clear_faults(world, "A.com").faults] == ["b.com"]
    assert not zone_file.clear_faults(world).faults


@pytest.mark.parametrize(
    "record",
    [Record("a.com", "A", "not an address"), Record("a.com", "NOPE", "x"), Record("a..com", "A", "192.0.2.1")],
)
def test_what_is_no_record_is_refused(record: Record) -> None:
    with pytest.raises(ConfigInvalid):
        zone_file.add(DnsWorld(), record)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", "null", '{"zones": {}, "records": [{"name": "a", "type": "A", "value": "x"}], "faults": []}'],
)
def test_what_is_no_world_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "zones.json"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigInvalid):
        zone_file.load(file)
