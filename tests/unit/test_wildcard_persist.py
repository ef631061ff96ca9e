"""dns-persist-01: what the standing record says, in which words it may, and how it is watched."""

from datetime import timedelta
from pathlib import Path

import pytest
from acme.challenges import Challenge as AcmeChallenge
from acme.challenges import UnrecognizedChallenge

from certctl.ca.solvers.base import Challenge
from certctl.ca.solvers.dns_persist import DnsPersist, DnsPersist01, DnsPersist01Response, means
from certctl.dns import TxtWatch
from certctl.errors import Refused
from certctl.ports.manual_dns import ManualOperator, SilentPrompt
from certctl.txt_records import TxtDemand
from tests.fakes.dns_world import NS1, DnsTown, town
from tests.fakes.world import FakeClock

ZONE = "hyperping.test"
NAME = f"_validation-persist.{ZONE}"
ACCOUNT = "https://ca.example/acct/7"
WANTED = f"authority.example; accounturi={ACCOUNT}; policy=wildcard"
NOW = FakeClock().now()
SOON, BEFORE = (int((NOW + timedelta(days=days)).timestamp()) for days in (1, -1))


def challenge(*issuers: str) -> DnsPersist01:
    found = AcmeChallenge.from_json({"type": "dns-persist-01", "issuer-domain-names": list(issuers)})
    assert isinstance(found, DnsPersist01)
    return found


def test_the_record_names_the_ca_our_account_and_the_wildcard() -> None:
    assert challenge("authority.example", "other.example").record(ACCOUNT) == WANTED


@pytest.mark.parametrize("issuer", ["", "a b", 'x"; y', "-a", "UPPER.example", "x" * 300, "a\nb"])
def test_an_issuer_that_is_no_name_is_not_shown_to_anybody(issuer: str) -> None:
    assert challenge(issuer).record(ACCOUNT) == ""
    assert challenge(issuer, "authority.example").record(ACCOUNT) == WANTED


def test_the_empty_answer_is_still_an_answer() -> None:
    """acme 5.9 sends what is false as a POST-as-GET, which tells the CA nothing."""
    assert DnsPersist01Response()
    assert DnsPersist01Response().to_partial_json() == {}


def test_the_other_challenges_are_still_what_they_were() -> None:
    assert isinstance(AcmeChallenge.from_json({"type": "dns-account-01"}), UnrecognizedChallenge)


@pytest.mark.parametrize(
    "value",
    [
        WANTED,
        f"authority.example;accounturi={ACCOUNT};policy=wildcard",
        f" Authority.Example. ;\tpolicy = WildCard ; ACCOUNTURI={ACCOUNT} ;",
        f"authority.example; accounturi={ACCOUNT}; policy=wildcard; note=ours",
        f"authority.example; accounturi={ACCOUNT}; policy=wildcard; persistUntil={SOON}",
    ],
)
def test_the_same_in_other_words_is_the_same(value: str) -> None:
    assert means(value, WANTED, NOW)


@pytest.mark.parametrize(
    "value",
    [
        "",
        ";",
        "authority.example",
        f"authority.example; accounturi={ACCOUNT}",
        f"other.example; accounturi={ACCOUNT}; policy=wildcard",
        f"authority.example; accounturi={ACCOUNT}8; policy=wildcard",
        f"authority.example; accounturi={ACCOUNT.upper()}; policy=wildcard",
        f"authority.example; accounturi={ACCOUNT}; policy=specific",
        f"authority.example; accounturi={ACCOUNT}; accounturi={ACCOUNT}; policy=wildcard",
        f"authority.example; accounturi={ACCOUNT}; policy=wildcard; persistUntil={BEFORE}",
        f"authority.example; accounturi={ACCOUNT}; policy=wildcard; persistUntil=",
        f"authority.example; accounturi={ACCOUNT}; policy=wildcard; persistUntil=soon",
        f"authority.example; accounturi={ACCOUNT}; policy=wildcard; persistUntil={'9' * 400}x",
        f"authority.example; accounturi={ACCOUNT}; policy=wildcard; garbage",
    ],
)
def test_what_says_something_else_does_not_count(value: str) -> None:
    assert not means(value, WANTED, NOW)


class Keyboard(SilentPrompt):
    """A person who hears everything."""

    def __init__(self) -> None:
        self.demands: list[TxtDemand] = []

    def demand(self, demand: TxtDemand) -> None:
        self.demands.append(demand)


def solve(dns: DnsTown, keyboard: Keyboard) -> DnsPersist:
    operator = ManualOperator(keyboard, TxtWatch(dns.settings), FakeClock(), timedelta(minutes=2))
    solver = DnsPersist(operator, lambda: None)
    challenges = [Challenge(ZONE, "dns-persist-01", "", WANTED)] * 2
    solver.present(challenges)
    solver.wait(challenges)
    return solver


def test_the_record_that_stands_in_other_words_lets_the_ca_look(tmp_path: Path) -> None:
    with town(tmp_path) as dns:
        dns.add(ZONE, "A", "198.51.100.7")
        dns.add(NAME, "TXT", f'"authority.example;policy=wildcard;" "accounturi={ACCOUNT}"')
        dns.add(NAME, "TXT", '"other.example; accounturi=https://other/1"')
        keyboard = Keyboard()
        solver = solve(dns, keyboard)
    (demand,) = keyboard.demands
    assert (demand.values, demand.stands, demand.sight.owner) == ((WANTED,), True, NAME)
    assert demand.sight.others(demand.values) == ("other.example; accounturi=https://other/1",)
    assert solver.proof == f"TXT {NAME} = {WANTED}"


def test_a_record_that_is_gone_is_named_with_the_nameserver_that_lacks_it(tmp_path: Path) -> None:
    with town(tmp_path) as dns:
        dns.add(ZONE, "A", "198.51.100.7")
        dns.add(NAME, "TXT", f'"{WANTED}"', only=NS1)
        with pytest.raises(Refused) as caught:
            solve(dns, Keyboard())
    error = caught.value
    assert error.slug == "ca-challenge-aborted"
    assert f"missing: ns2.{ZONE}." in error.message
    assert error.expected == (f'{NAME}. 3600 TXT "{WANTED}"',)
    assert error.next[0] == f"certctl wildcard {ZONE} --dns persist"
