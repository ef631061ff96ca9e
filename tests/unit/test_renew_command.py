"""``certctl renew`` at the door: names it does not have, and a dry run that is really dry."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from certctl.cli import run as certctl
from certctl.cli.framework import Invocation
from certctl.domain import Domain
from certctl.io.clock import SystemClock
from certctl.slugs import Slug
from certctl.stories.issue import issue
from certctl.values import DnsSolver, State, Suggestion
from tests.fakes.world import FakeWorld

LATE, DUE, FRESH = 80, 62, 1


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeWorld]:
    (tmp_path / "var/lib/certctl").mkdir(parents=True)
    fake = FakeWorld(tmp_path / "var/lib/certctl")
    yield fake
    fake.store.close()


def aged(fake: FakeWorld, name: str, days: float) -> Domain:
    """Let a domain have been issued that many days ago."""
    fake.clock.moment = SystemClock().now() - timedelta(days=days)
    fake.days_pass(0)
    domain = fake.customer(name)
    issue(fake.journeys(domain), fake.world)
    return domain


def said(
    root: Path, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, list[tuple[str, str | None]]]:
    """Run it; return the exit code, and each domain with the code of its error."""
    capsys.readouterr()
    code = certctl(["--root", str(root), "--json", *arguments], Invocation())
    results = json.loads(capsys.readouterr().out)["results"]
    return code, [(entry["domain"], entry["error"] and entry["error"]["code"]) for entry in results]


@pytest.mark.parametrize("options", [(), ("--dry-run",), ("--force",), ("--force", "--dry-run")])
def test_a_domain_certctl_does_not_have_is_not_simply_not_due(
    tmp_path: Path, fake: FakeWorld, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    gone = aged(fake, "gone.example.com", FRESH)
    fake.store.set_state(gone, State.REMOVED)
    fake.store.set_state(Domain("waits.example.com"), State.PENDING)
    for name in ("never.example.com", gone.name, "waits.example.com"):
        assert said(tmp_path, capsys, "renew", name, *options) == (10, [(name, "unknown-domain")])


def test_a_dry_run_over_names_tells_what_is_due_from_what_is_not(
    tmp_path: Path, fake: FakeWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    due, fresh = aged(fake, "due.example.com", DUE), aged(fake, "fresh.example.com", FRESH)
    assert said(tmp_path, capsys, "renew", "--dry-run", due.name, fresh.name) == (0, [(due.name, None)])
    assert certctl(["--root", str(tmp_path), "renew", "--dry-run", due.name, fresh.name], Invocation()) == 0
    told = capsys.readouterr()
    assert (told.out, told.err) == ("due.example.com: due\n", "fresh.example.com: not due\n")
    fake.store.failed(due, Slug.CA_CONNECTION, SystemClock().now() + timedelta(hours=1))
    assert said(tmp_path, capsys, "renew", "--dry-run", due.name) == (6, [(due.name, "backing-off")])
    _, everyone = said(tmp_path, capsys, "renew", "--dry-run", "--force", due.name, fresh.name)
    assert everyone == [(due.name, None), (fresh.name, None)]


def test_a_dry_run_writes_nothing_and_asks_nobody(
    tmp_path: Path, fake: FakeWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    due, wildcard = aged(fake, "due.example.com", DUE), aged(fake, "*.hyperping.io", DUE)
    aged(fake, "fresh.example.com", FRESH)
    fake.store.set_solver(wildcard, DnsSolver("manual"))
    certificates = [row.certificate for row in fake.store.domains() if row.certificate]
    grown_old = Suggestion(None, SystemClock().now() - timedelta(days=1))
    fake.store.suggest([(certificate, grown_old) for certificate in certificates])
    before = dump(tmp_path)
    assert said(tmp_path, capsys, "renew", "--dry-run") == (0, [(due.name, None)])
    assert dump(tmp_path) == before
    assert certctl(["--root", str(tmp_path), "renew", "--dry-run"], Invocation()) == 0
    assert "*.hyperping.io is renewed by hand" in capsys.readouterr().err


def test_a_dry_run_foresees_that_a_late_wildcard_by_hand_fails_the_run(
    tmp_path: Path, fake: FakeWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.store.set_solver(wildcard := aged(fake, "*.hyperping.io", LATE), DnsSolver("manual"))
    assert said(tmp_path, capsys, "renew", "--dry-run") == (10, [(wildcard.name, "wildcard-manual")])


def test_what_has_expired_is_listed_as_failing(
    tmp_path: Path, fake: FakeWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    expired = aged(fake, "expired.example.com", 400)
    aged(fake, "fresh.example.com", FRESH)
    assert said(tmp_path, capsys, "status", "--failing") == (0, [(expired.name, None)])


def dump(root: Path) -> list[str]:
    """Return all that the store holds."""
    with closing(sqlite3.connect(root / "var/lib/certctl/certctl.db")) as database:
        return list(database.iterdump())
