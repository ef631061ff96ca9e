"""The text an operator forwards: a customer who knows nothing of certctl can act on it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from certctl.dns.message import forwardable
from certctl.domain import Domain
from certctl.errors import NotReady, Unreachable
from tests.fakes.dns_world import NS2, OURS_4, OURS_6, TARGET, DnsTown, Fault, town

SUB = Domain("status.acme.com")
APEX = Domain("acme.com")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[DnsTown]:
    with town(tmp_path) as running:
        yield running


def letter(world: DnsTown, domain: Domain = SUB) -> str:
    with pytest.raises((NotReady, Unreachable)) as caught:
        world.party.verify(domain)
    return world.party.forwardable(domain, caught.value)


def test_a_customer_with_a_subdomain_reads_which_cname_to_create_and_what_is_there(world: DnsTown) -> None:
    world.add("status.acme.com", "CNAME", "statuspage.example.net.")
    text = letter(world)
    assert "In the DNS of acme.com, please create this record for status.acme.com:" in text
    assert f"    Type:   CNAME\n    Name:   status\n    Value:  {TARGET}.\n" in text
    assert "    status.acme.com. 300 CNAME statuspage.example.net." in text
    assert "certctl" not in text


def test_a_customer_with_an_apex_reads_addresses_and_the_alternative(world: DnsTown) -> None:
    world.add("acme.com", "A", "203.0.113.9")
    text = letter(world, APEX)
    assert f"    Type:   A\n    Name:   @\n    Value:  {OURS_4}\n" in text
    assert f"    Type:   AAAA\n    Name:   @\n    Value:  {OURS_6}\n" in text
    assert "these records and no other address" in text
    assert "CNAME is not allowed" in text
    assert "switch that off" in text


def test_a_deep_name_is_written_as_the_form_wants_it(world: DnsTown) -> None:
    world.add("x.acme.co.uk", "TXT", '"zone"')
    text = letter(world, Domain("status.eu.acme.co.uk"))
    assert "In the DNS of acme.co.uk" in text
    assert "    Name:   status.eu\n" in text


@pytest.mark.parametrize(
    ("record", "sentence"),
    [
        (("status.acme.com.acme.com", f"{TARGET}."), "The record was created as status.acme.com.acme.com"),
        (("status.acme.com", f"{TARGET}.acme.com."), "The final dot after"),
        (("status.acme.com", "status.hyperping.tset."), f"Did you mean {TARGET}?"),
    ],
)
def test_a_mistake_that_was_recognised_is_explained(world: DnsTown, record: tuple[str, str], sentence: str) -> None:
    world.declare("acme.com", {"ns1.acme.com": "127.0.0.2"})
    world.add(record[0], "CNAME", record[1])
    assert sentence in letter(world)


def test_a_stray_ipv6_address_is_to_be_deleted(world: DnsTown) -> None:
    world.add("acme.com", "A", OURS_4)
    world.add("acme.com", "AAAA", "2001:db8::bad")
    text = letter(world, APEX)
    assert "Please delete that AAAA record" in text
    assert "acme.com. 300 AAAA 2001:db8::bad" in text


def test_a_caa_record_to_add_is_written_out(world: DnsTown) -> None:
    world.add("status.acme.com", "CNAME", f"{TARGET}.")
    world.add("acme.com", "CAA", '0 issue "digicert.com"')
    text = letter(world)
    assert "The CAA records of acme.com do not let our certificate authority in." in text
    assert '    acme.com. CAA 0 issue "letsencrypt.org"\n' in text
    assert "Type:   CNAME" not in text


def test_a_caa_record_to_delete_is_named(world: DnsTown) -> None:
    world.add("status.acme.com", "CNAME", f"{TARGET}.")
    world.add("acme.com", "CAA", '128 tbs "x"')
    assert "Please delete the CAA record with the property tbs" in letter(world)


@pytest.mark.parametrize(("kind", "sentence"), [("", "nameservers of the domain fail"), ("CAA", "asked for CAA")])
def test_broken_nameservers_are_for_the_dns_provider(world: DnsTown, kind: str, sentence: str) -> None:
    world.add("status.acme.com", "CNAME", f"{TARGET}.")
    world.fault("status.acme.com", Fault.SERVFAIL, kind=kind)
    text = letter(world)
    assert sentence in text
    assert "DNS provider" in text


def test_nameservers_that_disagree_are_quoted(world: DnsTown) -> None:
    world.add("status.acme.com", "CNAME", f"{TARGET}.")
    world.add("status.acme.com", "CNAME", "old.example.net.", only=NS2)
    text = letter(world)
    assert "do not all say the same" in text
    assert "ns2.acme.com: status.acme.com. 300 CNAME old.example.net." in text


def test_a_fault_of_ours_asks_nothing_of_the_customer(world: DnsTown) -> None:
    world.add("status.acme.com", "CNAME", f"{TARGET}.")
    world.remove(TARGET)
    text = letter(world)
    assert "there is nothing for you to do" in text
    assert TARGET not in text


def test_success_is_said_too(world: DnsTown) -> None:
    world.add("status.acme.com", "CNAME", f"{TARGET}.")
    assert f"CNAME → {TARGET}" in forwardable(SUB, world.party.verify(SUB))
    assert "set up correctly" in forwardable(SUB, None)


def test_every_letter_fits_a_mail(world: DnsTown) -> None:
    for number in range(30):
        world.add("acme.com", "A", f"203.0.113.{number}")
    text = letter(world, APEX)
    assert len(text) < 4000
    assert text.startswith("Hello,\n\n")
    assert text.endswith("Thank you!\n")
