"""The running nginx: its master, its workers, and a reload that is proven.

``nginx -s reload`` exits 0 although the master keeps the old configuration when a shared memory zone changed,
a port is taken or descriptors run out (measured, nginx 1.22.1). The proof is that new workers appear under the
master and that every old one has stopped accepting.
"""

import os
import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from certctl.errors import WebServerFailed
from certctl.io.clock import Deadline
from certctl.io.process import Missing, run
from certctl.nginx import mainconf
from certctl.nginx.command import NginxCommand
from certctl.nginx.settings import NginxSettings

_MASTER = b"nginx: master process"
_WORKER = b"nginx: worker process"
_RETIRING = b"nginx: worker process is shutting down"
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.01, 0.1
_LOG_TAIL = 200_000


@dataclass(frozen=True, slots=True)
class Workers:
    """The worker processes of one master at one moment, each as (pid, start time)."""

    accepting: frozenset[tuple[int, str]]
    retiring: frozenset[tuple[int, str]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a reload went.

    Attributes:
        refusal: What shows that nginx kept its old configuration; empty when it merely did not answer in time.
    """

    took: bool
    seconds: float
    refusal: str = ""


class Master:
    """The master process in the pid file."""

    def __init__(self, settings: NginxSettings, command: NginxCommand) -> None:
        self._settings = settings
        self._command = command

    def pid(self) -> int | None:
        """Return the pid of a running master; None when the pid file is stale, empty, foreign or absent."""
        try:
            text = mainconf.pid_file(self._settings.config, self._command.build).read_text(encoding="ascii")
            pid = int(text)
        except (OSError, ValueError):
            return None
        return pid if pid > 1 and _title(pid).startswith(_MASTER) else None

    def reload(self) -> Outcome:
        """Make nginx read its files again and wait for the proof.

        Raises:
            WebServerFailed: ``nginx-not-running``; ``nginx-reload-failed`` when it could not be asked.
        """
        pid = self.pid()
        command = self._settings.reload_command
        if pid is None and not command:
            raise WebServerFailed(
                "nginx-not-running",
                "nginx is not running: the files are in place and tested, and nginx will serve them when it starts",
                next=["systemctl start nginx", "certctl reconcile"],
            )
        started = time.monotonic()
        before = workers(pid) if pid else None
        log = _LogTail(mainconf.error_log(self._settings.config, self._command.build), pid)
        if command:
            self._run(command)
        elif pid:
            _hang_up(pid)
        if pid is None or before is None:
            return Outcome(took=True, seconds=time.monotonic() - started)  # elsewhere: the wire will tell
        took, refusal = self._watch(pid, before, log)
        return Outcome(took, time.monotonic() - started, refusal)

    def _watch(self, pid: int, before: Workers, log: "_LogTail") -> tuple[bool, str]:
        """Wait for a new generation that has taken over; return whether it came, and else why not."""
        deadline = Deadline.after(self._settings.test_deadline)
        pause = _SHORTEST_PAUSE
        old = before.accepting
        while deadline.remaining():
            now = workers(pid)
            if now.accepting - old and not now.accepting & old:
                return True, ""
            if refusal := log.refusal():
                return False, refusal
            if not _title(pid).startswith(_MASTER):
                return False, log.any_line() or "the master process ended"
            time.sleep(pause)
            pause = min(pause * 1.2, _LONGEST_PAUSE)
        return False, log.any_line()

    def _run(self, command: tuple[str, ...]) -> None:
        try:
            ended = run(command, deadline=self._settings.test_deadline)
        except Missing as error:
            raise WebServerFailed(
                "nginx-reload-failed", f"the reload command {command[0]} cannot be run", next=["certctl doctor"]
            ) from error
        if not ended.ok:
            raise WebServerFailed(
                "nginx-reload-failed",
                f"the reload command ended with {'the deadline' if ended.code is None else ended.code}",
                seen=ended.output.splitlines()[-5:],
            )


def workers(master: int) -> Workers:
    """Return the workers of a master: children whose title says so (ngx_setproctitle, nginx 1.22.1)."""
    accepting, retiring = set[tuple[int, str]](), set[tuple[int, str]]()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        parent, started = _family(int(entry.name))
        title = _title(int(entry.name)) if parent == master else b""
        if title.startswith(_RETIRING):
            retiring.add((int(entry.name), started))
        elif title.startswith(_WORKER):
            accepting.add((int(entry.name), started))
    return Workers(frozenset(accepting), frozenset(retiring))


class _LogTail:
    """What the master has logged since a moment."""

    def __init__(self, path: Path | None, master: int | None) -> None:
        self._path = path
        self._emerg = re.compile(rf"\[emerg\] {master}#\d+: (.*)")
        self._from = self._size()

    def refusal(self) -> str:
        """Return the line that ended the reload; a failing bind is tried five times before that."""
        return next((line for line in self._lines() if not line.startswith("bind() to")), "") and self.any_line()

    def any_line(self) -> str:
        """Return the first ``[emerg]`` line, which names the cause."""
        return next(iter(self._lines()), "")

    def _lines(self) -> list[str]:
        if self._path is None:
            return []
        try:
            with self._path.open("rb") as file:
                file.seek(self._from if self._from <= self._size() else 0)
                return self._emerg.findall(file.read(_LOG_TAIL).decode("utf-8", "replace"))
        except OSError:
            return []

    def _size(self) -> int:
        try:
            return self._path.stat().st_size if self._path else 0
        except OSError:
            return 0


def _hang_up(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGHUP)
    except OSError as error:
        raise WebServerFailed(
            "nginx-reload-failed",
            f"nginx's master (process {pid}) could not be signalled: {error.strerror}",
            next=["sudo certctl reload"],
        ) from error


def _title(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _family(pid: int) -> tuple[int, str]:
    """Return the parent's pid and the start time of a process (proc_pid_stat(5), fields 4 and 22)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return int(fields[1]), fields[19]
    except (OSError, IndexError, ValueError):
        return 0, ""
