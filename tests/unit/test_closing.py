"""Nothing stays open: Python 3.13 complains of a database that nobody closed, and earlier ones keep silent."""

import json
import subprocess
import sys
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from certctl.app import move_journal
from certctl.app.context import Context
from certctl.app.move_journal import Kind, Move
from certctl.cli.framework import Invocation
from certctl.cli.opening import open_context
from certctl.errors import ConfigInvalid
from certctl.slugs import Slug
from certctl.values import Mode

# An audit hook stays for as long as its process lives, hence one of its own.
_RUN = """
import json, sqlite3, sys
from certctl.cli import run
from certctl.cli.framework import Invocation

opened = []
sys.addaudithook(lambda event, about: opened.append(about[0]) if event == "sqlite3.connect/handle" else None)

def is_open(connection):
    try:
        connection.execute("SELECT 1")
    except sqlite3.ProgrammingError:
        return False
    return True

code = run(sys.argv[1:], Invocation())
print(json.dumps({"code": code, "opened": len(opened), "open": sum(map(is_open, opened))}))
"""


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("status", 0),
        ("status unknown.example.net", 10),
        ("log", 0),
        ("budget", 0),
        ("renew", 0),
        ("reconcile", 0),
    ],
)
def test_whatever_a_command_does_it_closes_the_store(tmp_path: Path, command: str, code: int) -> None:
    config = tmp_path / "config.toml"
    config.write_text("# the defaults\n")
    argv = ["--config", str(config), "--root", str(tmp_path), *command.split()]
    ran = subprocess.run(
        [sys.executable, "-c", _RUN, *argv], capture_output=True, text=True, timeout=240, check=True
    )
    said = json.loads(ran.stdout.splitlines()[-1])
    assert (said["code"], said["opened"] > 0, said["open"]) == (code, True, 0), ran.stderr


def test_who_moves_a_host_closes_the_store_of_both_its_modes(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("# the defaults\n")
    before = open_context(Invocation(config=tmp_path / "config.toml", root=tmp_path))
    after = before.in_mode("shared")
    assert (before.store.count(), after.store.count()) == (0, 0)
    assert [file.suffix for file in open_files() if file.is_relative_to(tmp_path)].count(".db") == 2
    before.close()
    assert [file for file in open_files() if file.is_relative_to(tmp_path)] == []


def test_who_finishes_a_move_that_was_cut_short_closes_the_stores_of_both_its_modes(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text("# the defaults\n")
    cut_short = Move(Kind.MOVE, Mode.BLOCKS, Mode.BLOCKS, config, changes_owner=False, values={})
    move_journal.begin(tmp_path / "var/lib/certctl-sites", cut_short)
    argv = ["--config", str(config), "--root", str(tmp_path), "reconcile"]
    ran = subprocess.run(
        [sys.executable, "-c", f"import gc; gc.disable()\n{_RUN}", *argv],
        capture_output=True, text=True, timeout=240, check=True,
    )  # fmt: skip
    said = json.loads(ran.stdout.splitlines()[-1])
    assert "was cut short" in ran.stderr
    assert (said["opened"] > 1, said["open"]) == (True, 0), ran.stderr


def test_who_may_not_work_in_the_state_keeps_nobody_from_a_move(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Context) -> None:
        raise ConfigInvalid(Slug.MISSING_PROGRAM, "its owner cannot read certctl")

    (tmp_path / "config.toml").write_text("# the defaults\n")
    sites = tmp_path / "var/lib/certctl-sites"
    sites.mkdir(parents=True)
    monkeypatch.setattr("certctl.app.opening.work_as_owner", refuse)
    with pytest.raises(ConfigInvalid) as caught:
        open_context(Invocation(config=tmp_path / "config.toml", root=tmp_path))
    with move_journal.turn(sites, alone=True, wait=timedelta(0)):
        assert caught.value.slug is Slug.MISSING_PROGRAM


def open_files() -> list[Path]:
    """Return what this process has open, but for what closes while we look."""
    found = []
    for fd in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found.append(fd.readlink())
    return found
