"""One name's way on a thread: the same story as ``certctl issue``, with a queue before the CA and before nginx."""

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
from certctl.stories.remove import stay_away
from certctl.stories.result import Step, StepTaken
from certctl.txt_records import TxtDemand
from certctl.values import Approval, Certificate, Delegation, DnsSolver, Done, Issued, Pem, Suggestion


class Worker:
    """Takes names from a visitor's wish to a certificate that is served; safe to call from many threads.

    Args:
        world: The parties; its CA is asked by ``settings.concurrency`` threads at once.
    """

    def __init__(self, world: World, settings: ServeSettings) -> None:
        self._queue = QueueingCa(world.ca, settings)
        self._settings = settings
        self._world = replace(world, ca=self._queue)
        self._deployer = Deployer(self._world)

    def __call__(self, domain: Domain) -> WireResult:
        """Take one name all the way, and say where that ended.

        A name that is not settled is looked at before anything is locked or written, so that names without number
        that nobody welcomes leave nothing behind: no lock file, no row, no line in the history.
        """
        return self._take(domain, partial(self._world.dns.verify, domain))

    def go_on(self, delegation: Delegation) -> WireResult:
        """Take a name the rest of the way, for another process of ours that has verified it."""
        return self._take(delegation.domain, lambda: delegation)

    def close(self) -> None:
        """Let no order begin any more; those at the CA go on."""
        self._queue.close()

    def _take(self, domain: Domain, verify: Callable[[], Delegation]) -> WireResult:
        journey, approval = Journey(domain, Silent()), None
        with journey.attempt():
            row = self._world.store.domain(domain)
            stay_away(row, self._world.clock.now())
            if not (row and is_settled(row, self._world)):
                delegation = journey.step(Step.VERIFY, verify)
                approval = journey.step(Step.APPROVE, self._world.operator.approve, delegation)
        if journey.ok:
            obtain(journey, self._world, approval)
            self._deployer.deploy(journey)
        return of_result(journey.result, self._settings, self._world.clock.now())


class QueueingCa:
    """Party 3 behind a door that lets so many in at once, and after ``close`` nobody."""

    def __init__(self, ca: CertificateAuthority, settings: ServeSettings) -> None:
        self._ca = ca
        self._patience = settings.order_patience
        self._free = settings.concurrency
        self._turn = threading.Condition()
        self._closed = False

    def obtain(self, approval: Approval, solver: DnsSolver | None = None, *, replaces: Pem | None = None) -> Issued:
        """Wait for a turn, then obtain.

        Raises:
            Busy: ``serve-busy``: the turn did not come.
            Interrupted: the daemon stops.
        """
        with self._a_turn(approval.domain):
            return self._ca.obtain(approval, solver, replaces=replaces)

    def begin(self, approval: Approval) -> TxtDemand:
        """Pass on."""
        return self._ca.begin(approval)

    def require_ready(self) -> Done:
        """Pass on."""
        return self._ca.require_ready()

    def suggestion(self, certificate: Certificate, pem: Pem) -> Suggestion:
        """Pass on."""
        return self._ca.suggestion(certificate, pem)

    def acknowledge_stored(self, certificate: Certificate) -> None:
        """Pass on."""
        self._ca.acknowledge_stored(certificate)

    def unsettled(self) -> Collection[str]:
        """Pass on."""
        return self._ca.unsettled()

    def abandon(self, domain: Domain) -> None:
        """Pass on."""
        self._ca.abandon(domain)

    def revoke(self, certificate: Certificate, pem: Pem) -> None:
        """Pass on."""
        self._ca.revoke(certificate, pem)

    def close(self) -> None:
        """Send away who waits, and who comes."""
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
    """Deploys whatever has arrived together: while nginx tests and reloads for some, the next ones gather.

    Where that takes no reload a turn is milliseconds, and nobody waits for company.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._arrived: deque[Journey] = deque()
        self._turn = threading.Lock()

    def deploy(self, journey: Journey) -> None:
        """Deploy a journey and all that have arrived meanwhile; return when this one has ended.

        Nobody is left together with us when an earlier turn took ours along.
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
    """A listener for journeys whose end is told as a whole."""

    def started(self, domain: Domain, step: Step) -> None:
        """Say nothing."""

    def ended(self, domain: Domain, step: StepTaken) -> None:
        """Say nothing."""

    def arrived(self, journey: Journey) -> None:
        """Say nothing."""

    def warn(self, text: str) -> None:
        """Say nothing: first visits are not renewals."""
