"""A store that knows less than nginx serves, emptied or older: nobody goes dark, and nothing is ordered."""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
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


@pytest.fixture(scope="module", params=["blocks", "lua"])
def host(
    request: pytest.FixtureRequest,
    real_parts: None,  # noqa: ARG001
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Host]:
    with own_host("--mode", request.param) as sandbox:
        sandbox.customers(NAMES)
        sandbox.must("issue", *NAMES, "--jobs", "3")
        watch = Watch(sandbox, NAMES[0])
        store = watch.state / "certctl.db"
        copy = tmp_path_factory.mktemp("copy") / "older.db"
        vacuum(store, copy)
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
    for number in (2, 4, 6, 9):
        host.lose_store()
        point = Point("fdatasync", number)
        ran = ended(start(host.sandbox, "reconcile", "--adopt", prefix=point.prefix(host.watch.root)))
        assert ran.code == KILLED, (number, ran)
        host.all_are_served()
        assert host.sandbox.certctl("reconcile").code in {0, 9}
        host.sandbox.must("reconcile", "--adopt")
        assert host.state == before
        assert host.watch.stored() == host.served
    assert host.sandbox.orders() == host.orders
