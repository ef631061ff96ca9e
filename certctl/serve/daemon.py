"""The life of the process: doors open, systemd told, the approval endpoint watched, a stop that breaks nothing."""

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


class Voice(Protocol):
    """Says what happens to the whole daemon."""

    def note(self, text: str) -> None:
        """Say what is routine."""
        ...

    def warn(self, text: str) -> None:
        """Say what somebody should mend."""
        ...


@dataclass(frozen=True, slots=True)
class Probe:
    """How the approval endpoint is watched: one that approves everything would let strangers spend our limits.

    Attributes:
        ask: Raises ConfigInvalid when it approves a name nobody registered, Unreachable when it does not answer.
        every: How often, once it has refused that name.
        again: How often until then.
    """

    ask: Callable[[], None]
    every: timedelta = timedelta(minutes=1)
    again: timedelta = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Listeners:
    """The two sockets, bound."""

    serve: socket.socket
    miss: socket.socket


class Daemon:
    """Serves until it is told to stop."""

    def __init__(
        self, on_demand: OnDemand, app: Starlette, settings: ServeSettings, probe: Probe, voice: Voice
    ) -> None:
        self._on_demand = on_demand
        self._probe = probe
        self._voice = voice
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
        """Serve both sockets; return when everything under way has ended after a signal.

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
            if self._on_demand.flying:
                _interrupt()
            for watch in watches:
                watch.cancel()

    def stop(self) -> None:
        """Stop once nothing of ours is half-done; asked again, at once: a kill is what we survive anyway (P3)."""
        if not self._asked_to_stop.is_set():
            self._voice.note("stopping: no new names; what is at the CA comes to its end")
            self._asked_to_stop.set()
            return
        _interrupt()
        os._exit(ExitCode.INTERRUPTED)

    async def _watch_approval(self, refuses: bool) -> None:  # noqa: FBT001
        """Ask about a name nobody registered again and again; while it is approved take on no name."""
        while True:
            await asyncio.sleep((self._probe.every if refuses else self._probe.again).total_seconds())
            try:
                refuses = await self._approval_refuses()
                if refuses and self._on_demand.refusing and not self._asked_to_stop.is_set():
                    self._voice.note("the approval endpoint refuses unknown names again: names are taken on")
                    self._on_demand.refusing = None
            except ConfigInvalid as error:
                refuses = False
                if self._on_demand.refusing is None:
                    self._voice.warn(f"{error.message}; no name is taken on until that ends")
                self._on_demand.refusing = Answer(Kind.UNSURE, self._probe.again, error.slug)

    async def _approval_refuses(self) -> bool:
        """Tell whether the endpoint refuses a name nobody registered; one that does not answer is only spoken of.

        Raises:
            ConfigInvalid: it approves that name.
        """
        try:
            await asyncio.to_thread(self._probe.ask)
        except Unreachable as error:
            self._voice.warn(f"{error.message}; it is asked again in {self._probe.again.seconds} s")
            return False
        return True


def _interrupt() -> None:
    """Stop threads at their next step, and the programs they wait for."""
    stopping.set()
    end_children()


async def _feed_watchdog() -> None:
    """Tell systemd that the loop turns, where it wants to know."""
    pause = sd_notify.watchdog()
    while pause:
        sd_notify.tell("WATCHDOG=1")
        await asyncio.sleep(pause.total_seconds())
    await asyncio.Event().wait()


class _Server(uvicorn.Server):
    """Uvicorn without its signal handlers: ours know of orders under way."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
