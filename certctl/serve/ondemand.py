"""The order of thought for one name, on one loop: cheapest first, one flight per name, and never a long wait.

Parse → on its way already? → served already? → answered lately? → asked too often? → a flight of its own.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Protocol

from certctl.domain import Domain
from certctl.errors import NameRejected, unforeseen
from certctl.serve.answers import PREPARING, READY, Answer, Kind, WireResult, of_error, of_failure
from certctl.serve.memory import RecentAnswers
from certctl.serve.rate_limit import Caps
from certctl.serve.settings import ServeSettings
from certctl.slugs import Slug

_FULL = Answer(Kind.BUSY, timedelta(seconds=5), Slug.SERVE_BUSY)


@dataclass(frozen=True, slots=True)
class Landing:
    """How one flight ended.

    Attributes:
        seconds: From the first visitor's question to the end.
    """

    domain: Domain
    outcome: WireResult
    seconds: float

    @property
    def answer(self) -> Answer:
        """Return what the visitors are told."""
        return self.outcome.answer


class Watcher(Protocol):
    """Whoever wants to know; called on the loop, so it must be quick."""

    def answered(self, answer: Answer) -> None:
        """Learn what one visitor was told."""
        ...

    def landed(self, landing: Landing) -> None:
        """Learn how a flight ended."""
        ...


class Issuer(Protocol):
    """Takes names all the way."""

    def __call__(self, domain: Domain) -> WireResult:
        """Take one name all the way, on a thread."""
        ...

    def close(self) -> None:
        """Let nothing begin any more that costs."""
        ...


@dataclass(frozen=True, slots=True)
class Host:
    """What the daemon needs of this host.

    Attributes:
        parse: Turns a name from outside into a domain, or raises NameRejected.
        is_served: Whether nginx serves it already; asked on the loop, so it must be quick.
    """

    parse: Callable[[str], Domain]
    is_served: Callable[[Domain], bool]
    issue: Issuer


class OnDemand:
    """Answers for names. Every method is called on one loop, and only ``answer`` waits.

    Attributes:
        waiting: Visitors who wait now.
        refusing: Why no new name is taken on, such as an approval endpoint that approves everything.
    """

    def __init__(
        self,
        host: Host,
        settings: ServeSettings,
        watchers: Sequence[Watcher],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host = host
        self._settings = settings
        self._watchers = watchers
        self._now = now
        self._caps = Caps(settings.per_registered_domain, settings.overall, now)
        self._memory: RecentAnswers[Domain, Answer] = RecentAnswers(settings.memory, now)
        self._flights: dict[Domain, asyncio.Future[Answer]] = {}
        self._under_way: set[asyncio.Future[WireResult]] = set()
        self._pool = ThreadPoolExecutor(settings.threads, thread_name_prefix="flight")
        self.waiting = 0
        self.refusing: Answer | None = None

    @property
    def flying(self) -> int:
        """Return how many names are on their way."""
        return len(self._flights)

    @property
    def remembered(self) -> int:
        """Return how many answers are remembered."""
        return len(self._memory)

    async def answer(self, text: str) -> Answer:
        """Say whether a name is served; if it may become so, wait for that within the visitor's patience."""
        found = self.consider(text)
        if not isinstance(found, Answer):
            self.waiting += 1
            try:
                found = await asyncio.wait_for(asyncio.shield(found), self._settings.patience.total_seconds())
            except TimeoutError:
                found = PREPARING
            finally:
                self.waiting -= 1
        self._tell(found)
        return found

    def hint(self, text: str) -> None:
        """Take up a name that somebody asked nginx for; nobody waits."""
        found = self.consider(text)
        if isinstance(found, Answer):
            self._tell(found)

    def consider(self, text: str) -> "Answer | asyncio.Future[Answer]":
        """Return the answer where it is known, else the flight that will bring it."""
        try:
            domain = self._host.parse(text)
        except NameRejected as error:
            return of_error(error, self._settings)
        if flight := self._flights.get(domain):
            return flight
        if self._host.is_served(domain):
            return READY
        if known := self._memory.get(domain):
            answer, left = known
            return Answer(answer.kind, timedelta(seconds=left), answer.slug)
        return self._turned_away(domain) or self._take_off(domain)

    async def close(self) -> None:
        """Take on no new name, send the waiting away, and let what has begun come to its end, within patience."""
        self.refusing = PREPARING
        self._host.issue.close()
        for flight in self._flights.values():
            if not flight.done():
                flight.set_result(PREPARING)
        self._pool.shutdown(wait=False, cancel_futures=True)
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=self._settings.stop_patience.total_seconds())

    def _turned_away(self, domain: Domain) -> Answer | None:
        if self.refusing:
            return self.refusing
        if len(self._flights) >= self._settings.flights:
            return _FULL
        if wait := self._caps.take(domain):
            return Answer(Kind.BUSY, timedelta(seconds=wait), Slug.SERVE_BUSY)
        return None

    def _take_off(self, domain: Domain) -> "asyncio.Future[Answer]":
        loop = asyncio.get_running_loop()
        flight: asyncio.Future[Answer] = loop.create_future()
        self._flights[domain] = flight
        under_way = loop.run_in_executor(self._pool, self._host.issue, domain)
        self._under_way.add(under_way)
        under_way.add_done_callback(partial(self._land, domain, self._now()))
        return flight

    def _land(self, domain: Domain, began: float, ended: "asyncio.Future[WireResult]") -> None:
        self._under_way.discard(ended)
        landing = Landing(domain, self._outcome(ended), self._now() - began)
        flight = self._flights.pop(domain)
        if landing.answer.kind is not Kind.READY:  # whether a name is served is seen, not remembered
            self._memory.put(domain, landing.answer, landing.answer.lasts.total_seconds())
        if not flight.done():
            flight.set_result(landing.answer)
        for watcher in self._watchers:
            watcher.landed(landing)

    def _tell(self, answer: Answer) -> None:
        for watcher in self._watchers:
            watcher.answered(answer)

    def _outcome(self, ended: "asyncio.Future[WireResult]") -> WireResult:
        if ended.cancelled():
            return WireResult(PREPARING)
        if bug := ended.exception():
            return of_failure(unforeseen(bug), self._settings)
        return ended.result()
