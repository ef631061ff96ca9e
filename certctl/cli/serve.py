"""``certctl serve``: the daemon that gets a certificate for a first visitor."""

import asyncio
import os
import resource
import socket
from collections.abc import Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from certctl.cli.base import Invocation, command
from certctl.cli.owner import require_program
from certctl.cli.reports import open_report
from certctl.cli.serve_voice import ServeVoice
from certctl.cli.wiring import House, read_house
from certctl.errors import ConfigInvalid
from certctl.io import accounts, sockets
from certctl.io.files import hand_over, make_directory
from certctl.io.locks import lock
from certctl.values import Mode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from certctl.serve.daemon import Listeners

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
    if install or uninstall:
        from certctl.cli.serve_units import take_away, write

        return take_away(invocation, house) if uninstall else write(invocation, house, dry_run=dry_run)
    os.nice(_NICER)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a shell's 1024 are fewer than our visitors
    _run(invocation, house, path.absolute() if path else house.path(house.settings.serve.socket))
    if invocation.json:
        open_report(invocation).data({"stopped": True}, "")
    return 0


def _run(invocation: Invocation, house: House, where: Path) -> None:
    """Serve; whoever was started as root has given that up before the first stranger is heard."""
    from certctl.cli.serve_parts import daemon, hands, serve_settings

    settings, voice = serve_settings(house), ServeVoice(invocation, house.clock)
    given = sockets.inherited()
    own = () if given else (where, where.with_name(MISS))
    with _listeners(house, given, where) as listeners, hands(house, settings, own) as by:
        serving = daemon(house, voice, settings, by)  # first: what it loads may lie where only root can read
        _give_up_rights(house)
        asyncio.run(serving.serve(listeners))


@contextmanager
def _listeners(house: House, given: Sequence[socket.socket], where: Path) -> "Iterator[Listeners]":
    """Yield systemd's sockets, or our own, which are taken away again."""
    if given:
        yield _sorted(given)
        return
    with lock(where.with_suffix(".lock"), timedelta(0), f"the daemon at {where}"):
        listeners = _bound(where, _group(house))
        try:
            yield listeners
        finally:
            for gone in (where, where.with_name(MISS)):
                with suppress(OSError):  # root's, in mode blocks: the monitor takes those away
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
            "serve-failed",
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


def _give_up_rights(house: House) -> None:
    """Become an ordinary user: in modes shared and lua the one that owns certctl's state."""
    if os.geteuid() != 0:
        return
    user, group = house.settings.serve.user, house.settings.nginx.group
    owner = accounts.require(user, group)
    if house.mode is not Mode.BLOCKS:
        make_directory(house.run, 0o755)
        hand_over(house.run, owner.uid, owner.gid)
    accounts.become(user, group)
    require_program(owner.uid)
