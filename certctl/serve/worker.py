"""Issue for one name on a thread: the story of ``certctl issue``, with a queue before the CA and before nginx."""

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from certctl.domain import Domain
from certctl.errors import Busy, Interrupted
from certctl.ports.parties import CertificateAuthority
from certctl.ports.world import World
from certctl.serve.answers import WireResult, of_result
from certctl.serve.settings import ServeSettings
from certctl.slugs import Slug
from certctl.stories.issue import deploy, is_settled, obtain
from certctl.stories.journey import Journey
from certctl.stories.remove import refuse_if_removed_lately
from certctl.stories.result import Step, StepTaken
from certctl.txt_records import TxtDemand
from certctl.values import Approval, Certificate, Delegation, DnsSolver, Done, Issued, Pem, Suggestion


class Worker:
    """Takes a name from a visit to a certificate that is served; safe to call from many threads.

    Args:
        world: The parties; its CA is asked by ``settings.concurrency`` threads at once.
    """

    def __init__(self, world: World, settings: ServeSettings) -> None:
        self._queue = QueueingCa(world.ca, settings)
        self._settings = settings
        self._world = replace(world, ca=self._queue)
        self._deployer = Deployer(self._world)

    def __call__(self, domain: Domain) -> WireResult:
        """Issue for one name and return the result.

        A new name is verified and approved before anything is locked or written, so that a flood of names that are
        refused leaves nothing behind: no lock file, no row, no line in the history.
        """
        return self._take(domain, partial(self._world.dns.verify, domain))

    def issue_verified(self, delegation: Delegation) -> WireResult:
        """Issue for a name that the unprivileged process has verified, and return the result."""
        return self._take(delegation.domain, lambda: delegation)

    def close(self) -> None:
        """Place no more orders; those under way at the CA go on."""
        self._queue.close()

    def _take(self, domain: Domain, verify: Callable[[], Delegation]) -> WireResult:
        journey, approval = Journey(domain, Silent()), None
        with journey.attempt():
            row = self._world.store.domain(domain)
            refuse_if_removed_lately(row, self._world.clock.now())
            if not (row and is_settled(row, self._world)):
                delegation = journey.step(Step.VERIFY, verify)
                approval = journey.step(Step.APPROVE, self._world.operator.approve, delegation)
        if journey.ok:
            obtain(journey, self._world, approval)
            self._deployer.deploy(journey)
        return of_result(journey.result, self._settings, self._world.clock.now())


class QueueingCa:
    """A ``CertificateAuthority`` with a queue: so many orders at once, and none after ``close``."""

    def __init__(self, ca: CertificateAuthority, settings: ServeSettings) -> None:
        self._ca = ca
        self._patience = settings.order_patience
        self._free = settings.concurrency
        self._turn = threading.Condition()
        self._closed = False

    def obtain(self, approval: Approval, solver: DnsSolver | None = None, *, replaces: Pem | None = None) -> Issued:
        """Wait for a free place, then obtain the certificate.

        Raises:
            Busy: ``serve-busy``: no place was free within ``settings.order_patience``.
            Interrupted: the daemon stops.
        """
        with self._a_turn(approval.domain):
            return self._ca.obtain(approval, solver, replaces=replaces)

    def begin(self, approval: Approval) -> TxtDemand:
        """Pass the call on to the CA."""
        return self._ca.begin(approval)

    def require_ready(self) -> Done:
        """Pass the call on to the CA."""
        return self._ca.require_ready()

    def suggestion(self, certificate: Certificate, pem: Pem) -> Suggestion:
        """Pass the call on to the CA."""
        return self._ca.suggestion(certificate, pem)

    def acknowledge_stored(self, certificate: Certificate) -> None:
        """Pass the call on to the CA."""
        self._ca.acknowledge_stored(certificate)

    def unacknowledged(self) -> Collection[str]:
        """Pass the call on to the CA."""
        return self._ca.unacknowledged()

    def abandon(self, domain: Domain) -> None:
        """Pass the call on to the CA."""
        self._ca.abandon(domain)

    def revoke(self, certificate: Certificate, pem: Pem) -> None:
        """Pass the call on to the CA."""
        self._ca.revoke(certificate, pem)

    def close(self) -> None:
        """Refuse every order that waits or comes later."""
        with self._turn:
            self._closed = True
            self._turn.notify_all()

    @contextmanager
    def _a_turn(self, domain: Domain) -> Iterator[None]:
        with self._turn:
            seconds = self._patience.total_seconds()
            came = self._turn.wait_for(lambda: self._closed or self._free > 0, seconds)
            if self._closed:
                raise Interrupted(Slug.INTERRUPTED, f"stopped before {domain} was ordered")
            if not came:
                raise Busy(Slug.SERVE_BUSY, f"{domain} waited {seconds:g} s for its turn at the CA")
            self._free -= 1
        try:
            yield
        finally:
            with self._turn:
                self._free += 1
                self._turn.notify()


class Deployer:
    """Deploys journeys in batches: those that arrive while nginx tests and reloads form the next batch.

    In modes shared and lua no reload is needed, and a batch takes milliseconds.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._arrived: deque[Journey] = deque()
        self._turn = threading.Lock()

    def deploy(self, journey: Journey) -> None:
        """Deploy a journey together with all that have arrived meanwhile; return when this one has ended.

        When an earlier batch has deployed this journey, the batch is empty.
        """
        self._arrived.append(journey)
        with self._turn:
            together = [self._arrived.popleft() for _ in range(len(self._arrived))]
            try:
                deploy(together, self._world)
            except Exception as problem:  # noqa: BLE001 - the others' threads must learn that theirs failed too
                for one in together:
                    one.fail_unforeseen(problem)


class Silent:
    """A listener that ignores every event: the daemon logs the flight's result."""

    def started(self, domain: Domain, step: Step) -> None:
        """Do nothing: a flight has no progress to show."""

    def ended(self, domain: Domain, step: StepTaken) -> None:
        """Do nothing: the flight's result is logged."""

    def arrived(self, journey: Journey) -> None:
        """Do nothing: the flight's result is logged."""

    def warn(self, text: str) -> None:
        """Do nothing: a warning concerns renewals, not first visits."""
