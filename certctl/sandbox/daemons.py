"""Start a program that outlives us, know it again later, and end exactly that one."""

import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from certctl.errors import ConfigInvalid
from certctl.io import escape
from certctl.io.process import Missing, environment, find

_POLL_SECONDS = 0.02
_TERM_SECONDS = 5
_KILL_SECONDS = 5
_LAST_LINES = 12


@dataclass(frozen=True, slots=True)
class Daemon:
    """A process in a session of its own.

    Attributes:
        started: When it started, in clock ticks since boot (proc(5), stat field 22): its pid alone may be
            somebody else's by now.
    """

    name: str
    pid: int
    started: int
    log: str

    @property
    def running(self) -> bool:
        """Tell whether this very process still runs."""
        return _start_time(self.pid) == self.started

    def last_words(self) -> list[str]:
        """Return the end of its log."""
        with suppress(OSError):
            return escape.lines(Path(self.log).read_text(encoding="utf-8", errors="replace"), _LAST_LINES)
        return []


def start(name: str, argv: Sequence[str], log: Path, env: dict[str, str] | None = None) -> Daemon:
    """Start a program with its output in ``log`` and no tie to our terminal or our end.

    posix_spawn rather than subprocess: nobody waits for it, so there is no object whose end would complain.

    Raises:
        ConfigInvalid: ``missing-program``.
    """
    to_log = (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        program = find(argv[0])
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
            "missing-program",
            f"{argv[0]} is not installed",
            next=["./demo installs what the sandbox needs"],
        ) from error
    return Daemon(name, pid, _start_time(pid) or 0, str(log))


def stop(daemon: Daemon) -> None:
    """Ask it to end, then make it; return when it is gone. A process that only has its pid is left alone."""
    for number, patience in ((signal.SIGTERM, _TERM_SECONDS), (signal.SIGKILL, _KILL_SECONDS)):
        if not daemon.running:
            break
        with suppress(ProcessLookupError):
            os.kill(daemon.pid, number)
        _wait_until_gone(daemon, patience)
    _reap(daemon)


def _wait_until_gone(daemon: Daemon, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while daemon.running and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def _reap(daemon: Daemon) -> None:
    """Collect it when it is our own child; after ``sandbox up`` has ended, init does that."""
    with suppress(ChildProcessError):
        os.waitpid(daemon.pid, os.WNOHANG)


def _start_time(pid: int) -> int | None:
    """Return when a process started, or None when there is none; a zombie counts as gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # the name in parentheses may hold spaces
    return None if fields[0] in {"Z", "X"} else int(fields[19])
