"""Whom party 1 asks and whom it believes: caches, nameservers that differ, and those that do not answer."""

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import dns.name
import pytest
from dns.rdatatype import CNAME

from certctl.dns.resolver import Resolver, parse_server
from certctl.dns.resolver_cache import ResolverCache
from certctl.dns.zone import is_public
from certctl.domain import Domain
from certctl.errors import CertctlError, ConfigInvalid, NotReady, Unreachable
from certctl.values import Level
from tests.fakes.dns_world import NS1, NS2, OURS_4, RESOLVER, TARGET, DnsTown, Fault, town

SUB = Domain("status.acme.com")
RIGHT, WRONG = f"{TARGET}.", "old.example.net."


@pytest.fixture
def world(tmp_path: Path) -> Iterator[DnsTown]:
    with town(tmp_path) as running:
        running.add("status.acme.com", "CNAME", RIGHT)
        yield running


def refusal(world: DnsTown, domain: Domain = SUB) -> CertctlError:
    with pytest.raises((NotReady, Unreachable)) as caught:
        world.party.verify(domain)
    return caught.value


def test_a_stale_cache_does_not_decide(world: DnsTown) -> None:
    world.add("status.acme.com", "CNAME", WRONG, only=RESOLVER)
    proof = world.party.verify(SUB)
    assert [record.seen for record in proof.records] == [(RIGHT,)]
    assert "2 of 2 nameservers agree" in proof.summary


def test_a_cache_that_still_says_yes_does_not_decide_either(world: DnsTown) -> None:
    world.add("status.acme.com", "CNAME", WRONG)
    world.add("status.acme.com", "CNAME", RIGHT, only=RESOLVER)
    assert refusal(world).slug == "dns-cname-mismatch"


def test_without_nameservers_to_ask_the_resolver_decides(world: DnsTown) -> None:
    world.resolver_only()
    proof = world.party.verify(SUB)
    assert "by the resolver" in proof.summary
    assert {asked.address for asked in world.server.log} == {RESOLVER}


@pytest.mark.parametrize("target", ["status.acme.com.", WRONG])
def test_the_resolver_alone_still_shows_where_a_cname_leads(world: DnsTown, target: str) -> None:
    world.resolver_only()
    world.add("status.acme.com", "CNAME", target)
    assert refusal(world).slug == ("dns-cname-loop" if target.startswith("status") else "dns-cname-mismatch")


def test_nameservers_that_disagree_are_quoted_one_by_one(world: DnsTown) -> None:
    world.add("status.acme.com", "CNAME", WRONG, only=NS2)
    error = refusal(world)
    assert error.slug == "dns-disagree"
    assert f"ns1.acme.com: status.acme.com. 300 CNAME {RIGHT}" in error.seen
    assert f"ns2.acme.com: status.acme.com. 300 CNAME {WRONG}" in error.seen


def test_a_nameserver_that_does_not_know_the_name_yet_disagrees(world: DnsTown) -> None:
    world.fault("status.acme.com", Fault.NXDOMAIN, only=NS2)
    error = refusal(world)
    assert error.slug == "dns-disagree"
    assert "ns2.acme.com: NXDOMAIN" in error.seen


def test_nameservers_that_disagree_about_addresses_disagree(world: DnsTown) -> None:
    world.add("acme.com", "A", OURS_4)
    world.add("acme.com", "A", "203.0.113.9", only=NS2)
    assert refusal(world, Domain("acme.com")).slug == "dns-disagree"


def test_nameservers_may_pick_different_addresses_of_ours(world: DnsTown) -> None:
    world.settings = replace(world.settings, addresses=("203.0.113.9",))
    world.add("acme.com", "A", OURS_4)
    world.add("acme.com", "A", "203.0.113.9", only=NS2)
    assert "are ours" in world.party.verify(Domain("acme.com")).summary


@pytest.mark.parametrize("fault", [Fault.DROP, Fault.SERVFAIL, Fault.REFUSED])
def test_one_nameserver_that_answers_is_enough(world: DnsTown, fault: Fault) -> None:
    world.hurry()
    world.fault("status.acme.com", fault, only=NS1)
    assert "1 of 2 nameservers agree" in world.party.verify(SUB).summary


def test_a_nameserver_that_fails_is_named_beside_the_answer_of_the_other(world: DnsTown) -> None:
    world.add("status.acme.com", "CNAME", WRONG)
    world.fault("status.acme.com", Fault.REFUSED, only=NS1)
    error = refusal(world)
    assert error.slug == "dns-cname-mismatch"
    assert "ns1.acme.com: REFUSED" in error.seen


@pytest.mark.parametrize("fault", [Fault.SERVFAIL, Fault.REFUSED])
def test_nameservers_that_all_fail_are_not_covered_by_a_cache(world: DnsTown, fault: Fault) -> None:
    for address in (NS1, NS2):
        world.fault("status.acme.com", fault, only=address)
    error = refusal(world)
    assert error.slug == "dns-servfail"
    assert {f"ns1.acme.com: {fault.upper()}", f"ns2.acme.com: {fault.upper()}"} <= set(error.seen)


def test_where_no_nameserver_can_be_reached_the_resolver_is_believed(world: DnsTown) -> None:
    world.hurry()
    for address in (NS1, NS2):
        world.fault("acme.com", Fault.DROP, only=address)
    assert "by the resolver" in world.party.verify(SUB).summary


def test_a_nameserver_that_does_not_serve_the_zone_is_passed_over(world: DnsTown) -> None:
    world.declare("acme.com", {"ns1.acme.com": NS1})
    world.add("acme.com", "NS", "ns1.acme.com.")
    world.add("acme.com", "NS", "lame.elsewhere.net.")
    world.add("lame.elsewhere.net", "A", NS2)
    assert "1 of 2 nameservers agree" in world.party.verify(SUB).summary


def test_a_nameserver_without_an_address_is_named(world: DnsTown) -> None:
    world.add("status.acme.com", "CNAME", WRONG)
    world.add("acme.com", "NS", "ns1.acme.com.")
    world.add("acme.com", "NS", "ghost.acme.com.")
    assert "ghost.acme.com: has no address" in refusal(world).seen


def test_a_nameserver_with_an_address_in_ipv6_alone_is_asked_there(world: DnsTown) -> None:
    world.add("acme.com", "NS", "ns6.elsewhere.net.")
    world.add("ns6.elsewhere.net", "AAAA", "2001:db8::53")
    zone = world.zones.zone_of(dns.name.from_text(SUB.name))
    assert [(server.name, server.address) for server in zone.servers] == [("ns6.elsewhere.net", "2001:db8::53")]


def test_who_the_nameservers_are_is_not_guessed_when_the_resolver_does_not_say(world: DnsTown) -> None:
    world.hurry()
    world.fault("acme.com", Fault.DROP, kind="NS", only=RESOLVER)
    error = refusal(world)
    assert (error.slug, type(error)) == ("dns-unreachable", Unreachable)


def test_a_customers_nameserver_cannot_make_us_talk_to_our_own_network(world: DnsTown, tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text(f"nameserver {RESOLVER}:{world.server.port}\n", encoding="utf-8")
    world.settings = replace(world.settings, resolvers=(), authoritative_port=0, resolv_conf=file)
    world.add("status.acme.com", "CNAME", WRONG)
    error = refusal(world)
    assert world.settings.asks_nameservers
    assert f"ns1.acme.com: its address {NS1} is not public and was not asked" in error.seen
    assert {asked.address for asked in world.server.log} == {RESOLVER}


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2001:4860:4860::8888", True),
        ("127.0.0.2", False),
        ("10.1.2.3", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("fd00::1", False),
        ("fe80::1", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::1", False),
        ("::7f00:1", False),
        ("fec0::1", False),
        ("::ffff:0:10.0.0.1", False),
        ("4000::1", False),
        ("2001:20::1", False),
        ("3fff::1", False),
        ("2a00:1450:4001::1", True),
    ],
)
def test_packets_go_to_public_nameservers_only(address: str, public: bool) -> None:  # noqa: FBT001
    assert is_public(address) is public


def test_a_truncated_answer_is_asked_again_over_tcp(world: DnsTown) -> None:
    world.fault(".", Fault.TRUNCATE)
    world.party.verify(SUB)
    transports = {a.transport for a in world.server.log if a.name == "status.acme.com" and a.type == "CNAME"}
    assert transports == {"udp", "tcp"}


def test_an_answer_too_large_for_udp_comes_whole(world: DnsTown) -> None:
    for number in range(40):
        world.add("acme.com", "CAA", f'0 issue "ca-number-{number:04}.example.org"')
    world.add("acme.com", "CAA", '0 issue "letsencrypt.org"')
    assert "CAA allows letsencrypt.org" in world.party.verify(SUB).summary


def test_a_slow_answer_within_patience_counts(world: DnsTown) -> None:
    world.fault("status.acme.com", Fault.DELAY, only=NS1, seconds=0.3)
    assert "2 of 2" in world.party.verify(SUB).summary


def test_all_questions_together_end_at_the_deadline(world: DnsTown) -> None:
    world.settings = replace(world.settings, deadline=timedelta(seconds=0.6), patience=timedelta(minutes=5))
    world.fault(".", Fault.DROP)
    started = time.monotonic()
    error = refusal(world)
    assert error.slug == "dns-unreachable"
    assert time.monotonic() - started < 60


def test_every_question_slow_still_ends_at_the_deadline(world: DnsTown) -> None:
    world.settings = replace(world.settings, deadline=timedelta(seconds=0.8))
    world.fault(".", Fault.DELAY, seconds=0.35)
    assert refusal(world).slug == "dns-unreachable"


def test_the_next_resolver_is_asked_when_the_first_is_ill(world: DnsTown) -> None:
    world.resolver_only()
    port = world.server.port
    for first, problem in ((f"{NS2}:{port}", Fault.REFUSED), (f"{NS2}:{port}", Fault.SERVFAIL)):
        world.fault(".", problem, only=NS2)
        world.settings = replace(world.settings, resolvers=(first, f"{RESOLVER}:{port}"))
        assert world.party.verify(SUB).domain == SUB


def two_resolvers(world: DnsTown, first: str, second: str) -> None:
    world.settings = replace(
        world.settings, authoritative_port=0, resolvers=tuple(f"{ip}:{world.server.port}" for ip in (first, second))
    )


def asked_of(world: DnsTown, address: str) -> int:
    return sum(asked.address == address for asked in world.server.log)


@pytest.mark.parametrize(("first", "second"), [(NS2, RESOLVER), (RESOLVER, NS2)])
def test_a_dead_resolver_costs_one_moment_and_is_left_alone_for_a_while(
    world: DnsTown, first: str, second: str
) -> None:
    two_resolvers(world, first, second)
    world.fault(".", Fault.DROP, only=NS2)
    party = world.party
    assert party.verify(SUB).domain == SUB
    before = asked_of(world, NS2)
    assert party.verify(SUB).domain == SUB
    assert (asked_of(world, NS2) - before, asked_of(world, RESOLVER) > 0) == (0, True)


def test_a_slow_resolver_that_answers_keeps_its_place(world: DnsTown) -> None:
    world.fault(".", Fault.DELAY, only=RESOLVER, seconds=0.5)
    world.fault(".", Fault.REFUSED, only=NS2)
    two_resolvers(world, RESOLVER, NS2)
    cache = ResolverCache()
    resolver = Resolver(world.settings, cache)
    assert resolver.resolve(dns.name.from_text(SUB.name), CNAME).usable
    assert cache.responsive_first(resolver.servers) == resolver.servers


def test_two_silent_resolvers_are_each_waited_for_before_that_is_said(world: DnsTown) -> None:
    two_resolvers(world, NS2, RESOLVER)
    world.hurry()
    world.fault(".", Fault.DROP)
    assert refusal(world).slug == "dns-unreachable"
    assert asked_of(world, NS2)
    assert asked_of(world, RESOLVER)


def test_the_doctor_names_the_resolver_that_is_dead(world: DnsTown) -> None:
    two_resolvers(world, NS2, RESOLVER)
    world.fault(".", Fault.DROP, only=NS2)
    world.hurry()
    alive, dead, target = world.party.examine()
    assert [finding.level for finding in (alive, dead, target)] == [Level.OK, Level.WARNING, Level.OK]
    assert (RESOLVER in alive.text, NS2 in alive.text, NS2 in dead.text) == (True, False, True)
    assert "[dns] resolvers" in dead.fix


def test_a_resolver_that_fails_for_everything_is_not_the_customers_fault(world: DnsTown) -> None:
    world.fault(".", Fault.SERVFAIL, only=RESOLVER)
    world.resolver_only()
    error = refusal(world)
    assert (error.slug, type(error)) == ("dns-unreachable", Unreachable)


def test_a_domain_the_resolver_fails_for_is_the_customers_affair(world: DnsTown) -> None:
    world.fault("acme.com", Fault.SERVFAIL, only=RESOLVER)
    world.resolver_only()
    assert refusal(world).slug == "dns-servfail"


def test_a_resolver_that_nobody_runs_is_unreachable(world: DnsTown) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        world.settings = replace(world.settings, resolvers=(f"127.0.0.1:{unused.getsockname()[1]}",))
        world.hurry()
        error = refusal(world)
    assert error.slug == "dns-unreachable"
    assert "127.0.0.1" in error.message


@pytest.mark.parametrize(
    "content", ["", "# nothing\nsearch example.com\n", "nameserver\n", "nameserver not-an-ip\n"]
)
def test_a_resolv_conf_without_a_resolver_is_named(world: DnsTown, tmp_path: Path, content: str) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text(content, encoding="utf-8")
    world.settings = replace(world.settings, resolvers=(), resolv_conf=file)
    error = refusal(world)
    assert (error.slug, type(error)) == ("dns-unreachable", Unreachable)
    assert str(file) in error.message


def test_the_systems_resolvers_are_read_from_resolv_conf(tmp_path: Path, world: DnsTown) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("nameserver 192.0.2.1\noptions edns0\nnameserver 2001:db8::53\n", encoding="utf-8")
    servers = Resolver(replace(world.settings, resolvers=(), resolv_conf=file)).servers
    assert [(server.address, server.port) for server in servers] == [("192.0.2.1", 53), ("2001:db8::53", 53)]


@pytest.mark.parametrize(
    ("text", "address", "port"),
    [
        ("192.0.2.1", "192.0.2.1", 53),
        ("192.0.2.1:5353", "192.0.2.1", 5353),
        ("[2001:db8::1]:5353", "2001:db8::1", 5353),
        ("2001:db8::1", "2001:db8::1", 53),
    ],
)
def test_a_resolver_is_written_as_address_and_port(text: str, address: str, port: int) -> None:
    server = parse_server(text)
    assert (server.address, server.port) == (address, port)


@pytest.mark.parametrize("text", ["", "dns.example.com:53", "1.2.3:53", "1.2.3.4:x", ":53"])
def test_what_is_no_resolver_is_a_configuration_error(text: str) -> None:
    with pytest.raises(ConfigInvalid):
        parse_server(text)


def test_many_verifications_at_once_do_not_disturb_each_other(world: DnsTown) -> None:
    names = [f"status.customer{number}.com" for number in range(12)]
    for name in names:
        world.add(name, "CNAME", RIGHT)
    party = world.party
    with ThreadPoolExecutor(6) as pool:
        proofs = list(pool.map(lambda name: party.verify(Domain(name)), names))
    assert [proof.domain.name for proof in proofs] == names
