"""A removal that was cut short is ended by the next run over everything, as the operator wished it."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from certctl.cli import run as certctl
from certctl.cli.framework import Invocation
from certctl.domain import Domain
from certctl.errors import ExitCode
from certctl.io.clock import SystemClock
from certctl.store.sqlite import SqliteStore
from certctl.stories.issue import issue, obtain
from certctl.stories.reconcile import reconcile
from certctl.stories.remove import finish_removals, remove
from certctl.stories.renew import renew
from certctl.values import Removal, State
from tests.fakes.world import FakeWorld, ThreadLocks

NAME, OTHER = Domain("status.example.com"), Domain("other.example.com")


class Killed(BaseException):
    """kill -9."""


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeWorld]:
    (tmp_path / "var/lib/certctl").mkdir(parents=True)
    fake = FakeWorld(tmp_path / "var/lib/certctl")
    fake.clock.moment = SystemClock().now().replace(microsecond=0)
    fake.days_pass(0)
    issue(fake.journeys(fake.customer(NAME.name), fake.customer(OTHER.name)), fake.world)
    yield fake
    fake.store.close()


def killed_after_the_wish(fake: FakeWorld, removal: Removal) -> None:
    fake.store.begin_removal(NAME, removal)


def killed_before_the_key_goes(fake: FakeWorld, removal: Removal) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fake.store, "forget", die)
        with pytest.raises(Killed):
            remove(fake.journey(NAME), fake.world, removal)


def die(*_: object, **__: object) -> None:
    raise Killed


def keys(fake: FakeWorld) -> list[str]:
    with closing(sqlite3.connect(fake.store._path)) as db:
        return [name for (name,) in db.execute("SELECT domain FROM pem ORDER BY domain")]


KILLS = [killed_after_the_wish, killed_before_the_key_goes]
Kill = Callable[[FakeWorld, Removal], None]


@pytest.mark.parametrize("kill", KILLS)
@pytest.mark.parametrize("finish", [reconcile, finish_removals])
@pytest.mark.parametrize("removal", Removal)
def test_what_was_begun_is_ended_as_it_was_wished(
    fake: FakeWorld, kill: Kill, finish: Callable[..., object], removal: Removal
) -> None:
    old = fake.web.serving[NAME].certificate.fingerprint
    kill(fake, removal)
    fake.days_pass(1)
    finish(fake.world, fake.journey)
    row = fake.store.domain(NAME)
    assert row
    assert (row.state, row.removal, row.since) == (State.REMOVED, None, fake.clock.now())
    assert (fake.web.served(NAME), fake.web.served(OTHER) is not None) == (None, True)
    assert keys(fake) == sorted([OTHER.name, *([NAME.name] if removal.keeps else [])])
    assert (old in fake.ca.revoked) is removal.revokes
    assert list(fake.store.half_removed()) == []
    assert [event.step for event in fake.store.events(NAME.name, 1)] == ["remove"]


def test_a_removal_that_cannot_be_ended_is_a_failure_and_tried_again(fake: FakeWorld) -> None:
    killed_after_the_wish(fake, Removal.REVOKE)
    fake.ca.outage = True
    (journey,) = finish_removals(fake.world, fake.journey)
    assert journey.error
    assert (journey.error.slug, keys(fake)) == ("ca-unreachable", [OTHER.name, NAME.name])
    fake.ca.outage = False
    (journey,) = finish_removals(fake.world, fake.journey)
    assert journey.ok
    assert keys(fake) == [OTHER.name]


def test_a_domain_is_held_while_its_removal_is_ended(fake: FakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    killed_after_the_wish(fake, Removal.FORGET)
    locks = ThreadLocks()
    held: list[bool] = []
    monkeypatch.setattr(fake.ca, "abandon", lambda _: held.append(locks.held[NAME].locked()))
    finish_removals(replace(fake.world, locks=locks), fake.journey)
    assert held == [True]


@pytest.mark.parametrize("kill", KILLS)
def test_whoever_is_issued_again_meanwhile_is_no_half_removed_one(fake: FakeWorld, kill: Kill) -> None:
    kill(fake, Removal.FORGET)
    issue(fake.journeys(NAME), fake.world)
    assert finish_removals(fake.world, fake.journey) == []
    assert fake.web.served(NAME)


def test_one_that_another_run_ends_or_brings_back_while_we_wait_is_left_alone(fake: FakeWorld) -> None:
    killed_after_the_wish(fake, Removal.FORGET)

    rows = fake.store.half_removed()
    obtain(fake.journey(NAME), fake.world)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fake.store, "half_removed", lambda: rows)
        finish_removals(fake.world, fake.journey)
    row = fake.store.domain(NAME)
    assert row
    assert (row.state, fake.web.served(NAME) is not None) == (State.ACTIVE, True)


def test_a_name_without_a_certificate_is_removed_for_good_as_well(fake: FakeWorld) -> None:
    pending = Domain("pending.example.com")
    fake.store.set_state(pending, State.PENDING)
    fake.store.begin_removal(pending, Removal.FORGET)
    (journey,) = finish_removals(fake.world, fake.journey)
    assert journey.ok
    assert finish_removals(fake.world, fake.journey) == []


def test_what_was_kept_when_it_was_removed_is_never_taken_for_half_removed(fake: FakeWorld) -> None:
    remove(fake.journey(NAME), fake.world, Removal.KEEP)
    fake.store.set_state(NAME, State.REMOVED)  # as an older certctl, which wrote no wish
    reconcile(fake.world, fake.journey)
    renew(fake.journeys(NAME), fake.world)
    assert keys(fake) == [OTHER.name, NAME.name]


def test_the_timers_run_ends_a_removal(
    fake: FakeWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_after_the_wish(fake, Removal.FORGET)
    monkeypatch.setattr("certctl.app.context.Context.world", fake.world)
    assert certctl(["--root", str(tmp_path), "renew", "--dry-run"], Invocation()) == ExitCode.DONE
    assert keys(fake) == [OTHER.name, NAME.name]
    assert certctl(["--root", str(tmp_path), "renew", OTHER.name], Invocation()) == ExitCode.DONE
    assert keys(fake) == [OTHER.name, NAME.name]
    capsys.readouterr()
    assert certctl(["--root", str(tmp_path), "renew"], Invocation()) == ExitCode.DONE
    assert f"{NAME}: removed, as was begun" in capsys.readouterr().out
    assert keys(fake) == [OTHER.name]


def test_a_store_of_an_older_certctl_keeps_what_its_removed_names_have(fake: FakeWorld, tmp_path: Path) -> None:
    path = tmp_path / "var/lib/certctl/certctl.db"
    fake.store.forget(NAME, keep_certificate=True)
    fake.store.close()
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("ALTER TABLE domain DROP COLUMN removal")
        db.execute("PRAGMA user_version = 4")
    store = SqliteStore(path, fake.clock)
    assert list(store.half_removed()) == []
    row = store.domain(NAME)
    assert row
    assert row.certificate
    store.close()
