"""What party 1 decides, rule by rule, with real packets: chains, addresses, and the mistakes people make."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from certctl.dns.hints import edit_distance
from certctl.domain import Domain
from certctl.errors import CertctlError, NotReady, Unreachable
from certctl.values import Level
from tests.fakes.dns_world import NS1, OURS_4, OURS_6, RESOLVER, TARGET, DnsTown, Fault, town

SUB = Domain("status.acme.com")
APEX = Domain("acme.com")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[DnsTown]:
    with town(tmp_path) as running:
        yield running


def refusal(world: DnsTown, domain: Domain) -> CertctlError:
    with pytest.raises((NotReady, Unreachable)) as caught:
        world.party.verify(domain)
    return caught.value


def test_a_chain_may_cross_zones_and_each_link_is_asked_at_home(world: DnsTown) -> None:
    world.add("status.acme.com", "CNAME", "acme.brand.net.")
    world.add("acme.brand.net", "CNAME", f"{TARGET}.")
    world.declare("acme.com", {"ns1.acme.com": "127.0.0.2"})
    world.declare("brand.net", {"ns1.brand.net": "127.0.0.3"})
    (record,) = world.party.verify(SUB).records
    assert (record.type, record.seen) == ("CNAME", ("acme.brand.net.", f"{TARGET}."))
    asked = {(a.address, a.name) for a in world.server.log if a.type == "CNAME"}
    assert asked == {("127.0.0.2", "status.acme.com"), ("127.0.0.3", "acme.brand.net")}


def test_the_nameservers_of_where_an_alias_leads_are_not_those_of_the_alias(world: DnsTown) -> None:
    world.add("status.acme.com", "CNAME", "brand.net.")
    world.add("brand.net", "A", OURS_4)
    world.declare("acme.com", {"ns1.acme.com": "127.0.0.2"})
    world.declare("brand.net", {"ns1.brand.net": "127.0.0.3"})
    (record,) = world.party.verify(SUB).records
    assert (record.type, record.seen) == ("A", ("brand.net.", OURS_4))


def test_where_the_target_leads_is_our_own_affair(world: DnsTown) -> None:
    world.remove(TARGET)
    world.add(TARGET, "CNAME", "lb.cloud.net.")
    world.add("lb.cloud.net", "A", "203.0.113.80")
    world.add("status.acme.com", "CNAME", f"{TARGET}.")
    world.add("acme.com", "A", "203.0.113.80")
    assert world.party.verify(SUB).summary.startswith(f"CNAME → {TARGET}")
    assert world.party.verify(APEX).summary.startswith("203.0.113.80 is ours")


def test_a_wildcard_of_the_customers_answers_like_a_record(world: DnsTown) -> None:
    world.add("*.acme.com", "CNAME", f"{TARGET}.")
    assert world.party.verify(SUB).domain == SUB


def test_a_wildcard_domain_is_looked_up_as_it_stands(world: DnsTown) -> None:
    world.add("*.acme.com", "CNAME", f"{TARGET}.")
    assert world.party.verify(Domain("*.acme.com")).domain.is_wildcard


def test_a_flattened_cname_is_accepted_by_its_addresses(world: DnsTown) -> None:
    world.add("status.acme.com", "A", OURS_4)
    assert "is ours" in world.party.verify(SUB).summary


def test_a_cname_to_another_name_of_ours_is_accepted_by_its_addresses(world: DnsTown) -> None:
    world.add("status.acme.com", "CNAME", "lb.hyperping.test.")
    world.add("lb.hyperping.test", "A", OURS_4)
    proof = world.party.verify(SUB)
    assert [record.seen for record in proof.records] == [("lb.hyperping.test.", OURS_4)]


def test_configured_addresses_count_as_ours_even_when_the_target_is_broken(world: DnsTown) -> None:
    world.remove(TARGET)
    world.settings = replace(world.settings, addresses=("203.0.113.5", "2001:DB8:0::5"))
    world.add("acme.com", "A", "203.0.113.5")
    world.add("acme.com", "AAAA", "2001:db8::5")
    assert world.party.verify(APEX).summary.startswith("203.0.113.5, 2001:db8::5 are ours")


@pytest.mark.parametrize(
    "target",
    [
        "evilstatus.hyperping.test.",
        "status.hyperping.test.evil.com.",
        r"status\.hyperping.test.",
        "hyperping.test.",
        "a.status.hyperping.test.",
    ],
)
def test_names_that_look_like_the_target_are_not_the_target(world: DnsTown, target: str) -> None:
    world.add("status.acme.com", "CNAME", target)
    assert refusal(world, SUB).slug == "dns-cname-mismatch"


@pytest.mark.parametrize("length", [1, 2, 5])
def test_a_loop_ends(world: DnsTown, length: int) -> None:
    names = ["status.acme.com", *(f"loop{i}.acme.com" for i in range(1, length))]
    for name, following in zip(names, [*names[1:], names[0]], strict=True):
        world.add(name, "CNAME", f"{following}.")
    error = refusal(world, SUB)
    assert error.slug == "dns-cname-loop"
    assert "comes back" in error.message


def test_eight_links_are_followed_and_nine_are_not(world: DnsTown) -> None:
    names = ["status.acme.com", *(f"hop{i}.acme.com" for i in range(1, 8)), TARGET]
    for name, following in pairwise(names):
        world.add(name, "CNAME", f"{following}.")
    assert len(world.party.verify(SUB).records[0].seen) == 8
    world.add("far.acme.com", "CNAME", "status.acme.com.")
    error = refusal(world, Domain("far.acme.com"))
    assert (error.slug, "longer than 8" in error.message) == ("dns-cname-loop", True)


def test_a_name_below_one_that_nobody_registered_costs_one_question(world: DnsTown) -> None:
    error = refusal(world, Domain("status.nobody.com"))
    assert error.slug == "dns-no-such-name"
    assert error.message == "nobody.com does not exist in DNS: it is misspelt, or nobody has registered it"
    asked = [(question.name, question.type, question.address) for question in world.server.log]
    assert asked == [("nobody.com", "NS", RESOLVER)]


def test_a_name_that_only_its_own_nameservers_know_yet_is_found_below_a_private_suffix(world: DnsTown) -> None:
    name = "status.acme.github.io"
    world.declare("github.io", {"ns1.github.io": NS1})
    world.add(name, "CNAME", TARGET + ".")
    world.fault("acme.github.io", Fault.NXDOMAIN, only=RESOLVER)
    assert world.party.verify(Domain(name)).summary.startswith("CNAME → ")


def test_an_apex_that_is_an_alias_to_nowhere_hides_nothing_below_it(world: DnsTown) -> None:
    world.add(SUB.name, "CNAME", TARGET + ".")
    world.add("acme.com", "CNAME", "gone.example.net.")
    assert world.party.verify(SUB).summary.startswith("CNAME → ")


def test_a_name_without_records_of_use_is_not_a_missing_name(world: DnsTown) -> None:
    world.add("status.acme.com", "TXT", '"hello"')
    world.add("a.b.acme.com", "A", OURS_4)
    for domain in (SUB, Domain("b.acme.com")):
        assert refusal(world, domain).slug == "dns-no-data"
    assert refusal(world, Domain("c.acme.com")).slug == "dns-no-such-name"


def test_a_cname_to_nowhere_says_so(world: DnsTown) -> None:
    world.add("status.acme.com", "CNAME", "gone.example.net.")
    error = refusal(world, SUB)
    assert error.slug == "dns-cname-mismatch"
    assert "gone.example.net, which does not exist" in error.message


FOREIGN_4, FOREIGN_6 = "203.0.113.9", "2001:db8::9"


@pytest.mark.parametrize(
    ("records", "slug"),
    [
        ([OURS_4, OURS_6], ""),
        ([FOREIGN_4], "dns-address-mismatch"),
        ([FOREIGN_6], "dns-address-mismatch"),
        ([OURS_4, FOREIGN_4], "dns-address-mismatch"),
        ([OURS_4, FOREIGN_6], "dns-stray-ipv6"),
        ([OURS_4, FOREIGN_4, FOREIGN_6], "dns-address-mismatch"),
    ],
)
@pytest.mark.parametrize("alias", ["", "lb.example.net"])
def test_each_address_must_be_ours_and_the_error_says_which_is_not(
    world: DnsTown, records: list[str], slug: str, alias: str
) -> None:
    if alias:
        world.add(SUB.name, "CNAME", f"{alias}.")
    for address in records:
        world.add(alias or SUB.name, "AAAA" if ":" in address else "A", address)
    if not slug:
        assert world.party.verify(SUB).domain == SUB
        return
    is_elsewhere = alias and not {OURS_4, OURS_6} & set(records)
    assert refusal(world, SUB).slug == ("dns-cname-mismatch" if is_elsewhere else slug)


def test_a_name_that_does_not_exist_is_asked_about_no_further(world: DnsTown) -> None:
    world.add("acme.com", "A", OURS_4)
    assert refusal(world, SUB).slug == "dns-no-such-name"
    assert {question.type for question in world.server.log if question.name == SUB.name} <= {"CNAME", "NS"}


def test_a_broken_target_does_not_hide_what_is_wrong_at_an_apex(world: DnsTown) -> None:
    world.remove(TARGET)
    world.add("acme.com", "TXT", '"x"')
    error = refusal(world, APEX)
    assert (error.slug, error.expected) == ("dns-no-data", (f"acme.com. ALIAS {TARGET}.",))


def test_a_cname_into_a_broken_zone_shows_the_link_and_the_breakage(world: DnsTown) -> None:
    world.add("status.acme.com", "CNAME", "page.broken.net.")
    world.add("page.broken.net", "A", OURS_4)
    world.fault("page.broken.net", Fault.SERVFAIL)
    error = refusal(world, SUB)
    assert error.slug == "dns-servfail"
    assert "status.acme.com. 300 CNAME page.broken.net." in error.seen
    assert "page.broken.net" in error.message


def test_a_record_under_the_doubled_zone_is_found_and_explained(world: DnsTown) -> None:
    world.add("status.acme.com.acme.com", "CNAME", f"{TARGET}.")
    world.declare("acme.com", {"ns1.acme.com": "127.0.0.2"})
    error = refusal(world, SUB)
    assert error.slug == "dns-no-such-name"
    assert "created as status.acme.com.acme.com" in error.message
    assert "enter only status there" in error.message
    assert f"status.acme.com.acme.com. 300 CNAME {TARGET}." in error.seen


def test_a_doubled_apex_address_is_found_too(world: DnsTown) -> None:
    world.add("acme.com.acme.com", "A", OURS_4)
    error = refusal(world, APEX)
    assert "enter only @ there" in error.message


def test_a_missing_final_dot_in_the_value_is_explained(world: DnsTown) -> None:
    world.add("status.acme.com", "CNAME", f"{TARGET}.acme.com.")
    assert "final dot" in refusal(world, SUB).message


@pytest.mark.parametrize(
    "typo", ["status.hyperping.tset.", "statushyperping.test.", "status.hyper-ping.test.", "STATU.hyperping.test."]
)
def test_a_typing_mistake_is_recognised(world: DnsTown, typo: str) -> None:
    world.add("status.acme.com", "CNAME", typo)
    assert f"did you mean {TARGET}?" in refusal(world, SUB).message


def test_another_service_is_not_taken_for_a_typing_mistake(world: DnsTown) -> None:
    world.add("status.acme.com", "CNAME", "statuspage.example.net.")
    assert "did you mean" not in refusal(world, SUB).message


def test_an_apex_is_told_addresses_because_it_may_not_have_a_cname(world: DnsTown) -> None:
    world.add("acme.com", "TXT", '"x"')
    assert refusal(world, APEX).expected == (
        f"acme.com. A {OURS_4}",
        f"acme.com. AAAA {OURS_6}",
        f"acme.com. ALIAS {TARGET}.",
    )


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "169.254.169.254",
        "0.0.0.0",
        "::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "fe80::1",
    ],
)
def test_addresses_of_our_own_network_are_compared_and_never_believed(world: DnsTown, address: str) -> None:
    world.add("acme.com", "AAAA" if ":" in address else "A", address)
    assert refusal(world, APEX).slug == "dns-address-mismatch"


def test_an_odd_byte_in_a_name_stays_escaped(world: DnsTown) -> None:
    world.add("status.acme.com", "CNAME", r"\027[31m\000\255.example.net.")
    error = refusal(world, SUB)
    assert error.message.isprintable()
    assert all(line.isprintable() for line in error.seen)


def test_many_addresses_do_not_flood_the_error(world: DnsTown) -> None:
    for last in range(1, 40):
        world.add("acme.com", "A", f"203.0.113.{last}")
    error = refusal(world, APEX)
    assert len(error.seen) < 20
    assert any("more" in line for line in error.seen)


def test_the_wire_does_not_care_about_case(world: DnsTown) -> None:
    world.add("STATUS.Acme.COM", "CNAME", "Status.HyperPing.TEST.")
    assert world.party.verify(SUB).domain == SUB


def test_the_doctor_hears_that_all_is_well(world: DnsTown) -> None:
    assert [finding.level for finding in world.party.examine()] == [Level.OK, Level.OK]


def test_the_doctor_hears_that_the_target_is_broken_and_what_to_create(world: DnsTown) -> None:
    world.remove(TARGET)
    (finding,) = world.party.examine()
    assert finding.level is Level.PROBLEM
    assert TARGET in finding.text
    assert "A or AAAA" in finding.fix


def test_half_a_target_is_not_used_to_judge_others(world: DnsTown) -> None:
    world.fault(TARGET, Fault.SERVFAIL, kind="AAAA")
    world.add("acme.com", "A", OURS_4)
    assert refusal(world, APEX).slug == "dns-target-broken"


def test_no_packet_goes_where_a_domain_points(world: DnsTown) -> None:
    world.add("acme.com", "A", RESOLVER)
    refusal(world, APEX)
    assert {asked.type for asked in world.server.log} <= {"NS", "A", "AAAA", "CNAME"}


@pytest.mark.parametrize(
    ("one", "other", "distance"),
    [
        ("abc", "abc", 0),
        ("abc", "abd", 1),
        ("abc", "ab", 1),
        ("abcd", "acbd", 2),
        ("a", "abcdef", 3),
        ("", "ab", 2),
    ],
)
def test_edit_distance_counts_single_changes(one: str, other: str, distance: int) -> None:
    assert edit_distance(one, other, 2) == distance
