"""Wait for a customer's DNS change (``--wait``): verify again until the domain ends at our target."""

from collections.abc import Callable
from datetime import datetime, timedelta

from certctl.domain import Domain
from certctl.errors import CertctlError, NotReady, Unreachable
from certctl.io.clock import Clock
from certctl.io.interrupt import raise_if_stopping
from certctl.ports.parties import Dns
from certctl.values import Delegation, DnsSolver

_FIRST_PAUSE = timedelta(seconds=2)
_LONGEST_PAUSE = timedelta(seconds=30)


class PatientDns:
    """A ``Dns`` that verifies again, with growing pauses, until a deadline; nothing is ordered meanwhile."""

    def __init__(self, dns: Dns, clock: Clock, patience: timedelta, tell: Callable[[str], None]) -> None:
        self._dns = dns
        self._clock = clock
        self._patience = patience
        self._tell = tell

    def verify(self, domain: Domain) -> Delegation:
        """Verify until it succeeds; after ``patience`` raise the error of the last try."""
        deadline = self._clock.now() + self._patience
        pause = _FIRST_PAUSE
        while True:
            try:
                return self._dns.verify(domain)
            except (NotReady, Unreachable) as error:
                self._wait(domain, pause, deadline, error)
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    def verify_own(self, domain: Domain, solver: DnsSolver) -> Delegation:
        """Verify a zone of our own, once."""
        return self._dns.verify_own(domain, solver)

    def _wait(self, domain: Domain, pause: timedelta, deadline: datetime, error: CertctlError) -> None:
        left = deadline - self._clock.now()
        if left <= timedelta(0):
            raise error
        raise_if_stopping(f"while waiting for the DNS of {domain}")
        self._tell(f"{domain}: {error.message}; asking again, {left.total_seconds() / 60:.0f} min left")
        self._clock.pause(min(pause, left))
