"""DNS-01 by hand: what a person is told, when the CA may look, and how it ends; DNS packets are real."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from certctl.ca.settings import CaSettings
from certctl.ca.solvers.base import Challenge
from certctl.ca.solvers.certbot_plugin import authenticator, require_plugin
from certctl.ca.solvers.dns01 import PropagatingDns01
from certctl.cli.framework import Invocation
from certctl.cli.output.txt_prompt import TxtPrompt
from certctl.dns import TxtWatch
from certctl.domain import Domain
from certctl.errors import ConfigInvalid, Interrupted, NotReady, Refused
from certctl.ports.manual_dns import ManualOperator
from certctl.txt_records import TxtAnswer, TxtDemand, TxtSight
from certctl.values import DnsSolver
from tests.fakes.dns_world import NS1, NS2, DnsTown, Fault, town
from tests.fakes.world import FakeClock

ZONE = "hyperping.test"
NAME = f"_acme-challenge.{ZONE}"
ONE, TWO, OLD = "A" * 43, "B" * 43, "C" * 43
CHALLENGES = [Challenge(ZONE, "dns-01", "t" * 43, value) for value in (ONE, TWO)]


@pytest.fixture
def dns(tmp_path: Path) -> Iterator[DnsTown]:
    with town(tmp_path) as place:
        place.add(ZONE, "A", "198.51.100.7")
        yield place


@dataclass
class Keyboard:
    """A person who does something at each look, and hears everything."""

    acts: list[Callable[[], None]] = field(default_factory=list)
    demands: list[TxtDemand] = field(default_factory=list)
    sights: list[TxtSight] = field(default_factory=list)
    is_over: bool = False

    def demand(self, demand: TxtDemand) -> None:
        self.demands.append(demand)

    def sighted(self, demand: TxtDemand, sight: TxtSight) -> None:  # noqa: ARG002
        self.sights.append(sight)
        if self.acts:
            self.acts.pop(0)()

    def over(self) -> None:
        self.is_over = True


def solve(
    dns: DnsTown, keyboard: Keyboard, *, ends: datetime | None = None, patience: timedelta = timedelta(minutes=2)
) -> PropagatingDns01:
    """Go the whole way of one order; time passes only in its pauses."""
    operator = ManualOperator(keyboard, TxtWatch(dns.settings), FakeClock(), patience)
    solver = PropagatingDns01(operator, lambda: ends)
    solver.present(CHALLENGES)
    solver.wait(CHALLENGES)
    return solver


def puts(dns: DnsTown, *values: str, only: str = "", name: str = NAME) -> Callable[[], None]:
    def put() -> None:
        for value in values:
            dns.add(name, "TXT", f'"{value}"', only=only)

    return put


def test_it_waits_until_every_nameserver_shows_every_value(dns: DnsTown) -> None:
    keyboard = Keyboard([puts(dns, ONE, only=NS1), puts(dns, ONE, TWO, only=NS2), puts(dns, TWO, only=NS1)])
    solver = solve(dns, keyboard)
    shown = [[len(answer.values) for answer in sight.answers] for sight in keyboard.sights]
    assert shown[:4] == [[0, 0], [1, 0], [1, 2], [2, 2]]
    assert shown[4:] == [[2, 2]], "one look may have met the one machine of many that was ready"
    assert keyboard.is_over
    assert solver.proof == f"TXT {NAME} = {ONE}, {TWO}"


def test_both_values_are_demanded_at_once_with_what_is_there_already(dns: DnsTown) -> None:
    puts(dns, ONE, OLD)()
    keyboard = Keyboard([puts(dns, TWO)])
    solve(dns, keyboard)
    (demand,) = keyboard.demands
    assert demand.values == (ONE, TWO)
    assert (demand.sight.owner, demand.sight.zone) == (NAME, ZONE)
    assert all(ONE in answer.values for answer in demand.sight.answers)
    assert demand.sight.others(demand.values) == (OLD,)


def test_records_of_an_interrupted_run_that_still_count_need_nobody(dns: DnsTown) -> None:
    puts(dns, ONE, TWO)()
    keyboard = Keyboard()
    solve(dns, keyboard)
    assert len(keyboard.sights) == 2


def test_a_nameserver_that_never_agrees_is_named_with_what_it_says(dns: DnsTown) -> None:
    puts(dns, ONE, TWO, only=NS1)()
    puts(dns, OLD, only=NS2)()
    with pytest.raises(Refused) as raised:
        solve(dns, Keyboard())
    error = raised.value
    assert error.slug == "ca-challenge-aborted"
    assert f"missing: ns2.{ZONE}." in error.message
    assert f"ns2.{ZONE}: shows 0 of 2, and 1 other" in error.seen
    assert error.quota_used
    assert "no validation failed" in error.message
    assert error.next[0] == f"certctl wildcard {ZONE}"


def test_a_silent_nameserver_is_waited_for_and_named(dns: DnsTown) -> None:
    dns.hurry()
    puts(dns, ONE, TWO)()
    dns.fault(NAME, Fault.DROP, only=NS2)
    with pytest.raises(Refused, match=rf"missing: ns2\.{ZONE}\."):
        solve(dns, Keyboard(), patience=timedelta(seconds=3))


def test_waiting_ends_before_the_ca_forgets_the_order(dns: DnsTown) -> None:
    clock, ends = FakeClock(), FakeClock().now() + timedelta(seconds=90)
    keyboard = Keyboard()
    with pytest.raises(Refused):
        solve(dns, keyboard, ends=ends)
    assert keyboard.demands[0].until == ends
    assert keyboard.demands[0].patience_ends == clock.now() + timedelta(seconds=30)


def test_ctrl_c_says_what_was_spent(dns: DnsTown) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    keyboard = Keyboard([stop])
    with pytest.raises(Interrupted) as raised:
        solve(dns, keyboard)
    assert "one order was spent, and no validation failed" in raised.value.message
    assert [line.split()[-1] for line in raised.value.expected] == [f'"{ONE}"', f'"{TWO}"']
    assert keyboard.is_over


def test_a_cname_is_followed_to_the_zone_that_holds_the_record(dns: DnsTown) -> None:
    dns.add(NAME, "CNAME", "token.challenges.example.")
    dns.add("other.challenges.example", "A", "198.51.100.7")
    keyboard = Keyboard([puts(dns, ONE, TWO, name="token.challenges.example")])
    solve(dns, keyboard)
    sight = keyboard.demands[0].sight
    assert (sight.asked, sight.owner) == (NAME, "token.challenges.example")
    assert sight.zone != ZONE


def test_a_wildcard_above_the_challenge_is_named_and_not_followed(dns: DnsTown) -> None:
    dns.add(f"*.{ZONE}", "CNAME", "pages.example.net.")
    keyboard = Keyboard([puts(dns, ONE, TWO)])
    solve(dns, keyboard)
    sight = keyboard.demands[0].sight
    assert sight.owner == NAME
    assert sight.notes[0].startswith(f"*.{ZONE} is a CNAME to pages.example.net")


def test_a_wildcard_txt_above_the_challenge_is_named(dns: DnsTown) -> None:
    dns.add(f"*.{ZONE}", "TXT", '"v=spf1 -all"')
    (note,) = TxtWatch(dns.settings).look(ZONE).notes
    assert note.startswith(f"*.{ZONE} has a TXT record")


def test_a_cname_that_never_ends_is_part_of_the_sight(dns: DnsTown) -> None:
    dns.add(NAME, "CNAME", f"loop.{ZONE}.")
    dns.add(f"loop.{ZONE}", "CNAME", f"{NAME}.")
    sight = TxtWatch(dns.settings).look(ZONE)
    assert sight.answers == ()
    assert sight.notes == (f"{NAME} is an alias that never ends",)
    assert not sight.agrees([])
    with pytest.raises(NotReady) as raised:
        dns.party.verify_own(Domain(f"*.{ZONE}"), DnsSolver("cloudflare"))
    assert raised.value.slug == "dns-cname-loop"


def test_a_resolver_that_is_down_does_not_end_the_wait(dns: DnsTown) -> None:
    dns.hurry()
    dns.fault(".", Fault.DROP)

    def heal() -> None:
        dns.heal()
        puts(dns, ONE, TWO)()

    keyboard = Keyboard([heal])
    solve(dns, keyboard)
    assert keyboard.demands[0].sight.answers == ()


def test_without_nameservers_to_ask_the_resolver_is_watched(dns: DnsTown) -> None:
    dns.resolver_only()
    puts(dns, ONE)()
    (answer,) = TxtWatch(dns.settings).look(ZONE).answers
    assert answer.values == (ONE,)


def test_a_zone_that_nobody_registered_is_not_ready(dns: DnsTown) -> None:
    with pytest.raises(NotReady) as raised:
        dns.party.verify_own(Domain("*.nobody.invalid"), DnsSolver("manual"))
    assert raised.value.slug == "dns-no-such-name"


def test_only_plugins_that_write_to_the_literal_name_mind_a_cname(dns: DnsTown) -> None:
    dns.add(NAME, "CNAME", "token.challenges.example.")
    dns.add("token.challenges.example", "A", "198.51.100.7")
    domain = Domain(f"*.{ZONE}")
    for plugin in ("route53", "cloudflare"):
        with pytest.raises(NotReady) as raised:
            dns.party.verify_own(domain, DnsSolver(plugin))
        assert raised.value.slug == "dns-delegation"
    for plugin in ("manual", "acmedns", "rfc2136"):
        assert "→ token.challenges.example" in dns.party.verify_own(domain, DnsSolver(plugin)).summary


def test_caa_that_forbids_our_ca_stops_the_wildcard_before_any_order(dns: DnsTown) -> None:
    dns.add(ZONE, "CAA", '0 issuewild ";"')
    with pytest.raises(NotReady) as raised:
        dns.party.verify_own(Domain(f"*.{ZONE}"), DnsSolver("manual"))
    assert raised.value.slug == "caa-forbids"


# What is said, off a terminal.


def demanded(sight: TxtSight, *values: str) -> TxtDemand:
    until = datetime(2026, 11, 30, 9, 5, tzinfo=UTC)
    return TxtDemand(values, sight, until, FakeClock().now() + timedelta(hours=1))


def test_everything_a_person_needs_is_on_stderr_in_every_mode(capsys: pytest.CaptureFixture[str]) -> None:
    sight = TxtSight(NAME, NAME, ZONE, (TxtAnswer(f"ns1.{ZONE}", (ONE, OLD)), TxtAnswer(f"ns2.{ZONE}", (ONE,))))
    for invocation in (Invocation(), Invocation(json=True), Invocation(quiet=True)):
        TxtPrompt(invocation, FakeClock()).demand(demanded(sight, ONE, TWO))
        shown = capsys.readouterr()
        assert shown.out == ""
        assert re.findall(r"[12]\)  (\S+)(?:   (.*))?", shown.err) == [(ONE, "already there"), (TWO, "")]
        for words in (
            "BOTH records",
            NAME,
            "TTL 60",
            '"_acme-challenge"',
            "2026-11-30 09:05 UTC",
            "Watching every",
        ):
            assert words in shown.err
        assert f"{OLD} stands there from an earlier run: harmless, it may stay or go" in shown.err


def test_off_a_terminal_only_what_is_new_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    desk, before = (
        TxtPrompt(Invocation(), FakeClock()),
        TxtSight(NAME, NAME, ZONE, (TxtAnswer("ns1"), TxtAnswer("ns2"))),
    )
    demand = demanded(before, ONE, TWO)
    after = replace(before, answers=(TxtAnswer("ns1", (ONE,)), TxtAnswer("ns2", problem="no answer in time")))
    for sight in (before, before, after, after):
        desk.sighted(demand, sight)
    assert capsys.readouterr().err.splitlines() == [
        "ns1: shows 0 of 2", "ns2: shows 0 of 2", "ns1: shows 1 of 2", "ns2: no answer in time",
    ]  # fmt: skip


def test_on_a_terminal_a_table_is_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    sight = TxtSight(NAME, NAME, ZONE, (TxtAnswer("ns1", (ONE,)), TxtAnswer("ns2\x1b[2J", problem="\x1b]0;x")))
    desk = TxtPrompt(Invocation(color="always"), FakeClock())
    desk.sighted(demanded(sight, ONE, TWO), sight)
    desk.over()
    said = capsys.readouterr().err
    assert "✓" in said
    assert "·" in said
    assert "Ctrl-C: no failed check, one order used" in said
    assert "\x1b[2J" not in said
    assert "\x1b]0;" not in said


# By a plugin of certbot's.


def test_a_plugin_and_its_options_become_whole_words() -> None:
    words = authenticator(DnsSolver("rfc2136", (("credentials", "/etc/x y.ini"), ("propagation-seconds", "5"))))
    assert words == [
        "--authenticator=dns-rfc2136",
        "--preferred-challenges=dns-01",
        "--dns-rfc2136-credentials=/etc/x y.ini",
        "--dns-rfc2136-propagation-seconds=5",
    ]


@pytest.mark.parametrize(
    ("plugin", "key", "value"),
    [
        ("rfc2136 --pre-hook=evil", "a", "b"),
        ("", "a", "b"),
        ("-rfc2136", "a", "b"),
        ("rfc2136", "a=--pre-hook", "b"),
        ("rfc2136", "", "b"),
        ("rfc2136", "a", "b\nc"),
        ("rfc2136", "a", "b\0"),
        ("rfc2136", "a", ""),
    ],
)
def test_what_could_be_read_as_something_else_is_refused(plugin: str, key: str, value: str) -> None:
    with pytest.raises(ConfigInvalid):
        authenticator(DnsSolver(plugin, ((key, value),)))


def test_a_credentials_file_must_be_there_and_private(tmp_path: Path) -> None:
    settings = CaSettings("https://ca.test/dir", tmp_path, tmp_path)
    file = tmp_path / "credentials.ini"
    solver = DnsSolver("rfc2136", (("credentials", str(file)),))
    with pytest.raises(ConfigInvalid, match="cannot read"):
        require_plugin(solver, settings)
    file.write_text("x")
    file.chmod(0o640)
    with pytest.raises(ConfigInvalid, match="others can read"):
        require_plugin(solver, settings)
    file.chmod(0o600)
    require_plugin(solver, settings)
