"""A host whose store is damaged, whose clock is wrong, or whose lock files are none."""

import itertools
import os
import shlex
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from certctl.io import unix_http
from tests.faults.faulty import FaultyHost

pytestmark = pytest.mark.e2e

_SECONDS = 30


def visit(host: FaultyHost, name: str) -> str:
    """Ask the daemon as the first handshake for a name would; return ``ready``, or how it was refused."""
    try:
        return unix_http.get(host.sandbox.layout.serve_socket, f"/certificate/{name}", _SECONDS).decode().strip()
    except unix_http.Unanswered as error:
        return str(error)


def fixes(host: FaultyHost, *options: str) -> dict[str, str]:
    """Return what the doctor calls a problem, and its fix."""
    found = host.certctl("doctor", *options, "--json").json["data"]
    return {finding["text"]: finding["fix"] for finding in found if finding["level"] == "problem"}


# The store.


def cut(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def make_garbage(path: Path) -> None:
    path.write_bytes(b"no database" * 10_000)


def make_newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA user_version = 999")


def make_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGED = {
    "cut in the middle": (cut, "store-unreachable"),
    "garbage": (make_garbage, "store-unreachable"),
    "a directory": (make_directory, "store-unreachable"),
    "of a newer certctl": (make_newer, "state-unwritable"),
}


@contextmanager
def another_store(host: FaultyHost) -> Iterator[Path]:
    """Let a test spoil the store, and put the right one back: with the owner and rights it had."""
    path, kept = host.state / "certctl.db", host.place / "certctl.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy2(path, kept)
    try:
        yield path
    finally:
        for part in path.parent.glob("certctl.db*"):
            shutil.rmtree(part) if part.is_dir() else part.unlink()
        shutil.copy2(kept, path)
        host.certctl("doctor", "--fix")


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_store_is_one_fault_for_everybody_and_stops_nobodys_page(faulty: FaultyHost, kind: str) -> None:
    damage, slug = DAMAGED[kind]
    new, later = faulty.customers(f"damaged{list(DAMAGED).index(kind)}-", 2)
    orders = faulty.sandbox.orders()
    with another_store(faulty) as path:
        damage(path)
        for command in ("status", "renew", f"renew --force {faulty.canary}", "reconcile", f"issue {new}"):
            assert faulty.ends(*command.split()) == slug, command
        assert faulty.ends("remove", faulty.canary) == slug
        if slug == "store-unreachable":  # the daemon goes on with a store that was made newer under it
            assert visit(faulty, new) == "it answered 503"
        about = {text: fix for text, fix in fixes(faulty).items() if str(path) in text}
        assert len(about) == 1, about
        faulty.nobody_is_harmed(kind)
    assert faulty.sandbox.orders() == orders
    assert visit(faulty, later) == "ready"
    assert faulty.stored()[later] == faulty.served(later), "the daemon stored it elsewhere"
    faulty.nobody_is_harmed(kind)


# Lock files.


def hold_nothing(path: Path) -> None:
    """Leave what a process that is gone may have written."""
    path.write_text("999999\nnot a lock of ours\n")


def link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/hostname")


def be_roots(path: Path) -> None:
    os.chown(path, 0, 0)


ODD: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "garbage of a process that is gone": (hold_nothing, "ok", ""),
    "a directory": (make_directory, "state-unwritable", "look at it, then rm -r {}"),
    "a link": (link, "state-unwritable", "rm {}"),
    "another user's": (be_roots, "state-unwritable", "certctl doctor --fix"),
}
LOCKS = ("run/certctl/locks/domains/{}.lock", "var/lib/certctl/acme/locks/{}.lock")


@pytest.mark.parametrize("kind", ODD)
def test_in_place_of_a_lock_file_runs_go_on_or_the_doctor_says_what_to_type(faulty: FaultyHost, kind: str) -> None:
    change, slug, fix = ODD[kind]
    (name,) = faulty.customers(f"locked{list(ODD).index(kind)}-", 1)
    assert faulty.ends("issue", name) == "ok"
    orders = faulty.sandbox.orders()
    for place in LOCKS:
        path = faulty.root / place.format(name)
        change(path)
        assert faulty.ends("renew", "--force", name) == slug, place
        if fix:
            assert [fix for text, fix in fixes(faulty).items() if str(path) in text] == [fix.format(path)]
            follow(faulty, fix.format(path))
            assert faulty.ends("renew", "--force", name) == "ok", place
    assert faulty.sandbox.orders() - orders == len(LOCKS)
    faulty.nobody_is_harmed(kind)


def follow(host: FaultyHost, fix: str) -> None:
    """Type what the doctor said."""
    command = shlex.split(fix.removeprefix("look at it, then "))
    if command[0] == "certctl":
        host.certctl(*command[1:])
    else:
        subprocess.run(command, check=True)


# The clock.

_OFF = {"a day ahead": 1, "a year ahead": 365, "a day behind": -1, "a year behind": -365}


@pytest.mark.parametrize("off", _OFF)
def test_by_a_wrong_clock_nothing_is_ordered_and_nothing_stays_that_steers_later_runs(
    faulty: FaultyHost, off: str
) -> None:
    new, due, gone = faulty.customers(f"clock{list(_OFF).index(off)}-", 3)
    assert faulty.ends("issue", due, gone) == "ok"
    faulty.makes_due(due)
    (faulty.state / "live" / gone).rename(
        faulty.place / gone
    )  # so that the store says it went, and reconcile sees it
    assert faulty.ends("remove", gone) == "ok"
    (faulty.place / gone).rename(faulty.state / "live" / gone)
    assert faulty.ends("reconcile") == "ok"
    kept, orders, leaf = faulty.traces(gone), faulty.sandbox.orders(), faulty.leaf(due)
    assert kept, "it was put aside"
    with faulty.by_the_clock(timedelta(days=_OFF[off])):
        assert faulty.ends("issue", new) == "clock-wrong"
        assert faulty.ends("renew", due) == "clock-wrong"
        assert faulty.ends("reconcile") == "ok"
        (faulty.state / "live" / due).rename(faulty.place / due)  # a change, after which what is old is deleted
        assert faulty.ends("reconcile") == "ok"
        faulty.nobody_is_harmed(off)
    shutil.rmtree(faulty.place / due)
    assert faulty.traces(gone) == kept, "it was to be kept for 14 days"
    assert (faulty.sandbox.orders(), faulty.leaf(due)) == (orders, leaf)
    assert faulty.ends("issue", new) == "ok", "it rests for nothing"
    assert faulty.ends("renew", due) == "ok"
    assert faulty.sandbox.orders() - orders == 2
    assert visit(faulty, faulty.customers(f"clocked{list(_OFF).index(off)}-", 1)[0]) == "ready"


# Forty processes.


@contextmanager
def watched(host: FaultyHost, names: Sequence[str]) -> Iterator[list[str]]:
    """Shake hands with live names all the time; yield what went wrong."""
    failures, over = list[str](), threading.Event()

    def look() -> None:
        for name in itertools.cycle(names):
            if over.wait(0.02):
                return
            if host.leaf(name) is None:
                failures.append(name)

    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(look)
        try:
            yield failures
        finally:
            over.set()
            looking.result()


def test_forty_runs_at_once_with_visitors_make_one_order_a_name_and_nobody_is_dark(faulty: FaultyHost) -> None:
    new, own, due, leaving, visited = (faulty.customers(f"forty{kind}-", 4 + 4 * (kind == 0)) for kind in range(5))
    assert faulty.ends("issue", *due, *leaving, "--jobs", "8") == "ok"
    for name in due:
        faulty.makes_due(name)
    before = {name: faulty.leaf(name) for name in due}
    orders = faulty.sandbox.orders()
    commands = [
        *(["issue", name] for name in (*new, *new)),
        *(["issue", "--mode", "blocks", name] for name in own),
        *(["renew", name] for name in due),
        *(["remove", name] for name in leaving),
        *[["reconcile"], ["status"], ["doctor"], ["init", "--mode", "shared"]] * 3,
    ]
    assert len(commands) == 40
    with watched(faulty, [faulty.canary, faulty.neighbour, *due]) as dark, ThreadPoolExecutor(4) as visitors:
        waiting = [visitors.submit(visit, faulty, name) for name in visited]
        ended = list(zip(commands, faulty.at_once(*commands), strict=True))
        assert [asked.result() for asked in waiting] == ["ready"] * 4
    assert not dark
    failed = {" ".join(words): ran for words, ran in ended if ran.code and words[0] != "doctor"}
    assert {ran.code for ran in failed.values()} <= {8}, failed
    assert not [words for words in failed if not words.startswith(("init", "reconcile"))], failed
    assert faulty.sandbox.orders() - orders == len([*new, *own, *due, *visited])
    assert all(faulty.leaf(name) != before[name] for name in due)
    assert not any(map(faulty.leaf, leaving))
    faulty.all_is_well([*new, *own, *due, *visited])
