"""The store's contract. PostgreSQL will join the list of real stores; the suite stays."""

import multiprocessing
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from certctl.budget import LETS_ENCRYPT, Bucket, Limit, Spend
from certctl.domain import Domain
from certctl.due import shares
from certctl.errors import ConfigInvalid, Unreachable
from certctl.io.clock import SystemClock
from certctl.slugs import Slug
from certctl.store.sqlite import SqliteStore
from certctl.values import Certificate, DnsSolver, Event, Issued, Mode, Pem, Removal, State, Suggestion
from tests.fakes.world import FakeClock

DOMAIN = Domain("status.example.com")
BORN = datetime(2026, 11, 23, 12, tzinfo=UTC)


def issued(serial: str = "01", domain: Domain = DOMAIN) -> Issued:
    facts = Certificate(
        domain, (domain.name,), serial, "CA", BORN, BORN + timedelta(days=90), "ecdsa-p256", serial * 32
    )
    return Issued(facts, Pem(f"chain {serial}", f"key {serial}"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "certctl.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(path, SystemClock())
    yield store
    store.close()


@pytest.mark.parametrize(
    "name", ["../../../root", "a.test\nssl_engine x;", "/etc", "..", "a..test", "A.test", "*.*.test", "a.test/", ""]
)
def test_a_name_that_certctl_never_wrote_is_no_path_and_no_line_of_a_configuration(
    store: SqliteStore, path: Path, name: str
) -> None:
    """The daemon's user may own the file, and root's commands read it."""
    store.keep(issued())
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA foreign_keys = OFF")
        db.execute("UPDATE domain SET name = ?", (name,))
    db.close()
    rows = [*store.domains(), *store.candidates(BORN, shares(1 / 3)), *store.ari_due(BORN), *store.damaged()]
    assert (rows, list(store.unwritten())) == ([], [name])
    store.strike_unwritten()
    assert (store.count(), list(store.unwritten())) == (0, [])


def test_which_version_was_seen_on_the_wire_is_remembered(store: SqliteStore) -> None:
    first = store.keep(issued("01"))
    assert served(store) == 0
    store.served(first)
    store.keep(issued("02"))
    assert served(store) == first.version


def served(store: SqliteStore) -> int:
    row = store.domain(DOMAIN)
    assert row
    return row.served


def test_a_kept_certificate_comes_back_whole(store: SqliteStore) -> None:
    kept = store.keep(issued())
    row = store.domain(DOMAIN)
    assert row is not None
    assert row.certificate == kept == replace(issued().certificate, version=1)
    assert row.state is State.ACTIVE
    assert store.pem(kept) == Pem("chain 01", "key 01")


def test_two_versions_are_kept_and_numbers_never_repeat(store: SqliteStore) -> None:
    kept = [store.keep(issued(f"0{number}")) for number in range(1, 4)]
    assert [certificate.version for certificate in kept] == [1, 2, 3]
    assert store.pem(kept[1]) == Pem("chain 02", "key 02")
    with pytest.raises(ConfigInvalid, match="no longer has version 1"):
        store.pem(kept[0])
    store.forget(DOMAIN, keep_certificate=False)
    assert store.keep(issued("09")).version == 4


def test_a_success_forgets_the_failures_before_it(store: SqliteStore) -> None:
    store.failed(DOMAIN, Slug.DNS_NO_DATA, None)
    store.failed(DOMAIN, Slug.CA_DNS, BORN)
    failing = store.domain(DOMAIN)
    assert failing is not None
    assert (failing.state, failing.attempts, failing.last_error, failing.retry_at) == (
        State.PENDING, 1, "ca-dns", BORN,
    )  # fmt: skip
    store.keep(issued())
    fine = store.domain(DOMAIN)
    assert fine is not None
    assert (fine.state, fine.attempts, fine.last_error, fine.retry_at) == (State.ACTIVE, 0, None, None)


def test_a_removed_domain_is_listed_no_more_and_its_key_is_gone_from_the_file(
    store: SqliteStore, path: Path
) -> None:
    kept = store.keep(Issued(issued().certificate, Pem("chain", "the-private-key-itself")))
    store.forget(DOMAIN, keep_certificate=False)
    assert not store.domains()
    with pytest.raises(ConfigInvalid):
        store.pem(kept)
    store.close()
    assert all(b"the-private-key-itself" not in file.read_bytes() for file in path.parent.iterdir())


def test_what_is_written_together_happens_together_or_not_at_all(store: SqliteStore, path: Path) -> None:
    elsewhere = SqliteStore(path, SystemClock())
    with pytest.raises(ZeroDivisionError), store.together():
        break_off_after(store.keep(issued()))
    assert store.domain(DOMAIN) is None
    with store.together():
        store.served(store.keep(issued()))
        assert served(store) == 1
        assert elsewhere.domain(DOMAIN) is None
    assert served(elsewhere) == 1
    elsewhere.close()


@pytest.mark.parametrize("is_written", [True, False])
def test_what_one_thread_does_is_no_part_of_what_another_has_begun(store: SqliteStore, *, is_written: bool) -> None:
    """They share a connection, and SQLite knows one transaction of it; nor is it closed under the other."""
    what = partial(store.set_state, OTHER, State.PENDING) if is_written else store.close
    other = threading.Thread(target=what)

    def begin_and_break_off() -> None:
        with store.together():
            store.keep(issued())
            other.start()
            other.join(0.2)
            break_off_after(store.keep(issued("02")))

    with pytest.raises(ZeroDivisionError):
        begin_and_break_off()
    other.join()
    assert (store.domain(DOMAIN), store.domain(OTHER) is not None) == (None, is_written)


def break_off_after(_: Certificate) -> None:
    raise ZeroDivisionError


def test_many_domains_are_counted_and_judged_without_reading_them_all(store: SqliteStore) -> None:
    fine, failing, gone = (Domain(f"{name}.example.com") for name in ("fine", "failing", "gone"))
    for domain in (fine, failing, gone):
        store.served(store.keep(issued(domain=domain)))
    store.failed(failing, Slug.CA_DNS, None)
    store.forget(gone, keep_certificate=True)
    store.set_state(DOMAIN, State.PENDING)
    rules = shares(1 / 3)
    assert store.count() == len(store.domains()) == 3
    assert list(store.expiries()) == [BORN + timedelta(days=90)] * 2
    assert [row.domain for row in store.candidates(BORN, rules)] == [failing, DOMAIN]
    assert [row.domain for row in store.candidates(BORN + timedelta(days=60), rules)] == [failing, fine, DOMAIN]


def test_the_ca_is_asked_about_what_is_active_and_was_not_asked_about_lately(store: SqliteStore) -> None:
    new, old, parked = (Domain(f"{name}.example.com") for name in ("new", "old", "parked"))
    kept = {domain: store.keep(issued(domain=domain)) for domain in (new, old, parked)}
    store.set_state(parked, State.MOVED)
    store.suggest([(kept[old], Suggestion(None, BORN))])
    assert [row.domain for row in store.ari_due(BORN - timedelta(seconds=1))] == [new]
    assert [row.domain for row in store.ari_due(BORN)] == [new, old]
    store.suggest([(kept[new], Suggestion(BORN, BORN + timedelta(hours=6)))])
    assert [row.domain for row in store.ari_due(BORN)] == [old]


OTHER = Domain("status.example.net")
TOKENS = [
    Spend(bucket, key) for bucket in (Bucket.FAILURES, Bucket.CONSECUTIVE) for key in (DOMAIN.name, OTHER.name)
]
WRITES: dict[str, Callable[[SqliteStore, Certificate], object]] = {
    "keep": lambda store, _: [store.keep(issued(serial)) for serial in ("02", "03", "04")],
    "served": lambda store, kept: store.served(kept),
    "failed": lambda store, _: store.failed(DOMAIN, Slug.CA_DNS, BORN + timedelta(hours=2)),
    "failed without the CA": lambda store, _: store.failed(DOMAIN, Slug.DNS_NO_DATA, None),
    "spend": lambda store, _: store.spend(TOKENS[:1], BORN),
    "refund": lambda store, _: store.refund(TOKENS[:1], BORN),
    "forgive": lambda store, _: store.forgive(TOKENS[0]),
    "suggest": lambda store, kept: store.suggest([(kept, Suggestion(None, BORN))]),
    "set_mode": lambda store, _: store.set_mode(DOMAIN, Mode.SHARED),
    "set_solver": lambda store, _: store.set_solver(DOMAIN, DnsSolver("rfc2136")),
    "a yes": lambda store, _: store.remember_answer(DOMAIN, approved=True, at=BORN + timedelta(days=1)),
    "a no": lambda store, _: store.remember_answer(DOMAIN, approved=False, at=BORN),
    "record": lambda store, _: store.record(Event(BORN, DOMAIN.name, "issue", ok=True, slug=None, detail="")),
    "forget": lambda store, _: store.forget(DOMAIN, keep_certificate=False),
    "forget but its key": lambda store, _: store.forget(DOMAIN, keep_certificate=True),
    "begin_removal": lambda store, _: store.begin_removal(DOMAIN, Removal.KEEP),
    **{state: partial(lambda state, store, _: store.set_state(DOMAIN, state), state) for state in State},
}


def rows(path: Path) -> list[str]:
    """Return every row of every table as text."""
    with closing(sqlite3.connect(path)) as db:
        tables = [name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return [f"{table} {row}" for table in tables for row in db.execute(f"SELECT * FROM {table}")]


@pytest.mark.parametrize("write", WRITES)
def test_what_is_written_about_one_domain_touches_no_row_of_another(
    store: SqliteStore, path: Path, write: str
) -> None:
    for domain in (DOMAIN, OTHER):
        store.keep(issued("01", domain))
        kept = store.keep(issued("02", domain))
        store.failed(domain, Slug.NGINX_NOT_SERVED, BORN + timedelta(hours=1))
        store.suggest([(kept, Suggestion(BORN, BORN))])
        store.remember_answer(domain, approved=True, at=BORN)
        store.record(Event(BORN, domain.name, "verify", ok=True, slug=None, detail=""))
    ours = store.domain(DOMAIN)
    store.spend(TOKENS, BORN)
    before = rows(path)
    assert ours
    assert ours.certificate
    WRITES[write](store, ours.certificate)
    after = rows(path)
    assert [row for row in after if DOMAIN.name not in row] == [row for row in before if DOMAIN.name not in row]
    assert after != before or write == State.ACTIVE


def test_a_token_is_given_back_alone_and_a_success_empties_one_bucket(store: SqliteStore) -> None:
    token, sibling = TOKENS[0], TOKENS[2]  # of another bucket, for the same name

    def counted(spend: Spend) -> int:
        return len(store.spent(spend, LETS_ENCRYPT[spend.bucket], BORN + timedelta(minutes=1)))

    store.spend([token, token, sibling], BORN)
    store.spend([token], BORN + timedelta(seconds=1))
    store.refund([token], BORN)
    store.refund([token], BORN - timedelta(seconds=1))
    assert (counted(token), counted(sibling)) == (2, 1)
    store.forgive(token)
    assert (counted(token), counted(sibling)) == (0, 1)


def test_a_no_takes_back_a_yes(store: SqliteStore) -> None:
    assert store.remembered_yes(DOMAIN) is None
    store.remember_answer(DOMAIN, approved=True, at=BORN)
    assert store.remembered_yes(DOMAIN) == BORN
    store.remember_answer(DOMAIN, approved=False, at=BORN + timedelta(days=1))
    assert store.remembered_yes(DOMAIN) is None


def test_the_history_is_newest_first_and_by_domain(store: SqliteStore) -> None:
    for number, name in enumerate(("a.example.com", "b.example.com", "a.example.com")):
        store.record(
            Event(BORN + timedelta(hours=number), name, "verify", ok=False, slug="dns-no-data", detail=str(number))
        )
    assert [event.detail for event in store.events(None, 2)] == ["2", "1"]
    assert [event.detail for event in store.events("a.example.com", 9)] == ["2", "0"]


def test_since_moves_only_when_the_state_does(store: SqliteStore) -> None:
    store.set_state(DOMAIN, State.MOVED)
    first = store.domain(DOMAIN)
    store.set_state(DOMAIN, State.MOVED)
    assert store.domain(DOMAIN) == first


def test_each_removal_counts_anew_and_ends_a_remembered_yes(path: Path) -> None:
    clock = FakeClock(BORN)
    store = SqliteStore(path, clock)
    store.keep(issued())
    for _ in range(2):
        clock.pause(timedelta(days=1))
        store.remember_answer(DOMAIN, approved=True, at=clock.now())
        store.set_state(DOMAIN, State.REMOVED)
        row = store.domain(DOMAIN)
        assert row
        assert row.since == clock.now()
        assert store.remembered_yes(DOMAIN) is None
    before = store.domain(DOMAIN)
    store.close()
    another = SqliteStore(path, clock)
    assert another.domain(DOMAIN) == before
    another.close()


def test_moments_that_no_rule_could_have_given_are_void_wherever_rows_are_read(path: Path) -> None:
    clock = FakeClock(BORN)
    store = SqliteStore(path, clock)
    kept = store.keep(issued())
    ahead = BORN + timedelta(days=365)
    store.failed(DOMAIN, Slug.CA_REFUSED, ahead)
    store.suggest([(kept, Suggestion(BORN + timedelta(days=60), ahead))])
    store.spend([Spend(Bucket.FAILURES, DOMAIN.name)] * 5, ahead)
    rows = [store.domain(DOMAIN), *store.domains(), *store.candidates(BORN, shares(1 / 3)), *store.ari_due(BORN)]
    assert [(row.attempts, row.retry_at) for row in rows if row] == [(1, None)] * 4
    assert store.spent(Spend(Bucket.FAILURES, DOMAIN.name), LETS_ENCRYPT[Bucket.FAILURES], BORN) == []
    clock.pause(timedelta(days=364))
    assert store.domain(DOMAIN).retry_at == ahead  # type: ignore[union-attr]
    assert not store.ari_due(clock.now())
    store.close()


@pytest.mark.parametrize("removal", Removal)
def test_what_was_wished_at_a_removal_is_known_until_it_is_done_or_the_domain_is_back(
    store: SqliteStore, removal: Removal
) -> None:
    def wished() -> Removal | None:
        row = store.domain(DOMAIN)
        return row.removal if row else None

    store.keep(issued())
    for end in (
        lambda: store.forget(DOMAIN, keep_certificate=True),
        lambda: store.set_state(DOMAIN, State.PENDING),
        lambda: store.keep(issued("02")),
    ):
        store.begin_removal(DOMAIN, removal)
        store.set_state(DOMAIN, State.REMOVED)
        assert (wished(), [row.domain for row in store.half_removed()]) == (removal, [DOMAIN])
        end()
        assert (wished(), list(store.half_removed())) == (None, [])


def test_threads_and_processes_keep_side_by_side(store: SqliteStore, path: Path) -> None:
    names = [Domain(f"d{number}.example.com") for number in range(24)]
    threads = [threading.Thread(target=store.keep, args=(issued("01", name),)) for name in names[:12]]
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=keep_elsewhere, args=(path, name)) for name in names[12:15]]
    for process in processes:
        process.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len(store.domains()) == 15


def keep_elsewhere(path: Path, domain: Domain) -> None:
    store = SqliteStore(path, SystemClock())
    store.keep(issued("02", domain))
    store.close()


def test_the_file_is_private_from_the_start(store: SqliteStore, path: Path) -> None:
    store.domains()
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o711


@pytest.mark.parametrize("is_let_go", [True, False])
def test_a_new_file_that_another_process_is_just_making_is_waited_for_but_not_for_ever(
    store: SqliteStore, path: Path, monkeypatch: pytest.MonkeyPatch, *, is_let_go: bool
) -> None:
    path.parent.mkdir()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    monkeypatch.setattr("certctl.store.file.time.sleep", lambda _: other.execute("COMMIT") if is_let_go else None)
    if is_let_go:
        assert store.count() == 0
    else:
        monkeypatch.setattr("certctl.store.file._BUSY_SECONDS", 0.1)
        with pytest.raises(Unreachable, match="locked"):
            store.count()
    other.close()


def test_a_newer_schema_is_refused_untouched(store: SqliteStore, path: Path) -> None:
    store.domains()
    store.close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 999")
    db.close()
    with pytest.raises(ConfigInvalid, match="newer certctl"):
        SqliteStore(path, SystemClock()).domains()


def test_a_file_that_is_no_database_is_unreachable_and_stays_as_it_is(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(Unreachable) as caught:
        SqliteStore(path, SystemClock()).domains()
    assert caught.value.slug == "store-unreachable"
    assert path.read_bytes() == b"not a database" * 100


def test_the_last_token_is_taken_once_by_however_many_processes(path: Path) -> None:
    """Also the first use of a new file by all of them at once."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(4) as pool:
        results = pool.map(take_one, [path] * 12)
    assert sorted(results) == [False] * 9 + [True] * 3


def test_a_long_import_never_takes_what_the_ca_has_not_given_back(store: SqliteStore) -> None:
    spend, limit = Spend(Bucket.ORDERS, ""), Limit(5, timedelta(minutes=1), "account")
    given: list[int] = []
    for minute in range(120):
        at = BORN + timedelta(minutes=minute)
        while store.take([spend], [spend], {Bucket.ORDERS: limit}, at) is None:
            given.append(minute)
    assert given == [0] * 5 + list(range(1, 120))


def test_processes_leave_a_reserve_together_for_one_that_may_use_it(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        assert sum(pool.starmap(take_one, [(path, 2)] * 8)) == 1
        assert sum(pool.starmap(take_one, [(path, 0)] * 8)) == 2


def take_one(path: Path, reserve: int = 0) -> bool:
    store = SqliteStore(path, SystemClock())
    spend = Spend(Bucket.FAILURES, "status.example.com")
    limits = {Bucket.FAILURES: Limit(3, timedelta(days=1), "name", reserve)}
    missing = store.take([spend], [spend], limits, SystemClock().now())
    store.close()
    return missing is None


def test_a_failed_transaction_leaves_the_store_usable(store: SqliteStore) -> None:
    store.domains()

    def break_off() -> None:
        with store._transaction() as db:
            db.execute("ROLLBACK")  # as SQLite itself does on a full disk
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_off()
    assert store.keep(issued()).version == 1


def test_two_stores_of_one_process_and_another_process_see_each_others_rows(tmp_path: Path) -> None:
    path = tmp_path / "certctl.db"
    first, second = SqliteStore(path, SystemClock()), SqliteStore(path, SystemClock())
    look = (
        "import sys; from pathlib import Path; from certctl.io.clock import SystemClock; "
        "from certctl.store.sqlite import SqliteStore; store = SqliteStore(Path(sys.argv[1]), SystemClock()); "
        "print(len(store.domains())); store.close()"
    )
    first.set_state(DOMAIN, State.ACTIVE)
    second.domains()
    for count, name in enumerate(("b.example.com", "c.example.com"), 1):
        ended = subprocess.run([sys.executable, "-c", look, path], capture_output=True, text=True, check=True)
        assert ended.stdout == f"{count}\n"
        first.set_state(Domain(name), State.ACTIVE)
    first.close()
    assert len(second.domains()) == 3
    second.close()


def test_a_store_that_was_restored_meanwhile_is_the_one_that_is_used(tmp_path: Path) -> None:
    path, backup, clock = tmp_path / "certctl.db", tmp_path / "backup.db", FakeClock(BORN)
    with closing(SqliteStore(backup, clock)) as other:
        other.set_state(Domain("restored.example.com"), State.ACTIVE)
    with closing(SqliteStore(path, clock)) as store:
        store.set_state(Domain("lost.example.com"), State.ACTIVE)
        (tmp_path / "damaged").mkdir()
        for part in tmp_path.glob("certctl.db*"):
            part.rename(tmp_path / "damaged" / part.name)
        backup.rename(path)
        store.set_state(Domain("after.example.com"), State.ACTIVE)
        assert [row.domain.name for row in store.domains()] == ["after.example.com", "restored.example.com"]
    with closing(SqliteStore(path, clock)) as again:
        assert again.count() == 2
