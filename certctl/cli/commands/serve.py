"""``certctl serve``: the daemon that gets a certificate for a first visitor."""

import asyncio
import os
import resource
import signal
import socket
from collections.abc import Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

import certctl
from certctl.app.context import House
from certctl.app.ownership import require_legible, require_write
from certctl.app.scheduler import is_booted, open_systemd, places, timer_settings
from certctl.cli.framework import Invocation, command
from certctl.cli.opening import after_a_move, read_house
from certctl.cli.output.choose import open_report
from certctl.cli.output.daemon_log import ServeVoice
from certctl.errors import ConfigInvalid, ExitCode, Internal
from certctl.io import accounts, sockets
from certctl.io.files import hand_over, make_directory
from certctl.io.locks import lock
from certctl.slugs import Slug
from certctl.timer import install
from certctl.timer.units import SERVING, serve_files
from certctl.values import Mode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from certctl.app.daemon_parts import Hands, Parts
    from certctl.serve.daemon import Daemon, Listeners
    from certctl.timer.files import HostFile
    from certctl.timer.units import UnitSettings

_AS_ASKED = (ExitCode.DONE, ExitCode.INTERRUPTED)
_NICER = 5  # handshakes of those who are live go first
MISS = "miss.sock"


@command(
    "serve",
    """
    certctl serve                    in the foreground, until it is told to stop
    certctl serve --install          as a service of systemd, with its sockets
    """,
)
@click.option(
    "--socket", "path", type=click.Path(path_type=Path), help="Where nginx reaches it [default: [serve] socket]."
)
@click.option("--install", is_flag=True, help="Write the units for systemd, and start them.")
@click.option("--uninstall", is_flag=True, help="Stop them, and take the units away.")
@click.option("--dry-run", is_flag=True, help="With --install: show the diff; write nothing, start nothing.")
@click.pass_obj
def serve(invocation: Invocation, path: Path | None, install: bool, uninstall: bool, dry_run: bool) -> int:  # noqa: FBT001
    """Get certificates for first visitors: on the fly, while they wait.

    nginx hands over what it has no certificate for: a visit on port 80, a TLS handshake (mode lua), or the name of
    one that failed (mode shared). Each name is looked at as 'certctl issue' would, once, however many wait for it.
    """
    if dry_run and not install:
        raise click.UsageError("--dry-run goes with --install")
    house = read_house(invocation)
    if (install or uninstall) and not dry_run:
        require_write(house.path("/etc/systemd/system"))
    if install or uninstall:
        return _uninstall(invocation, house) if uninstall else _install(invocation, house, dry_run=dry_run)
    try:
        code = _run(invocation, after_a_move(invocation), path)
    except KeyboardInterrupt:  # to be told to stop is how a daemon ends, also before it has handlers of its own
        code = int(ExitCode.DONE)
    if code == ExitCode.INTERRUPTED:
        os._exit(code)  # asked twice: no thread at the CA holds us up
    if invocation.json:
        open_report(invocation).data({"stopped": True}, "")
    return code


def _run(invocation: Invocation, house: House, path: Path | None) -> int:
    """Serve; whoever was started as root has given that up before the first stranger is heard."""
    os.nice(_NICER)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a shell's 1024 are fewer than our visitors
    where = path.absolute() if path else house.path(house.settings.serve.socket)
    if house.mode is Mode.BLOCKS and os.geteuid() == 0:
        make_account(house)
    require_reader(house)
    from certctl.app.daemon_parts import Parts

    parts = Parts(house, ServeVoice(invocation, house.clock))
    with _listeners(house, where) as listeners:
        if house.mode is Mode.BLOCKS and os.geteuid() == 0:
            parts.begin()
            return _run_in_two(invocation, house, parts, listeners)
        daemon = _unprivileged(house, parts, parts.own_hands())
        parts.begin()
        asyncio.run(daemon.serve(listeners))
        return int(ExitCode.DONE)


def _run_in_two(invocation: Invocation, house: House, parts: "Parts", listeners: "Listeners") -> int:
    """Serve in a process without rights, and do here what takes them; return that process's exit code.

    Raises:
        Internal: ``serve-ended``: it was killed.
    """
    from certctl.cli.boundary import report_failure
    from certctl.serve.privsep_monitor import part

    def listen(line: socket.socket) -> int:
        try:
            asyncio.run(_unprivileged(house, parts, parts.monitors_hands(line)).serve(listeners))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - this process ends here
            return report_failure(error, invocation)
        return int(ExitCode.DONE)

    code = part(listen, (listeners.serve, listeners.miss), parts.duties(), parts.settings)
    if code < 0:
        name = signal.Signals(-code).name
        raise Internal(Slug.SERVE_ENDED, f"the process that listens was ended by {name}", next=["certctl serve"])
    if code not in _AS_ASKED:
        raise click.exceptions.Exit(code)
    return code


def _unprivileged(house: House, parts: "Parts", by: "Hands") -> "Daemon":
    """Return the daemon, and be an ordinary user from now on."""
    daemon = parts.daemon(by)  # first: what it loads may lie where only root can read
    _give_up_rights(house)
    return daemon


@contextmanager
def _listeners(house: House, where: Path) -> "Iterator[Listeners]":
    """Yield systemd's sockets, or our own.

    Ours are taken away when the daemon ends as it was asked to. Otherwise they stay, so that it is missed: a
    command that finds one knocks, and the next daemon replaces them.
    """
    if given := sockets.inherited():
        yield _sorted(given)
        return
    with lock(where.with_suffix(".lock"), timedelta(0), f"the daemon at {where}"):
        try:
            yield _bound(where, _group(house))
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
    """Tell the sockets of systemd apart: both bear the name of their unit, but only one takes connections."""
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


def _group(house: House) -> int | None:
    """Return the group that nginx's workers have; without root only groups of ours can be given."""
    if house.mode is Mode.BLOCKS and os.geteuid() != 0:
        return None
    group = accounts.group_id(group_name(house))
    return group if os.geteuid() == 0 or group in os.getgroups() else None


def group_name(house: House) -> str:
    """Return the group that nginx's workers have, and with it the right to ask."""
    return house.web.worker_group() if house.mode is Mode.BLOCKS else house.settings.nginx.group


def make_account(house: House) -> None:
    """Make the user who hears strangers, where it is missing; below another root accounts are not ours to make."""
    if house.path("/") == Path("/"):
        accounts.create(house.settings.serve.user, house.settings.nginx.group)


def require_reader(house: House) -> None:
    """Make sure that who will hear strangers can load the daemon, while there is somebody to say otherwise.

    Raises:
        ConfigInvalid: ``missing-account``, ``missing-program``.
    """
    require_legible(house.settings.serve.user, house.settings.nginx.group, "certctl serve --install")


def _give_up_rights(house: House) -> None:
    """Become an ordinary user: in modes shared and lua the one that owns certctl's state."""
    if os.geteuid() != 0:
        return
    user, group = house.settings.serve.user, house.settings.nginx.group
    owner = accounts.require(user, group)
    if house.mode is not Mode.BLOCKS:
        _require_own(house, owner.uid)
        make_directory(house.run, 0o755)
        # The unit's root has no CAP_DAC_OVERRIDE: it cannot look into a directory that is the user's already.
        if house.run.stat().st_uid != owner.uid:
            hand_over(house.run, owner.uid, owner.gid)
    accounts.become(user, group)


def _require_own(house: House, uid: int) -> None:
    """Refuse to take the run directory where the state is somebody else's, as while a host moves.

    Raises:
        ConfigInvalid: ``state-unwritable``.
    """
    if house.state.exists() and house.state.stat().st_uid != uid:
        raise ConfigInvalid(
            Slug.STATE_UNWRITABLE,
            f"{house.state} does not belong to {house.settings.serve.user}, as whom the daemon runs in this mode",
            next=["certctl reconcile", "certctl init", "certctl doctor"],
        )


def _install(invocation: Invocation, house: House, *, dry_run: bool) -> int:
    """Write the units of systemd and start them, or only show what would change."""
    if not is_booted(house):
        raise ConfigInvalid(
            Slug.SERVE_FAILED,
            "systemd does not run this host",
            expected=["'certctl serve' under whatever starts nginx here"],
        )
    files = daemon_files(house, timer_settings(house))
    install.refuse_foreign(files)
    if not dry_run:
        make_account(house)
        require_reader(house)
    diff = "".join(file.diff() for file in files)
    changed = bool(diff) if dry_run else install.install(files, open_systemd(house, SERVING), newest(house))
    done = "Nothing was written." if dry_run else _said(files, written=bool(diff))
    said = done if changed else "Nothing changed: the daemon is installed."
    payload = {"dry_run": dry_run, "changed": changed, "diff": diff, "files": _conditions(files)}
    open_report(invocation).data(payload, "\n".join(filter(None, [diff, said])))
    return 0


def daemon_files(house: House, settings: "UnitSettings") -> "list[HostFile]":
    """Return the daemon's units with the group that nginx's workers have now."""
    return serve_files(replace(settings, socket_group=group_name(house)))


def newest(house: House) -> float:
    """Return when what the daemon reads at its start last changed: the configuration, and certctl itself."""
    read = [path for path in (house.file, Path(certctl.__file__), Path(certctl.__file__).parent) if path.exists()]
    return max(path.stat().st_mtime for path in read)


def _said(files: "list[HostFile]", *, written: bool) -> str:
    if written:
        return f"Installed: {' '.join(str(file.path) for file in files)}"
    return "Started anew: what it reads at its start had changed, or it was not running."


def _uninstall(invocation: Invocation, house: House) -> int:
    """Stop the daemon and delete the units certctl wrote."""
    files = serve_files(places(house))
    removed = [str(file.path) for file in install.remove(files, open_systemd(house, SERVING))]
    payload = {"changed": bool(removed), "removed": removed, "files": _conditions(files)}
    open_report(invocation).data(payload, "\n".join(f"removed {path}" for path in removed) or "Nothing to remove.")
    return 0


def _conditions(files: "list[HostFile]") -> list[dict[str, str]]:
    return [{"path": str(file.path), "condition": str(file.condition)} for file in files]
