"""The on-the-fly daemon as one process or two (privilege separation): its sockets and the user it runs as."""

import asyncio
import os
import resource
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from certctl.app.context import Context
from certctl.app.ownership import require_legible
from certctl.errors import ConfigInvalid, ExitCode, Internal
from certctl.io import accounts, sockets
from certctl.io.files import hand_over, make_directory
from certctl.io.locks import lock
from certctl.slugs import Slug
from certctl.values import Mode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from certctl.app.daemon_factory import Backend, DaemonFactory, DaemonLog
    from certctl.serve.daemon import Daemon, Listeners

ReportFailure = Callable[[BaseException], int]
_NICER = 5  # handshakes of those who are live go first
MISS = "miss.sock"
_AS_TOLD = (ExitCode.DONE, ExitCode.INTERRUPTED)


def run(context: Context, where: Path, log: "DaemonLog", report: ReportFailure) -> int:
    """Serve until a signal; a process started as root drops its privileges before it accepts a connection.

    Args:
        context: The host.
        where: The socket that nginx connects to, bound here when systemd passes none (sd_listen_fds(3)).
        log: The log of the daemon.
        report: Reports why the unprivileged process failed, and returns its exit code.

    Returns the exit code; INTERRUPTED after a second signal, when orders may still be under way at the CA.

    Raises:
        Internal: ``serve-ended``: the unprivileged process was killed.
        ConfigInvalid: ``missing-account``, ``missing-program``, ``state-unwritable``, ``serve-failed``; while it
            lasts ``approval-approves-everything``.
        Busy: another daemon has the socket.
    """
    os.nice(_NICER)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a shell's 1024 are fewer than our visitors
    if context.mode is Mode.BLOCKS and os.geteuid() == 0:
        make_account(context)
    require_reader(context)
    from certctl.app.daemon_factory import DaemonFactory

    factory = DaemonFactory(context, log)
    try:
        with _listeners(context, where) as listeners:
            if context.mode is Mode.BLOCKS and os.geteuid() == 0:
                factory.begin()
                return _run_in_two(context, factory, listeners, report)
            daemon = _unprivileged(context, factory, factory.in_process())
            factory.begin()
            asyncio.run(daemon.serve(listeners))
            return int(ExitCode.DONE)
    except _ChildFailed as failed:
        return failed.code


class _ChildFailed(Exception):
    """The unprivileged process ended by itself, and has reported why; the sockets stay, as after a crash."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exit code {code}")
        self.code = code


def _run_in_two(context: Context, factory: "DaemonFactory", listeners: "Listeners", report: ReportFailure) -> int:
    """Fork an unprivileged process that serves, and be its monitor; return its exit code after a signal.

    Raises:
        Internal: ``serve-ended``: it was killed.
        _ChildFailed: it ended by itself.
    """
    from certctl.serve.privsep_monitor import fork_and_monitor

    def listen(line: socket.socket) -> int:
        try:
            asyncio.run(_unprivileged(context, factory, factory.through_monitor(line)).serve(listeners))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - this process ends here
            return report(error)
        return int(ExitCode.DONE)

    code = fork_and_monitor(
        listen, (listeners.serve, listeners.miss), factory.privileged_operations(), factory.settings
    )
    if code < 0:
        name = signal.Signals(-code).name
        raise Internal(Slug.SERVE_ENDED, f"the process that listens was ended by {name}", next=["certctl serve"])
    if code not in _AS_TOLD:
        raise _ChildFailed(code)
    return code


def _unprivileged(context: Context, factory: "DaemonFactory", by: "Backend") -> "Daemon":
    """Return the daemon, after this process has become an unprivileged user for good."""
    daemon = factory.daemon(by)  # first: what it loads may lie where only root can read
    _give_up_rights(context)
    return daemon


@contextmanager
def _listeners(context: Context, where: Path) -> "Iterator[Listeners]":
    """Yield the sockets that systemd passed, or else sockets bound here.

    Sockets bound here are removed when the daemon ends after a signal. After a crash they stay, by which ``status``
    and ``doctor`` see that a daemon is missing; the next daemon replaces them.
    """
    if given := sockets.inherited():
        yield _sorted(given)
        return
    with lock(where.with_suffix(".lock"), timedelta(0), f"the daemon at {where}"):
        try:
            yield _bound(where, _group(context))
        except KeyboardInterrupt:
            _take_away(where)
            raise
        _take_away(where)


def _take_away(where: Path) -> None:
    for gone in (where, where.with_name(MISS)):
        with suppress(OSError):
            gone.unlink(missing_ok=True)


def _bound(where: Path, group: int | None) -> "Listeners":
    from certctl.serve.daemon import Listeners

    return Listeners(
        serve=sockets.bind(where, socket.SOCK_STREAM, group),
        miss=sockets.bind(where.with_name(MISS), socket.SOCK_DGRAM, group),
    )


def _sorted(given: Sequence[socket.socket]) -> "Listeners":
    """Tell the sockets that systemd passed apart by their type: both have the name of the socket unit."""
    from certctl.serve.daemon import Listeners

    by_kind = {each.type: each for each in given}
    try:
        return Listeners(serve=by_kind[socket.SOCK_STREAM], miss=by_kind[socket.SOCK_DGRAM])
    except KeyError as error:
        raise ConfigInvalid(
            Slug.SERVE_FAILED,
            "systemd handed over other sockets than certctl serve needs",
            expected=["a ListenStream= and a ListenDatagram="],
            next=["certctl serve --install"],
        ) from error


def _group(context: Context) -> int | None:
    """Return the group of nginx's workers; None when this process may not give a socket to it."""
    if context.mode is Mode.BLOCKS and os.geteuid() != 0:
        return None
    group = accounts.group_id(group_name(context))
    return group if os.geteuid() == 0 or group in os.getgroups() else None


def group_name(context: Context) -> str:
    """Return the name of the group of nginx's workers, who may connect to the sockets."""
    return context.web.worker_group() if context.mode is Mode.BLOCKS else context.settings.nginx.group


def make_account(context: Context) -> None:
    """Create the daemon's unprivileged user if it is missing; not below ``[paths] root``."""
    if context.path("/") == Path("/"):
        accounts.create(context.settings.serve.user, context.settings.nginx.group)


def require_reader(context: Context) -> None:
    """Refuse to start when the daemon's unprivileged user could not read its Python modules.

    Raises:
        ConfigInvalid: ``missing-account``, ``missing-program``.
    """
    require_legible(context.settings.serve.user, context.settings.nginx.group, "certctl serve --install")


def _give_up_rights(context: Context) -> None:
    """Become the daemon's unprivileged user; in modes shared and lua it owns certctl's state."""
    if os.geteuid() != 0:
        return
    user, group = context.settings.serve.user, context.settings.nginx.group
    owner = accounts.require(user, group)
    if context.mode is not Mode.BLOCKS:
        _require_own(context, owner.uid)
        make_directory(context.run, 0o755)
        # The unit's root has no CAP_DAC_OVERRIDE: it cannot look into a directory that is the user's already.
        if context.run.stat().st_uid != owner.uid:
            hand_over(context.run, owner.uid, owner.gid)
    accounts.become(user, group)


def _require_own(context: Context, uid: int) -> None:
    """Refuse to take over the run directory while the state has another owner, as during a change of mode.

    Raises:
        ConfigInvalid: ``state-unwritable``.
    """
    user = context.settings.serve.user
    if context.state.exists() and context.state.stat().st_uid != uid:
        raise ConfigInvalid(
            Slug.STATE_UNWRITABLE,
            f"{context.state} does not belong to {user}, as whom the daemon runs in this mode",
            next=["certctl reconcile", "certctl init", "certctl doctor"],
        )
