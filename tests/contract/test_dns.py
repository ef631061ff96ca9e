"""Party 1 keeps its contract: on the fake, and on the real facade with real packets over loopback."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from certctl.dns_records import RecordVerdict
from certctl.domain import Domain, registered_domain
from certctl.errors import CertctlError, ExitCode, NotReady, Unreachable
from certctl.ports.parties import Dns
from certctl.values import DnsSolver
from tests.fakes.dns import FakeDns
from tests.fakes.dns_world import NS2, OURS_4, OURS_6, TARGET, DnsTown, Fault, town

SUB = Domain("status.acme.com")
APEX = Domain("acme.com")


class Customers(Protocol):
    """The customers' side as the suite drives it."""

    def party(self) -> Dns: ...
    def point(self, domain: Domain, target: str) -> None: ...
    def host(self, domain: Domain, *addresses: str) -> None: ...
    def break_nameservers(self, domain: Domain) -> None: ...
    def silence(self, domain: Domain) -> None: ...
    def tear(self, domain: Domain) -> None: ...
    def allow_only(self, domain: Domain, ca: str) -> None: ...
    def lose_target(self) -> None: ...


class FakeCustomers:
    def __init__(self) -> None:
        self.dns = FakeDns()

    def party(self) -> Dns:
        return self.dns

    def point(self, domain: Domain, target: str) -> None:
        self.dns.cnames[domain.name] = target

    def host(self, domain: Domain, *addresses: str) -> None:
        self.dns.addresses[domain.name] = set(addresses)

    def break_nameservers(self, domain: Domain) -> None:
        self.dns.broken.add(domain.name)

    def silence(self, domain: Domain) -> None:
        self.dns.silent.add(domain.name)

    def tear(self, domain: Domain) -> None:
        self.dns.torn.add(domain.name)

    def allow_only(self, domain: Domain, ca: str) -> None:
        self.dns.caa[domain.name] = ca

    def lose_target(self) -> None:
        self.dns.target_resolves = False


class RealCustomers:
    def __init__(self, town: DnsTown) -> None:
        self.town = town

    def party(self) -> Dns:
        return self.town.party

    def point(self, domain: Domain, target: str) -> None:
        self.town.add(domain.name, "CNAME", target if target.endswith(".") else target + ".")

    def host(self, domain: Domain, *addresses: str) -> None:
        for address in addresses:
            self.town.add(domain.name, "AAAA" if ":" in address else "A", address)

    def break_nameservers(self, domain: Domain) -> None:
        self.town.add(domain.name, "A", OURS_4)
        self.town.fault(domain.name, Fault.SERVFAIL)

    def silence(self, domain: Domain) -> None:
        self.town.hurry()
        self.point(domain, TARGET)
        self.town.fault(domain.name, Fault.DROP)

    def tear(self, domain: Domain) -> None:
        self.point(domain, TARGET)
        self.town.add(domain.name, "CNAME", "old.example.net.", only=NS2)

    def allow_only(self, domain: Domain, ca: str) -> None:
        self.town.add(registered_domain(domain), "CAA", f'0 issue "{ca}"')

    def lose_target(self) -> None:
        self.town.remove(TARGET)


@pytest.fixture(params=["fake", "real"])
def customers(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Customers]:
    if request.param == "fake":
        yield FakeCustomers()
        return
    with town(tmp_path) as real:
        yield RealCustomers(real)


def refusal(customers: Customers, domain: Domain) -> CertctlError:
    with pytest.raises(CertctlError) as caught:
        customers.party().verify(domain)
    return caught.value


@pytest.mark.parametrize("spelling", [TARGET, TARGET.upper(), TARGET + "."])
def test_a_cname_to_the_target_is_proof_however_it_is_spelled(customers: Customers, spelling: str) -> None:
    customers.point(SUB, spelling)
    proof = customers.party().verify(SUB)
    assert (proof.domain, proof.target) == (SUB, TARGET)
    assert [(record.type, record.host, record.fqdn, record.value, record.verdict) for record in proof.records] == [
        ("CNAME", "status", "status.acme.com", f"{TARGET}.", RecordVerdict.RIGHT)
    ]
    assert TARGET in proof.summary


def test_addresses_that_are_all_ours_are_proof_for_an_apex(customers: Customers) -> None:
    customers.host(APEX, OURS_4, OURS_6)
    proof = customers.party().verify(APEX)
    assert [(record.type, record.host, record.value, record.verdict) for record in proof.records] == [
        ("A", "@", OURS_4, RecordVerdict.RIGHT),
        ("AAAA", "@", OURS_6, RecordVerdict.RIGHT),
    ]
    assert OURS_4 in proof.summary


def test_a_name_nobody_knows_does_not_exist(customers: Customers) -> None:
    assert refusal(customers, SUB).slug == "dns-no-such-name"


def test_a_cname_to_somebody_else_is_shown_beside_the_one_it_should_be(customers: Customers) -> None:
    customers.point(SUB, "statuspage.example.net")
    error = refusal(customers, SUB)
    assert error.slug == "dns-cname-mismatch"
    assert "status.acme.com. 300 CNAME statuspage.example.net." in error.seen
    assert f"status.acme.com. CNAME {TARGET}." in error.expected
    assert error.next[:2] == (
        "certctl issue status.acme.com --wait 30m",
        "certctl verify status.acme.com --message",
    )


@pytest.mark.parametrize(
    ("addresses", "slug"),
    [
        (["203.0.113.9"], "dns-address-mismatch"),
        ([OURS_4, "203.0.113.9"], "dns-address-mismatch"),
        (["2001:db8::bad"], "dns-address-mismatch"),
        ([OURS_4, "2001:db8::bad"], "dns-stray-ipv6"),
    ],
)
def test_one_address_that_is_not_ours_is_one_too_many(
    customers: Customers, addresses: list[str], slug: str
) -> None:
    customers.host(APEX, *addresses)
    assert refusal(customers, APEX).slug == slug


def test_broken_silent_and_torn_nameservers_are_three_different_things(customers: Customers) -> None:
    broken, silent, torn = Domain("status.broken.com"), Domain("status.silent.com"), Domain("status.torn.com")
    customers.break_nameservers(broken)
    customers.silence(silent)
    customers.tear(torn)
    errors = [refusal(customers, domain) for domain in (broken, silent, torn)]
    assert [error.slug for error in errors] == ["dns-servfail", "dns-unreachable", "dns-disagree"]
    assert [error.exit_code for error in errors] == [ExitCode.NOT_READY, ExitCode.UNREACHABLE, ExitCode.NOT_READY]


def test_a_caa_record_for_another_ca_forbids(customers: Customers) -> None:
    customers.point(SUB, TARGET)
    customers.allow_only(SUB, "digicert.com")
    error = refusal(customers, SUB)
    assert error.slug == "caa-forbids"
    assert any('CAA 0 issue "digicert.com"' in line for line in error.seen)
    assert any('CAA 0 issue "letsencrypt.org"' in line for line in error.expected)


def test_a_caa_record_for_our_ca_allows(customers: Customers) -> None:
    customers.point(SUB, TARGET)
    customers.allow_only(SUB, "letsencrypt.org")
    assert customers.party().verify(SUB).domain == SUB


def test_a_target_that_does_not_resolve_is_our_fault_and_not_the_customers(customers: Customers) -> None:
    customers.point(SUB, TARGET)
    customers.lose_target()
    error = refusal(customers, SUB)
    assert (error.slug, type(error)) == ("dns-target-broken", Unreachable)


def test_our_own_zone_is_proven_without_pointing_anywhere(customers: Customers) -> None:
    customers.host(APEX, "192.0.2.99")
    star = Domain(f"*.{APEX}")
    delegation = customers.party().verify_own(star, DnsSolver("rfc2136"))
    assert (delegation.domain, delegation.target) == (star, APEX.name)


def test_a_caa_record_for_another_ca_forbids_our_own_wildcard_too(customers: Customers) -> None:
    customers.host(APEX, "192.0.2.99")
    customers.allow_only(APEX, "digicert.com")
    with pytest.raises(NotReady) as caught:
        customers.party().verify_own(Domain(f"*.{APEX}"), DnsSolver("manual"))
    assert caught.value.slug == "caa-forbids"


def test_a_customer_who_leaves_is_noticed_and_one_who_returns_as_well(customers: Customers) -> None:
    customers.point(SUB, TARGET)
    customers.party().verify(SUB)
    customers.point(SUB, "elsewhere.example.net")
    assert isinstance(refusal(customers, SUB), NotReady)
    customers.point(SUB, TARGET)
    customers.party().verify(SUB)


def test_every_refusal_says_what_was_seen_what_is_expected_and_may_be_tried_again(customers: Customers) -> None:
    customers.point(SUB, "statuspage.example.net")
    for domain in (SUB, Domain("nobody.example.org")):
        error = refusal(customers, domain)
        assert error.seen
        assert error.expected
        assert error.kind.retryable
        assert not error.quota_used
