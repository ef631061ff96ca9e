"""A store that knows less than nginx serves, emptied or older: nobody goes dark, and nothing is ordered."""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.real_sandbox import Sandbox, own_host
from tests.faults.whole import KILLED, Point, Watch, ended, start
from tests.next_steps import typed

pytestmark = pytest.mark.e2e

NAMES = ("one.example.com", "two.example.com", "three.example.com")


@dataclass
class Host:
    """A sandbox with three live customers, one of whom has been renewed since the copy of the store was made."""

    sandbox: Sandbox
    watch: Watch
    copy: Path
    served: dict[str, str]
    orders: int

    @property
    def store(self) -> Path:
        return self.watch.state / "certctl.db"

    @property
    def state(self) -> dict[str, tuple[int, bytes | str]]:
        """What nginx reads: every file below its directories, with its inode and its content."""
        found: dict[str, tuple[int, bytes | str]] = {}
        for tree in (
            self.watch.root / "var/lib/certctl-sites",
            self.watch.state / "live",
            self.sandbox.layout.conf_dir,
        ):
            for path in sorted(tree.rglob("*")):
                if path.is_symlink():
                    found[str(path)] = (path.lstat().st_ino, str(path.readlink()))
                elif path.is_file() and path.name != ".last-reload":
                    found[str(path)] = (path.stat().st_ino, path.read_bytes())
        return found

    def all_are_served(self) -> None:
        assert {name: self.watch.served(name) for name in self.served} == self.served

    def lose_store(self) -> None:
        for path in self.store.parent.glob("certctl.db*"):
            path.unlink()

    def put_store(self, content: bytes) -> None:
        facts = self.watch.state.stat()
        self.lose_store()
        self.store.write_bytes(content)
        self.store.chmod(0o600)
        shutil.chown(self.store, facts.st_uid, facts.st_gid)


@pytest.fixture(scope="module")
def host(real_parts: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:  # noqa: ARG001
    with lived_in(tmp_path_factory.mktemp("copy") / "older.db") as host:
        yield host


@contextmanager
def lived_in(copy: Path, *options: str) -> Iterator[Host]:
    with own_host(*options) as sandbox:
        sandbox.customers(NAMES)
        sandbox.must("issue", *NAMES, "--jobs", "3")
        watch = Watch(sandbox, NAMES[0])
        vacuum(watch.state / "certctl.db", copy)
        sandbox.must("renew", NAMES[1], "--force")
        yield Host(sandbox, watch, copy, {name: watch.served(name) for name in NAMES}, sandbox.orders())


def vacuum(store: Path, into: Path) -> None:
    """Copy a store as the documentation says."""
    with closing(sqlite3.connect(store)) as db:
        db.execute(f"VACUUM INTO '{into}'")


LOSSES: dict[str, Callable[[Host], object]] = {
    "removed": lambda host: host.lose_store(),
    "truncated": lambda host: host.put_store(b""),
    "older": lambda host: host.put_store(host.copy.read_bytes()),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_a_store_that_lost_names_takes_nobody_out_and_what_is_next_brings_all_back(host: Host, loss: str) -> None:
    LOSSES[loss](host)
    lost = [NAMES[1]] if loss == "older" else sorted(NAMES)
    before = host.state
    for command in (("reconcile",), ("reconcile", "--dry-run"), ("issue", *lost), ("doctor",)):
        ran = host.sandbox.certctl(*command, "--json")
        assert ran.code == (1 if command == ("doctor",) else 9), (command, ran)
        assert all(name in ran.out for name in lost), (command, ran)
        host.all_are_served()
        assert host.state == before, command
    error = host.sandbox.certctl("reconcile", "--json").error
    assert error["code"] == "store-knows-less"
    assert sorted(line.partition(":")[0] for line in error["seen"]) == lost
    adopt, remove, explain = error["next"]
    assert remove.startswith("certctl remove ")
    host.sandbox.must(*typed(explain))
    ran = host.sandbox.must(*typed(adopt), "--json")
    assert {result["domain"] for result in ran.json["results"]} == set(NAMES)
    assert host.state == before, "nothing was written, so nothing was reloaded"
    host.all_are_served()
    assert host.watch.stored() == host.served
    assert host.sandbox.must("reconcile", "--json").json["summary"]["changed"] == 0
    assert host.sandbox.orders() == host.orders


def test_adopting_that_was_killed_is_done_by_the_next_run(host: Host) -> None:
    before = host.state
    for number in (3, 6):
        host.lose_store()
        point = Point("fdatasync", number)
        ran = ended(start(host.sandbox, "reconcile", "--adopt", prefix=point.prefix(host.watch.root)))
        assert ran.code == KILLED, (number, ran)
        host.all_are_served()
        host.sandbox.must("reconcile", "--adopt")
        assert host.state == before
        assert host.watch.stored() == host.served
    assert host.sandbox.orders() == host.orders


def test_a_damaged_pair_is_one_names_trouble_and_removing_an_unknown_name_keeps_nothing(host: Host) -> None:
    gone, *names = host.watch.customers("damaged", 2)
    host.sandbox.must("issue", gone, *names)
    host.lose_store()
    (name,) = names
    key = host.watch.root / "var/lib/certctl-sites" / name / "current/privkey.pem"
    key.write_text((host.watch.root / "var/lib/certctl-sites" / gone / "current/privkey.pem").read_text())
    chain = key.with_name("fullchain.pem")
    chain.write_text((host.watch.root / "var/lib/certctl-sites" / gone / "current/fullchain.pem").read_text())
    ran = host.sandbox.certctl("reconcile", "--adopt", "--json")
    errors = {r["domain"]: r["error"]["code"] for r in ran.json["results"] if r["error"]}
    assert (ran.code, errors) == (9, {name: "store-knows-less"})
    assert "other names" in ran.out
    host.all_are_served()
    host.sandbox.must("remove", name, gone)
    assert not host.watch.is_served(name)
    assert not [path for path in (host.watch.root / "var").rglob(f"*{name}*") if path.suffix != ".lock"]
    host.sandbox.must("reconcile")


def test_a_disk_that_is_not_mounted_takes_nobody_out(host: Host) -> None:
    """The store is empty, and all pairs are gone, too: nginx serves everybody from its memory."""
    sites = host.watch.root / "var/lib/certctl-sites"
    host.lose_store()
    sites.rename(sites.with_name("unmounted"))
    for command in (("reconcile",), ("reconcile", "--adopt")):
        ran = host.sandbox.certctl(*command, "--json")
        assert ran.code == 9, ran
        host.all_are_served()
        assert len(list(host.sandbox.layout.conf_dir.glob("*.example.com.conf"))) == len(NAMES)
    shutil.rmtree(sites, ignore_errors=True)
    sites.with_name("unmounted").rename(sites)
    host.sandbox.must("reconcile", "--adopt")
    host.all_are_served()


def test_behind_a_catch_all_the_move_to_server_blocks_waits_until_all_are_known(
    real_parts: None,  # noqa: ARG001
    tmp_path: Path,
) -> None:
    with lived_in(tmp_path / "older.db", "--mode", "lua") as host:
        host.lose_store()
        before, config = host.state, host.sandbox.layout.config.read_text()
        for command in (("reconcile",), ("init", "--mode", "blocks")):
            ran = host.sandbox.certctl(*command, "--json")
            assert (ran.code, ran.error["code"]) == (9, "store-knows-less"), ran
            host.all_are_served()
            assert (host.state, host.sandbox.layout.config.read_text()) == (before, config)
        host.sandbox.must("reconcile", "--adopt")
        assert host.state == before
        host.sandbox.must("init", "--mode", "blocks")
        host.all_are_served()
        assert host.sandbox.orders() == host.orders
