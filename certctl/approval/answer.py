"""The operator's answer about one domain: yes, no, or unknown."""

from dataclasses import dataclass
from enum import StrEnum

from certctl.domain import Domain
from certctl.errors import NotApproved, Unreachable
from certctl.slugs import Slug


class Verdict(StrEnum):
    """The three meanings of an answer: exactly 200 is a yes, exactly 404 is a no, all else is unknown."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


class Source(StrEnum):
    """Where an answer came from."""

    ENDPOINT = "endpoint"
    ALLOW = "allow"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer about one domain, and how the endpoint gave it.

    Attributes:
        asked: The endpoint without path, query or credentials: those may hold a secret.
        seen: The answer in half a line, such as ``200 in 84 ms``.
        status: The HTTP status, when there was one.
        retry_after: The seconds of the endpoint's ``Retry-After`` (RFC 9110 §10.2.3).
    """

    domain: Domain
    verdict: Verdict
    source: Source
    asked: str
    seen: str
    milliseconds: int = 0
    status: int | None = None
    retry_after: int | None = None

    @property
    def summary(self) -> str:
        """Return who answered what, in half a line."""
        if self.source is Source.ENDPOINT:
            return f"{self.asked} answered {self.seen}"
        return f"on the local {self.source} list"

    def require_yes(self) -> None:
        """Return if the answer is a yes.

        Raises:
            NotApproved: the answer is a no.
            Unreachable: the answer is unknown.
        """
        if self.verdict is Verdict.YES:
            return
        if self.verdict is Verdict.UNKNOWN:
            raise self._unreachable()
        if self.source is Source.DENY:
            raise NotApproved(
                Slug.APPROVAL_DENIED_LOCALLY,
                f"{self.domain} is on the local deny list",
                seen=["[approval] deny names it"],
                next=["certctl config show"],
            )
        raise NotApproved(
            Slug.APPROVAL_REFUSED,
            f"the approval endpoint refused {self.domain}",
            seen=[self.summary],
            expected=["200 for a domain you want to serve"],
            next=[f"certctl approval {self.domain}"],
        )

    def _unreachable(self) -> Unreachable:
        return Unreachable(
            Slug.APPROVAL_UNREACHABLE,
            f"the approval endpoint did not say whether {self.domain} is wanted",
            seen=[f"{self.asked}: {self.seen}"],
            expected=["200 for yes, 404 for no; nothing else is either"],
            next=[f"certctl approval {self.domain}", "certctl doctor"],
            retry_after=self.retry_after,
        )
