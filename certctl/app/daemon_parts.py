"""The daemon from its parts: what decides, what issues, and in which process that is."""

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
from certctl.serve.daemon import Daemon, Probe
from certctl.serve.daemon import Voice as DaemonVoice
from certctl.serve.metrics import Metrics
from certctl.serve.ondemand import Host, Issuer, OnDemand, Watcher
from certctl.serve.privsep_child import PrivsepChild
from certctl.serve.privsep_monitor import Duties
from certctl.serve.settings import ServeSettings
from certctl.serve.worker import Worker
from certctl.slugs import Slug
from certctl.stories.pruning import let_copies_go
from certctl.values import Mode

_DNS_DEADLINE = timedelta(seconds=5)
_LOCK_WAIT = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Hands:
    """What does the work: threads of this process, or the monitor.

    Attributes:
        probe: Raises CertctlError while the approval endpoint approves what nobody registered, or does not answer.
        store_up: Whether the store can be read.
    """

    issue: Issuer
    probe: Callable[[], None]
    store_up: Callable[[], bool]


class Voice(DaemonVoice, Watcher, Protocol):
    """Says what happens to the daemon and to each name."""


class Parts:
    """The parts of one daemon, from the configuration."""

    def __init__(self, context: Context, voice: Voice) -> None:
        s = context.settings.serve
        self.settings = ServeSettings(concurrency=s.concurrency, no_lasts=timedelta(seconds=s.negative_ttl_seconds))
        self._house = context
        self._voice = voice

    def own_hands(self) -> Hands:
        """Return the threads of this process, which need the rights."""
        issuing = Worker(_world(self._house), self.settings)
        return Hands(issuing, self._house.operator.require_refusal, _can_be_read(self._house))

    def monitors_hands(self, line: socket.socket) -> Hands:
        """Return the monitor at the other end of a line."""
        there = PrivsepChild(line, _dns(self._house).verify, self.settings, self._monitor_is_gone)
        return Hands(there, there.probe, there.store_up)

    def duties(self) -> Duties:
        """Return what the monitor does."""
        names = self._house.names
        return Duties(
            lambda text: parse_domain(text, names),
            Worker(_world(self._house), self.settings),
            self._house.operator.require_refusal,
            _can_be_read(self._house),
        )

    def daemon(self, by: Hands) -> Daemon:
        """Return the daemon, whoever does its work."""
        context, names = self._house, self._house.names
        metrics = Metrics(context.clock, by.store_up, context.mode)
        host = Host(lambda text: parse_domain(text, names), _is_served(context), by.issue)
        on_demand = OnDemand(host, self.settings, [metrics, self._voice])
        metrics.watch(on_demand)
        app = application(on_demand, metrics.text, metrics.summary)
        return Daemon(on_demand, app, self.settings, Probe(by.probe), self._voice)

    def begin(self) -> None:
        """Say where nginx would not answer for a new name: nothing could be issued, and nobody else would say so.

        The daemon starts all the same, as nginx may yet. What a killed one left is removed: a name that is served
        never comes here again.
        """
        if self._house.mode is Mode.BLOCKS:
            load_templates()  # no other mode writes server blocks here, and an upgrade may bring others meanwhile
        with suppress(CertctlError):  # without a store nothing is issued, and each visit says so
            let_copies_go(_world(self._house))
        web = self._house.web
        try:
            web.require_challenge(CHECK_DOMAIN)
            web.require_tls()
        except CertctlError as error:
            self._voice.warn("; ".join((error.message, *error.seen)))

    def _monitor_is_gone(self) -> None:
        """End at once: there is nothing of ours to put in order, and whoever watches us starts both again."""
        self._voice.warn("the process that does root's work has ended: so do I")
        os._exit(ExitCode.FAILED)


class StayingLocks:
    """The locks of a daemon, which takes none any more once its host serves in another mode.

    It was started for another owner of the state: root's monitor would make files there that the new owner cannot
    open, and would follow what that owner put there.
    """

    def __init__(self, locks: Locks, state: Path, sites: Path) -> None:
        self._locks = locks
        self._state = state
        self._sites = sites
        self._owner = _owner_of(state)

    @contextmanager
    def domain(self, domain: Domain) -> Iterator[None]:
        """Hold one domain.

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
    """Return party 1 with a deadline that suits a visitor who waits."""
    return CustomerDns(replace(context.dns_settings, deadline=_DNS_DEADLINE))


def _world(context: Context) -> World:
    """Return the world of the stories, as patient as a visitor."""
    return replace(
        context.world,
        dns=_dns(context),
        ca=context.ca_by("acme"),
        locks=StayingLocks(HostLocks(context.run / "locks/domains", _LOCK_WAIT), context.state, context.sites),
        limits=leaving(context.limits, FIRST_VISITS),
    )


def _is_served(context: Context) -> Callable[[Domain], bool]:
    """Return how to see whether nginx serves a name without asking anybody.

    In mode blocks it cannot be seen: files are there before nginx has taken them over. There a visit comes here
    only when nginx has no block for the name, so it is always worth a look.
    """
    if context.mode is Mode.BLOCKS:
        return lambda _: False
    return lambda domain: target(context.state / "live", domain) is not None


def _can_be_read(context: Context) -> Callable[[], bool]:
    """Return how to see whether the store answers, on a connection of its own: others may wait for a lock."""
    store = context.another_store()

    def look() -> bool:
        try:
            store.domain(Domain("nobody.invalid"))
        except CertctlError:
            return False
        return True

    return look
