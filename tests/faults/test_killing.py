"""The killer itself: what it sees, what it counts as one point, and that a run really dies there."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.killing import Change, Killer, Point, build, points, read

pytestmark = pytest.mark.e2e  # it needs a compiler

SIGKILLED = -9


@pytest.fixture(scope="module")
def killer(tmp_path_factory: pytest.TempPathFactory) -> Killer:
    return build(tmp_path_factory.mktemp("killer"))


def changes(killer: Killer, root: Path, *argv: str) -> list[Change]:
    """Run a command in a directory; return what it changed there."""
    log = root.with_name("changes")
    subprocess.run([*killer.record(log), *argv], cwd=root, check=True, timeout=60, stderr=subprocess.DEVNULL)
    return read(log, {"root": str(root)})


def killed(killer: Killer, root: Path, point: Point, *argv: str) -> int:
    argv = (*killer.kill(point, {"root": str(root)}), *argv)
    return subprocess.run(argv, cwd=root, check=False, timeout=60, stderr=subprocess.DEVNULL).returncode


def runs(pid: str) -> bool:
    """Tell whether a process is there and no zombie, which somebody may yet have to bury (proc(5), stat)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False


def at(call: str, path: str, occurrence: int = 1) -> Point:
    return Point("a test", call, path, "first", "{root}/" + path, occurrence)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def test_a_run_dies_before_the_change_and_nothing_of_it_lives_on(killer: Killer, root: Path) -> None:
    script = "touch a; sleep 1000 & echo $! >pid; mv a b"
    assert killed(killer, root, at("rename", "a -> {root}/b"), "sh", "-c", script) == SIGKILLED
    assert sorted(path.name for path in root.iterdir()) == ["a", "pid"]
    assert not runs((root / "pid").read_text().strip())


def test_the_second_of_a_kind_is_another_moment_than_the_first(killer: Killer, root: Path) -> None:
    assert killed(killer, root, at("unlink", "?", 2), "sh", "-c", "touch a b; rm a; rm b") == SIGKILLED
    assert [path.name for path in root.iterdir()] == ["b"]


def test_a_run_that_does_not_come_there_ends_by_itself_and_as_it_would_alone(killer: Killer, root: Path) -> None:
    assert killed(killer, root, at("rename", "*"), "sh", "-c", "touch a; exit 7") == 7


def test_threads_children_and_calls_relative_to_a_directory_are_seen(killer: Killer, root: Path) -> None:
    script = """
import os, subprocess, threading
work = threading.Thread(target=lambda: open("by-thread", "w").write("x"))
work.start(); work.join()
subprocess.run(["sh", "-c", "(touch by-grandchild)"])
here = os.open(".", os.O_RDONLY)
os.rename("by-thread", "moved", src_dir_fd=here, dst_dir_fd=here)
os.fsync(os.open("moved", os.O_RDONLY))
"""
    seen = {(change.call, change.subject) for change in changes(killer, root, sys.executable, "-c", script)}
    assert {
        ("open", "{root}/by-thread"),
        ("write", "{root}/by-thread"),
        ("open", "{root}/by-grandchild"),
        ("rename", "{root}/by-thread -> {root}/moved"),
        ("fsync", "{root}/moved"),
    } <= seen


def test_what_failed_or_was_there_already_is_no_point_but_counts_as_an_attempt(killer: Killer, root: Path) -> None:
    script = "rm a; : >>a; : >>a; mkdir a; rm a"
    found = points("a test", changes(killer, root, "sh", "-c", script))
    assert {(point.call, point.about, point.occurrence) for point in found} == {
        ("open", "a", 1),
        ("unlink", "a", 2),
    }
    assert killed(killer, root, next(p for p in found if p.call == "unlink"), "sh", "-c", script) == SIGKILLED
    assert (root / "a").exists()


def of_a_run(name: str, version: int, token: str, temporary: str) -> list[Change]:
    new, block = f"{{root}}/sites/{name}/.{temporary}.tmp", f"{{root}}/conf.d/.{temporary}.tmp"
    return [
        Change("open", f"{{root}}/challenges/{token}"),
        Change("mkdir", new),
        Change("open", f"{new}/privkey.pem"),
        Change("chmod", f"{new}/privkey.pem"),
        Change("rename", f"{new} -> {{root}}/sites/{name}/{version}"),
        Change("open", block),
        Change("rename", f"{block} -> {{root}}/conf.d/{name}.conf"),
        Change("fsync", "{root}/conf.d"),
    ]


def test_a_point_is_the_same_whatever_the_customer_the_version_or_the_token_is_called() -> None:
    one = points("issue", of_a_run("a.test", 1, "x" * 43, "0" * 16))
    other = points("issue", of_a_run("b.test", 12, "_" * 43, "f" * 16))
    assert one == other
    assert {f"{point.call} {point.about}" for point in one} == {
        "open challenges/TOKEN",
        "open sites/NAME/VERSION, new/privkey.pem",
        "rename sites/NAME/.RANDOM.tmp -> sites/NAME/VERSION",
        "rename conf.d/.RANDOM.tmp -> conf.d/NAME.conf",
    }


def test_a_number_stays_when_other_points_come_and_go() -> None:
    whole = {point.number for point in points("issue", of_a_run("a.test", 1, "x" * 43, "0" * 16))}
    part = {point.number for point in points("issue", of_a_run("a.test", 1, "x" * 43, "0" * 16)[5:])}
    assert part < whole


def test_the_first_and_the_last_of_a_kind_are_two_points_and_each_transaction_is_one() -> None:
    wal = Change("fsync", "{root}/var/lib/certctl/certctl.db-wal")
    removed = [Change("unlink", f"{{root}}/sites/{name}.test/current") for name in "abc"]
    found = points("remove", [wal, *removed, wal])
    assert sorted((point.call, point.which, point.occurrence) for point in found) == [
        ("fsync", "1.", 1), ("fsync", "2.", 2), ("unlink", "first", 1), ("unlink", "last", 3)
    ]  # fmt: skip
