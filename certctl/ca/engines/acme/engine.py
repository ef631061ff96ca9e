"""Engine ``acme``: RFC 8555 in this process, by the acme library, with the account that certbot registered."""

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
    """Implements ``engines.base.Engine``; safe to use from several threads, each with a session of its own."""

    def __init__(self, settings: CaSettings, clock: SystemClock) -> None:
        self._settings = settings
        self._clock = clock
        self._mine = threading.local()
        self._guard = threading.Lock()
        self._accounts: dict[str, Account] = {}
        self._known: tuple[float, messages.Directory] | None = None

    def issue(self, task: Task, account: str) -> EngineResult:
        """Take the order from its present state (RFC 8555 §7.1.6) to the certificate.

        Raises:
            Refused: ``ca-account``, the account's files cannot be read.
        """
        solver = task.plan.solver
        if solver is None:
            raise AssertionError("only certbot runs certbot's plugins")
        return self._working(task, account, lambda work: work.run(solver))

    def begin(self, task: Task, account: str) -> EngineResult:
        """Make an order and note its dns-01 challenges in the working directory; raises as ``issue``."""
        return self._working(task, account, lambda work: work.begin(DNS_01))

    def revoke(self, workdir: WorkingDirectory, lock: int) -> EngineResult:  # noqa: ARG002 - there is no child to inherit it
        """Revoke the certificate in the working directory, signed with its own key (RFC 8555 §7.6)."""
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
        """Call ``do`` in a session and return how it ended; after an unexpected error the session is dropped."""
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
        """Return the CA's directory (RFC 8555 §7.1.1), fetched at most once an hour for all threads."""
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
        """Return this thread's session with this account; a new one when it was idle for too long."""
        kept: Session | None = getattr(self._mine, "session", None)
        is_quiet = kept is not None and time.monotonic() - kept.last_used > _IDLE_SECONDS
        if kept is None or is_quiet or kept.account != account.resource:
            self._drop()
            kept = self._mine.session = Session(self._settings, account.key, account.resource)
        return kept

    def _drop(self) -> None:
        """Close this thread's session: the garbage collector may take a day to do so."""
        kept: Session | None = getattr(self._mine, "session", None)
        if kept is not None:
            kept.session.close()
        self._mine.session = None
