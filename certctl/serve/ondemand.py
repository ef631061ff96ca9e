"""The daemon's decision about one name, on one event loop: cheapest check first, and one flight for each name.

Parse → in flight already? → served already? → answered lately? → rate limit reached? → a flight of its own.
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
from certctl.serve.rate_limit import RateLimiter
from certctl.serve.settings import ServeSettings
from certctl.slugs import Slug

_FULL = Answer(Kind.BUSY, timedelta(seconds=5), Slug.SERVE_BUSY)


@dataclass(frozen=True, slots=True)
class FlightResult:
    """The result of one flight.

    Attributes:
        seconds: From the first visitor's question to the end.
    """

    domain: Domain
    outcome: WireResult
    seconds: float

    @property
    def answer(self) -> Answer:
        """Return the answer for the visitors."""
        return self.outcome.answer


class Watcher(Protocol):
    """An observer of answers and flights; called on the event loop, so it must be quick."""

    def answered(self, answer: Answer) -> None:
        """Take note of the answer to one visitor."""
        ...

    def flight_ended(self, result: FlightResult) -> None:
        """Take note of a flight that ended."""
        ...


class Issuer(Protocol):
    """Takes a name from a visit to a certificate that is served."""

    def __call__(self, domain: Domain) -> WireResult:
        """Issue for one name and return the result; called on a thread."""
        ...

    def close(self) -> None:
        """Place no more orders."""
        ...


@dataclass(frozen=True, slots=True)
class Host:
    """What the daemon's decision needs of this host.

    Attributes:
        parse: Turns a name from outside into a domain, or raises NameRejected.
        is_served: Whether nginx serves it already; called on the event loop, so it must be quick.
    """

    parse: Callable[[str], Domain]
    is_served: Callable[[Domain], bool]
    issue: Issuer


class OnDemand:
    """Decides about names. Every method is called on one event loop, and only ``answer`` waits.

    Attributes:
        waiting: How many visitors wait now.
        refusing: The answer for every new name while none is taken on, as when the endpoint approves everything.
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
        self._limiter = RateLimiter(settings.per_registered_domain, settings.overall, now)
        self._memory: RecentAnswers[Domain, Answer] = RecentAnswers(settings.memory, now)
        self._flights: dict[Domain, asyncio.Future[Answer]] = {}
        self._under_way: set[asyncio.Future[WireResult]] = set()
        self._pool = ThreadPoolExecutor(settings.threads, thread_name_prefix="flight")
        self.waiting = 0
        self.refusing: Answer | None = None

    @property
    def in_flight(self) -> int:
        """Return how many names are in flight."""
        return len(self._flights)

    @property
    def remembered(self) -> int:
        """Return how many answers are remembered."""
        return len(self._memory)

    async def answer(self, text: str) -> Answer:
        """Return the answer about a name; one in flight is waited for, as long as ``settings.patience``."""
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
        """Consider a name that a client asked nginx for; no one waits for the answer."""
        found = self.consider(text)
        if isinstance(found, Answer):
            self._tell(found)

    def consider(self, text: str) -> "Answer | asyncio.Future[Answer]":
        """Return the answer about a name if it is known, else the future of its flight."""
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
        return self._turned_away(domain) or self._start_flight(domain)

    async def close(self) -> None:
        """Take on no new name, answer all visitors, and wait for orders under way (``settings.stop_patience``)."""
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
        if wait := self._limiter.take(domain):
            return Answer(Kind.BUSY, timedelta(seconds=wait), Slug.SERVE_BUSY)
        return None

    def _start_flight(self, domain: Domain) -> "asyncio.Future[Answer]":
        loop = asyncio.get_running_loop()
        flight: asyncio.Future[Answer] = loop.create_future()
        self._flights[domain] = flight
        under_way = loop.run_in_executor(self._pool, self._host.issue, domain)
        self._under_way.add(under_way)
        under_way.add_done_callback(partial(self._end_flight, domain, self._now()))
        return flight

    def _end_flight(self, domain: Domain, began: float, ended: "asyncio.Future[WireResult]") -> None:
        self._under_way.discard(ended)
        result = FlightResult(domain, self._outcome(ended), self._now() - began)
        flight = self._flights.pop(domain)
        if result.answer.kind is not Kind.READY:  # whether a name is served is seen, not remembered
            self._memory.put(domain, result.answer, result.answer.lasts.total_seconds())
        if not flight.done():
            flight.set_result(result.answer)
        for watcher in self._watchers:
            watcher.flight_ended(result)

    def _tell(self, answer: Answer) -> None:
        for watcher in self._watchers:
            watcher.answered(answer)

    def _outcome(self, ended: "asyncio.Future[WireResult]") -> WireResult:
        if ended.cancelled():
            return WireResult(PREPARING)
        if bug := ended.exception():
            return of_failure(unforeseen(bug), self._settings)
        return ended.result()
