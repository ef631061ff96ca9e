"""Start a program that outlives this process, find it again later, and end exactly that one."""

import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from certctl.errors import ConfigInvalid
from certctl.io import escape
from certctl.io.process import Missing, environment, find_by_hand
from certctl.slugs import Slug

_POLL_SECONDS = 0.02
_TERM_SECONDS = 5
_KILL_SECONDS = 5
_LAST_LINES = 12


@dataclass(frozen=True, slots=True)
class Daemon:
    """A process in a session of its own.

    Attributes:
        started: When it started, in clock ticks since boot (proc(5), stat field 22): its pid alone may have been
            reused.
    """

    name: str
    pid: int
    started: int
    log: str

    @property
    def running(self) -> bool:
        """Tell whether the process still runs, and not another one with its pid."""
        stat = _stat(self.pid)
        return stat is not None and stat.alive and stat.started == self.started

    def log_tail(self) -> list[str]:
        """Return the end of its log."""
        with suppress(OSError):
            return escape.lines(Path(self.log).read_text(encoding="utf-8", errors="replace"), _LAST_LINES)
        return []


def start(name: str, argv: Sequence[str], log: Path, env: dict[str, str] | None = None) -> Daemon:
    """Start a program in a session of its own, with its output in ``log``.

    It uses posix_spawn: a subprocess.Popen would warn when it is deleted before the program has ended.

    Raises:
        ConfigInvalid: ``missing-program``.
    """
    to_log = (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        program = find_by_hand(argv[0])
        pid = os.posix_spawn(
            program,
            [program, *argv[1:]],
            environment(env),
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                to_log,
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
            setsigmask=[],
            setsigdef=[signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE, signal.SIGHUP],
        )
    except (Missing, PermissionError) as error:
        raise ConfigInvalid(
            Slug.MISSING_PROGRAM,
            f"{argv[0]} is not installed",
            next=["./demo installs what the sandbox needs"],
        ) from error
    stat = _stat(pid)
    return Daemon(name, pid, stat.started if stat else 0, str(log))


def stop(daemon: Daemon) -> None:
    """End a program by SIGTERM, then all of its session by SIGKILL; return when they are gone.

    Only its own session is killed: a process that has reused its pid is left alone.
    """
    if daemon.running:
        with suppress(ProcessLookupError):
            os.kill(daemon.pid, signal.SIGTERM)
        _wait_until_gone(daemon, _TERM_SECONDS)
    for pid in _session(daemon):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    _wait_until_gone(daemon, _KILL_SECONDS)
    with suppress(ChildProcessError):  # our own child only in a program that calls ``up`` and stays
        os.waitpid(daemon.pid, os.WNOHANG)


def _wait_until_gone(daemon: Daemon, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while _session(daemon) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def _session(daemon: Daemon) -> list[int]:
    """Return the pids of its session that are alive, such as nginx workers after their master was killed."""
    leader = _stat(daemon.pid)
    if leader and leader.started != daemon.started:
        return []
    found = [(int(entry.name), _stat(int(entry.name))) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid, stat in found if stat and stat.alive and stat.session == daemon.pid]


@dataclass(frozen=True, slots=True)
class _Stat:
    """The fields read from ``/proc/PID/stat`` (proc(5)); a zombie is not alive."""

    alive: bool
    session: int
    started: int


def _stat(pid: int) -> _Stat | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name in parentheses may hold spaces; field 3 follows it
    return _Stat(fields[0] not in {"Z", "X"}, int(fields[3]), int(fields[19]))
