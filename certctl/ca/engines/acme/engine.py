"""Engine ``acme``: the protocol in our own process, by certbot's own acme library, with certbot's own account."""

import threading
import time
from collections.abc import Callable

import requests
from acme import errors, messages
from cryptography import x509
from josepy.errors import Error as JoseError
from josepy.jwk import JWK

from certctl.ca.account import Account, load_account
from certctl.ca.engines.acme.order import AcmeOrder
from certctl.ca.engines.acme.session import Session, parsed
from certctl.ca.engines.base import Task
from certctl.ca.http import in_time
from certctl.ca.settings import CaSettings
from certctl.ca.solvers.base import DNS_01
from certctl.ca.transcript import End, EngineResult
from certctl.ca.workdir import WorkingDirectory
from certctl.errors import CertctlError
from certctl.io.clock import Deadline, SystemClock

_FRESH_SECONDS = 3600.0
_IDLE_SECONDS = 50.0  # web servers close a quiet connection after a minute or so, and firewalls do not even say so
_UNSPECIFIED = 0  # RFC 5280 §5.3.1


class Acme:
    """Fits ``base.Engine``. Any number of threads may use it: each has a session of its own."""

    def __init__(self, settings: CaSettings, clock: SystemClock) -> None:
        self._settings = settings
        self._clock = clock
        self._mine = threading.local()
        self._guard = threading.Lock()
        self._accounts: dict[str, Account] = {}
        self._known: tuple[float, messages.Directory] | None = None

    def issue(self, task: Task, account: str) -> EngineResult:
        """Go through with the order, from wherever it stands.

        Raises:
            Refused: ``ca-account``, the account's files cannot be read.
        """
        solver = task.plan.solver
        if solver is None:
            raise AssertionError("only certbot runs certbot's plugins")
        return self._working(task, account, lambda work: work.run(solver))

    def begin(self, task: Task, account: str) -> EngineResult:
        """Have an order by DNS-01 and what must be shown for it; raises as ``issue``."""
        return self._working(task, account, lambda work: work.begin(DNS_01))

    def revoke(self, workdir: WorkingDirectory, lock: int) -> EngineResult:  # noqa: ARG002 - there is no child to inherit it
        """Revoke; the session is the certificate's key's own."""
        session = Session(self._settings, JWK.load(workdir.key.read_bytes()), None)
        leaf = x509.load_pem_x509_certificate(workdir.fullchain.read_bytes())
        order = messages.Revocation(certificate=leaf, reason=_UNSPECIFIED)
        return self._noted(
            session,
            Deadline.after(self._settings.deadline),
            lambda: session.send(session.place("revokeCert"), order),
        )

    def _working(self, task: Task, account: str, do: Callable[[AcmeOrder], None]) -> EngineResult:
        session = self._session(self._account(account))
        return self._noted(session, task.deadline, lambda: do(AcmeOrder(task, session, self._clock)))

    def _noted(self, session: Session, deadline: Deadline, do: Callable[[], object]) -> EngineResult:
        """Do something in a session, and say how it went; a session that met anything odd is not used again."""
        session.deadline, session.heard = deadline, []
        try:
            session.directory = self._directory(session)
            do()
        except CertctlError as error:
            self._drop()  # an exchange may still be under way in it
            return EngineResult(End.FAILURE, session.heard, aborted=error)
        except (errors.Error, JoseError, requests.RequestException) as error:
            if not isinstance(error, messages.Error):
                self._known = None
                self._drop()
            is_late = isinstance(error, errors.TimeoutError) or not deadline.remaining()
            return EngineResult(
                End.DEADLINE if is_late else End.FAILURE,
                session.heard,
                frozenset(kind.__name__ for kind in type(error).__mro__),
                words=(f"acme: {type(error).__name__}: {error}"[:500],),
            )
        session.last_used = time.monotonic()
        return EngineResult(End.SUCCESS, session.heard)

    def _directory(self, session: Session) -> messages.Directory:
        """Return the CA's directory, asked for once in a while for all threads (RFC 8555 §7.1.1)."""
        with self._guard:
            if self._known is None or time.monotonic() - self._known[0] > _FRESH_SECONDS:
                seconds = session.deadline.remaining()
                answer = in_time(seconds, lambda: session.get(self._settings.directory))
                self._known = time.monotonic(), parsed(messages.Directory, answer)
            return self._known[1]

    def _account(self, account: str) -> Account:
        with self._guard:
            if account not in self._accounts:
                self._accounts[account] = load_account(self._settings, account)
            return self._accounts[account]

    def _session(self, account: Account) -> Session:
        """Return this thread's session with this account, or a new one where it was quiet for too long."""
        kept: Session | None = getattr(self._mine, "session", None)
        is_quiet = kept is not None and time.monotonic() - kept.last_used > _IDLE_SECONDS
        if kept is None or is_quiet or kept.account != account.resource:
            self._drop()
            kept = self._mine.session = Session(self._settings, account.key, account.resource)
        return kept

    def _drop(self) -> None:
        """Let go of this thread's session and close it: left to the garbage collector that may take a day."""
        kept: Session | None = getattr(self._mine, "session", None)
        if kept is not None:
            kept.session.close()
        self._mine.session = None
