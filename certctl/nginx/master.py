"""A proven reload of the running nginx: the signal to its master, and the workers before and after.

Whether nginx runs is found by requests to it (``challenge``, ``handshake``): what ``/proc`` shows depends on the
reader's rights.

``nginx -s reload`` exits 0 although the master keeps the old configuration when a shared memory zone changed, a
port is taken or descriptors run out (measured, nginx 1.22.1). The proof is that new workers appear under the master
and that every old one has stopped accepting.
"""

import os
import re
import signal
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from certctl.errors import WebServerFailed
from certctl.io.clock import Deadline
from certctl.io.fsuid import as_root
from certctl.io.process import Missing, run
from certctl.nginx import mainconf
from certctl.nginx.command import NginxCommand
from certctl.nginx.handshake import is_answered
from certctl.nginx.service import name_of
from certctl.nginx.settings import NginxSettings
from certctl.slugs import Slug

_MASTER = b"nginx: master process"
_WORKER = b"nginx: worker process"
_RETIRING = b"nginx: worker process is shutting down"
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.01, 0.1
_LOG_TAIL = 200_000
_SPARE_DESCRIPTORS = 8  # the files being read, /dev/null, the pid file
_HANDSHAKES_END = timedelta(seconds=10)  # a visitor's patience; a download may keep an old worker for hours


@dataclass(frozen=True, slots=True)
class Workers:
    """The worker processes of one master at one moment, each as (pid, start time)."""

    accepting: frozenset[tuple[int, str]]
    retiring: frozenset[tuple[int, str]]


@dataclass(frozen=True, slots=True)
class ReloadResult:
    """The result of a reload.

    Attributes:
        kept_old: Whether nginx logged that it keeps the old configuration; if not, it may still follow.
        said: The line of the error log that says so.
    """

    took: bool
    seconds: float
    kept_old: bool = False
    said: str = ""


class Master:
    """The master process that the pid file names."""

    def __init__(self, settings: NginxSettings, command: NginxCommand) -> None:
        self._settings = settings
        self._command = command

    @as_root()
    def pid(self) -> int | None:
        """Return the pid of a running master; None when the pid file is stale, empty, foreign or absent."""
        try:
            text = mainconf.pid_file(self._settings.config, self._command.build).read_text(encoding="ascii")
            pid = int(text)
        except (OSError, ValueError):
            return None
        return pid if pid > 1 and _title(pid).startswith(_MASTER) else None

    def reload(self) -> ReloadResult:
        """Make nginx read its configuration again (SIGHUP, or ``reload_command``), and return the result.

        Raises:
            WebServerFailed: ``nginx-not-running``; ``nginx-reload-failed`` when the signal or command failed.
        """
        pid = self.pid()
        command = self._settings.reload_command
        if pid is None and not command:
            raise self._unseen()
        started = time.monotonic()
        before = workers(pid) if pid else None
        log = _LogTail(mainconf.error_log(self._settings.config, self._command.build), pid)
        if command:
            self._run(command)
        elif pid and before:
            _check_descriptors(pid, len(before.accepting), name_of(pid, self._settings.binary))
            _hang_up(pid)
        if pid is None or before is None:
            return ReloadResult(took=True, seconds=time.monotonic() - started)  # elsewhere: the wire will tell
        took = self._watch(pid, before, log)
        return ReloadResult(took, time.monotonic() - started, bool(log.refusal()), log.first_line())

    def wait_for_handshakes(self) -> None:
        """Wait until no worker of an older configuration can still be in a handshake.

        A worker that has accepted a connection keeps it, and behind a catch-all opens the pair only when the client
        sends SNI.
        """
        deadline = Deadline.after(_HANDSHAKES_END)
        pid = self.pid()
        while pid and workers(pid).retiring and deadline.remaining():
            time.sleep(_LONGEST_PAUSE)

    def _unseen(self) -> WebServerFailed:
        """Return the error for an nginx that is not running, or for one whose master cannot be found."""
        if not is_answered(self._settings):
            return not_running(
                "the files are in place and tested, and nginx will serve them when it starts",
                "certctl reconcile",
                unit=name_of(None, self._settings.binary),
            )
        pid_file = mainconf.pid_file(self._settings.config, self._command.build)
        return WebServerFailed(
            Slug.NGINX_RELOAD_FAILED,
            "nginx answers, and its master cannot be found to reload it; the previous files are back",
            seen=[f"{pid_file} names no nginx master that can be seen from here"],
            expected=["the pid file of the running nginx, and root's rights; or a command in [nginx] reload"],
            next=["sudo certctl doctor", "ss -ltnp"],
        )

    def _watch(self, pid: int, before: Workers, log: "_LogTail") -> bool:
        """Tell whether new workers took over in time; False at once when nginx logs that there will be none."""
        deadline = Deadline.after(self._settings.test_deadline)
        pause = _SHORTEST_PAUSE
        old = before.accepting
        while deadline.remaining():
            now = workers(pid)
            if now.accepting - old and not now.accepting & old:
                return True
            gone = not _title(pid).startswith(_MASTER)
            if gone and self._settings.reload_command and self.pid():
                return True  # the command restarted nginx: what it serves, the wire will tell
            if log.refusal() or (gone and not self._settings.reload_command):
                return False
            time.sleep(pause)
            pause = min(pause * 1.2, _LONGEST_PAUSE)
        return False

    def _run(self, command: tuple[str, ...]) -> None:
        try:
            why = "root's own configuration names it, and nginx's master is root's"
            ended = run(command, deadline=self._settings.test_deadline, root_because=why)
        except Missing as error:
            raise WebServerFailed(
                Slug.NGINX_RELOAD_FAILED, f"the reload command {command[0]} cannot be run", next=["certctl doctor"]
            ) from error
        if not ended.ok:
            raise WebServerFailed(
                Slug.NGINX_RELOAD_FAILED,
                f"the reload command ended with {'the deadline' if ended.code is None else ended.code}",
                seen=ended.output.splitlines()[-5:],
            )


def not_running(what: str, *then: str, seen: str = "", unit: str = "nginx") -> WebServerFailed:
    """Return the error for an nginx that is not running, with what that means for the caller's purpose."""
    return WebServerFailed(
        Slug.NGINX_NOT_RUNNING,
        f"nginx is not running: {what}",
        seen=[seen] if seen else [],
        next=[f"systemctl start {unit}", *then],
    )


def not_reached(settings: NginxSettings, what: str, *then: str, seen: str = "") -> WebServerFailed:
    """Return the error for an nginx that takes no connection: it is not running, or it listens elsewhere.

    A running master keeps its listening sockets; only a restart opens others in their place.
    """
    if settings.reload_command or Master(settings, NginxCommand(settings)).pid() is None:
        return not_running(what, *then, seen=seen, unit=name_of(None, settings.binary))
    return WebServerFailed(
        Slug.NGINX_NOT_RUNNING,
        f"nginx runs, and does not listen where [nginx] listen says: {what}",
        seen=[seen] if seen else [],
        next=["certctl reconcile --restart", "certctl doctor"],
    )


@as_root()
def workers(master: int) -> Workers:
    """Return the workers of a master: its children with a worker's title (ngx_setproctitle, nginx 1.22.1)."""
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
    """The lines the master has logged since this object was made."""

    def __init__(self, path: Path | None, master: int | None) -> None:
        self._path = path
        self._fault = re.compile(rf"\[(emerg|alert)\] {master}#\d+: (.*)")
        self._from = self._size()

    def refusal(self) -> str:
        """Return the line with which nginx gave the reload up; a failing bind is tried five times before."""
        fatal = (text for level, text in self._lines() if level == "emerg")
        return next((text for text in fatal if not text.startswith("bind() to")), "")

    def first_line(self) -> str:
        """Return the first line, which names the cause; empty when there is none."""
        return next((text for _, text in self._lines()), "")

    @as_root()
    def _lines(self) -> list[tuple[str, str]]:
        if self._path is None:
            return []
        try:
            with self._path.open("rb") as file:
                file.seek(self._from if self._from <= self._size() else 0)
                return self._fault.findall(file.read(_LOG_TAIL).decode("utf-8", "replace"))
        except OSError:
            return []

    @as_root()
    def _size(self) -> int:
        try:
            return self._path.stat().st_size if self._path else 0
        except OSError:
            return 0


@as_root()
def _check_descriptors(pid: int, number_of_workers: int, unit: str) -> None:
    """Refuse to reload a master that would run out of file descriptors while it starts new workers.

    It keeps its old logs open until the new ones are, and needs a socket pair for each worker. When that fails
    half-way the old workers are already retired, and no worker answers (measured, nginx 1.22.1).
    """
    try:
        limits = Path(f"/proc/{pid}/limits").read_text(encoding="ascii")
        held = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    except OSError:
        return  # another user's process: then it cannot be signalled either
    found = re.search(r"^Max open files +(\d+)", limits, re.MULTILINE)
    needed = 2 * held + 2 * number_of_workers + _SPARE_DESCRIPTORS
    if found and int(found[1]) < needed:
        raise WebServerFailed(
            Slug.NGINX_RELOAD_FAILED,
            "nginx's master has too few file descriptors for a reload; it was not asked to",
            seen=[f"it may open {found[1]} and has {held} open"],
            expected=[f"at least {needed}: LimitNOFILE of {unit}.service, or ulimit -n where nginx is started"],
            next=[f"systemctl edit {unit}"],
        )


def _hang_up(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGHUP)
    except OSError as error:
        raise WebServerFailed(
            Slug.NGINX_RELOAD_FAILED,
            f"nginx's master (process {pid}) could not be signalled: {error.strerror}",
            next=["sudo certctl reload"],
        ) from error


@as_root()
def _title(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _family(pid: int) -> tuple[int, str]:
    """Return (parent's pid, start time) of a process (proc_pid_stat(5), fields 4 and 22)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return int(fields[1]), fields[19]
    except (OSError, IndexError, ValueError):
        return 0, ""
