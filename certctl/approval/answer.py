"""What the operator said about one domain: yes, no, or nothing that could be understood as either."""

from dataclasses import dataclass
from enum import StrEnum

from certctl.domain import Domain
from certctl.errors import NotApproved, Unreachable
from certctl.slugs import Slug


class Verdict(StrEnum):
    """The three things an endpoint can tell us; only an exact 200 is a yes, only an exact 404 a no."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


class Source(StrEnum):
    """Who gave the answer."""

    ENDPOINT = "endpoint"
    ALLOW = "allow"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer about one domain, with what was seen.

    Attributes:
        asked: Where it was asked, without path, query or credentials: those may hold a secret.
        seen: The answer in half a line, such as ``200 in 84 ms``.
        status: The HTTP status, when there was one.
        retry_after: Seconds the endpoint asked us to wait.
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
        """Say who said what in half a line."""
        if self.source is Source.ENDPOINT:
            return f"{self.asked} answered {self.seen}"
        return f"on the local {self.source} list"

    def require_yes(self) -> None:
        """Return only when the operator said yes.

        Raises:
            NotApproved: an explicit no.
            Unreachable: neither a yes nor a no.
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
