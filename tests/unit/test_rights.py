"""Root reaches files as another user, in every thread and nowhere by accident as itself."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from certctl.cli.framework import Invocation
from certctl.cli.opening import open_context
from certctl.io import fsuid

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can work as another user")
OWNER = "Owner(4321, 4322)"
_PREPARED = """
import os, sys, tempfile, threading
from pathlib import Path
from certctl.ca.solvers.certbot_plugin import require_private_files
from certctl.errors import ConfigInvalid
from certctl.io import fsuid as rights, process
from certctl.io.fsuid import Owner
from certctl.values import DnsSolver
place = Path(sys.argv[1])
def may_read_roots():
    try:
        return bool((place / "roots").read_text())
    except PermissionError:
        return False
def may_write_the_groups():
    try:
        return bool((place / "groups").write_text("x"))
    except PermissionError:
        return False
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory of the owner's, with a file that is root's and one that root's group may write."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        (place / "roots").write_text("secret")
        (place / "roots").chmod(0o600)
        (place / "groups").touch()
        (place / "groups").chmod(0o660)
        if os.geteuid() == 0:
            os.chown(place, 4321, 4322)
        yield place


def said(place: Path, script: str) -> list[str]:
    """Run a script in a process of its own: what it gives up it would not get back."""
    argv = [sys.executable, "-c", _PREPARED + script, str(place)]
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


@AS_ROOT
def test_root_may_what_the_owner_may_and_makes_what_is_the_owners(place: Path) -> None:
    script = f"rights.work_as({OWNER}); print(may_read_roots(), may_write_the_groups()); (place / 'new').touch()"
    assert said(place, script) == ["False False"]
    facts = (place / "new").stat()
    assert (facts.st_uid, facts.st_gid) == (4321, 4322)


@AS_ROOT
def test_threads_inherit_it_and_root_is_root_for_a_block_of_one_thread_only(place: Path) -> None:
    script = f"""
rights.work_as({OWNER})
seen = []
def look(): seen.append(may_read_roots())
def run():
    thread = threading.Thread(target=look); thread.start(); thread.join()
go, gone = threading.Event(), threading.Event()
def wait(): go.wait(); look(); gone.set()
run()
threading.Thread(target=wait).start()
with rights.as_root():
    look()
    go.set(); gone.wait()
look()
try:
    with rights.as_root(): raise KeyError
except KeyError: look()
print(*seen)
"""
    assert said(place, script) == ["False True False False False"]


@AS_ROOT
def test_programs_are_the_owners_even_where_root_looks_unless_the_call_says_why_not(place: Path) -> None:
    script = f"""
from datetime import timedelta
def said(argv, **why): return process.run(argv, deadline=timedelta(seconds=9), **why).output.strip()
rights.work_as({OWNER})
with rights.as_root():
    print(said(["id", "-u"]), said(["id", "-G"]), said(["cat", str(place / "roots")]) == "secret")
print(said(["id", "-u"]), said(["id", "-G"]))
print(said(["cat", str(place / "roots")], root_because="it is root's own"))
"""
    assert said(place, script) == ["4321 4322 False", "4321 4322", "secret"]


@AS_ROOT
def test_the_doctor_asks_a_certbot_of_its_own_place_as_the_owner_and_starts_ours_not_at_all(place: Path) -> None:
    """Started as root it would follow what the owner put where certbot keeps its log."""
    script = f"""
import sys
from dataclasses import replace
from certctl.ca.doctor import examine
from certctl.ca.directory import Directory
from certctl.ca.settings import CaSettings
from certctl.io.clock import SystemClock
rights.work_as({OWNER})
ours = CaSettings("https://127.0.0.1:1/dir", place / "acme", place / "challenges")
nobody = lambda settings: Directory(settings, SystemClock())
with rights.as_root():
    its_own = place / "bin" / "certbot"
    its_own.parent.mkdir()
    its_own.write_text("#!/bin/sh\\nid -u >> " + str(place / "who") + "; echo certbot 5.8.0\\n")
    its_own.chmod(0o755)
    place.chmod(0o755)
    texts = [finding.text for finding in examine(ours, nobody(ours))]
    print(sum("certbot sees certctl's authenticator" in text for text in texts), len(list(place.iterdir())))
print(sum("does not see" in f.text for f in examine(replace(ours, certbot=its_own), nobody(ours))))
print((place / "who").read_text().strip())
"""
    assert said(place, script) == ["1 3", "1", "4321", "4321"]  # find_certbot asks it, and doctor shows it


@AS_ROOT
def test_going_back_to_root_is_a_step_of_its_own(place: Path) -> None:
    script = f"rights.work_as({OWNER}); rights.work_as(Owner(0, 0)); print(may_read_roots(), rights.acting_as())"
    assert said(place, script) == ["True None"]


@AS_ROOT
def test_who_gives_roots_rights_up_for_good_is_asked_for_no_more_of_them(place: Path) -> None:
    """As the daemon does, after it has finished a move as somebody else."""
    script = f"""
rights.work_as({OWNER}); rights.work_as(Owner(0, 0))
os.setgid(4322); os.setuid(4321)
with rights.as_root():
    print(rights.acting_as(), may_read_roots())
"""
    assert said(place, script) == ["None False"]


@AS_ROOT
def test_a_root_whose_own_the_state_is_keeps_what_its_login_has(place: Path) -> None:
    script = "os.setgroups([4242]); rights.work_as(Owner(0, 0)); print(os.getgroups(), rights.acting_as())"
    assert said(place, script) == ["[4242] None"]


@AS_ROOT
def test_who_is_not_root_stays_who_it_is(place: Path) -> None:
    script = """
os.setgroups([]); os.setgid(4322); os.setuid(4321)
rights.work_as(Owner(1, 1))
with rights.as_root():
    print(rights.acting_as(), rights.working_for(), may_read_roots())
"""
    assert said(place, script) == ["None None False"]


@AS_ROOT
def test_credentials_that_the_owner_cannot_read_are_no_reason_to_be_root(place: Path) -> None:
    script = f"""
rights.work_as({OWNER})
try:
    require_private_files(DnsSolver("rfc2136", (("credentials", str(place / "roots")),)))
except ConfigInvalid as error:
    print(error.slug, error.next[0])
"""
    assert said(place, script) == [f"config-invalid chown 4321 {place}/roots"]


@AS_ROOT
def test_where_a_directory_above_a_file_is_closed_it_is_named_and_no_command_that_would_not_help(
    place: Path,
) -> None:
    (place / "home").mkdir(mode=0o700)
    (place / "home/below").mkdir()
    (place / "home/below/file").write_text("x")
    script = f"""
rights.work_as({OWNER})
try:
    require_private_files(DnsSolver("rfc2136", (("credentials", str(place / "home/below/file")),)))
except ConfigInvalid as error:
    print(error.expected[0], error.next)
"""
    reader = "a file that user 4321 can read, who owns certctl's state"
    assert said(place, script) == [f"{reader}, and not below {place}/home ('certctl explain config-invalid',)"]


@AS_ROOT
def test_a_root_that_may_become_nobody_says_so(place: Path) -> None:
    script = f"""
import ctypes
PR_CAPBSET_DROP, SETUID = 24, 7
header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
libc = ctypes.CDLL(None)
assert libc.capget(header, data) == 0
data[0] &= ~(1 << SETUID)
assert libc.capset(header, data) == 0
try:
    rights.work_as({OWNER})
except ConfigInvalid as error:
    print(error.slug)
"""
    assert said(place, script) == ["state-unwritable"]


@AS_ROOT
def test_who_cannot_read_certctl_itself_is_not_worked_for(place: Path) -> None:
    """Such as a certctl in /root: its modules could not be loaded any more, and certbot not be started."""
    script = """
import certctl
from certctl.cli.framework import Invocation
from certctl.cli.opening import open_context
certctl.__file__ = str(place / "closed" / "certctl.py")
(place / "closed").mkdir(0o700); Path(certctl.__file__).touch()
(place / "var/lib/certctl").mkdir(parents=True); os.chown(place / "var/lib/certctl", 4321, 4322)
try:
    open_context(Invocation(root=place, config=place / "config.toml"))
except ConfigInvalid as error:
    print(error.slug, rights.acting_as())
"""
    (place / "config.toml").write_text("# the defaults\n")
    assert said(place, script) == ["missing-program None"]


def test_nothing_changes_where_the_state_is_that_of_whoever_runs_this(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("# the defaults\n")
    (tmp_path / "var/lib/certctl").mkdir(parents=True)
    open_context(Invocation(root=tmp_path, config=tmp_path / "config.toml"))
    assert fsuid.acting_as() is None
    assert not (tmp_path / "run").exists()
