"""The daemon's event loop: serve the sockets, notify systemd, watch the approval endpoint, and stop cleanly."""

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

import uvicorn
from starlette.applications import Starlette

from certctl.errors import ConfigInvalid, ExitCode, Unreachable
from certctl.io import sd_notify
from certctl.io.interrupt import stopping
from certctl.io.process import end_children
from certctl.serve.answers import Answer, Kind
from certctl.serve.miss_socket import MissSocket
from certctl.serve.ondemand import OnDemand
from certctl.serve.settings import ServeSettings

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_IDLE_SECONDS = 75  # longer than nginx keeps an idle connection to us (60 s)
_MAX_HEAD = 16_384
_LAST_ANSWERS_SECONDS = 3


class Log(Protocol):
    """The log of the daemon as a whole."""

    def note(self, text: str) -> None:
        """Log a routine event."""
        ...

    def warn(self, text: str) -> None:
        """Log what an operator should mend."""
        ...


@dataclass(frozen=True, slots=True)
class Probe:
    """How the approval endpoint is checked: one that approves every name would let anyone spend the CA's limits.

    Attributes:
        ask: Raises ConfigInvalid when it approves an invented name, Unreachable when it does not answer.
        every: The interval of the check once that name was refused.
        again: The interval until then.
    """

    ask: Callable[[], None]
    every: timedelta = timedelta(minutes=1)
    again: timedelta = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Listeners:
    """The two bound sockets: of HTTP, and of the names nginx missed."""

    serve: socket.socket
    miss: socket.socket


class Daemon:
    """The daemon: it serves until a signal."""

    def __init__(
        self, on_demand: OnDemand, app: Starlette, settings: ServeSettings, probe: Probe, log: Log
    ) -> None:
        self._on_demand = on_demand
        self._probe = probe
        self._log = log
        self._server = _Server(
            uvicorn.Config(
                app, lifespan="off", log_config=None, log_level="error", access_log=False, ws="none",
                server_header=False, limit_concurrency=settings.connections,
                timeout_keep_alive=_IDLE_SECONDS, h11_max_incomplete_event_size=_MAX_HEAD,
                timeout_graceful_shutdown=_LAST_ANSWERS_SECONDS,
            )
        )  # fmt: skip
        self._server.config.load()
        self._asked_to_stop = asyncio.Event()

    async def serve(self, listeners: Listeners) -> None:
        """Serve both sockets until a signal; return when every order under way has ended.

        Raises:
            ConfigInvalid: ``approval-approves-everything``, before the first name is taken on.
        """
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self.stop)
        with listeners.serve, listeners.miss:
            refuses = await self._approval_refuses()
            if not self._asked_to_stop.is_set() and not stopping.is_set():
                await self._serve(listeners, refuses)

    async def _serve(self, listeners: Listeners, refuses: bool) -> None:  # noqa: FBT001
        loop = asyncio.get_running_loop()
        misses, _ = await loop.create_datagram_endpoint(
            lambda: MissSocket(self._on_demand.hint), sock=listeners.miss
        )
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._server.serve(sockets=[listeners.serve]))
            watches = [tasks.create_task(self._watch_approval(refuses)), tasks.create_task(_feed_watchdog())]
            sd_notify.tell("READY=1", "STATUS=waiting for first visitors")
            await self._asked_to_stop.wait()
            sd_notify.tell("STOPPING=1", "STATUS=waiting for what is at the CA")
            misses.close()
            self._server.should_exit = True
            await self._on_demand.close()
            if self._on_demand.in_flight:
                _interrupt()
            for watch in watches:
                watch.cancel()

    def stop(self) -> None:
        """Stop when no order is under way; at the second call at once, which is as safe as a kill (promise P3)."""
        if not self._asked_to_stop.is_set():
            self._log.note("stopping: no new names; what is at the CA comes to its end")
            self._asked_to_stop.set()
            return
        _interrupt()
        os._exit(ExitCode.INTERRUPTED)

    async def _watch_approval(self, refuses: bool) -> None:  # noqa: FBT001
        """Check at intervals that the endpoint refuses an invented name; take on no new name while it does not."""
        while True:
            await asyncio.sleep((self._probe.every if refuses else self._probe.again).total_seconds())
            try:
                refuses = await self._approval_refuses()
                if refuses and self._on_demand.refusing and not self._asked_to_stop.is_set():
                    self._log.note("the approval endpoint refuses unknown names again: names are taken on")
                    self._on_demand.refusing = None
            except ConfigInvalid as error:
                refuses = False
                if self._on_demand.refusing is None:
                    self._log.warn(f"{error.message}; no name is taken on until that ends")
                self._on_demand.refusing = Answer(Kind.UNSURE, self._probe.again, error.slug)

    async def _approval_refuses(self) -> bool:
        """Tell whether the endpoint refuses an invented name; warn and return False when it does not answer.

        Raises:
            ConfigInvalid: it approves that name.
        """
        try:
            await asyncio.to_thread(self._probe.ask)
        except Unreachable as error:
            self._log.warn(f"{error.message}; it is asked again in {self._probe.again.seconds} s")
            return False
        return True


def _interrupt() -> None:
    """Stop the threads at their next step, and end the programs they wait for."""
    stopping.set()
    end_children()


async def _feed_watchdog() -> None:
    """Send ``WATCHDOG=1`` to systemd from the event loop, if the unit has ``WatchdogSec=``."""
    pause = sd_notify.watchdog()
    while pause:
        sd_notify.tell("WATCHDOG=1")
        await asyncio.sleep(pause.total_seconds())
    await asyncio.Event().wait()


class _Server(uvicorn.Server):
    """Uvicorn without its signal handlers: the daemon's own wait for orders under way."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
