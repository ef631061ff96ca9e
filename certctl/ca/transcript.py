"""The transcript of an engine's attempt: the CA's HTTP answers, and what stopped the engine.

Both engines return it, so that one table (``ca/errors.py``) says what went wrong.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum
from functools import cached_property

from acme.messages import ERROR_PREFIX

from certctl.ca.engines.certbot.plugin_socket import Problem
from certctl.errors import CertctlError
from certctl.slugs import Slug


@dataclass(frozen=True)
class Response:
    """One HTTP answer of the CA; the names of its headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: str

    @cached_property
    def json(self) -> dict[str, object] | None:
        """Return the body when it is a JSON object, as every ACME resource is; else None."""
        try:
            parsed = json.loads(self.body)
        except ValueError:
            return None
        return parsed if isinstance(parsed, dict) else None

    @property
    def problems(self) -> list[Problem]:
        """Return the answer's problem, or an order's ``error`` (RFC 8555 §7.1.3), subproblems first (§6.7.1)."""
        document = self.json or {}
        nested = document.get("error")
        if isinstance(nested, dict):
            document = nested
        elif self.status < 400:  # noqa: PLR2004 - the first HTTP error status
            return []
        subproblems = document.get("subproblems")
        all_of_them = [*(subproblems if isinstance(subproblems, list) else []), document]
        return [_problem(item) for item in all_of_them if isinstance(item, dict) and "type" in item]

    @property
    def failed_challenges(self) -> list[Problem]:
        """Return the problems of an invalid authorization's challenges (RFC 8555 §7.1.4); else nothing."""
        document = self.json or {}
        tried = document.get("challenges")
        if document.get("status") != "invalid" or not isinstance(tried, list):
            return []
        name = document.get("identifier")
        host = str(name.get("value", "")) if isinstance(name, dict) else ""
        errors = [item["error"] for item in tried if isinstance(item, dict) and isinstance(item.get("error"), dict)]
        return [replace(_problem(error), identifier=host) for error in errors if "type" in error]

    @property
    def expires(self) -> datetime | None:
        """Return the expiry of a pending order or authorization (RFC 8555 §7.1.3, §7.1.4); None when not said."""
        document = self.json or {}
        if document.get("status") != "pending":
            return None
        try:
            moment = datetime.fromisoformat(str(document.get("expires", "")))
        except ValueError:
            return None
        return moment if moment.tzinfo else None

    @property
    def made_order(self) -> bool:
        """Tell whether this answer created an order (RFC 8555 §7.4)."""
        return self.status == 201 and "finalize" in (self.json or {})  # noqa: PLR2004 - HTTP Created


class End(Enum):
    """How an engine's attempt ended, as far as the engine can tell."""

    SUCCESS = "success"
    FAILURE = "failure"
    DEADLINE = "deadline"


@dataclass(frozen=True)
class EngineResult:
    """How an engine's attempt ended, besides the files in the working directory.

    Attributes:
        end: Its end; even SUCCESS is none of ours until the certificate is checked.
        responses: The CA's answers, in order.
        stopped_by: The class names of the exception that ended it; names are stable, unlike messages.
        words: The engine's last output, one line each, unescaped.
        own_fault: The slug of a failure of the engine itself, which is no answer of the CA's.
        failed: The challenges the CA could not validate, where the engine has typed problems.
        aborted: The error for which certctl gave the order up; None when it did not.
    """

    end: End
    responses: Sequence[Response] = ()
    stopped_by: frozenset[str] = frozenset()
    words: tuple[str, ...] = ()
    own_fault: Slug | None = None
    failed: tuple[Problem, ...] = ()
    aborted: CertctlError | None = None

    @property
    def last(self) -> Response | None:
        """Return the CA's last answer; None when there is none."""
        return self.responses[-1] if self.responses else None

    @property
    def order_ends(self) -> datetime | None:
        """Return when the pending order or authorization expires; None when the CA did not say."""
        return min((moment for response in self.responses if (moment := response.expires)), default=None)

    @property
    def refuted(self) -> tuple[Problem, ...]:
        """Return the challenges the CA could not validate: as the engine typed them, else from its answers."""
        return self.failed or tuple(
            problem for response in self.responses for problem in response.failed_challenges
        )

    def is_about(self, kind: str) -> bool:
        """Tell whether the CA's last answer is a problem of this type (RFC 8555 §6.7)."""
        return any(problem.type == kind for problem in (self.last.problems if self.last else []))


def _problem(document: dict[str, object]) -> Problem:
    identifier = document.get("identifier")
    return Problem(
        type=str(document["type"]).removeprefix(ERROR_PREFIX),
        detail=str(document.get("detail", "")),
        identifier=str(identifier.get("value", "")) if isinstance(identifier, dict) else "",
    )
