"""The records that stand behind the sentences: what to create, what stands there, and how each is."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from certctl.dns.facts import host
from certctl.dns_records import DnsRecord, RecordVerdict
from certctl.domain import Domain
from certctl.errors import NotReady
from tests.fakes.dns_world import NS2, OURS_4, OURS_6, TARGET, DnsTown, Fault, town

SUB, APEX = Domain("status.acme.com"), Domain("acme.com")
FOREIGN_4, FOREIGN_6 = "203.0.113.9", "2001:db8::bad"
RIGHT, MISSING, DIFFERENT, UNWANTED = RecordVerdict


@pytest.fixture
def world(tmp_path: Path) -> Iterator[DnsTown]:
    with town(tmp_path) as running:
        yield running


def refusal(world: DnsTown, domain: Domain) -> NotReady:
    with pytest.raises(NotReady) as caught:
        world.party.verify(domain)
    return caught.value


def test_a_name_with_nothing_lacks_its_cname(world: DnsTown) -> None:
    world.add("acme.com", "TXT", '"x"')
    assert refusal(world, SUB).facts.records == (
        DnsRecord("CNAME", "status", "status.acme.com", f"{TARGET}.", MISSING),
    )


def test_a_cname_elsewhere_is_shown_as_far_as_it_leads(world: DnsTown) -> None:
    world.add("status.acme.com", "CNAME", "page.example.net.")
    world.add("page.example.net", "A", FOREIGN_4)
    (record,) = refusal(world, SUB).facts.records
    assert (record.verdict, record.seen) == (DIFFERENT, ("page.example.net.", FOREIGN_4))


def test_each_address_of_an_apex_has_a_verdict(world: DnsTown) -> None:
    world.add("acme.com", "A", OURS_4)
    world.add("acme.com", "AAAA", FOREIGN_6)
    assert [(r.type, r.value, r.verdict, r.seen) for r in refusal(world, APEX).facts.records] == [
        ("A", OURS_4, RIGHT, (OURS_4,)),
        ("AAAA", OURS_6, DIFFERENT, (FOREIGN_6,)),
        ("ALIAS", f"{TARGET}.", MISSING, ()),
        ("AAAA", FOREIGN_6, UNWANTED, (FOREIGN_6,)),
    ]


def test_a_caa_record_to_add_names_its_owner_and_what_is_there(world: DnsTown) -> None:
    world.add("status.acme.com", "CNAME", f"{TARGET}.")
    world.add("acme.com", "CAA", '0 issue "digicert.com"')
    facts = refusal(world, SUB).facts
    assert facts.records == (
        DnsRecord("CAA", "@", "acme.com", '0 issue "letsencrypt.org"', MISSING, ('0 issue "digicert.com"',)),
    )
    assert facts.caa_property == ""


def test_a_caa_record_to_delete_is_given_with_its_property(world: DnsTown) -> None:
    world.add("status.acme.com", "CNAME", f"{TARGET}.")
    world.add("status.acme.com", "CAA", '128 tbs "x"')
    world.remove("status.acme.com", "CNAME")
    world.add("status.acme.com", "A", OURS_4)
    facts = refusal(world, SUB).facts
    assert [(r.host, r.value, r.verdict) for r in facts.records] == [("status", '128 tbs "x"', UNWANTED)]
    assert facts.caa_property == "tbs"


def test_a_hint_is_a_field_and_who_was_asked_another(world: DnsTown) -> None:
    world.add("status.acme.com", "CNAME", "status.hyperping.tset.")
    facts = refusal(world, SUB).facts
    assert facts.hint == f"did you mean {TARGET}?"
    assert facts.asked == ("asked ns1.acme.com, ns2.acme.com (nameservers of acme.com, just now)",)
    assert facts.seen == ("status.acme.com. 300 CNAME status.hyperping.tset.",)


def test_where_no_record_is_the_cure_none_is_given(world: DnsTown) -> None:
    world.add("status.acme.com", "CNAME", f"{TARGET}.")
    world.add("status.acme.com", "CNAME", "old.example.net.", only=NS2)
    assert refusal(world, SUB).facts.records == ()


def test_the_links_before_a_broken_zone_are_among_what_was_seen(world: DnsTown) -> None:
    world.add("status.acme.com", "CNAME", "page.broken.net.")
    world.fault("page.broken.net", Fault.SERVFAIL)
    error = refusal(world, SUB)
    assert error.facts.seen == error.seen
    assert error.facts.seen[0] == "status.acme.com. 300 CNAME page.broken.net."


def test_many_values_are_not_all_repeated(world: DnsTown) -> None:
    for last in range(1, 40):
        world.add("acme.com", "A", f"203.0.113.{last}")
    assert {len(record.seen) for record in refusal(world, APEX).facts.records if record.type == "A"} == {8}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("status.acme.com", "status"),
        ("acme.com", "@"),
        ("status.eu.acme.co.uk", "status.eu"),
        ("*.acme.com", "*"),
        ("Status.Acme.COM", "Status"),
        ("com", "@"),
        (r"a\.b.acme.com", r"a\.b"),
    ],
)
def test_a_form_wants_the_name_below_the_registered_domain(name: str, expected: str) -> None:
    assert host(name) == expected
