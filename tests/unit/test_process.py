"""What a program may know of us, how long it may run, and what is left of it afterwards: nothing."""

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from certctl.io.process import Missing, beside_python, end_children, find, find_by_hand, run, running, wait

LONG, SHORT = timedelta(seconds=120), timedelta(seconds=0.2)


def until(condition: Callable[[], object]) -> None:
    give_up = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < give_up, "waited in vain"
        time.sleep(0.01)


def lives(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def test_a_program_sees_the_language_and_the_time_zone_and_nothing_else_of_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = {"LANG": "de_DE.UTF-8", "LC_ALL": "C", "LC_CTYPE": "C.UTF-8", "TZ": "Asia/Tokyo"}
    ours = {"PYTHONPATH": "/evil", "LD_PRELOAD": "", "HOME": "/evil", "SSLKEYLOGFILE": "/evil", "CERTBOT_X": "1"}
    for name, value in (kept | ours).items():
        monkeypatch.setenv(name, value)
    said = run(["env"], deadline=LONG, env={"CERTCTL_SOCKET": "5"}).output.splitlines()
    seen = dict(line.split("=", 1) for line in said)
    path = seen.pop("PATH")
    assert path.startswith("/usr/local/sbin:")
    assert seen == kept | {"PYTHONUNBUFFERED": "1", "CERTCTL_SOCKET": "5"}


@pytest.mark.parametrize("given", [b"", b"told"])
def test_a_program_reads_what_it_is_given_and_nothing_of_the_terminals(given: bytes) -> None:
    ended = run(["sh", "-c", "readlink /proc/self/fd/0; cat"], deadline=LONG, given=given)
    where, _, read = ended.output.partition("\n")
    assert (ended.ok, read, where == "/dev/null") == (True, given.decode(), not given)


def test_of_a_program_that_says_very_much_the_last_words_are_kept() -> None:
    script = "print('first' + 'x' * 1_000_000 + 'last', end='')"
    ended = run([sys.executable, "-c", script], deadline=LONG)
    assert (len(ended.output), ended.output[:1], ended.output[-5:]) == (1_000_000, "x", "xlast")
    assert run(["echo", "all of it"], deadline=LONG).output == "all of it\n"


def test_a_program_that_fails_is_told_from_one_that_is_not_there() -> None:
    failed = run(["sh", "-c", "exit 3"], deadline=LONG)
    assert (failed.code, failed.ok) == (3, False)
    with pytest.raises(Missing):
        run(["/no/such/program"], deadline=LONG)


@pytest.mark.parametrize("ignored", ["", "TERM"])
def test_a_program_that_does_not_end_in_time_is_ended_with_all_it_started(tmp_path: Path, ignored: str) -> None:
    script = f"trap '' {ignored}; sleep 600 & echo $! > {tmp_path}/pid; wait; sleep 600"
    ended = run(["sh", "-c", script], deadline=timedelta(seconds=1), grace=SHORT)
    assert (ended.code, ended.ok) == (None, False)
    until(lambda: not lives(int((tmp_path / "pid").read_text())))


def test_a_program_is_asked_to_end_before_it_is_made_to() -> None:
    script = "trap 'echo asked; exit' TERM; sleep 600 & wait"
    assert run(["sh", "-c", script], deadline=timedelta(seconds=1)).output == "asked\n"


def test_what_a_program_leaves_behind_is_ended_too(tmp_path: Path) -> None:
    ended = run(["sh", "-c", f"sleep 600 & echo $! > {tmp_path}/pid"], deadline=LONG)
    assert ended.ok
    until(lambda: not lives(int((tmp_path / "pid").read_text())))


def test_asked_to_stop_every_program_is_asked_to_end_and_one_that_has_is_no_trouble() -> None:
    with (
        tempfile.TemporaryFile() as output,
        running(["sleep", "600"], output=output) as sleeping,
        running(["true"], output=output) as ended,
    ):
        assert wait(ended, LONG) == 0
        end_children()
        assert wait(sleeping, LONG) == -15


def test_a_program_is_looked_for_where_a_service_would_and_by_hand_on_the_own_path_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "mine"
    mine.write_text("#!/bin/sh\n")
    mine.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find("sh") == find_by_hand("sh") == shutil.which("sh", path="/usr/bin:/bin")
    assert find_by_hand("mine") == str(mine)
    with pytest.raises(Missing) as caught:
        find("mine")
    assert caught.value.elsewhere == str(mine)
    for look in (find, find_by_hand):
        with pytest.raises(Missing):
            look("no-such-program")
    assert beside_python("certbot") == Path(sys.executable).with_name("certbot")


@pytest.mark.parametrize(("ends", "code"), [("3", 3), ("1 / 0", 1)])
def test_a_copy_of_this_process_ends_with_its_own_result_and_has_no_terminal(ends: str, code: int) -> None:
    script = f"""
import os, sys
from certctl.io.process import fork
def copy():
    print(os.getsid(0) == os.getpid(), sys.stdin.read() == "")
    return {ends}
pid = fork(copy)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    argv = [sys.executable, "-E", "-c", script]  # so that what it says is buffered
    ended = subprocess.run(argv, input="not for it", capture_output=True, text=True, timeout=120, check=True)
    said = ended.stdout.splitlines()
    assert said[-1] == str(code)
    assert said[:-1] == ["True True"] * (code == 3), "what it had said is not lost"
