"""CAA: RFC 8659's rules on record sets, and the climb with real packets."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import dns.rdata
import pytest
from hypothesis import given
from hypothesis import strategies as st

from certctl.dns.caa import CaaPolicy, CaaRdata, Property, judge, parse
from certctl.domain import Domain
from certctl.errors import CertctlError, ExitCode, NotReady, Unreachable
from tests.fakes.dns_world import NS1, NS2, OURS_4, RESOLVER, TARGET, DnsTown, Fault, town

SUB = Domain("status.acme.com")
POLICY = CaaPolicy(("letsencrypt.org",))
ACCOUNT = "https://acme.example/acct/1"


def records(*texts: str) -> list[CaaRdata]:
    parsed = [dns.rdata.from_text("IN", "CAA", text) for text in texts]
    return [record for record in parsed if isinstance(record, CaaRdata)]


@pytest.mark.parametrize(
    ("texts", "allowed"),
    [
        (['0 issue "letsencrypt.org"'], True),
        (['0 issue "LetsEncrypt.ORG"'], True),
        (['0 ISSUE "letsencrypt.org"'], True),
        (['128 issue "letsencrypt.org"'], True),
        (['0 issue "  letsencrypt.org  "'], True),
        (['0 issue "letsencrypt.org;"'], True),
        (['0 issue "digicert.com"', '0 issue "letsencrypt.org"'], True),
        (['0 issue ";"', '0 issue "letsencrypt.org"'], True),
        (['0 iodef "mailto:a@example.com"'], True),
        (['0 issuewild ";"'], True),
        (['0 future "x"'], True),
        (['128 iodef "mailto:a@example.com"'], True),
        (['128 issuewild ";"'], True),
        (['128 issuemail ";"'], True),
        (['128 ISSUE "letsencrypt.org"'], True),
        (['0 issue "letsencrypt.org; validationmethods=http-01"'], True),
        (['0 issue "letsencrypt.org; validationmethods=dns-01,http-01"'], True),
        ([f'0 issue "letsencrypt.org; accounturi={ACCOUNT}"'], True),
        (['0 issue ";"'], False),
        (['0 issue ""'], False),
        (['0 issue "digicert.com"'], False),
        (['0 issue "letsencrypt.org.evil.com"'], False),
        (['0 issue "xletsencrypt.org"'], False),
        (['0 issue "letsencrypt.org"', '128 future "x"'], False),
        (['0 issue "letsencrypt.org; validationmethods=dns-01"'], False),
        (['0 issue "letsencrypt.org; validationmethods="'], False),
        (['0 issue "letsencrypt.org; ValidationMethods=dns-01"'], False),
        (['0 issue "letsencrypt.org; no equals sign"'], False),
        (['0 issue "letsencrypt.org digicert.com"'], False),
    ],
)
def test_a_record_set_allows_or_forbids_a_host(texts: list[str], allowed: bool) -> None:  # noqa: FBT001
    assert judge(records(*texts), POLICY, wildcard=False).allowed is allowed


@pytest.mark.parametrize(
    ("texts", "allowed"),
    [
        (['0 issue "letsencrypt.org"'], True),
        (['0 issue "letsencrypt.org"', '0 issuewild ";"'], False),
        (['0 issue ";"', '0 issuewild "letsencrypt.org"'], True),
        (['0 issue "letsencrypt.org; validationmethods=http-01"'], False),
        (['0 issuewild "letsencrypt.org; validationmethods=dns-01"'], True),
    ],
)
def test_a_record_set_allows_or_forbids_a_wildcard(texts: list[str], allowed: bool) -> None:  # noqa: FBT001
    assert judge(records(*texts), POLICY, wildcard=True).allowed is allowed


def test_an_account_is_reported_while_ours_is_unknown_and_judged_once_it_is_known() -> None:
    rule = records(f'0 issue "letsencrypt.org; accounturi={ACCOUNT}"')
    assert ACCOUNT in judge(rule, POLICY, wildcard=False).text
    assert judge(rule, replace(POLICY, account_uri=ACCOUNT), wildcard=False).allowed
    other = judge(rule, replace(POLICY, account_uri=ACCOUNT + "2"), wildcard=False)
    assert not other.allowed
    assert "not for ours" in other.text


def test_one_record_that_fits_is_enough_among_some_that_do_not() -> None:
    rules = records('0 issue "letsencrypt.org; validationmethods=dns-01"', '0 issue "letsencrypt.org"')
    assert judge(rules, POLICY, wildcard=False).allowed


def test_a_value_is_parsed_into_issuer_and_parameters() -> None:
    assert parse(b"ca.example; account=230123 ; policy=ev") == Property(
        "ca.example", {"account": "230123", "policy": "ev"}
    )


@given(st.binary(max_size=60))
def test_any_bytes_are_a_property_or_authorise_nobody(value: bytes) -> None:
    found = parse(value)
    assert found is None or (found.issuer.isascii() and found.issuer == found.issuer.lower())


@pytest.fixture
def world(tmp_path: Path) -> Iterator[DnsTown]:
    with town(tmp_path) as running:
        running.add("status.acme.com", "CNAME", f"{TARGET}.")
        yield running


def refusal(world: DnsTown, domain: Domain = SUB) -> CertctlError:
    with pytest.raises((NotReady, Unreachable)) as caught:
        world.party.verify(domain)
    return caught.value


def test_no_record_anywhere_allows(world: DnsTown) -> None:
    assert world.party.verify(SUB).summary.endswith("no CAA record")
    asked = {question.address for question in world.server.log if question.name == "com"}
    assert asked == {RESOLVER}, "a registry's nameservers are not for us to ask"


def test_a_parents_record_holds_and_the_error_says_where_it_is(world: DnsTown) -> None:
    world.add("acme.com", "CAA", '0 issue "digicert.com"')
    error = refusal(world)
    assert (error.slug, error.exit_code) == ("caa-forbids", ExitCode.NOT_READY)
    assert "acme.com, which holds for status.acme.com as well," in error.message
    assert 'acme.com. 300 CAA 0 issue "digicert.com"' in error.seen
    assert error.expected == ('acme.com. CAA 0 issue "letsencrypt.org"',)


def test_the_closest_record_set_decides_alone(world: DnsTown) -> None:
    world.add("page.acme.com", "A", "198.51.100.7")
    world.add("page.acme.com", "CAA", '0 issue "letsencrypt.org"')
    world.add("acme.com", "CAA", '0 issue "digicert.com"')
    assert "CAA allows letsencrypt.org" in world.party.verify(Domain("page.acme.com")).summary


@pytest.mark.parametrize("resolver_only", [False, True])
def test_the_record_at_the_end_of_the_cname_holds(world: DnsTown, resolver_only: bool) -> None:  # noqa: FBT001
    world.add(TARGET, "CAA", '0 issue "digicert.com"')
    world.add("acme.com", "CAA", '0 issue "letsencrypt.org"')
    if resolver_only:
        world.resolver_only()
    error = refusal(world)
    assert error.slug == "caa-forbids"
    assert f"{TARGET}, where status.acme.com leads," in error.message
    assert error.expected == (f'{TARGET}. CAA 0 issue "letsencrypt.org"',)


def test_a_top_level_domains_record_holds_too(world: DnsTown) -> None:
    world.add("com", "CAA", '0 issue "digicert.com"')
    assert refusal(world).slug == "caa-forbids"


def test_a_critical_property_has_to_go(world: DnsTown) -> None:
    world.add("acme.com", "CAA", '128 tbs "x"')
    error = refusal(world)
    assert error.slug == "caa-forbids"
    assert error.expected == ("acme.com. without a critical CAA property tbs",)


def test_a_nameserver_that_still_forbids_forbids(world: DnsTown) -> None:
    world.add("acme.com", "CAA", '0 issue "letsencrypt.org"')
    world.add("acme.com", "CAA", '0 issue "digicert.com"', only=NS2)
    assert refusal(world).slug == "caa-forbids"


def test_a_nameserver_that_forbids_alone_forbids(world: DnsTown) -> None:
    world.add("acme.com", "CAA", '0 issue "digicert.com"', only=NS2)
    assert refusal(world).slug == "caa-forbids"


def test_a_stale_caa_record_in_a_cache_does_not_decide(world: DnsTown) -> None:
    world.add("acme.com", "CAA", '0 issue "letsencrypt.org"')
    world.add("acme.com", "NS", "ns1.acme.com.")
    world.add("acme.com", "CAA", '0 issue "digicert.com"', only=RESOLVER)
    world.add("acme.com", "NS", "ns1.acme.com.", only=RESOLVER)
    assert world.party.verify(SUB).domain == SUB


@pytest.mark.parametrize("fault", [Fault.SERVFAIL, Fault.REFUSED, Fault.DROP])
@pytest.mark.parametrize("resolver_only", [False, True])
def test_a_caa_question_that_fails_blocks(world: DnsTown, fault: Fault, resolver_only: bool) -> None:  # noqa: FBT001
    world.hurry()
    world.fault("acme.com", fault, kind="CAA")
    if resolver_only:
        world.resolver_only()
    assert refusal(world).slug == "caa-servfail"


def test_a_resolver_that_dies_before_the_caa_question_is_not_the_customers_fault(world: DnsTown) -> None:
    world.hurry()
    world.resolver_only()
    world.fault(".", Fault.DROP, kind="CAA")
    world.fault(".", Fault.DROP, kind="NS")
    error = refusal(world)
    assert (error.slug, type(error)) == ("dns-unreachable", Unreachable)


def test_one_nameserver_that_answers_for_caa_is_enough(world: DnsTown) -> None:
    world.fault("acme.com", Fault.SERVFAIL, kind="CAA", only=NS1)
    assert world.party.verify(SUB).domain == SUB


@pytest.mark.parametrize(("links", "slug"), [(8, ""), (9, "caa-servfail")])
def test_an_alias_above_the_domain_is_followed_for_eight_links(world: DnsTown, links: int, slug: str) -> None:
    names = ["above.acme.com", *(f"hop{number}.acme.com" for number in range(1, links)), "end.acme.com"]
    for name, following in pairwise(names):
        world.add(name, "CNAME", f"{following}.")
    world.add("end.acme.com", "CAA", '0 issue "letsencrypt.org"')
    world.add("page.above.acme.com", "A", OURS_4)
    domain = Domain("page.above.acme.com")
    if slug:
        assert refusal(world, domain).slug == slug
    else:
        assert "CAA allows letsencrypt.org" in world.party.verify(domain).summary


def test_an_alias_above_the_domain_that_never_ends_blocks(world: DnsTown) -> None:
    world.add("page.loop.acme.com", "A", "198.51.100.7")
    world.add("loop.acme.com", "CNAME", "loop.acme.com.")
    assert refusal(world, Domain("page.loop.acme.com")).slug == "caa-servfail"


def test_without_an_identity_caa_is_left_to_the_ca(world: DnsTown) -> None:
    world.add("acme.com", "CAA", '0 issue ";"')
    world.settings = replace(world.settings, ca_identities=())
    assert "CAA is left to the CA" in world.party.verify(SUB).summary


def test_a_wildcard_is_judged_by_issuewild(world: DnsTown) -> None:
    world.add("*.acme.com", "CNAME", f"{TARGET}.")
    world.add("acme.com", "CAA", '0 issue "letsencrypt.org"')
    world.add("acme.com", "CAA", '0 issuewild ";"')
    error = refusal(world, Domain("*.acme.com"))
    assert error.slug == "caa-forbids"
    assert error.expected == ('acme.com. CAA 0 issuewild "letsencrypt.org"',)
