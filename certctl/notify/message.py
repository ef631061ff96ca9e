"""The message about one run: a JSON document (public, additive only: docs/reference/events.md)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from certctl.formats import rfc3339
from certctl.io.escape import one_line
from certctl.stories.result import JourneyResult
from certctl.values import Certificate

SCHEMA = "certctl.event/1"
_MAX_EVENTS = 100
_LINES = 10


class AlertKind(StrEnum):
    """The kinds of alert, as ``event`` names them in the document."""

    FAILED = "failed"
    LATE = "late"
    PARKED = "parked"
    RETURNED = "returned"
    RECOVERED = "recovered"
    PERSON_NEEDED = "person-needed"


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert: what happened to one domain, and the result of its journey."""

    what: AlertKind
    result: JourneyResult

    def document(self) -> dict[str, Any]:
        """Return the alert as one of the document's ``events``."""
        o, error, row = self.result, self.result.error, self.result.after
        return {
            "event": self.what,
            "domain": one_line(o.domain),
            "code": error.slug if error else None,
            "who": error.kind.who if error else None,
            "message": one_line(error.message) if error else None,
            "next": [one_line(command) for command in error.next] if error else [],
            "not_after": rfc3339(self._certificate.not_after) if self._certificate else None,
            "days_left": self._days_left,
            "attempts": row.attempts if row else 0,
            "retry_at": rfc3339(row.retry_at) if row and row.retry_at else None,
        }

    def sentence(self) -> str:
        """Return the alert as one line of text."""
        left = "" if self._days_left is None else f", {self._days_left} days left"
        error = self.result.error
        why = f": {error.message} [{error.slug}]" if error else ""
        return one_line(f"{self.what} {self.result.domain}{left}{why}")

    @property
    def _certificate(self) -> Certificate | None:
        """Return the certificate in force; where the domain had no journey, the one its result has."""
        return self.result.in_force if self.result.after else self.result.certificate

    @property
    def _days_left(self) -> int | None:
        certificate, at = self._certificate, self.result.at
        return certificate.remaining(at).days if certificate and at else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """The alerts of one run; ``text`` is what Slack, Mattermost and the like show."""

    host: str
    command: str
    at: datetime
    exit_code: int
    alerts: Sequence[Alert]

    def json(self) -> bytes:
        """Return the document as JSON. It has at most 100 ``events``; ``total`` counts them all."""
        return json.dumps(
            {
                "schema": SCHEMA,
                "host": one_line(self.host),
                "command": self.command,
                "at": rfc3339(self.at),
                "ok": self.exit_code == 0,
                "exit_code": self.exit_code,
                "text": self.text(),
                "total": len(self.alerts),
                "events": [alert.document() for alert in self.alerts[:_MAX_EVENTS]],
            }
        ).encode()

    def text(self) -> str:
        """Return the message as text: a line about the run, then one an alert, ten at most."""
        lines = [alert.sentence() for alert in self.alerts[:_LINES]]
        more = len(self.alerts) - len(lines)
        return "\n".join(
            [f"certctl {self.command} on {one_line(self.host)}", *lines] + [f"… {more} more"] * (more > 0)
        )
