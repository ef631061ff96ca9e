"""Build the daemon from a context: its decision, its issuer, and the process in which each runs."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from certctl.app import move_journal
from certctl.app.context import Context
from certctl.budget import FIRST_VISITS, leaving
from certctl.dns import CustomerDns
from certctl.domain import CHECK_DOMAIN, Domain, parse_domain
from certctl.errors import Busy, CertctlError, ConfigInvalid, ExitCode
from certctl.io.locks import HostLocks
from certctl.nginx.mirror import target
from certctl.nginx.serverblock import load_templates
from certctl.ports.parties import Locks
from certctl.ports.world import World
from certctl.serve.app import application
from certctl.serve.daemon import Daemon, Log, Probe
from certctl.serve.metrics import Metrics
from certctl.serve.ondemand import Host, Issuer, OnDemand, Watcher
from certctl.serve.privsep_child import PrivsepChild
from certctl.serve.privsep_monitor import PrivilegedOperations
from certctl.serve.settings import ServeSettings
from certctl.serve.worker import Worker
from certctl.slugs import Slug
from certctl.stories.pruning import remove_working_directories
from certctl.values import Mode

_DNS_DEADLINE = timedelta(seconds=5)
_LOCK_WAIT = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Backend:
    """The privileged work behind the daemon: by threads of this process, or by the monitor.

    Attributes:
        issue: Issues for one name.
        probe: Raises CertctlError while the approval endpoint approves an invented name, or does not answer.
        store_up: Whether the store can be read.
    """

    issue: Issuer
    probe: Callable[[], None]
    store_up: Callable[[], bool]


class DaemonLog(Log, Watcher, Protocol):
    """The log of the daemon, of its answers and of its flights."""


class DaemonFactory:
    """Builds the parts of one daemon from the configuration."""

    def __init__(self, context: Context, log: DaemonLog) -> None:
        s = context.settings.serve
        self.settings = ServeSettings(concurrency=s.concurrency, no_lasts=timedelta(seconds=s.negative_ttl_seconds))
        self._context = context
        self._log = log

    def in_process(self) -> Backend:
        """Return a backend that works in threads of this process, which needs the rights for it."""
        issuing = Worker(_world(self._context), self.settings)
        return Backend(issuing, self._context.operator.require_refusal, _can_be_read(self._context))

    def through_monitor(self, line: socket.socket) -> Backend:
        """Return a backend that asks the monitor at the other end of a socket."""
        there = PrivsepChild(line, _dns(self._context).verify, self.settings, self._monitor_is_gone)
        return Backend(there, there.probe, there.store_up)

    def privileged_operations(self) -> PrivilegedOperations:
        """Return the operations that the monitor offers."""
        names = self._context.names
        return PrivilegedOperations(
            lambda text: parse_domain(text, names),
            Worker(_world(self._context), self.settings),
            self._context.operator.require_refusal,
            _can_be_read(self._context),
        )

    def daemon(self, by: Backend) -> Daemon:
        """Return the daemon on top of a backend."""
        context, names = self._context, self._context.names
        metrics = Metrics(context.clock, by.store_up, context.mode)
        host = Host(lambda text: parse_domain(text, names), _is_served(context), by.issue)
        on_demand = OnDemand(host, self.settings, [metrics, self._log])
        metrics.watch(on_demand)
        app = application(on_demand, metrics.text, metrics.summary)
        return Daemon(on_demand, app, self.settings, Probe(by.probe), self._log)

    def begin(self) -> None:
        """Warn when nginx would not answer a challenge or TLS for a new name, and remove what a killed daemon left.

        The daemon starts all the same, as nginx may be mended later. A name that is served causes no visit here
        again, so its working directory has to be removed now.
        """
        if self._context.mode is Mode.BLOCKS:
            load_templates()  # no other mode writes server blocks here, and an upgrade may bring others meanwhile
        with suppress(CertctlError):  # without a store nothing is issued, and each visit says so
            remove_working_directories(_world(self._context))
        web = self._context.web
        try:
            web.require_challenge(CHECK_DOMAIN)
            web.require_tls()
        except CertctlError as error:
            self._log.warn("; ".join((error.message, *error.seen)))

    def _monitor_is_gone(self) -> None:
        """End this process at once: it has nothing to clean up, and systemd restarts both processes."""
        self._log.warn("the process that does root's work has ended: so do I")
        os._exit(ExitCode.FAILED)


class FencedLocks:
    """The domain locks of a daemon, which refuses every lock once the host serves in another mode.

    The state then has another owner: root's monitor would create files there that the new owner cannot open, and
    would follow links that the new owner planted.
    """

    def __init__(self, locks: Locks, state: Path, sites: Path) -> None:
        self._locks = locks
        self._state = state
        self._sites = sites
        self._owner = _owner_of(state)

    @contextmanager
    def domain(self, domain: Domain) -> Iterator[None]:
        """Hold one domain's lock for the block.

        Raises:
            Busy: a move is under way; as ``HostLocks.domain``.
            ConfigInvalid: ``state-unwritable``: the host has moved.
        """
        if move_journal.found(self._sites):
            raise Busy(Slug.BUSY, "this host is moving to another way of serving", next=["certctl doctor"])
        with move_journal.turn(self._sites, alone=False, wait=_LOCK_WAIT):
            self._require_own()
            with self._locks.domain(domain):
                yield

    def _require_own(self) -> None:
        if _owner_of(self._state) != self._owner:
            raise ConfigInvalid(
                Slug.STATE_UNWRITABLE,
                f"{self._state} has another owner since this daemon was started: the host serves in another mode",
                next=["certctl serve --install"],
            )


def _owner_of(state: Path) -> int | None:
    try:
        return state.stat().st_uid
    except FileNotFoundError:
        return None


def _dns(context: Context) -> CustomerDns:
    """Return the DNS facade with a deadline short enough for a visitor who waits.

    The unprivileged process may not read the account later: for it the one counts that was there at the start.
    """
    known = context.account_uri()
    settings = replace(context.dns_settings, deadline=_DNS_DEADLINE)
    return CustomerDns(settings, lambda: context.account_uri() or known)


def _world(context: Context) -> World:
    """Return the world of the daemon's stories: the engine ``acme``, short deadlines, and a reserve for others."""
    return replace(
        context.world,
        dns=_dns(context),
        ca=context.ca_by("acme"),
        locks=FencedLocks(HostLocks(context.run / "locks/domains", _LOCK_WAIT), context.state, context.sites),
        limits=leaving(context.limits, FIRST_VISITS),
    )


def _is_served(context: Context) -> Callable[[Domain], bool]:
    """Return a function that tells whether nginx serves a name, from the mirror alone.

    In mode blocks the mirror does not tell, as files are there before the reload: the function returns False. There
    nginx passes a visit on only when it has no block for the name.
    """
    if context.mode is Mode.BLOCKS:
        return lambda _: False
    return lambda domain: target(context.state / "live", domain) is not None


def _can_be_read(context: Context) -> Callable[[], bool]:
    """Return a function that tells whether the store answers, on a connection of its own: others may be locked."""
    store = context.another_store()

    def look() -> bool:
        try:
            store.domain(Domain("nobody.invalid"))
        except CertctlError:
            return False
        return True

    return look
