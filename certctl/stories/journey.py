"""One domain's journey through a story: its steps, how long they took, and its result.

A story takes the steps; the journey records them for the report, for ``--json`` and for the history.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import ParamSpec, Protocol, TypeVar

from certctl.dns_records import DnsRecord
from certctl.domain import Domain
from certctl.due import is_late
from certctl.errors import CertctlError, unforeseen
from certctl.io.interrupt import raise_if_stopping
from certctl.ports.world import World
from certctl.slugs import Slug
from certctl.stories import quota
from certctl.stories.result import PARKED, JourneyResult, Step, StepTaken
from certctl.txt_records import TxtDemand
from certctl.values import Certificate, DomainRow, Event, Mode, Site, State


class HasSummary(Protocol):
    """The result of a step: anything with a summary for people."""

    @property
    def summary(self) -> str:
        """Return the result in half a line."""
        ...


class Listener(Protocol):
    """An observer of journeys; called from the thread the step runs in."""

    def started(self, domain: Domain, step: Step) -> None:
        """Take note that a step began."""
        ...

    def ended(self, domain: Domain, step: StepTaken) -> None:
        """Take note of a step that ended, and how."""
        ...

    def arrived(self, journey: "Journey") -> None:
        """Take note of a journey that ended, with a result or an error."""
        ...

    def warn(self, text: str) -> None:
        """Take note of a fault that an operator should mend, although it stopped nothing."""
        ...


T = TypeVar("T", bound=HasSummary)
P = ParamSpec("P")


class Journey:
    """A domain on its way through a story.

    Attributes:
        certificate: What it has now, from the store or from the CA; None before either.
        changed: Whether anything on this host or at the CA is different because of this run.
        state: Its state when the journey ended, as the store says.
        error: Why it ended early.
        warnings: Faults that an operator should mend although the journey went on.
        before: The store's row at the start, once the story has read it.
        after: The store's row at the end.
        ended_at: When it ended; None before, and for a run that leaves no trace.
        is_late: At its end renewal had been due for so long that half of the time left for it was gone.
        site: What is to be published, once that is known.
        demand: What a person must put into DNS before the story can go on.
        insists: The operator said --force: a certificate that is still good is replaced, and no rest after a
            failure is kept.
        mode: How nginx is to serve it from now on, when the operator said so; None leaves that as it is.
        records: The DNS records that prove the delegation, for ``certctl verify``.
        still_approved: After a removal, whether the operator would approve it again; None without an answer.
    """

    def __init__(self, domain: Domain, listener: Listener, *, insists: bool = False) -> None:
        self.domain = domain
        self.insists = insists
        self.steps: list[StepTaken] = []
        self.certificate: Certificate | None = None
        self.changed = False
        self.state: State | None = None
        self.error: CertctlError | None = None
        self.warnings: list[CertctlError] = []
        self.before: DomainRow | None = None
        self.after: DomainRow | None = None
        self.ended_at: datetime | None = None
        self.is_late = False
        self.site: Site | None = None
        self.mode: Mode | None = None
        self.demand: TxtDemand | None = None
        self.records: Sequence[DnsRecord] = ()
        self.still_approved: bool | None = None
        self.listener = listener

    @property
    def ok(self) -> bool:
        """Tell whether no step has failed so far."""
        return self.error is None

    @property
    def result(self) -> JourneyResult:
        """Return what became of the domain, or how far it has come."""
        return JourneyResult(
            domain=str(self.domain),
            changed=self.changed,
            state=self.state,
            certificate=self.certificate,
            steps=tuple(self.steps),
            error=self.error,
            warnings=tuple(self.warnings),
            demand=self.demand,
            proof=self.records,
            still_approved=self.still_approved,
            at=self.ended_at,
            before=self.before,
            after=self.after,
            late=self.is_late,
            forced=self.insists,
        )

    @property
    def has_ordered(self) -> bool:
        """Tell whether the CA issued a certificate in this journey."""
        return any(step.name is Step.OBTAIN and step.ok for step in self.steps)

    def step(self, name: Step, do: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Take one step, record it, and return what ``do`` returns.

        Raises:
            CertctlError: as the step raised it, after it was recorded.
        """
        return take_together([self], name, do, *args, **kwargs)

    @contextmanager
    def attempt(self, world: World | None = None) -> Iterator[None]:
        """End the journey when the block raises a CertctlError, which is recorded and not raised.

        Without a world nothing is written, as ``--dry-run`` promises.
        """
        try:
            yield
        except CertctlError as error:
            self.fail(error, world)

    def with_lock(self, world: World, work: Callable[[World], None]) -> None:
        """Call ``work`` while this run holds the domain's lock; the journey ends when lock or call fails."""
        with self.attempt(world), world.holding(self.domain) as held, self.attempt(held):
            work(held)

    def fail(self, error: CertctlError, world: World | None = None) -> None:
        """End the journey with an error; write it into the store if a step was tried."""
        self.error = error
        with suppress(CertctlError):  # a store that fails now is not the news
            if world and self.steps and error.kind.is_remembered:
                self._remember(error, world)
            self._end(world)
        self.listener.arrived(self)

    def warn(self, error: CertctlError, world: World) -> None:
        """Report an error as a warning and go on; it is written into the history too."""
        self.warnings.append(error)
        self.listener.warn("; ".join((f"{self.domain}: {error.message}", *error.seen)))
        with suppress(CertctlError):  # a store that fails now will say so itself
            self._record(world, Step.PROBE, error.slug, error.message)

    def fail_unforeseen(self, problem: BaseException) -> None:
        """End the journey with an unexpected exception, so that the journeys beside it go on."""
        self.fail(unforeseen(problem))

    def succeed(self, what: str, world: World) -> None:
        """End the journey with success; when it changed anything, write ``what`` and its steps into the history."""
        if not self.ok:
            return
        self._end(world)
        self.listener.arrived(self)
        if self.changed:
            self._record(world, what, None, "; ".join(f"{step.name}: {step.detail}" for step in self.steps))

    def _remember(self, error: CertctlError, world: World) -> None:
        """Write the failure into the store; a domain that is still parked gets no new line in its history."""
        still_parked = self.before and self.before.state in PARKED and self.before.state is self.state
        if not still_parked:
            self._record(world, self.steps[-1].name, error.slug, error.message)
        world.store.failed(self.domain, error.slug, quota.backoff_until(self.domain, error, world))

    def _end(self, world: World | None) -> None:
        if world is None:
            return
        self.ended_at, self.after = world.clock.now(), world.store.domain(self.domain)
        certificate = self.after.certificate if self.after else None
        self.is_late = certificate is not None and is_late(certificate, self.ended_at, world.fallback_fraction)

    def _record(self, world: World, step: str, slug: Slug | None, detail: str) -> None:
        world.store.record(Event(world.clock.now(), self.domain.name, step, slug is None, slug, detail))


def take_together(
    journeys: Sequence[Journey], name: Step, do: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """Take a step that several domains share, such as one reload, and record it for each; return its result."""
    raise_if_stopping(f"before {name}")
    for journey in journeys:
        journey.listener.started(journey.domain, name)
    began = time.monotonic()
    try:
        result = do(*args, **kwargs)
    except CertctlError as error:
        _note(journeys, name, began, error)
        raise
    _note(journeys, name, began, result)
    return result


def _note(journeys: Sequence[Journey], name: Step, began: float, outcome: HasSummary | CertctlError) -> None:
    failed = isinstance(outcome, CertctlError)
    detail = outcome.message if isinstance(outcome, CertctlError) else outcome.summary
    taken = StepTaken(name, not failed, round((time.monotonic() - began) * 1000), detail)
    for journey in journeys:
        journey.steps.append(taken)
        journey.listener.ended(journey.domain, taken)
