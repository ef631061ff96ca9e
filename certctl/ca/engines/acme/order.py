"""One order at the CA (RFC 8555 §7.4), from its present state to the certificate.

Every step begins with the order's status at the CA, so that the order of a killed run is resumed, not made again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TypeVar

from acme import errors, messages
from acme.messages import ERROR_PREFIX
from cryptography import x509
from josepy.errors import DeserializationError
from josepy.json_util import field

from certctl.ca.engines.acme.authorization import ChosenChallenge, choose_challenge
from certctl.ca.engines.acme.polling import FIRST, poll
from certctl.ca.engines.acme.session import Session, parsed
from certctl.ca.engines.base import Task
from certctl.ca.http import retry_after
from certctl.ca.solvers.base import Look, Solver
from certctl.ca.solvers.run import Solving
from certctl.ca.workdir import BegunOrder
from certctl.errors import ConfigInvalid, Refused
from certctl.io.clock import SystemClock
from certctl.slugs import Slug

_LOOKS_WITHIN = 1.0
_QUIET = 0.015  # measured: from the last fetch of a token to a fast CA's decision
_SOON = 0.002  # where coming too early costs one question more, and no wait the CA names

R = TypeVar("R", messages.Order, messages.Authorization)


class NewOrder(messages.NewOrder):
    """The newOrder request with ``replaces``, the certificate it renews (RFC 9773 §5), which acme 5.9 lacks."""

    replaces: str = field("replaces", omitempty=True)


class AcmeOrder:
    """The order of one task, in the session of one thread."""

    def __init__(self, task: Task, session: Session, clock: SystemClock) -> None:
        self._task = task
        self._session = session
        self._clock = clock

    def run(self, solver: Solver) -> None:
        """Prove every authorization, finalize the order, and write the chain into the working directory.

        Raises:
            CertctlError: certctl gave the order up.
            acme.errors.Error, josepy.errors.Error, requests.RequestException: the CA did not issue.
        """
        begun, order = self._taken_up() or self._made()
        if order.status == messages.STATUS_PENDING:
            self._prove(order, solver)
        order = self._finalized(begun, order)
        if order.status != messages.STATUS_VALID or not order.certificate:
            raise errors.Error(f"the order ended as {order.status.name}")
        self._task.workdir.keep(self._session.fetch(order.certificate).content)
        self._session.names_waits = any("retry-after" in answer.headers for answer in self._session.heard)

    def begin(self, kind: str) -> None:
        """Make or resume the order, and note its challenges in the working directory; none is answered yet.

        Raises: as ``run``.
        """
        _, order = self._taken_up() or self._made()
        posed = self.challenges(order, kind) if order.status == messages.STATUS_PENDING else []
        self._task.workdir.note_presented([one.challenge for one in posed])

    def _taken_up(self) -> tuple[BegunOrder, messages.Order] | None:
        """Return the order of an earlier run; None when it is invalid, or the CA does not know it any more."""
        workdir = self._task.workdir
        if (begun := workdir.begun()) is None:
            return None
        try:
            order = parsed(messages.Order, self._session.fetch(begun.url))
        except (messages.Error, errors.ClientError):
            if not self._is_gone():
                raise
        else:
            if order.status != messages.STATUS_INVALID:
                return begun, order
        workdir.forget_begun()
        return None

    def _is_gone(self) -> bool:
        """Tell whether the CA's last answer says that we have no such order, rather than that it failed to look."""
        answer = self._session.heard[-1]
        kinds = {problem.type for problem in answer.problems}
        return answer.status in {400, 401, 403, 404, 410} and not kinds & {"accountDoesNotExist", "badNonce"}

    def _made(self) -> tuple[BegunOrder, messages.Order]:
        """Make the order, with ``replaces`` (RFC 9773 §5) where it may be given, else without.

        Raises:
            ConfigInvalid: ``wildcard-not-begun``, ``wildcard --finish`` came to an order that is gone.
        """
        if (operator := self._task.plan.operator) and operator.finishes:
            raise ConfigInvalid(
                Slug.WILDCARD_NOT_BEGUN,
                f"no order for {self._task.domain} waits: none was begun, or it has expired or failed",
                next=[f"certctl wildcard {self._task.domain.zone} --begin"],
            )
        try:
            return self._ordered(self._replaces())
        except (messages.Error, errors.ConflictError):
            if not self._replaces() or not self._is_about_replacing():
                raise
        return self._ordered("")

    def _ordered(self, replaces: str) -> tuple[BegunOrder, messages.Order]:
        wanted = self._task.order
        self._require_profile(wanted.profile)
        names = [messages.Identifier(typ=messages.IDENTIFIER_FQDN, value=name) for name in wanted.names]
        order = NewOrder(identifiers=names, profile=wanted.profile, replaces=replaces)
        response = self._session.send(self._session.place("newOrder"), order)
        made, url = parsed(messages.Order, response), response.headers.get("Location")
        if not url:
            raise DeserializationError("an order without a URL")
        begun = BegunOrder(url, self._clock.now(), made.expires)
        self._task.workdir.note_begun(begun)
        return begun, made

    def _replaces(self) -> str:
        return self._task.replaces if "renewalInfo" in self._session.directory.to_partial_json() else ""

    def _is_about_replacing(self) -> bool:
        """Tell whether the order may succeed without ``replaces``: not when the CA is busy or refuses us.

        A CA that cannot look up the replaced certificate answers 500, at every try (seen, Pebble 2.10).
        """
        answer = self._session.heard[-1]
        kinds = {problem.type for problem in answer.problems}
        if answer.status == 500 and kinds == {"serverInternal"}:  # noqa: PLR2004 - Internal Server Error
            return True
        busy = answer.status == 429 or answer.status >= 500  # noqa: PLR2004 - Too Many Requests, and server errors
        return not busy and not kinds & {"accountDoesNotExist", "rateLimited", "userActionRequired", "badNonce"}

    def _require_profile(self, profile: str) -> None:
        """Refuse a profile that the CA does not list; a CA that lists none may accept it.

        Raises:
            Refused: ``ca-refused``; nothing was spent.
        """
        offered = self._session.directory.meta.profiles
        if profile and isinstance(offered, Mapping) and profile not in offered:
            raise Refused(
                Slug.CA_REFUSED,
                f"the CA does not offer the profile {profile!a} of [ca] profile",
                expected=[f"one of: {', '.join(map(str, offered))}"],
                next=["certctl config show"],
            )

    def _prove(self, order: messages.Order, solver: Solver) -> None:
        """Have every authorization of the order validated (RFC 8555 §7.5) with a solver."""
        posed = self.challenges(order, solver.challenge_type)
        solving = Solving(solver, {self._task.domain.zone}, self._task.workdir.note_presented)
        try:
            if posed:
                solving.solve([one.challenge for one in posed])
                with solver.watched([one.challenge for one in posed]) as look:
                    for one in posed:
                        if one.is_open:
                            self._session.send(one.url, one.response)
                    self._pause_for(look)
                    for one in posed:
                        self._require_valid(one.authorization)
        finally:
            solving.clean_up()

    def challenges(self, order: messages.Order, kind: str) -> Sequence[ChosenChallenge]:
        """Return of each pending authorization the challenge of one type, such as ``http-01``."""
        found = []
        if not isinstance(order.authorizations, (list, tuple)):
            raise DeserializationError("an order without authorizations")
        for url in order.authorizations:
            authorization = parsed(messages.Authorization, self._session.fetch(url))
            if authorization.status == messages.STATUS_PENDING:
                found.append(choose_challenge(url, authorization, kind, self._session))
        return found

    def _require_valid(self, url: str) -> None:
        authorization = self._polled(messages.Authorization, url, {messages.STATUS_PENDING})
        if authorization.status != messages.STATUS_VALID:
            raise errors.Error(f"an authorization ended as {authorization.status.name}")

    def _pause_for(self, look: Look) -> None:
        """Wait until the CA has probably validated, so that the first poll does not come too early."""
        quiet = _QUIET if self._session.names_waits else _SOON
        if not look(min(_LOOKS_WITHIN, self._session.deadline.remaining()), quiet):
            self._pause(FIRST)

    def _finalized(self, begun: BegunOrder, order: messages.Order) -> messages.Order:
        """Finalize the order with our request (RFC 8555 §7.4), and poll until the CA has signed."""
        if order.status in {messages.STATUS_PENDING, messages.STATUS_READY}:
            order = self._handed_in(begun, order)
        if order.status == messages.STATUS_PROCESSING:
            self._pause(FIRST)
            order = self._polled(messages.Order, begun.url, {messages.STATUS_PROCESSING})
        return order

    def _handed_in(self, begun: BegunOrder, order: messages.Order) -> messages.Order:
        request = messages.CertificateRequest(csr=x509.load_pem_x509_csr(self._task.workdir.request.read_bytes()))
        self._task.workdir.note_begun(replace(begun, is_handed_in=True))
        try:
            return parsed(messages.Order, self._session.send(order.finalize, request))
        except messages.Error as error:
            if error.typ != f"{ERROR_PREFIX}orderNotReady":
                raise
        order = self._polled(messages.Order, begun.url, {messages.STATUS_PENDING})
        if order.status != messages.STATUS_READY:
            return order
        return parsed(messages.Order, self._session.send(order.finalize, request))

    def _polled(self, kind: type[R], url: str, pending: set[messages.Status]) -> R:
        def ask() -> tuple[R, float | None]:
            response = self._session.fetch(url)
            named = retry_after(response.headers.get("Retry-After", ""), self._clock.now())
            return parsed(kind, response), None if named is None else named.total_seconds()

        return poll(ask, lambda it: it.status in pending, self._pause, self._session.deadline.remaining)

    def _pause(self, seconds: float) -> None:
        self._clock.pause(timedelta(seconds=seconds))
