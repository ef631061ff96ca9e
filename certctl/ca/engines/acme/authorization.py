"""A pending authorization (RFC 8555 §7.1.4): the challenge of it that we solve, and what a solver presents."""

from dataclasses import dataclass

from acme import challenges, messages

from certctl.ca.engines.acme.session import Session
from certctl.ca.solvers.base import Challenge
from certctl.ca.solvers.dns_persist import DnsPersist01, DnsPersist01Response
from certctl.errors import Refused
from certctl.slugs import Slug


@dataclass(frozen=True)
class ChosenChallenge:
    """The one challenge of an authorization that we solve.

    Attributes:
        authorization: The URL of its authorization.
        url: The challenge's URL, to which the response is posted.
        is_open: Whether its status is still ``pending``.
        response: The body of that post, which asks the CA to validate (RFC 8555 §7.5.1).
    """

    challenge: Challenge
    authorization: str
    url: str
    is_open: bool
    response: challenges.ChallengeResponse


def choose_challenge(
    url: str, authorization: messages.Authorization, kind: str, session: Session
) -> ChosenChallenge:
    """Return the challenge of one type in a pending authorization.

    Raises:
        Refused: ``ca-challenge-missing``, the CA does not offer that kind for this name.
    """
    name = authorization.identifier.value
    for offered in authorization.challenges or ():
        if offered.chall.typ == kind and (shown := _shown(offered.chall, session)):
            token, validation, response = shown
            challenge = Challenge(name, kind, token, validation)
            return ChosenChallenge(challenge, url, offered.uri, offered.status == messages.STATUS_PENDING, response)
    known = [str(offered.chall.to_partial_json().get("type", "")) for offered in authorization.challenges or ()]
    raise Refused(
        Slug.CA_CHALLENGE_MISSING,
        f"the CA does not offer {kind} for {name}",
        seen=[f"offered: {', '.join(known) or 'nothing'}"],
        quota_used=True,
    )


def _shown(
    challenge: challenges.Challenge, session: Session
) -> tuple[str, str, challenges.ChallengeResponse] | None:
    """Return (token, validation, response) of a challenge; None for a type without a solver of ours."""
    if isinstance(challenge, DnsPersist01):
        record = challenge.record(session.account["uri"] if session.account else "")
        return ("", record, DnsPersist01Response()) if record else None
    if isinstance(challenge, challenges.KeyAuthorizationChallenge):
        response, validation = challenge.response_and_validation(session.key)
        return challenge.encode("token"), validation, response
    return None
