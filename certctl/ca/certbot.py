"""Engine ``certbot``: our key and request go in, a checked certificate comes out.

The scratch directory of an issuance stays until ``settled`` says that the store has the certificate, so a run that
was killed in between is taken up again without a second order.
"""

import random
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import datetime, timedelta

from certctl.ca import argv
from certctl.ca.account import ensure_account
from certctl.ca.ari import RenewalInfo
from certctl.ca.check import check_issued, describe
from certctl.ca.command import find_certbot, run_certbot
from certctl.ca.dns01 import Person
from certctl.ca.dns_update import Office
from certctl.ca.evidence import Evidence, read_log
from certctl.ca.examine import examine
from certctl.ca.exchange import Exchange
from certctl.ca.outcome import classify
from certctl.ca.scratch import Scratch
from certctl.ca.settings import CaSettings, order_for, require_safe_directory
from certctl.ca.solver import HttpTokens, Solver
from certctl.ca.way import Way, by_hand, by_plugin, by_update, ours
from certctl.domain import Domain
from certctl.errors import CertctlError, Refused, Unreachable
from certctl.io.clock import SystemClock
from certctl.io.files import PRIVATE, make_directory, write_atomic, write_new, writing
from certctl.io.locks import inheritable_lock
from certctl.values import Approval, Certificate, DnsSolver, Finding, Issued, Pem, Suggestion

_TRIES = 3
_PRIVATE_DIRECTORY = 0o700


class Certbot:
    """Party 3 by way of the certbot command (fits ``world.CertificateAuthority``)."""

    def __init__(
        self,
        settings: CaSettings,
        solver: Solver | None = None,
        clock: SystemClock | None = None,
        person: Person | None = None,
        office: Office | None = None,
    ) -> None:
        self._settings = settings
        self._office = office
        self._solver = solver or HttpTokens(settings.challenges)
        self._person = person
        self._clock = clock or SystemClock()
        self._renewal_info = RenewalInfo(settings, self._clock)

    def obtain(
        self,
        approval: Approval,
        solver: DnsSolver | None = None,
        *,
        replaces: Pem | None = None,  # noqa: ARG002 - certbot 5.8 does not send it
    ) -> Issued:
        """Make a key, have the CA sign it, and check what came back.

        What a killed run left is waited for, taken up when it is whole, and wiped when it is not.

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
            issued = self._finished(domain, scratch, way) or self._order(domain, scratch, lock, way)
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
        certbot = find_certbot(self._settings)
        scratch = Scratch(self._settings.acme_dir / "revocation" / certificate.domain.stem)
        with self._locked(certificate.domain) as lock:
            scratch.make(self._settings)
            try:
                with writing(scratch.root):
                    write_new(scratch.key, pem.private_key.encode(), PRIVATE)
                    write_new(scratch.fullchain, pem.fullchain.encode(), PRIVATE)
                evidence = run_certbot(argv.revoke(certbot, self._settings, scratch), self._settings, scratch, lock)
            finally:
                scratch.remove()
        if evidence.code != 0 and not _already_revoked(evidence):
            raise classify(evidence, certificate.domain.name, self._clock.now())

    def examine(self) -> Sequence[Finding]:
        """Look at certbot, our plugin in it, and the account, for ``certctl doctor``."""
        return examine(self._settings)

    def _way(self, domain: Domain, solver: DnsSolver | None, scratch: Scratch) -> Way:
        def order_ends() -> datetime | None:
            return Evidence(None, "", read_log(scratch.log)).order_ends

        if solver is None:
            return ours(self._settings, self._solver)
        if solver.is_manual:
            return by_hand(self._settings, self._person, order_ends)
        if self._office and self._office.is_needed(solver, domain.zone):
            return by_update(self._settings, self._office, solver, order_ends)
        return by_plugin(self._settings, solver)

    def _order(self, domain: Domain, scratch: Scratch, lock: int, way: Way) -> Issued:
        """Ask the CA; a refused nonce is no refusal, and certbot itself tries only twice (acme 5.9)."""
        until = time.monotonic() + way.settings.deadline.total_seconds()
        scratch.make(way.settings)
        scratch.ask(order_for(domain, way.settings))
        try:
            for left in reversed(range(_TRIES)):
                rest = timedelta(seconds=max(1.0, until - time.monotonic()))
                try:
                    return self._attempt(
                        domain, scratch, lock, replace(way, settings=replace(way.settings, deadline=rest))
                    )
                except Unreachable as error:
                    if error.slug != "ca-bad-nonce" or not left or time.monotonic() >= until:
                        raise
                self._clock.pause(timedelta(seconds=random.uniform(0.1, 1.0)))  # noqa: S311 - jitter
            raise AssertionError("the last try returns or raises")
        except CertctlError as error:
            self._give_up(error, domain, scratch)
            raise

    def _attempt(self, domain: Domain, scratch: Scratch, lock: int, way: Way) -> Issued:
        settings = way.settings
        certbot = find_certbot(settings)
        account = ensure_account(settings, certbot, self._clock.now())
        evidence = self._run(domain, way, scratch, account, lock)
        if evidence.account_unknown:
            account = ensure_account(settings, certbot, self._clock.now(), lost=account)
            evidence = self._run(domain, way, scratch, account, lock)
        if issued := self._finished(domain, scratch, way):
            return issued
        result = scratch.result()
        if evidence.code == 0 and result:
            return check_issued(domain, order_for(domain, settings), *result, self._clock.now())
        raise classify(evidence, domain.name, self._clock.now())

    def _run(self, domain: Domain, way: Way, scratch: Scratch, account: str, lock: int) -> Evidence:
        scratch.forget_result()
        exchange = Exchange(way.solver, frozenset({domain.zone}), scratch.note_presented) if way.solver else None
        command = argv.certonly(find_certbot(way.settings), way.settings, scratch, account, way.authenticator)
        return run_certbot(command, way.settings, scratch, lock, exchange)

    def _finished(self, domain: Domain, scratch: Scratch, way: Way) -> Issued | None:
        """Return the certificate that lies ready in the scratch directory, whatever certbot's exit code was."""
        order = order_for(domain, way.settings)
        result = scratch.result()
        if result is None or not scratch.asked(order):
            return None
        now = self._clock.now()
        try:
            issued = check_issued(domain, order, *result, now)
        except Refused:
            return None
        fresh = issued.certificate.remaining(now) > issued.certificate.lifetime / 2
        return issued if fresh else None

    def _give_up(self, error: CertctlError, domain: Domain, scratch: Scratch) -> None:
        """Leave nothing half behind; of a failure we do not know keep certbot's log for a person to read."""
        if error.slug == "ca-unrecognised" and (log := read_log(scratch.log)):
            kept = self._settings.acme_dir / "logs" / f"{domain.stem}.log"
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


def _already_revoked(evidence: Evidence) -> bool:
    return any(problem.type == "alreadyRevoked" for problem in (evidence.last.problems if evidence.last else []))
