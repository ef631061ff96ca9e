"""``certctl serve``: the daemon that gets a certificate for a first visitor."""

import asyncio
import os
import resource
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from certctl.budget import FIRST_VISITS, leaving
from certctl.cli.base import Invocation, command
from certctl.cli.reports import open_report
from certctl.cli.serve_voice import ServeVoice
from certctl.cli.wiring import House, read_house
from certctl.domain import Domain, parse_domain
from certctl.errors import CertctlError, ConfigInvalid
from certctl.io import accounts, sockets
from certctl.io.files import hand_over, make_directory
from certctl.io.locks import HostLocks, lock
from certctl.values import Mode

if TYPE_CHECKING:
    from collections.abc import Callable

    from certctl.serve.daemon import Daemon, Listeners
    from certctl.world import World

_NICER = 5  # handshakes of those who are live go first
_DNS_DEADLINE = timedelta(seconds=5)
_LOCK_WAIT = timedelta(seconds=30)
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
    where = path.absolute() if path else house.path(house.settings.serve.socket)
    voice = ServeVoice(invocation, house.clock)
    os.nice(_NICER)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # a shell's 1024 are fewer than our visitors
    if given := sockets.inherited():
        _run(house, voice, _sorted(given))
    else:
        _run_on_own_sockets(house, voice, where)
    if invocation.json:
        open_report(invocation).data({"stopped": True}, "")
    return 0


def _run_on_own_sockets(house: House, voice: ServeVoice, where: Path) -> None:
    with lock(where.with_suffix(".lock"), timedelta(0), f"the daemon at {where}"):
        listeners = _bound(where, _group(house))
        try:
            _run(house, voice, listeners)
        finally:
            for gone in (where, where.with_name(MISS)):
                with suppress(OSError):
                    gone.unlink(missing_ok=True)


def _run(house: House, voice: ServeVoice, listeners: "Listeners") -> None:
    daemon = _daemon(house, voice)  # first: what it loads may lie where only root can read
    if house.mode is not Mode.BLOCKS:
        _give_up_rights(house)
    asyncio.run(daemon.serve(listeners))


def _daemon(house: House, voice: ServeVoice) -> "Daemon":
    from certctl.serve.app import application
    from certctl.serve.daemon import Daemon, Probe
    from certctl.serve.issuing import Issuing
    from certctl.serve.metrics import Metrics
    from certctl.serve.ondemand import Host, OnDemand
    from certctl.serve.settings import ServeSettings

    s = house.settings.serve
    settings = ServeSettings(concurrency=s.concurrency, no_lasts=timedelta(seconds=s.negative_ttl_seconds))
    metrics = Metrics(house.clock, _can_be_read(house))
    issuing = Issuing(_world(house), settings)
    names = house.names
    host = Host(lambda text: parse_domain(text, names), _is_served(house), issuing)
    on_demand = OnDemand(host, settings, [metrics, voice])
    metrics.watch(on_demand)
    app = application(on_demand, metrics.text, metrics.summary)
    return Daemon(on_demand, app, settings, Probe(house.operator.require_refusal), voice)


def _world(house: House) -> "World":
    """Return the world of the stories, with deadlines that suit a visitor who waits."""
    from certctl.dns import CustomerDns

    return replace(
        house.world,
        dns=CustomerDns(replace(house.dns_settings, deadline=_DNS_DEADLINE)),
        ca=house.ca_by("acme"),
        locks=HostLocks(house.run / "locks/domains", _LOCK_WAIT),
        limits=leaving(house.limits, FIRST_VISITS),
    )


def _is_served(house: House) -> "Callable[[Domain], bool]":
    """Return how to see whether nginx serves a name without asking anybody.

    In mode blocks it cannot be seen: files are there before nginx has taken them over. There a visit comes here
    only when nginx has no block for the name, so it is always worth a look.
    """
    from certctl.nginx.mirror import target

    if house.mode is Mode.BLOCKS:
        return lambda _: False
    return lambda domain: target(house.state / "live", domain) is not None


def _can_be_read(house: House) -> "Callable[[], bool]":
    """Return how to see whether the store answers, on a connection of its own: others may wait for a lock."""
    from certctl.store.sqlite import SqliteStore

    store = SqliteStore(house.database, house.clock)

    def look() -> bool:
        try:
            store.domain(Domain("nobody.invalid"))
        except CertctlError:
            return False
        return True

    return look


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
    """Become the user that owns certctl's state; what testing and reloading nginx takes is not needed here."""
    if os.geteuid() != 0:
        return
    user, group = house.settings.serve.user, house.settings.nginx.group
    owner = accounts.require(user, group)
    make_directory(house.run, 0o755)
    hand_over(house.run, owner.uid, owner.gid)
    accounts.become(user, group)
