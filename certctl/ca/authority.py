"""The CA (party 3): sends it our key's request by either engine, and returns a checked certificate.

The working directory of an order stays until ``acknowledge_stored`` says that nginx has the certificate, so that
the next run resumes what a killed one left without a second order, and a store that lost its last commit has lost
no key.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from datetime import timedelta

from certctl.ca.account import ensure_account
from certctl.ca.ari import RenewalInfo, identifier
from certctl.ca.certificate import check_issued, describe
from certctl.ca.directory import Directory
from certctl.ca.doctor import examine
from certctl.ca.engines.acme.engine import Acme
from certctl.ca.engines.base import Engine, Task
from certctl.ca.engines.certbot.engine import Certbot
from certctl.ca.engines.certbot.log import read_log
from certctl.ca.errors import classify
from certctl.ca.plan import Capabilities
from certctl.ca.settings import CaSettings, require_usable
from certctl.ca.solvers.base import HttpTokens, Solver
from certctl.ca.solvers.dns01 import distinct
from certctl.ca.solvers.rfc2136 import TxtAutomation
from certctl.ca.transcript import End, EngineResult
from certctl.ca.workdir import WorkingDirectory
from certctl.domain import Domain
from certctl.errors import Busy, CertctlError, Refused
from certctl.io.clock import Deadline, SystemClock
from certctl.io.files import PRIVATE, make_directory, write_atomic, write_new, writing
from certctl.io.locks import inheritable_lock
from certctl.ports.manual_dns import ManualOperator
from certctl.txt_records import OrderOrigin, TxtDemand
from certctl.values import Approval, Certificate, DnsSolver, Done, Finding, Issued, Pem, Suggestion

_PRIVATE_DIRECTORY = 0o700
_STALE = timedelta(days=1)  # an order that could not be finished until then is made anew


class Authority:
    """The facade of the CA; implements ``parties.CertificateAuthority``."""

    def __init__(
        self,
        settings: CaSettings,
        engine: str = "certbot",
        *,
        solver: Solver | None = None,
        operator: ManualOperator | None = None,
        automation: TxtAutomation | None = None,
    ) -> None:
        self._settings = settings
        self._capabilities = Capabilities(engine, solver or HttpTokens(settings.challenges), operator, automation)
        self._clock = SystemClock()
        self._directory = Directory(settings, self._clock)
        self._acme = Acme(settings, self._clock)
        self._engines: dict[str, Engine] = {"certbot": Certbot(settings), "acme": self._acme}
        self._renewal_info = RenewalInfo(settings, self._clock)

    def obtain(self, approval: Approval, solver: DnsSolver | None = None, *, replaces: Pem | None = None) -> Issued:
        """Order a certificate (RFC 8555 §7.4) for a new key, and return it, checked, with its chain and key.

        The certbot of a killed run is waited for; its order is resumed where that is possible, else its files are
        removed.

        Raises:
            Refused, RateLimited, Unreachable: as ``certctl.ca.errors`` tells them apart.
            Busy: the certbot of a killed run is still at work.
            ConfigInvalid: ``clock-wrong``, no usable certbot, an unsafe directory URL, files out of reach.
        """
        require_usable(self._settings)
        with self._task(approval, solver, replaces) as task, self._leftovers(task):
            issued = self._finished(task) or self._order(task)
            return replace(issued, proof=task.plan.proof)

    def begin(self, approval: Approval) -> TxtDemand:
        """Order a wildcard whose TXT records a person adds, or find the order begun before; return those records.

        No challenge is answered and nothing is waited for: ``obtain`` resumes the order, in any later process,
        until it expires at the CA. The engine ``acme`` makes it, whichever is configured.

        Raises:
            Refused, RateLimited, Unreachable: the CA took no order.
            ConfigInvalid: as in ``obtain``.
        """
        require_usable(self._settings)
        with self._task(approval, DnsSolver("manual"), None) as task:
            self._directory.require_ready()
            workdir, before = task.workdir, task.workdir.begun()
            self._prepare(task)
            engine_result = self._by_account(task, self._acme.begin)
            if engine_result.end is not End.SUCCESS:
                error = classify(engine_result, task.domain.name, self._clock.now())
                self._give_up(error, task)
                raise error
            workdir.flush()
            begun, challenges = workdir.begun(), workdir.presented()
            opened = (
                OrderOrigin.NEW if before is None else OrderOrigin.SAME if begun == before else OrderOrigin.ANEW
            )
            sight = task.plan.look(task.domain.zone)
            return TxtDemand(distinct(challenges), sight, begun.ends if begun else None, opened=opened)

    def acknowledge_stored(self, certificate: Certificate) -> None:
        """Remove the working directory in which a certificate was made, because store and mirror have it now.

        It must also be called before ``obtain``, with the certificate that the store already has: otherwise its
        leftover working directory would be returned as a new certificate. A run that is making one for this domain
        is not disturbed.

        Raises:
            Busy: another run makes a certificate for this domain, and has not yet removed this directory.
            ConfigInvalid: ``state-unwritable``.
        """
        workdir = self._workdir(certificate.domain)
        if _has_made(workdir, certificate):
            with self._locked(certificate.domain):
                if _has_made(workdir, certificate):
                    workdir.remove()
        elif workdir.is_cut_short:
            with suppress(Busy), self._locked(certificate.domain, timedelta(0)):
                workdir.sweep()

    def unacknowledged(self) -> frozenset[str]:
        """Return the stems of the domains that have a working directory: their certificate is not yet stored.

        Raises:
            ConfigInvalid: ``state-unwritable``.
        """
        work = self._settings.work
        with writing(work), suppress(FileNotFoundError):
            return frozenset(path.name for path in work.iterdir())
        return frozenset()

    def abandon(self, domain: Domain) -> None:
        """Remove the working directory of a domain that is being removed, with any order in it.

        Raises: as ``acknowledge_stored``.
        """
        workdir = self._workdir(domain)
        if workdir.root.is_dir():
            with self._locked(domain):
                workdir.remove()

    def suggestion(self, certificate: Certificate, pem: Pem) -> Suggestion:
        """Return when the CA suggests to renew this certificate (ARI, RFC 9773); never fails."""
        return self._renewal_info.suggestion(certificate, pem)

    def revoke(self, certificate: Certificate, pem: Pem) -> None:
        """Revoke a certificate; the request is signed with the certificate's own key (RFC 8555 §7.6).

        Raises:
            Refused, Unreachable: the CA did not revoke it; ``alreadyRevoked`` counts as done.
        """
        require_usable(self._settings)
        workdir = WorkingDirectory(self._settings.acme_dir / "revocation" / certificate.domain.stem)
        with self._locked(certificate.domain) as lock:
            workdir.make(self._settings)
            try:
                with writing(workdir.root):
                    write_new(workdir.key, pem.private_key.encode(), PRIVATE, durable=False)
                    write_new(workdir.fullchain, pem.fullchain.encode(), PRIVATE, durable=False)
                engine_result = self._engines[self._capabilities.engine].revoke(workdir, lock)
            finally:
                workdir.remove()
        if engine_result.end is not End.SUCCESS and not engine_result.is_about("alreadyRevoked"):
            raise classify(engine_result, certificate.domain.name, self._clock.now())

    def examine(self) -> Sequence[Finding]:
        """Return the findings of ``certctl doctor`` about the CA's directory, certbot, our plugin and account."""
        return examine(self._settings, self._directory)

    def require_ready(self) -> Done:
        """Fetch the CA's directory and compare clocks, at most once in ten minutes; ``obtain`` does so by itself.

        Raises:
            Unreachable: no usable answer.
            ConfigInvalid: ``clock-wrong``, or an unsafe directory URL.
        """
        require_usable(self._settings)
        return self._directory.require_ready()

    def is_time_right(self) -> bool:
        """Tell whether this host's clock agrees with the CA's; False when the CA cannot be asked."""
        try:
            self.require_ready()
        except CertctlError:
            return False
        return True

    @contextmanager
    def _task(self, approval: Approval, solver: DnsSolver | None, replaces: Pem | None) -> Iterator[Task]:
        """Yield the task of one order while the name's lock is held."""
        domain = approval.domain
        workdir = self._workdir(domain)
        plan = self._capabilities.plan(self._settings, domain, solver, workdir)
        with self._locked(domain) as lock:
            workdir.sweep()  # or an order would be gone on with whose key is lost
            renewed = identifier(replaces) if replaces else ""
            yield Task(domain, workdir, plan, lock, Deadline.after(plan.settings.deadline), renewed)

    @contextmanager
    def _leftovers(self, task: Task) -> Iterator[None]:
        """Remove the challenges that a killed run presented: now, or after the block when its order is resumed."""
        left, solver = task.workdir.presented(), task.plan.solver
        if solver and not self._goes_on(task):
            solver.clean_up(left)
            left = []
        try:
            yield
        finally:
            if solver:
                solver.clean_up(left)

    def _prepare(self, task: Task) -> None:
        """Write a new key and its request into the working directory, unless its order can be resumed."""
        if not self._goes_on(task):
            task.workdir.make(task.plan.settings)
            task.workdir.ask(task.order)

    def _order(self, task: Task) -> Issued:
        self._directory.require_ready()
        self._prepare(task)
        try:
            return self._attempt(task)
        except CertctlError as error:
            self._give_up(error, task)
            raise

    def _attempt(self, task: Task) -> Issued:
        engine_result = self._by_account(task, self._engines[task.plan.engine].issue)
        if issued := self._finished(task):
            return issued
        result = task.workdir.result()
        if engine_result.end is End.SUCCESS and result:
            return check_issued(task.domain, task.order, *result, self._clock.now())
        raise classify(engine_result, task.domain.name, self._clock.now())

    def _by_account(self, task: Task, ask: Callable[[Task, str], EngineResult]) -> EngineResult:
        """Call ``ask`` with our account, and again with a new one when the CA says ``accountDoesNotExist``."""
        account = ensure_account(task.plan.settings, self._clock.now())
        engine_result = ask(task, account)
        if engine_result.is_about("accountDoesNotExist"):
            engine_result = ask(task, ensure_account(task.plan.settings, self._clock.now(), lost=account))
        return engine_result

    def _goes_on(self, task: Task) -> bool:
        """Tell whether the working directory holds an order of an earlier run that can still be finalized."""
        begun = task.workdir.begun()
        if begun is None or not task.workdir.asked(task.order):
            return False
        ends = begun.ends if task.plan.operator else None
        return self._clock.now() < (ends or begun.since + _STALE)

    def _finished(self, task: Task) -> Issued | None:
        """Return the certificate in the working directory if it is valid and new, whatever the engine reported."""
        result = task.workdir.result()
        if result is None or not task.workdir.asked(task.order):
            return None
        now = self._clock.now()
        try:
            issued = check_issued(task.domain, task.order, *result, now)
        except Refused:
            return None
        fresh = issued.certificate.remaining(now) > issued.certificate.lifetime / 2
        return issued if fresh else None

    def _give_up(self, error: CertctlError, task: Task) -> None:
        """Remove the working directory after a failure, unless its order may still become valid.

        An order that was finalized may have been signed meanwhile, so it stays unless the CA refused it: the next
        run resumes it. For an unexplained failure certbot's log is kept under ``logs/``, and the error names it.
        """
        workdir, is_over = task.workdir, isinstance(error, Refused)
        if (begun := workdir.begun()) and (task.plan.operator or (begun.is_handed_in and not is_over)):
            return
        if error.kind.is_unexplained and (log := read_log(workdir.log)):
            kept = self._settings.acme_dir / "logs" / f"{task.domain.stem}.log"
            with writing(kept):
                make_directory(kept.parent, _PRIVATE_DIRECTORY)
                write_atomic(kept, log, PRIVATE)
            error.seen = (*error.seen, f"certbot's log: {kept}")
        workdir.remove()

    def _locked(self, domain: Domain, wait: timedelta | None = None) -> AbstractContextManager[int]:
        """Hold this name's lock; certbot inherits its descriptor, so the lock outlives a killed certctl."""
        path = self._settings.acme_dir / "locks" / f"{domain.stem}.lock"
        with writing(path):
            make_directory(self._settings.acme_dir, _PRIVATE_DIRECTORY)
        patience = self._settings.wait if wait is None else wait
        return inheritable_lock(path, patience, f"the certificate of {domain}")

    def _workdir(self, domain: Domain) -> WorkingDirectory:
        return WorkingDirectory(self._settings.work / domain.stem)


def _has_made(workdir: WorkingDirectory, certificate: Certificate) -> bool:
    """Tell whether this very certificate lies in a working directory."""
    with writing(workdir.root):
        result = workdir.result()
    if result is None:
        return False
    try:
        found = describe(result[0].decode("utf-8", "replace"), certificate.domain)
    except Refused:
        return False
    return found.fingerprint == certificate.fingerprint
