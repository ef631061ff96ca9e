"""The daemon's ``/status`` as a command reads it, and the doctor's checks of what the daemon needs."""

import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from certctl.app.context import Context
from certctl.errors import CertctlError
from certctl.io import accounts, unix_http
from certctl.timer.units import SERVE
from certctl.values import Finding, Level, Mode

_AREA = "serve"
_SECONDS = 1.0
_MODE = 0o660
_UNIT = "/etc/systemd/system/certctl-serve.service"
_BY_SYSTEMD = "systemctl restart certctl-serve.socket certctl-serve.service"
_INSTALL = "certctl serve --install"
_BY_HAND = "start 'certctl serve' again, under whatever starts nginx here"


@dataclass(frozen=True, slots=True)
class DaemonStatus:
    """The daemon's answer to ``GET /status``.

    Attributes:
        status: The JSON object it answered with; None when there was no answer.
        problem: Why there was none.
    """

    status: Mapping[str, Any] | None = None
    problem: str = ""

    @property
    def summary(self) -> str:
        """Return the status in one line."""
        if self.status is None:
            return f"the daemon does not answer ({self.problem}): first visitors get no certificate"
        hits, error = self.status["first_hit"], self.status["last_error"]
        speed = f" (p50 {hits['p50_ms']} ms, p95 {hits['p95_ms']} ms)" if hits["count"] else ""
        refused = self.status["answers"].get("refused", 0)
        under_way = f"{self.status['flights']} under way for {self.status['waiters']} visitors"
        trouble = f", last trouble {error['code']} at {error['at']}" if error else ""
        return f"the daemon: {hits['count']} first visits{speed}, {under_way}, {refused} refused{trouble}"


def look(context: Context) -> DaemonStatus | None:
    """Return the daemon's status; None on a host where no daemon runs and none is installed."""
    socket = context.path(context.settings.serve.socket)
    if not _is_there(socket):
        return DaemonStatus(problem="no socket") if context.path(_UNIT).is_file() else None
    try:
        return DaemonStatus(json.loads(unix_http.get(socket, "/status", _SECONDS)))
    except (unix_http.Unanswered, ValueError) as error:
        return DaemonStatus(problem=str(error))


def examine(context: Context) -> Iterator[Finding]:
    """Check the daemon's user, sockets, units and status."""
    sight = look(context)
    if sight is None:
        if context.mode is Mode.LUA:
            text = "mode lua without the daemon: a first visitor's handshake is refused, not waited for"
            yield Finding(_AREA, Level.WARNING, text, _INSTALL)
        return
    yield from _user(context)
    yield from _rights(context)
    yield from _units(context)
    if sight.status is None:
        yield Finding(_AREA, Level.PROBLEM, sight.summary, _start(context))
    elif (mode := sight.status["mode"]) != context.mode:
        text = f"the daemon was started in mode {mode}, and this host is in mode {context.mode}"
        yield Finding(_AREA, Level.PROBLEM, text, _start(context))
    elif slug := sight.status["refusing"]:
        text = f"the daemon takes on no name: {slug}"
        yield Finding(_AREA, Level.PROBLEM, text, f"certctl explain {slug}")
    else:
        yield Finding(_AREA, Level.OK, sight.summary)
        yield from _age(context, sight.status)


def _age(context: Context, status: Mapping[str, Any]) -> Iterator[Finding]:
    """Check that no file the daemon read at its start was changed since; its start time is in whole seconds."""
    from certctl.app.daemon_units import newest

    if int(newest(context)) > datetime.fromisoformat(status["since"]).timestamp():
        text = "the daemon was started before its configuration, or certctl itself, became what it is now"
        yield Finding(_AREA, Level.WARNING, text, _anew(context))


def _units(context: Context) -> Iterator[Finding]:
    from certctl.app.daemon_units import daemon_files
    from certctl.app.scheduler_status import examine_units

    yield from examine_units(context, SERVE, lambda settings: daemon_files(context, settings))


def _user(context: Context) -> Iterator[Finding]:
    if context.mode is Mode.BLOCKS and os.geteuid() != 0:
        return
    try:
        accounts.require(context.settings.serve.user, context.settings.nginx.group)
    except CertctlError as error:
        yield Finding(_AREA, Level.PROBLEM, error.message, error.next[0])


def _rights(context: Context) -> Iterator[Finding]:
    """Check that only the group of nginx's workers may use the sockets."""
    from certctl.app.daemon import MISS, group_name

    socket = context.path(context.settings.serve.socket)
    try:
        group = accounts.group_id(group_name(context))
    except CertctlError as error:
        yield Finding(_AREA, Level.PROBLEM, error.message, error.next[0])
        return
    for path in (socket, socket.with_name(MISS)):
        if not _is_there(path):
            continue
        facts = path.stat()
        if stat.S_IMODE(facts.st_mode) != _MODE or (os.geteuid() == 0 and facts.st_gid != group):
            text = (
                f"{path} has mode {stat.S_IMODE(facts.st_mode):04o} and group {facts.st_gid}, not 0660 and {group}"
            )
            yield Finding(_AREA, Level.PROBLEM, text, _start(context))


def _start(context: Context) -> str:
    return _BY_SYSTEMD if context.path(_UNIT).is_file() else _anew(context)


def _anew(context: Context) -> str:
    from certctl.app.scheduler import is_booted

    return _INSTALL if is_booted(context) else _BY_HAND


def _is_there(path: Path) -> bool:
    try:
        return path.is_socket()
    except OSError:
        return False
