"""What is told: one JSON document about one run (public, additive only: docs/reference/events.md)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from certctl.errors import CertctlError
from certctl.formats import rfc3339
from certctl.io.escape import one_line
from certctl.values import Certificate

SCHEMA = "certctl.event/1"
_MAX_EVENTS = 100
_LINES = 10


class What(StrEnum):
    """What can be worth telling."""

    FAILED = "failed"
    LATE = "late"
    PARKED = "parked"
    RETURNED = "returned"
    RECOVERED = "recovered"
    PERSON_NEEDED = "person-needed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """One thing that happened to one domain.

    Attributes:
        certificate: The one in force.
        attempts: Failures at the CA since the last success.
        retry_at: When it is tried again at the earliest.
    """

    what: What
    domain: str
    at: datetime
    error: CertctlError | None = None
    certificate: Certificate | None = None
    attempts: int = 0
    retry_at: datetime | None = None

    def document(self) -> dict[str, Any]:
        """Return the public object."""
        error, certificate = self.error, self.certificate
        return {
            "event": self.what,
            "domain": one_line(self.domain),
            "code": error.slug if error else None,
            "who": error.kind.who if error else None,
            "message": one_line(error.message) if error else None,
            "next": [one_line(command) for command in error.next] if error else [],
            "not_after": rfc3339(certificate.not_after) if certificate else None,
            "days_left": certificate.remaining(self.at).days if certificate else None,
            "attempts": self.attempts,
            "retry_at": rfc3339(self.retry_at) if self.retry_at else None,
        }

    def sentence(self) -> str:
        """Say it in one line."""
        left = f", {self.certificate.remaining(self.at).days} days left" if self.certificate else ""
        why = f": {self.error.message} [{self.error.slug}]" if self.error else ""
        return one_line(f"{self.what} {self.domain}{left}{why}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What one run has to tell. ``text`` is what Slack, Mattermost and the like show of it."""

    host: str
    command: str
    at: datetime
    exit_code: int
    happenings: Sequence[Happening]

    def json(self) -> bytes:
        """Return the document. A run with very many events carries the first hundred; ``total`` counts them all."""
        return json.dumps(
            {
                "schema": SCHEMA,
                "host": one_line(self.host),
                "command": self.command,
                "at": rfc3339(self.at),
                "ok": self.exit_code == 0,
                "exit_code": self.exit_code,
                "text": self.text(),
                "total": len(self.happenings),
                "events": [happening.document() for happening in self.happenings[:_MAX_EVENTS]],
            }
        ).encode()

    def text(self) -> str:
        """Say it to a person."""
        lines = [happening.sentence() for happening in self.happenings[:_LINES]]
        more = len(self.happenings) - len(lines)
        return "\n".join(
            [f"certctl {self.command} on {one_line(self.host)}", *lines] + [f"… {more} more"] * (more > 0)
        )
