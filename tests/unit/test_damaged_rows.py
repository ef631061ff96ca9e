"""A row of the store that is damaged is one domain's trouble, and says itself what mends it."""

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from certctl.app.context import Context
from certctl.app.health import examine, mended
from certctl.ca.ari import identifier
from certctl.cli import run as certctl
from certctl.cli.framework import Invocation
from certctl.cli.opening import open_context
from certctl.cli.output.choose import open_report
from certctl.domain import Domain
from certctl.errors import CertctlError, ExitCode
from certctl.ports.world import World
from certctl.stories.issue import issue
from certctl.stories.journey import Journey
from certctl.stories.reconcile import reconcile
from certctl.stories.remove import remove
from certctl.stories.renew import refresh_suggestions, renew, waiting
from certctl.stories.unknown import find_unknown
from certctl.stories.wildcard import begin, reminders, wildcard
from certctl.values import DnsSolver, Finding, Level, Mode, Pem, State
from tests.fakes.world import FakeWorld

HURT, FINE, STAR = Domain("hurt.example.com"), Domain("fine.example.com"), Domain("*.hyperping.io")
NO_TEXT = "CAST(x'ff80' AS TEXT)"
DAMAGE = {
    "a state there is none such": "UPDATE domain SET state = 'activ' WHERE name = ?",
    "a state that is no text": f"UPDATE domain SET state = {NO_TEXT} WHERE name = ?",
    "a mode there is none such": "UPDATE domain SET mode = 'block' WHERE name = ?",
    "a solver that is no JSON": "UPDATE domain SET solver = 'rfc2136' WHERE name = ?",
    "names that are no JSON": "UPDATE certificate SET names = '[' WHERE domain = ?",
    "names that are no list": "UPDATE certificate SET names = '{}' WHERE domain = ?",
    "a beginning that is no time": "UPDATE certificate SET not_before = 'soon' WHERE domain = ?",
    "an end that is no time": "UPDATE certificate SET not_after = '' WHERE domain = ?",
    "an end without a zone": "UPDATE certificate SET not_after = '2027-02-20T12:00:00.000' WHERE domain = ?",
    "an end before the beginning": "UPDATE certificate SET not_after = '2001-01-01T00:00+00:00' WHERE domain = ?",
    "an end at the beginning": "UPDATE certificate SET not_after = not_before WHERE domain = ?",
    "a certificate that is not there": "UPDATE domain SET version = 9 WHERE name = ?",
    "a fingerprint that is none": "UPDATE certificate SET fingerprint = 'ab' WHERE domain = ?",
}


@pytest.fixture
def fake(fake_today: FakeWorld) -> FakeWorld:
    return fake_today


@pytest.fixture(params=list(DAMAGE.values()), ids=list(DAMAGE))
def hurt(request: pytest.FixtureRequest, fake: FakeWorld, tmp_path: Path) -> FakeWorld:
    """Two live customers; what the store has of one is damaged."""
    issue(fake.journeys(fake.customer(HURT.name), fake.customer(FINE.name)), fake.world)
    damage(tmp_path, request.param, HURT)
    return fake


def damage(root: Path, statement: str, domain: Domain) -> None:
    with closing(sqlite3.connect(root / "var/lib/certctl/certctl.db")) as db, db:
        assert db.execute(statement, (domain.name,)).rowcount == 1


def context(root: Path) -> Context:
    file = root / "config.toml"
    file.write_text("# the defaults\n", encoding="utf-8")
    return open_context(Invocation(config=file, root=root))


def slugs(*journeys: Journey) -> dict[str, str]:
    return {journey.domain.name: journey.error.slug if journey.error else "" for journey in journeys}


def test_a_run_of_renewals_goes_on_with_the_others_and_names_the_damaged_one(hurt: FakeWorld) -> None:
    served = hurt.web.served(HURT)
    refresh_suggestions(hurt.world)
    assert [row.domain for row in waiting(hurt.world)] == [HURT], "it is not found by its due date"
    hurt.days_pass(61)
    journeys = hurt.journeys(*(row.domain for row in waiting(hurt.world)))
    renew(journeys, hurt.world)
    assert slugs(*journeys) == {HURT.name: "store-row-damaged", FINE.name: ""}
    assert (hurt.ca.orders, hurt.web.served(HURT)) == (3, served)
    assert [journey.result.fails_timer_run for journey in journeys if journey.error] == [True]


def test_reconcile_neither_takes_out_nor_rewrites_what_it_cannot_read(hurt: FakeWorld) -> None:
    before, tests = dict(hurt.web.serving), hurt.web.tests
    assert slugs(*reconcile(hurt.world, hurt.journey).journeys) == {HURT.name: "store-row-damaged", FINE.name: ""}
    assert (hurt.web.serving, hurt.web.tests) == (before, tests)


def test_what_is_damaged_is_not_called_unknown(hurt: FakeWorld) -> None:
    assert find_unknown(hurt.world) == {}
    assert reconcile(hurt.world, hurt.journey).less == {}


def test_the_fix_that_is_named_works(hurt: FakeWorld) -> None:
    issue(refused := hurt.journeys(HURT), hurt.world)
    (error,) = (journey.error for journey in refused)
    assert error
    assert (error.exit_code, error.next[0], hurt.ca.orders) == (ExitCode.CONFIG, f"certctl issue {HURT} --force", 2)
    issue(forced := hurt.journeys(HURT, insists=True), hurt.world)
    assert slugs(*forced) == {HURT.name: ""}
    row = hurt.store.domain(HURT)
    assert row
    assert row.certificate
    assert (row.damage, row.served) == ("", row.certificate.version)
    assert row.certificate.version > 1
    assert hurt.web.served(HURT) == row.certificate.fingerprint
    assert list(hurt.store.damaged()) == []
    assert slugs(*reconcile(hurt.world, hurt.journey).journeys) == {HURT.name: "", FINE.name: ""}


def test_what_is_damaged_can_be_removed(hurt: FakeWorld) -> None:
    journey = hurt.journey(HURT)
    remove(journey, hurt.world)
    assert journey.ok
    assert hurt.web.served(HURT) is None
    assert [row.domain for row in hurt.store.domains()] == [FINE]


def test_status_and_doctor_name_the_damaged_one_and_what_mends_it(
    hurt: FakeWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = {}
    for option in ((), ("--all",), (HURT.name,)):
        assert certctl(["--root", str(tmp_path), "status", *option], Invocation()) == ExitCode.DONE
        said[option] = " ".join(capsys.readouterr().out.split())
    assert all(f"store-row-damaged; certctl issue {HURT} --force" in text for text in said.values())
    assert FINE.name in said["--all",]
    assert certctl(["--root", str(tmp_path), "--json", "status", "--failing"], Invocation()) == ExitCode.DONE
    assert [r["domain"] for r in json.loads(capsys.readouterr().out)["results"]] == [HURT.name]
    (finding,) = store_findings(context(tmp_path))
    assert (finding.level, finding.fix) == (Level.PROBLEM, f"certctl issue {HURT} --force")
    assert hurt.store.count() == 2


def store_findings(context: Context) -> list[Finding]:
    return [finding for finding in examine(context) if finding.area == "store"]


def test_a_dry_run_of_renew_says_what_it_would_refuse(
    hurt: FakeWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert hurt.store.count() == 2
    code = certctl(["--root", str(tmp_path), "--json", "renew", "--dry-run"], Invocation())
    (result,) = json.loads(capsys.readouterr().out)["results"]
    assert (code, result["domain"], result["error"]["code"]) == (ExitCode.CONFIG, HURT.name, "store-row-damaged")


def test_a_wildcard_whose_solver_is_damaged_is_not_called_a_persons_and_ismended_by_its_own_command(
    fake: FakeWorld, tmp_path: Path
) -> None:
    plugin = DnsSolver("rfc2136", (("credentials", "/etc/certctl/rfc2136.ini"),))
    wildcard(fake.journey(STAR), plugin, fake.world)
    damage(tmp_path, "UPDATE domain SET solver = '{\"plugin\": 1}' WHERE name = ?", STAR)
    fake.days_pass(61)
    assert reminders(fake.world) == []
    renew(journeys := fake.journeys(*(row.domain for row in waiting(fake.world))), fake.world)
    (error,) = (journey.error for journey in journeys)
    assert error
    assert error.next[0] == "certctl wildcard hyperping.io --force"
    wildcard(again := fake.journey(STAR), plugin, fake.world)
    begin(begun := fake.journey(STAR), fake.world)
    assert slugs(again) == slugs(begun) == {STAR.name: "store-row-damaged"}
    assert fake.ca.orders == 1
    begin(begun := fake.journey(STAR, insists=True), fake.world)
    assert slugs(begun) == {STAR.name: ""}
    wildcard(mended := fake.journey(STAR, insists=True), plugin, fake.world)
    row = fake.store.domain(STAR)
    assert row
    assert (mended.ok, row.damage, row.solver, fake.ca.orders) == (True, "", plugin, 2)


@pytest.mark.parametrize("story", [issue, renew])
def test_what_can_be_read_of_a_damaged_row_stays_when_it_ismended(
    fake: FakeWorld, tmp_path: Path, story: Callable[[list[Journey], World], None]
) -> None:
    issue(fake.journeys(fake.customer(HURT.name)), fake.world)
    fake.store.set_mode(HURT, Mode.LUA)
    damage(tmp_path, "UPDATE certificate SET names = '' WHERE domain = ?", HURT)
    story([fake.journey(HURT, insists=True)], fake.world)
    row = fake.store.domain(HURT)
    assert row
    assert (row.damage, row.mode) == ("", Mode.LUA)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE pem SET fullchain = 'no chain' WHERE domain = ?",
        f"UPDATE pem SET fullchain = {NO_TEXT} WHERE domain = ?",
        "UPDATE pem SET private_key = '' WHERE domain = ?",
        "DELETE FROM pem WHERE domain = ?",
        "UPDATE domain SET version = 0 WHERE name = ?",
    ],
)
@pytest.mark.parametrize("story", [issue, renew])
def test_a_pair_that_is_damaged_or_gone_is_replaced(
    fake: FakeWorld, tmp_path: Path, statement: str, story: Callable[[list[Journey], World], None]
) -> None:
    issue(fake.journeys(fake.customer(HURT.name)), fake.world)
    damage(tmp_path, statement, HURT)
    story([journey := fake.journey(HURT, insists=True)], fake.world)
    assert journey.ok
    assert journey.certificate
    assert fake.web.served(HURT) == journey.certificate.fingerprint


@pytest.mark.parametrize("column", ["since", "retry_at"])
@pytest.mark.parametrize("moment", ["then", "2026-11-23T12:00:00.000"])
def test_a_moment_that_is_none_is_void_and_stops_nobody(
    fake: FakeWorld, tmp_path: Path, column: str, moment: str
) -> None:
    """One without a zone is none."""
    issue(fake.journeys(fake.customer(HURT.name)), fake.world)
    damage(tmp_path, f"UPDATE domain SET {column} = '{moment}' WHERE name = ?", HURT)
    assert [row.since <= fake.clock.now() for row in fake.store.domains()] == [True]
    fake.days_pass(61)
    renew(journeys := fake.journeys(HURT), fake.world)
    row = fake.store.domain(HURT)
    assert row
    assert (slugs(*journeys), row.retry_at) == ({HURT.name: ""}, None)
    assert row.since <= fake.clock.now()
    assert row.since.year >= 2026


@pytest.mark.parametrize("state", [State.ACTIVE, State.MOVED, State.UNWANTED])
def test_whoever_must_have_a_certificate_and_has_none_is_damaged(
    fake: FakeWorld, tmp_path: Path, state: State
) -> None:
    issue(fake.journeys(fake.customer(HURT.name)), fake.world)
    fake.store.set_state(HURT, state)
    damage(tmp_path, "UPDATE domain SET version = 9 WHERE name = ?", HURT)
    assert [row.domain for row in fake.store.damaged()] == [HURT]
    assert find_unknown(fake.world) == {}


def test_a_question_to_the_ca_at_a_moment_that_is_none_is_asked_again(fake: FakeWorld, tmp_path: Path) -> None:
    issue(fake.journeys(fake.customer(HURT.name)), fake.world)
    refresh_suggestions(fake.world)
    assert list(fake.store.ari_due(fake.clock.now())) == []
    damage(tmp_path, "UPDATE suggestion SET ask_at = 'then' WHERE domain = ?", HURT)
    assert [row.domain for row in fake.store.ari_due(fake.clock.now())] == [HURT]


def test_a_line_of_the_history_or_the_ledger_without_a_time_is_left_out(fake: FakeWorld, tmp_path: Path) -> None:
    issue(fake.journeys(fake.customer(HURT.name)), fake.world)
    damage(tmp_path, "UPDATE event SET at = 'then' WHERE domain = ?", HURT)
    with closing(sqlite3.connect(tmp_path / "var/lib/certctl/certctl.db")) as db, db:
        db.execute("UPDATE spend SET at = '2026'")
        db.execute("UPDATE approval SET at = 'then'")
    assert list(fake.store.events(None, 9)) == []
    issue(journeys := fake.journeys(HURT, fake.customer(FINE.name), insists=True), fake.world)
    assert slugs(*journeys) == {HURT.name: "", FINE.name: ""}


@pytest.mark.parametrize("name", ["'../../etc/passwd'", "'Hurt.example.com'", NO_TEXT, "'a;b.example.com'"])
def test_a_name_certctl_never_wrote_is_nobodys_and_goes_with_doctors_fix(
    fake: FakeWorld, tmp_path: Path, name: str
) -> None:
    issue(fake.journeys(fake.customer(FINE.name)), fake.world)
    now = fake.clock.now().isoformat()
    with closing(sqlite3.connect(tmp_path / "var/lib/certctl/certctl.db")) as db, db:
        db.execute(f"INSERT INTO domain (name, state, since) VALUES ({name}, 'active', '{now}')")
    assert [row.domain for row in fake.store.domains()] == [FINE]
    assert slugs(*reconcile(fake.world, fake.journey).journeys) == {FINE.name: ""}
    there = context(tmp_path)
    (finding,) = store_findings(there)
    assert (finding.level, finding.fix) == (Level.PROBLEM, "certctl doctor --fix")
    list(mended(there, open_report(Invocation())))
    assert [finding.level for finding in store_findings(there)] == [Level.OK]
    assert [row.domain for row in fake.store.domains()] == [FINE]


def test_a_row_is_never_read_in_a_way_nobody_foresaw(hurt: FakeWorld) -> None:
    assert not isinstance(hurt.store.domain(HURT), CertctlError)
    assert [row.domain for row in hurt.store.damaged()] == [HURT]
    assert [row.domain for row in hurt.store.domains() if row.damage] == [HURT]


@pytest.mark.parametrize(
    "chain", ["", "no chain", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_chain_that_is_damaged_has_no_identifier_to_be_replaced_by(chain: str) -> None:
    assert identifier(Pem(chain, "")) == ""


@pytest.mark.parametrize(
    "statement",
    [
        f"UPDATE certificate SET fingerprint = '{'x' * 64}' WHERE domain = ?",
        "UPDATE certificate SET names = '[\"hurt' WHERE domain = ?",
        "UPDATE certificate SET names = '[\"hurt.example.com\", 5]' WHERE domain = ?",
        'UPDATE domain SET solver = \'{"plugin": "rfc2136", "options": {"ttl": 5}}\' WHERE name = ?',
    ],
)
def test_damage_that_no_cheap_look_finds_is_found_by_the_doctor_and_when_the_certificate_is_due(
    fake: FakeWorld, tmp_path: Path, statement: str
) -> None:
    issue(fake.journeys(fake.customer(HURT.name)), fake.world)
    damage(tmp_path, statement, HURT)
    assert [row.domain for row in fake.store.damaged()] == [HURT]
    fake.days_pass(61)
    renew(journeys := fake.journeys(*(row.domain for row in waiting(fake.world))), fake.world)
    assert slugs(*journeys) == {HURT.name: "store-row-damaged"}
