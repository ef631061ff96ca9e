"""History and ledger do not grow for ever; what still counts, and the last of each name, stays."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certctl.budget import LETS_ENCRYPT, Bucket, Limit, Spend
from certctl.cli import run as certctl
from certctl.cli.framework import Invocation
from certctl.domain import Domain
from certctl.errors import ExitCode
from certctl.io.clock import SystemClock
from certctl.io.interrupt import stopping
from certctl.store.pruning import BATCH
from certctl.stories.issue import issue
from certctl.stories.pruning import KEPT, prune
from certctl.values import Event, State
from tests.fakes.world import FakeWorld

LIVE, GONE = Domain("live.example.com"), Domain("gone.example.com")


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeWorld]:
    (tmp_path / "var/lib/certctl").mkdir(parents=True)
    fake = FakeWorld(tmp_path / "var/lib/certctl")
    fake.clock.moment = SystemClock().now().replace(microsecond=0)
    fake.days_pass(0)
    yield fake
    fake.store.close()


def note(fake: FakeWorld, days_ago: float, name: str, detail: str = "") -> None:
    fake.store.record(
        Event(fake.clock.now() - timedelta(days=days_ago), name, "issue", ok=True, slug=None, detail=detail)
    )


def told(fake: FakeWorld) -> list[str]:
    return [event.detail for event in reversed(fake.store.events(None, 9999))]


def ledger(fake: FakeWorld) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(fake.store._path)) as db:
        return db.execute("SELECT bucket, key FROM spend ORDER BY rowid").fetchall()


def test_history_is_kept_for_400_days_and_the_newest_line_of_each_known_name_for_good(fake: FakeWorld) -> None:
    for domain, state in ((LIVE, State.ACTIVE), (GONE, State.REMOVED)):
        fake.store.set_state(domain, state)
    for days, name, detail in (
        (900, LIVE.name, "old"), (800, "stranger.example.com", "a stranger's"), (700, GONE.name, "a removal"),
        (500, LIVE.name, "the newest"), (401, "stranger.example.com", "a stranger's too"),
        (399, "stranger.example.com", "within 400 days"), (1, "stranger.example.com", "yesterday"),
    ):  # fmt: skip
        note(fake, days, name, detail)
    assert prune(fake.world) == 3
    assert told(fake) == ["a removal", "the newest", "within 400 days", "yesterday"]
    assert prune(fake.world) == 0
    assert [row.state for row in (fake.store.domain(LIVE), fake.store.domain(GONE)) if row] == [
        State.ACTIVE,
        State.REMOVED,
    ]


def test_a_line_of_a_wrong_clock_among_old_ones_keeps_none_of_them(
    fake: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("certctl.store.pruning.BATCH", 2)
    for days in (500, -300, 499, 498, 1):
        note(fake, days, "stranger.example.com", str(days))
    prune(fake.world)
    assert told(fake) == ["-300", "1"]


def test_the_ledger_keeps_what_its_limit_still_counts_however_old(fake: FakeWorld) -> None:
    now, old = fake.clock.now(), timedelta(days=500)
    fake.store.spend([Spend(Bucket.ORDERS, ""), Spend(Bucket.CERTIFICATES, "example.com")], now - old)
    fake.store.spend([Spend(Bucket.CONSECUTIVE, LIVE.name)], now - old)
    fake.store.spend([Spend(Bucket.ORDERS, "")], now - timedelta(days=399))
    note(fake, 0, LIVE.name)
    assert prune(fake.world) == 2
    assert ledger(fake) == [(Bucket.CONSECUTIVE, LIVE.name), (Bucket.ORDERS, "")]
    fake.days_pass(2000)
    note(fake, 0, LIVE.name)
    prune(fake.world)
    assert ledger(fake) == []


def test_a_bucket_that_was_never_full_since_keeps_its_whole_history(fake: FakeWorld) -> None:
    limit, now = Limit(3, timedelta(days=100), "name"), fake.clock.now()
    for days in (900, 850, 700, 600, 500, 410):
        fake.store.spend([Spend(Bucket.FAILURES, "a.example.com")], now - timedelta(days=days))
    note(fake, 0, LIVE.name)
    spend = Spend(Bucket.FAILURES, "a.example.com")
    before = limit.tokens(fake.store.spent(spend, limit, now), now)
    list(fake.store.prune(now - KEPT, {Bucket.FAILURES: limit}, now))
    assert limit.tokens(fake.store.spent(spend, limit, now), now) == before
    assert len(ledger(fake)) == 6


moments = st.lists(st.integers(0, 2000), max_size=40)


@given(moments, st.integers(1, 6), st.integers(1, 40))
@settings(max_examples=300, deadline=None)
def test_what_a_limit_forgets_changes_nothing_it_would_say(hours: list[int], capacity: int, refill: int) -> None:
    limit, born = Limit(capacity, timedelta(hours=refill), "name"), datetime(2026, 1, 1).astimezone()
    spent = [born + timedelta(hours=hour) for hour in sorted(hours)]
    now = born + timedelta(hours=2000)
    rest = spent[limit.forgotten(spent, now) :]
    assert limit.tokens(rest, now) == pytest.approx(limit.tokens(spent, now))
    assert limit.forgotten(rest, now) <= len(rest)


def test_a_long_gap_is_forgotten_and_a_fresh_request_is_not() -> None:
    limit, born = LETS_ENCRYPT[Bucket.FAILURES], datetime(2026, 1, 1).astimezone()
    assert limit.forgotten([born, born], born + timedelta(days=1)) == 2
    assert limit.forgotten([born, born + timedelta(days=1)], born + timedelta(days=1)) == 1
    assert limit.forgotten([born], born) == 0


def test_each_transaction_is_small_and_a_run_leaves_the_rest_of_many_to_the_next(
    fake: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fake.store.together():
        for number in range(3 * BATCH):
            note(fake, 500, "stranger.example.com", str(number))
        note(fake, 0, "stranger.example.com", "now")
    monkeypatch.setattr("certctl.stories.pruning._MOST", 2)
    assert [prune(fake.world) for _ in range(3)] == [2 * BATCH, BATCH, 0]
    assert told(fake) == ["now"]


def test_a_run_that_is_asked_to_stop_prunes_no_further(fake: FakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("certctl.store.pruning.BATCH", 1)
    for _ in range(2):
        note(fake, 500, "stranger.example.com")
    note(fake, 0, "stranger.example.com")
    stopping.set()
    try:
        assert prune(fake.world) == 1
    finally:
        stopping.clear()


@pytest.mark.parametrize("trouble", ["clock_differs", "outage"])
def test_by_a_clock_that_the_ca_does_not_confirm_nothing_is_old_not_even_after_a_run_that_failed_by_it(
    fake: FakeWorld, trouble: str
) -> None:
    note(fake, 30, "stranger.example.com", "last month")
    fake.store.spend([Spend(Bucket.FAILURES, LIVE.name)], fake.clock.now())
    fake.days_pass(3 * 365)
    note(fake, 0, LIVE.name, "the clock is wrong")
    setattr(fake.ca, trouble, True)
    assert prune(fake.world) == 0
    assert (told(fake), len(ledger(fake))) == (["last month", "the clock is wrong"], 1)
    setattr(fake.ca, trouble, False)
    assert prune(fake.world) == 2
    assert (told(fake), ledger(fake)) == (["the clock is wrong"], [])


def test_the_ca_is_asked_for_the_time_only_once_something_is_old(
    fake: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[int]()
    monkeypatch.setattr(fake.ca, "require_ready", lambda: asked.append(1))
    note(fake, 399, LIVE.name)
    prune(fake.world)
    assert asked == []
    fake.store.spend([Spend(Bucket.ORDERS, "")], fake.clock.now() - timedelta(days=401))
    prune(fake.world)
    assert (asked, ledger(fake)) == ([1], [])


def test_the_timers_run_prunes_and_one_for_a_name_does_not(
    fake: FakeWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    issue(fake.journeys(fake.customer(LIVE.name)), fake.world)
    with closing(sqlite3.connect(fake.store._path)) as db, db:
        db.execute("UPDATE event SET id = 1000 + id")
    with closing(sqlite3.connect(fake.store._path)) as db, db:
        db.execute("INSERT INTO event (id, at, domain, step, ok, detail) VALUES (1, '2020', 'x', 'x', 1, 'old')")
    monkeypatch.setattr("certctl.app.context.Context.world", fake.world)
    for command, is_there in ((["renew", "--dry-run"], True), (["renew", LIVE.name], True), (["renew"], False)):
        assert certctl(["--root", str(tmp_path), *command], Invocation()) == ExitCode.DONE
        with closing(sqlite3.connect(fake.store._path)) as db:
            assert bool(db.execute("SELECT 1 FROM event WHERE detail = 'old'").fetchone()) is is_there
