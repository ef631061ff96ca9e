"""A whole world made of fakes, a real store and a clock that a test turns."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from certctl.budget import LETS_ENCRYPT
from certctl.domain import Domain
from certctl.ports.world import World
from certctl.store.sqlite import SqliteStore
from certctl.stories.issue import issue
from certctl.stories.journey import Journey
from certctl.stories.result import Step, StepTaken
from tests.fakes.ca import FakeCa
from tests.fakes.dns import FakeDns
from tests.fakes.operator import FakeOperator
from tests.fakes.web import FakeWeb


@dataclass
class FakeClock:
    """Time that passes only when a test or a pause says so."""

    moment: datetime = datetime(2026, 11, 23, 12, tzinfo=UTC)

    def now(self) -> datetime:
        return self.moment

    def pause(self, duration: timedelta) -> None:
        self.moment += duration


@dataclass
class ThreadLocks:
    """One lock a domain, between threads."""

    held: dict[Domain, threading.Lock] = field(default_factory=dict)

    @contextmanager
    def domain(self, domain: Domain) -> Iterator[None]:
        with self.held.setdefault(domain, threading.Lock()):
            yield


@dataclass
class Listening:
    """A listener that remembers."""

    heard: list[tuple[str, str, bool]] = field(default_factory=list)
    arrivals: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def started(self, domain: Domain, step: Step) -> None:
        """Nothing ends before it began; only ends are kept."""

    def ended(self, domain: Domain, step: StepTaken) -> None:
        self.heard.append((domain.name, step.name, step.ok))

    def arrived(self, journey: Journey) -> None:
        self.arrivals.append(journey.domain.name)

    def warn(self, text: str) -> None:
        self.warnings.append(text)


class FakeWorld:
    """The four fake parties, reachable one by one, and the World over them."""

    def __init__(self, directory: Path) -> None:
        self.clock = FakeClock()
        self.dns = FakeDns()
        self.operator = FakeOperator(now=self.clock.now())
        self.ca = FakeCa(clock=self.clock.now())
        self.web = FakeWeb()
        self.store = SqliteStore(directory / "certctl.db", self.clock)
        self.listening = Listening()
        self.world = World(
            self.dns, self.operator, self.ca, self.web, self.store, ThreadLocks(), self.clock, LETS_ENCRYPT
        )

    def customer(self, name: str) -> Domain:
        """Add a customer whose DNS and approval are right."""
        domain = Domain(name)
        self.dns.cnames[name] = self.dns.target
        self.operator.approves(domain)
        return domain

    def days_pass(self, days: float) -> None:
        """Let time pass for everyone."""
        self.clock.pause(timedelta(days=days))
        self.operator.now = self.ca.clock = self.clock.now()

    def journeys(self, *domains: Domain, insists: bool = False) -> Sequence[Journey]:
        """Start a journey for each domain."""
        return [self.journey(domain, insists=insists) for domain in domains]

    def journey(self, domain: Domain, *, insists: bool = False) -> Journey:
        """Start one."""
        return Journey(domain, self.listening, insists=insists)


def live(fake: FakeWorld, *names: str) -> list[Domain]:
    """Take customers to live HTTPS."""
    domains = [fake.customer(name) for name in names]
    issue(fake.journeys(*domains), fake.world)
    return domains


def live_one(fake: FakeWorld, name: str = "a.example.com") -> Domain:
    """Take one customer to live HTTPS."""
    (domain,) = live(fake, name)
    return domain
