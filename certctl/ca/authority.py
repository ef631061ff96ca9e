"""Party 3: our key and request go in, a checked certificate comes out, whichever engine speaks to the CA.

The scratch directory of an issuance stays until ``settled`` says that the store has the certificate, so a run that
was killed in between is taken up again without a second order.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import timedelta

from certctl.ca.account import ensure_account
from certctl.ca.acme import Acme
from certctl.ca.ari import RenewalInfo, identifier
from certctl.ca.certbot import Certbot
from certctl.ca.certbot_log import read_log
from certctl.ca.check import check_issued, describe
from certctl.ca.dns01 import Person
from certctl.ca.dns_update import Office
from certctl.ca.engine import Engine, Task
from certctl.ca.evidence import End, Evidence
from certctl.ca.examine import examine
from certctl.ca.outcome import classify
from certctl.ca.scratch import Scratch
from certctl.ca.settings import CaSettings, require_safe_directory
from certctl.ca.solver import HttpTokens, Solver
from certctl.ca.way import Way, by_hand, by_plugin, by_update, ours
from certctl.domain import Domain
from certctl.errors import CertctlError, Interrupted, RateLimited, Refused, Unreachable
from certctl.io.clock import Deadline, SystemClock
from certctl.io.files import PRIVATE, make_directory, write_atomic, write_new, writing
from certctl.io.locks import inheritable_lock
from certctl.values import Approval, Certificate, DnsSolver, Finding, Issued, Pem, Suggestion

_PRIVATE_DIRECTORY = 0o700
_STALE = timedelta(days=1)  # an order that could not be finished until then is made anew


class Authority:
    """Fits ``world.CertificateAuthority``."""

    def __init__(
        self,
        settings: CaSettings,
        engine: str = "certbot",
        *,
        solver: Solver | None = None,
        person: Person | None = None,
        office: Office | None = None,
    ) -> None:
        self._settings = settings
        self._solver = solver or HttpTokens(settings.challenges)
        self._person = person
        self._office = office
        self._clock = SystemClock()
        self._certbot = Certbot(settings, self._clock)
        self._engine: Engine = self._certbot if engine == "certbot" else Acme(settings, self._clock)
        self._renewal_info = RenewalInfo(settings, self._clock)

    def obtain(self, approval: Approval, solver: DnsSolver | None = None, *, replaces: Pem | None = None) -> Issued:
        """Make a key, have the CA sign it, and check what came back.

        What a killed run left is waited for, taken up where it can be, and wiped where it cannot.

        Raises:
            Refused, RateLimited, Unreachable: as ``certctl.ca.outcome`` tells them apart.
            Busy: the certbot of a killed run is still at work.
            ConfigInvalid: no usable certbot, an unsafe directory URL, or unwritable files.
        """
        require_safe_directory(self._settings.directory)
        domain = approval.domain
        scratch = self._scratch(domain)
        way = self._way(domain, solver, scratch)
        with self._locked(domain) as lock:
            if way.solver:
                way.solver.clean_up(scratch.presented())
            renewed = identifier(replaces) if replaces else ""
            task = Task(domain, scratch, way, lock, Deadline.after(way.settings.deadline), renewed)
            issued = self._finished(task) or self._order(task)
            return replace(issued, proof=way.proof)

    def settled(self, certificate: Certificate) -> None:
        """Take note that the store has this certificate: what is left of making it is removed.

        Call it after storing, and before ``obtain`` with what the store already has: then a crash between the
        two never makes an old certificate look like a new one.
        """
        scratch = self._scratch(certificate.domain)
        scratch.sweep()
        result = scratch.result()
        if result is None:
            return
        try:
            found = describe(result[0].decode("utf-8", "replace"), certificate.domain)
        except Refused:
            return
        if found.fingerprint == certificate.fingerprint:
            scratch.remove()

    def suggestion(self, certificate: Certificate, pem: Pem) -> Suggestion:
        """Ask when the CA would like this certificate renewed (ARI); never fails."""
        return self._renewal_info.suggestion(certificate, pem)

    def revoke(self, certificate: Certificate, pem: Pem) -> None:
        """Ask the CA to revoke a certificate, proving our right with its own key (RFC 8555 §7.6).

        Raises:
            Refused, Unreachable: the CA did not; one that was revoked before is fine.
        """
        require_safe_directory(self._settings.directory)
        scratch = Scratch(self._settings.acme_dir / "revocation" / certificate.domain.stem)
        with self._locked(certificate.domain) as lock:
            scratch.make(self._settings)
            try:
                with writing(scratch.root):
                    write_new(scratch.key, pem.private_key.encode(), PRIVATE, durable=False)
                    write_new(scratch.fullchain, pem.fullchain.encode(), PRIVATE, durable=False)
                evidence = self._engine.revoke(scratch, lock)
            finally:
                scratch.remove()
        if evidence.end is not End.SUCCESS and not evidence.is_about("alreadyRevoked"):
            raise classify(evidence, certificate.domain.name, self._clock.now())

    def examine(self) -> Sequence[Finding]:
        """Look at certbot, our plugin in it, and the account, for ``certctl doctor``."""
        return examine(self._settings)

    def _way(self, domain: Domain, solver: DnsSolver | None, scratch: Scratch) -> Way:
        if solver is None:
            return ours(self._settings, self._solver)
        ends = lambda: self._engine.order_ends(scratch)  # noqa: E731 - asked when there is an order
        if solver.is_manual:
            return by_hand(self._settings, self._person, ends)
        office, has_plugins = self._office, self._engine is self._certbot
        if office and office.knows(solver) and (not has_plugins or office.must_follow(domain.zone)):
            return by_update(self._settings, office, solver, ends)
        return by_plugin(self._settings, solver)

    def _order(self, task: Task) -> Issued:
        if not self._goes_on(task):
            task.scratch.make(task.way.settings)
            task.scratch.ask(task.order)
        try:
            return self._attempt(task)
        except CertctlError as error:
            self._give_up(error, task)
            raise

    def _attempt(self, task: Task) -> Issued:
        engine = self._engine if task.way.solver else self._certbot
        evidence = self._by_account(task.way.settings, lambda account: engine.issue(task, account))
        if issued := self._finished(task):
            return issued
        result = task.scratch.result()
        if evidence.end is End.SUCCESS and result:
            return check_issued(task.domain, task.order, *result, self._clock.now())
        raise classify(evidence, task.domain.name, self._clock.now())

    def _by_account(self, settings: CaSettings, ask: Callable[[str], Evidence]) -> Evidence:
        """Ask by our account, and once more by a new one when the CA has lost it, as a private CA may."""
        account = ensure_account(settings, self._clock.now())
        evidence = ask(account)
        if evidence.is_about("accountDoesNotExist"):
            evidence = ask(ensure_account(settings, self._clock.now(), lost=account))
        return evidence

    def _goes_on(self, task: Task) -> bool:
        """Tell whether the scratch directory holds an order of a run before this one that may still be finished."""
        begun = task.scratch.begun()
        if begun is None or not task.scratch.asked(task.order):
            return False
        ends = begun.ends if task.way.is_by_hand else None
        return self._clock.now() < (ends or begun.since + _STALE)

    def _finished(self, task: Task) -> Issued | None:
        """Return the certificate that lies ready in the scratch directory, however the engine ended."""
        result = task.scratch.result()
        if result is None or not task.scratch.asked(task.order):
            return None
        now = self._clock.now()
        try:
            issued = check_issued(task.domain, task.order, *result, now)
        except Refused:
            return None
        fresh = issued.certificate.remaining(now) > issued.certificate.lifetime / 2
        return issued if fresh else None

    def _give_up(self, error: CertctlError, task: Task) -> None:
        """Leave nothing half behind, but for an order that may yet be fulfilled: the next run goes on with it.

        Of a failure we do not know keep certbot's log for a person to read.
        """
        scratch, is_open = task.scratch, isinstance(error, (Unreachable, RateLimited, Interrupted))
        if (begun := scratch.begun()) and (task.way.is_by_hand or (begun.is_handed_in and is_open)):
            return
        if error.slug == "ca-unrecognised" and (log := read_log(scratch.log)):
            kept = self._settings.acme_dir / "logs" / f"{task.domain.stem}.log"
            with writing(kept):
                make_directory(kept.parent, _PRIVATE_DIRECTORY)
                write_atomic(kept, log, PRIVATE)
            error.seen = (*error.seen, f"certbot's log: {kept}")
        scratch.remove()

    def _locked(self, domain: Domain) -> AbstractContextManager[int]:
        """Hold this name's lock; certbot inherits it, so it outlives us when we are killed."""
        path = self._settings.acme_dir / "locks" / f"{domain.stem}.lock"
        with writing(path):
            make_directory(self._settings.acme_dir, _PRIVATE_DIRECTORY)
        return inheritable_lock(path, self._settings.wait, f"the certificate of {domain}")

    def _scratch(self, domain: Domain) -> Scratch:
        return Scratch(self._settings.work / domain.stem)
