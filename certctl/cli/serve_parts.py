"""The daemon from its parts: what decides, what issues, and in which process that is."""

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path

from certctl.budget import FIRST_VISITS, leaving
from certctl.cli.serve_voice import ServeVoice
from certctl.cli.wiring import House
from certctl.dns import CustomerDns
from certctl.domain import Domain, parse_domain
from certctl.errors import CertctlError, Internal
from certctl.io import accounts
from certctl.io.locks import HostLocks
from certctl.nginx.mirror import target
from certctl.serve.app import application
from certctl.serve.daemon import Daemon, Probe
from certctl.serve.issuing import Issuing, Vouched
from certctl.serve.metrics import Metrics
from certctl.serve.monitor import Duties, part
from certctl.serve.ondemand import Host, Issuer, OnDemand
from certctl.serve.settings import ServeSettings
from certctl.serve.unprivileged import Unprivileged
from certctl.store.sqlite import SqliteStore
from certctl.values import Mode
from certctl.world import World

_DNS_DEADLINE = timedelta(seconds=5)
_LOCK_WAIT = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Hands:
    """What does the work: threads of this process, or the monitor.

    Attributes:
        store_up: Whether the store can be read.
    """

    issue: Issuer
    store_up: Callable[[], bool]


def serve_settings(house: House) -> ServeSettings:
    """Return what the daemon may spend."""
    s = house.settings.serve
    return ServeSettings(concurrency=s.concurrency, no_lasts=timedelta(seconds=s.negative_ttl_seconds))


@contextmanager
def hands(house: House, settings: ServeSettings, own_sockets: Sequence[Path]) -> Iterator[Hands]:
    """Yield what issues. Where that takes root, a monitor does it, and this process may give root up.

    Args:
        house: The parties.
        settings: What they may spend.
        own_sockets: Paths the monitor takes away at the end: this process will not be able to.

    Raises:
        ConfigInvalid: ``missing-account``.
        Internal: the monitor ended before its time.
    """
    if not is_parted(house):
        yield Hands(Issuing(_world(house), settings), _can_be_read(house))
        return
    accounts.create(house.settings.serve.user, house.settings.nginx.group)
    line, pid = part(lambda: _duties(house, settings, own_sockets), settings)
    lost = threading.Event()
    issuer = Unprivileged(line, _dns(house).verify, settings, partial(_stop, lost))
    try:
        yield Hands(issuer, issuer.store_up)
    finally:
        issuer.leave()
        os.waitpid(pid, 0)
    if lost.is_set():
        raise Internal("internal", "the process of certctl serve that does root's work has ended, or was killed")


def is_parted(house: House) -> bool:
    """Tell whether two processes do the daemon's work: in mode blocks it takes root, in the others it does not."""
    return house.mode is Mode.BLOCKS and os.geteuid() == 0


def daemon(house: House, voice: ServeVoice, settings: ServeSettings, by: Hands) -> Daemon:
    """Build the daemon."""
    metrics = Metrics(house.clock, by.store_up, house.mode)
    names = house.names
    host = Host(lambda text: parse_domain(text, names), _is_served(house), by.issue)
    on_demand = OnDemand(host, settings, [metrics, voice])
    metrics.watch(on_demand)
    app = application(on_demand, metrics.text, metrics.summary)
    return Daemon(on_demand, app, settings, Probe(house.operator.require_refusal), voice)


def _duties(house: House, settings: ServeSettings, own_sockets: Sequence[Path]) -> Duties:
    names = house.names
    world = replace(_world(house), dns=Vouched(_dns(house)))
    issuing = Issuing(world, settings)
    return Duties(
        lambda text: parse_domain(text, names), issuing, _can_be_read(house), partial(_take_away, own_sockets)
    )


def _stop(lost: threading.Event) -> None:
    lost.set()
    os.kill(os.getpid(), signal.SIGTERM)


def _take_away(paths: Sequence[Path]) -> None:
    for path in paths:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _dns(house: House) -> CustomerDns:
    """Return party 1 with a deadline that suits a visitor who waits."""
    return CustomerDns(replace(house.dns_settings, deadline=_DNS_DEADLINE))


def _world(house: House) -> World:
    """Return the world of the stories, as patient as a visitor."""
    return replace(
        house.world,
        dns=_dns(house),
        ca=house.ca_by("acme"),
        locks=HostLocks(house.run / "locks/domains", _LOCK_WAIT),
        limits=leaving(house.limits, FIRST_VISITS),
    )


def _is_served(house: House) -> Callable[[Domain], bool]:
    """Return how to see whether nginx serves a name without asking anybody.

    In mode blocks it cannot be seen: files are there before nginx has taken them over. There a visit comes here
    only when nginx has no block for the name, so it is always worth a look.
    """
    if house.mode is Mode.BLOCKS:
        return lambda _: False
    return lambda domain: target(house.state / "live", domain) is not None


def _can_be_read(house: House) -> Callable[[], bool]:
    """Return how to see whether the store answers, on a connection of its own: others may wait for a lock."""
    store = SqliteStore(house.database, house.clock)

    def look() -> bool:
        try:
            store.domain(Domain("nobody.invalid"))
        except CertctlError:
            return False
        return True

    return look
