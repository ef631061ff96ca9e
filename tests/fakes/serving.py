"""A daemon in a test's own process: real sockets and a real uvicorn over a world of fakes."""

import asyncio
import functools
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, ParamSpec

from certctl.domain import Domain, NamePolicy, parse_domain
from certctl.errors import Refused, Unreachable
from certctl.io import sockets
from certctl.serve.answers import Answer
from certctl.serve.app import application
from certctl.serve.daemon import Daemon, Listeners, Probe
from certctl.serve.metrics import Metrics
from certctl.serve.ondemand import FlightResult, Host, OnDemand
from certctl.serve.settings import ServeSettings
from certctl.serve.worker import Worker
from certctl.slugs import Slug
from certctl.values import Approval, Delegation, DnsSolver, Issued, Mode, Pem
from tests.fakes.ca import FakeCa
from tests.fakes.world import FakeWorld

P = ParamSpec("P")
NAMES = NamePolicy(own_names=("hyperping.io",))


def verified(domain: Domain, summary: str) -> Delegation:
    """Make the proof of party 1 with words of a test's own."""
    return Delegation(domain, "status.hyperping.io", (), summary)


def on_a_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run an async test to its end, or for a minute at most."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), 60))

    return run


class GatedCa(FakeCa):
    """A CA that keeps everybody waiting until its gate opens."""

    def __init__(self, world: FakeWorld) -> None:
        super().__init__(clock=world.clock.now())
        self.gate = threading.Event()
        self.inside = 0
        self.most_inside = 0
        self._counting = threading.Lock()

    def obtain(self, approval: Approval, solver: DnsSolver | None = None, *, replaces: Pem | None = None) -> Issued:
        with self._counting:
            self.inside += 1
            self.most_inside = max(self.most_inside, self.inside)
        try:
            if not self.gate.wait(120):
                raise Refused(Slug.CA_REFUSED, "the test never opened the gate")
            with self._counting:
                return super().obtain(approval, solver, replaces=replaces)
        finally:
            with self._counting:
                self.inside -= 1


@dataclass
class Heard:
    """A watcher and a voice that remember."""

    answers: list[Answer] = field(default_factory=list)
    landings: list[FlightResult] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def answered(self, answer: Answer) -> None:
        self.answers.append(answer)

    def flight_ended(self, result: FlightResult) -> None:
        self.landings.append(result)

    def note(self, text: str) -> None:
        self.said.append(text)

    warn = note


@dataclass
class Time:
    """A monotonic clock that a test turns."""

    moment: float = 0.0

    def __call__(self) -> float:
        return self.moment


class Serving:
    """What a test may reach: the fakes, the decisions, and both sockets.

    Attributes:
        mirror: Names that nginx would find in the mirror.
        now: What the daemon's memory and its caps take for the time.
    """

    def __init__(self, world: FakeWorld, home: Path, **settings: Any) -> None:
        self.fakes = world
        self.home = home
        self.settings = ServeSettings(**settings)
        self.heard = Heard()
        self.mirror: set[Domain] = set()
        self.now = Time()
        self.ca = GatedCa(world)
        self.ca.gate.set()
        self.metrics = Metrics(world.clock, lambda: True, Mode.LUA)
        self.issuing = Worker(replace(world.world, ca=self.ca), self.settings)
        host = Host(lambda text: parse_domain(text, NAMES), self.mirror.__contains__, self.issuing)
        self.on_demand = OnDemand(host, self.settings, [self.metrics, self.heard], self.now)
        self.metrics.watch(self.on_demand)

    @property
    def path(self) -> Path:
        return self.home / "serve.sock"

    @property
    def miss_path(self) -> Path:
        return self.home / "miss.sock"

    def daemon(self, probe: Callable[[], None], again: timedelta) -> Daemon:
        app = application(self.on_demand, self.metrics.text, self.metrics.summary)
        return Daemon(self.on_demand, app, self.settings, Probe(probe, every=again, again=again), self.heard)

    def listeners(self) -> Listeners:
        return Listeners(
            sockets.bind(self.path, socket.SOCK_STREAM), sockets.bind(self.miss_path, socket.SOCK_DGRAM)
        )

    async def get(self, target: str, host: str = "x", method: str = "GET") -> "Response":
        """Ask once, on a connection of its own; the host may be anything that fits into a header line."""
        head = f"{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        return await self.raw(head.encode("utf-8", "surrogateescape"))

    async def raw(self, request: bytes) -> "Response":
        reader, writer = await asyncio.open_unix_connection(str(self.path))
        try:
            writer.write(request)
            return Response.parse(await reader.read())
        finally:
            writer.close()
            await writer.wait_closed()

    async def visit(self, host: str) -> "Response":
        return await self.get("/visit", host)

    async def handshake(self, name: str) -> "Response":
        return await self.get(f"/certificate/{name}")

    async def status(self) -> dict[str, Any]:
        return dict(json.loads((await self.get("/status")).body))

    def miss(self, datagram: bytes) -> None:
        """Say what nginx would say; like nginx, drop it when nobody has read the ones before."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to, suppress(BlockingIOError):
            to.connect(str(self.miss_path))
            to.send(datagram, socket.MSG_DONTWAIT)


@dataclass(frozen=True)
class Response:
    """What came back; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: str

    @classmethod
    def parse(cls, data: bytes) -> "Response":
        head, _, body = data.decode("utf-8").partition("\r\n\r\n")
        first, *lines = head.split("\r\n")
        pairs = [line.split(": ", 1) for line in lines]
        return cls(int(first.split(" ")[1]), {name.lower(): value for name, value in pairs}, body)


def nobody_approves() -> None:
    """What an approval endpoint does that refuses a name nobody registered."""


def does_not_answer() -> None:
    raise Unreachable(Slug.APPROVAL_UNREACHABLE, "the approval endpoint did not say")


@asynccontextmanager
async def serving(
    serving: Serving, probe: Callable[[], None] = nobody_approves, again: timedelta = timedelta(seconds=600)
) -> AsyncIterator[Daemon]:
    """Run the daemon while a test asks; then stop it as a signal would."""
    daemon = serving.daemon(probe, again)
    living = asyncio.create_task(daemon.serve(serving.listeners()))
    try:
        yield daemon
    finally:
        serving.ca.gate.set()
        if not living.done() and not daemon._asked_to_stop.is_set():  # asked twice, it would take the tests along
            daemon.stop()
        await living


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something is so; the test's own deadline ends a wait in vain."""
    while not condition():  # noqa: ASYNC110 - what is waited for knows no event
        await asyncio.sleep(0.005)
