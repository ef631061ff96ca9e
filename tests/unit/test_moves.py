"""The journal of a move, whose turn it is, and what a daemon of the old mode does meanwhile."""

import os
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from certctl.app import move_journal
from certctl.app.daemon_factory import FencedLocks
from certctl.app.move_journal import Kind, Move
from certctl.domain import Domain
from certctl.errors import Busy, ConfigInvalid
from certctl.io import fsuid
from certctl.io.locks import HostLocks
from certctl.values import Mode

AT_ONCE = timedelta(0)
NAME = Domain("status.example.com")
VALUES = {("nginx", "mode"): "shared", ("dns", "target"): "x.test"}
MOVE = Move(
    Kind.MOVE, Mode.BLOCKS, Mode.SHARED, Path("/etc/certctl/config.toml"), changes_owner=True, values=VALUES
)


def test_what_is_written_down_is_found_by_any_later_run_until_it_is_over(tmp_path: Path) -> None:
    sites = tmp_path / "sites"
    assert move_journal.found(sites) is None
    move_journal.begin(sites, MOVE)
    assert move_journal.found(sites) == MOVE
    assert (sites / ".moving").stat().st_mode & 0o777 == 0o600
    assert sites.stat().st_mode & 0o777 == 0o700
    move_journal.begin(sites, MOVE.back())
    back = move_journal.found(sites)
    assert back
    assert (back.kind, back.target, back.values, back.changes_owner) == (Kind.BACK, Mode.BLOCKS, {}, True)
    move_journal.end(sites)
    assert move_journal.found(sites) is None
    assert list(sites.iterdir()) == []
    move_journal.end(sites)


def test_many_work_at_once_and_a_move_waits_for_them_and_they_for_it(tmp_path: Path) -> None:
    with (
        move_journal.turn(tmp_path, alone=False, wait=AT_ONCE),
        move_journal.turn(tmp_path, alone=False, wait=AT_ONCE),
        pytest.raises(Busy, match="other commands of certctl are at work"),
        move_journal.turn(tmp_path, alone=True, wait=AT_ONCE),
    ):
        pass
    with move_journal.turn(tmp_path, alone=True, wait=AT_ONCE):
        for alone, said in ((False, "another certctl changes how this host serves"), (True, "other commands")):
            with pytest.raises(Busy, match=said) as caught, move_journal.turn(tmp_path, alone=alone, wait=AT_ONCE):
                pass
            assert f"(process {os.getpid()})" in caught.value.message
    with move_journal.turn(tmp_path, alone=True, wait=AT_ONCE):
        pass


def test_whose_turn_it_is_leaves_no_file_and_where_nothing_was_set_up_nobody_waits(tmp_path: Path) -> None:
    with move_journal.turn(tmp_path / "sites", alone=False):
        assert not (tmp_path / "sites").exists()
    with move_journal.turn(tmp_path / "sites", alone=True):
        assert list((tmp_path / "sites").iterdir()) == []


def test_who_waits_goes_on_when_the_move_is_over(tmp_path: Path) -> None:
    entered, may_end = threading.Event(), threading.Event()

    def work() -> None:
        with move_journal.turn(tmp_path, alone=False):
            entered.set()
            may_end.wait(60)

    with move_journal.turn(tmp_path, alone=True):
        worker = threading.Thread(target=work)
        worker.start()
        assert not entered.is_set()
    assert entered.wait(60)
    may_end.set()
    worker.join()


def staying(tmp_path: Path) -> FencedLocks:
    (tmp_path / "state").mkdir()
    return FencedLocks(HostLocks(tmp_path / "locks", timedelta(0)), tmp_path / "state", tmp_path / "sites")


def test_a_daemon_takes_no_name_while_its_host_moves(tmp_path: Path) -> None:
    locks = staying(tmp_path)
    with locks.domain(NAME):
        pass
    move_journal.begin(tmp_path / "sites", MOVE)
    before = sorted((tmp_path / "locks").iterdir())
    with pytest.raises(Busy, match="moving to another way"), locks.domain(Domain("other.example.com")):
        pass
    assert sorted((tmp_path / "locks").iterdir()) == before, "nothing is made"
    move_journal.end(tmp_path / "sites")
    with (
        locks.domain(NAME),
        pytest.raises(Busy, match="other commands of certctl are at work"),
        move_journal.turn(tmp_path / "sites", alone=True, wait=AT_ONCE),
    ):
        pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_daemon_takes_no_name_once_its_host_has_moved(tmp_path: Path) -> None:
    locks = staying(tmp_path)
    os.chown(tmp_path / "state", 4321, 4321)
    with pytest.raises(ConfigInvalid, match="the host serves in another mode") as caught, locks.domain(NAME):
        pass
    assert caught.value.slug == "state-unwritable"
    assert caught.value.next[0] == "certctl serve --install"
    assert not (tmp_path / "locks").exists()


def test_root_on_a_host_may_give_files_away() -> None:
    effective = next(line for line in Path("/proc/self/status").read_text().splitlines() if "CapEff" in line)
    assert fsuid.may_change_owners() is bool(int(effective.split()[1], 16) & 1)
