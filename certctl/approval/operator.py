"""The facade of approval (party 2): local lists, then the endpoint, then a remembered yes for a live domain."""

from datetime import datetime, timedelta
from secrets import token_hex
from typing import Protocol

from certctl.approval.answer import Answer, Source, Verdict
from certctl.approval.breaker import Breaker
from certctl.approval.endpoint import ApprovalSettings, ask, check_url
from certctl.domain import Domain
from certctl.errors import CertctlError, ConfigInvalid, NotApproved, Unreachable
from certctl.io.clock import Clock
from certctl.moments import is_void
from certctl.slugs import Slug
from certctl.values import Approval, Delegation, Finding, Level

_A_YES_LASTS = timedelta(days=30)
_AREA = "approval"


class AnswerStore(Protocol):
    """The part of the store that keeps the endpoint's answers."""

    def remember_answer(self, domain: Domain, *, approved: bool, at: datetime) -> None:
        """Keep the endpoint's answer about a domain with its time."""

    def remembered_yes(self, domain: Domain) -> datetime | None:
        """Return when the endpoint last said yes; None when it never did, or has said no since."""


class NullAnswerStore:
    """An ``AnswerStore`` that keeps nothing, for a run that must not write."""

    def remember_answer(self, domain: Domain, *, approved: bool, at: datetime) -> None:
        """Discard the answer."""

    def remembered_yes(self, domain: Domain) -> datetime | None:  # noqa: ARG002 - the question does not matter
        """Return None: no answer was kept."""
        return None


class HttpOperator:
    """Implements ``parties.Operator``: new domains need a yes now, live ones one of the last 30 days."""

    def __init__(self, settings: ApprovalSettings, store: AnswerStore, clock: Clock) -> None:
        self._settings = settings
        self._store = store
        self._clock = clock
        self._breaker = Breaker()

    def approve(self, delegation: Delegation) -> Approval:
        """Return the approval of a domain that is not served yet, if the answer is a yes.

        Raises:
            NotApproved: the endpoint or the local list says no.
            Unreachable: the answer is unknown.
            ConfigInvalid: the configured URL is not allowed.
        """
        answer = self.ask(delegation.domain)
        answer.require_yes()
        return Approval(delegation, self._clock.now(), remembered=False, summary=answer.summary)

    def approve_again(self, delegation: Delegation) -> Approval:
        """Return the approval of a live domain; without an answer a yes of the last 30 days counts.

        Raises:
            NotApproved: the endpoint or the local list says no.
            Unreachable: no answer, and no yes recent enough.
        """
        try:
            return self.approve(delegation)
        except Unreachable as error:
            given_at, now = self._store.remembered_yes(delegation.domain), self._clock.now()
            if given_at is None or is_void(given_at, now) or now - given_at > _A_YES_LASTS:
                raise
            why = f"{error.message}; its yes of {given_at:%Y-%m-%d} still counts"
            return Approval(delegation, given_at, remembered=True, summary=why)

    def approve_own(self, delegation: Delegation) -> Approval:
        """Return the approval of a name in a zone that the configuration names as the operator's own.

        Raises:
            NotApproved: the zone is not configured as the operator's, or is on the local deny list.
        """
        zone = delegation.domain.zone
        own = next((own for own in self._settings.own_zones if zone == own or zone.endswith("." + own)), None)
        if own is None:
            raise NotApproved(
                Slug.APPROVAL_REFUSED,
                f"{zone} is not a zone of yours as far as the configuration says",
                seen=[f"[wildcard] zone: {', '.join(self._settings.own_zones) or 'none'}"],
                expected=[f"{zone}, or a zone above it, as [wildcard] zone or in [wildcard] more_zones"],
                next=["certctl config show"],
            )
        if zone in self._settings.deny:
            Answer(delegation.domain, Verdict.NO, Source.DENY, asked="", seen="").require_yes()
        return Approval(delegation, self._clock.now(), remembered=False, summary=f"{own} is your own zone")

    def ask(self, domain: Domain) -> Answer:
        """Return the answer about one domain, and store it when the endpoint gave it.

        Raises:
            ConfigInvalid: the configured URL is not allowed.
        """
        answer = self._heard(domain)
        if answer.source is Source.ENDPOINT and answer.verdict is not Verdict.UNKNOWN:
            approved = answer.verdict is Verdict.YES
            self._store.remember_answer(domain, approved=approved, at=self._clock.now())
        return answer

    def would_approve(self, domain: Domain) -> bool | None:
        """Tell whether a domain would be approved now, and store nothing; None when that is unknown.

        It never fails, because callers only want to mention the answer.
        """
        try:
            verdict = self._heard(domain).verdict
        except CertctlError:
            return None
        return None if verdict is Verdict.UNKNOWN else verdict is Verdict.YES

    def require_refusal(self) -> None:
        """Require that the endpoint says no to a random name, which no customer can have registered.

        With an endpoint that says yes to everything, such as the URL of a home page, any domain that points here
        would spend the CA's limits.

        Raises:
            ConfigInvalid: ``approval-approves-everything``.
            Unreachable: the answer is unknown.
        """
        answer = self._probe()
        if answer.verdict is Verdict.UNKNOWN:
            answer.require_yes()
        if answer.verdict is Verdict.YES:
            raise ConfigInvalid(
                Slug.APPROVAL_APPROVES_EVERYTHING,
                f"{answer.asked} approves {answer.domain}, a name nobody registered",
                seen=[answer.summary],
                expected=["404 for every name that is not a customer's"],
                next=["certctl doctor"],
            )

    def examine(self) -> list[Finding]:
        """Return the finding of ``certctl doctor``: the endpoint must say no to a random name."""
        try:
            check_url(self._settings.url)
        except ConfigInvalid as error:
            return [Finding(_AREA, Level.PROBLEM, error.message, error.expected[0])]
        answer = self._probe()
        return [_FINDINGS[answer.verdict](answer)]

    def _heard(self, domain: Domain) -> Answer:
        if source := self._local(domain):
            verdict = Verdict.YES if source is Source.ALLOW else Verdict.NO
            return Answer(domain, verdict, source, asked="", seen=f"{source} list")
        return self._breaker.ask(domain, lambda: ask(domain, self._settings))

    def _probe(self) -> Answer:
        return ask(Domain(f"certctl-probe-{token_hex(8)}.example.net"), self._settings)

    def _local(self, domain: Domain) -> Source | None:
        if domain.name in self._settings.deny:
            return Source.DENY
        return Source.ALLOW if domain.name in self._settings.allow else None


def _approves_all(answer: Answer) -> Finding:
    return Finding(
        _AREA,
        Level.PROBLEM,
        f"{answer.asked} approves {answer.domain}, a name nobody registered: it seems to approve everything",
        "answer 404 for every name that is not a customer's",
    )


def _works(answer: Answer) -> Finding:
    return Finding(_AREA, Level.OK, f"{answer.asked} refuses an unknown name: {answer.seen}")


def _does_not_answer(answer: Answer) -> Finding:
    return Finding(
        _AREA,
        Level.PROBLEM,
        f"{answer.asked} gave neither a yes nor a no: {answer.seen}",
        "answer 200 for yes and 404 for no, within the deadline",
    )


_FINDINGS = {Verdict.YES: _approves_all, Verdict.NO: _works, Verdict.UNKNOWN: _does_not_answer}
