"""Run programs, here alone: no shell, no terminal, a deadline, an environment of its own, bounded capture.

execve(2) resets the filesystem ids to root's, so a program is started as the owner of certctl's state: it might
follow a link that was planted there. Programs that run as root are the exception, and each call says why.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import IO

from certctl.io import fsuid

_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_KEPT = ("LANG", "LC_ALL", "LC_CTYPE", "TZ")
_MAX_OUTPUT = 1_000_000
_GRACE = timedelta(seconds=5)
_children: set["subprocess.Popen[bytes]"] = set()


class Missing(Exception):
    """The program is not installed or not executable.

    Attributes:
        elsewhere: Where this user's PATH has it; empty when it does not either.
    """

    def __init__(self, program: str, elsewhere: str = "") -> None:
        super().__init__(program)
        self.elsewhere = elsewhere


@dataclass(frozen=True, slots=True)
class Finished:
    """How a program ended. ``code`` is negative for a signal, None when the deadline killed it."""

    code: int | None
    output: str

    @property
    def ok(self) -> bool:
        """Tell whether it exited with 0."""
        return self.code == 0


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return a child's environment, built from an allow-list.

    A child does not inherit our PYTHONPATH, LD_PRELOAD, HOME (with a cli.ini), CERTBOT_* or SSLKEYLOGFILE.
    """
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    return {"PATH": _SYSTEM_PATH, "LANG": "C.UTF-8", "PYTHONUNBUFFERED": "1"} | kept | dict(extra or {})


def find(program: str) -> str:
    """Return the absolute path of a program: as given, or on the system's default PATH.

    The user's PATH is not searched: a service does not have it, and would not find the program.

    Raises:
        Missing: it is not there.
    """
    if found := shutil.which(program, path=_SYSTEM_PATH):
        return found
    raise Missing(program, shutil.which(program) or "")


def find_by_hand(program: str) -> str:
    """Return the absolute path of a program that no service starts; the user's PATH is searched as well.

    Raises:
        Missing: it is nowhere.
    """
    try:
        return find(program)
    except Missing as error:
        if error.elsewhere:
            return error.elsewhere
        raise


def beside_python(program: str) -> Path:
    """Return a script installed next to the running interpreter, such as our own certbot."""
    return Path(sys.executable).parent / program


@contextmanager
def running(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    keep_open: Sequence[int] = (),
    given: IO[bytes] | None = None,
    root_because: str = "",
    output: IO[bytes],
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a program in a process group of its own; leaving the block kills what is left of the group.

    Args:
        argv: The program and its arguments.
        env: More variables for its environment.
        keep_open: Descriptors it inherits.
        given: A file that becomes its stdin, otherwise /dev/null.
        root_because: Why root runs it as root. Otherwise it runs as the owner of the state, with no other groups,
            also within ``fsuid.as_root``.
        output: A file that takes its stdout and stderr.

    Raises:
        Missing: the program cannot be executed.
    """
    owner = None if root_because else fsuid.working_for()
    user, group, others = (owner.uid, owner.gid, list[int]()) if owner else (None, None, None)
    try:
        child = subprocess.Popen(
            list(argv), stdin=given or subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            env=environment(env), pass_fds=tuple(keep_open), start_new_session=True,
            user=user, group=group, extra_groups=others,
        )  # fmt: skip
    except OSError as error:
        raise Missing(argv[0]) from error
    _children.add(child)
    try:
        yield child
    finally:
        _children.discard(child)
        _end(child, _GRACE)


def run(
    argv: Sequence[str],
    *,
    deadline: timedelta,
    env: Mapping[str, str] | None = None,
    given: bytes = b"",
    root_because: str = "",
    grace: timedelta = _GRACE,
) -> Finished:
    """Run a program to its end or its deadline and return what it printed, stdout and stderr together.

    Its stdin is a file, so that a program which never reads cannot block us. For the user it runs as see
    ``running``.

    Raises:
        Missing: the program cannot be executed.
    """
    with tempfile.TemporaryFile() as captured, tempfile.TemporaryFile() as told:
        told.write(given)
        told.seek(0)
        told_it = told if given else None
        with running(argv, env=env, given=told_it, root_because=root_because, output=captured) as child:
            code = wait(child, deadline)
            if code is None:
                _end(child, grace)
            return Finished(code, read_output(captured))


def fork(run: Callable[[], int]) -> int:
    """Fork a child that runs a function and exits with its result; return the child's pid.

    The child has a session of its own, so no terminal, and no stdin. Call it before any thread is started.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    pid = os.fork()
    if pid:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return pid
    code = 1
    try:  # whatever happens, what is on this stack belongs to the other process
        os.setsid()
        with Path(os.devnull).open("rb") as nothing:
            os.dup2(nothing.fileno(), 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        code = run()
        sys.stdout.flush()
    finally:
        os._exit(code)


def wait(child: "subprocess.Popen[bytes]", deadline: timedelta) -> int | None:
    """Wait for a running program and return its exit code; None when it did not end in time."""
    try:
        return child.wait(timeout=max(0.0, deadline.total_seconds()))
    except subprocess.TimeoutExpired:
        return None


def end_children() -> None:
    """Send SIGTERM to every program that we run, because the run was asked to stop."""
    for child in tuple(_children):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGTERM)


def read_output(captured: IO[bytes]) -> str:
    """Return the last part of the captured output, as text; a child may print without end."""
    size = captured.seek(0, os.SEEK_END)
    captured.seek(max(0, size - _MAX_OUTPUT))
    return captured.read().decode("utf-8", "replace")


def _end(child: "subprocess.Popen[bytes]", grace: timedelta) -> None:
    """End the process group: SIGTERM, then after ``grace`` SIGKILL."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, number)
        try:
            child.wait(timeout=grace.total_seconds())
        except subprocess.TimeoutExpired:
            continue
        else:
            break
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
