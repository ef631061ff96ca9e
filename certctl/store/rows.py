"""Rows as the database gives them ↔ the values that flow."""

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from certctl.domain import Domain
from certctl.errors import Unreachable
from certctl.moments import LONGEST_REST, is_void
from certctl.values import Certificate, DnsSolver, DomainRow, Mode, State, Suggestion

_WRITTEN = re.compile(r"(?:\*\.)?[a-z0-9-]{1,63}(?:\.[a-z0-9-]{1,63})+")


def domain_row(row: Sequence[object], now: datetime) -> DomainRow:
    """Read a domain with its newest certificate; the columns are those of the store's one query.

    A rest that no rule could have given is none: a clock was wrong when it was written.

    Raises:
        Unreachable: ``store-unreachable``: a name certctl never wrote. The daemon's user may own the store, and
            for root a name is a path and a line of nginx's configuration.
    """
    name, state, since, attempts, last_error, retry_at, solver, served, mode, renew_at, ask_at, *facts = row
    if not _WRITTEN.fullmatch(str(name)):
        raise Unreachable("store-unreachable", f"the store has a name that certctl never wrote: {str(name)[:80]!a}")
    domain, rests_until = Domain(str(name)), _moment(retry_at)
    if rests_until and is_void(rests_until, now, LONGEST_REST):
        rests_until = None
    return DomainRow(
        domain,
        State(str(state)),
        datetime.fromisoformat(str(since)),
        _certificate(domain, facts) if facts[-1] is not None else None,
        int(str(attempts)),
        str(last_error) if last_error else None,
        rests_until,
        Suggestion(_moment(renew_at), datetime.fromisoformat(str(ask_at))) if ask_at else None,
        _solver(json.loads(str(solver))) if solver else None,
        int(str(served)),
        Mode(str(mode)) if mode else None,
    )


def _solver(stored: dict[str, Any]) -> DnsSolver:
    return DnsSolver(str(stored["plugin"]), tuple(sorted(stored["options"].items())))


def _moment(stored: object) -> datetime | None:
    return datetime.fromisoformat(str(stored)) if stored else None


def _certificate(domain: Domain, facts: Sequence[object]) -> Certificate:
    names, serial, issuer, not_before, not_after, key_type, fingerprint, version = map(str, facts)
    return Certificate(
        domain, tuple(json.loads(names)), serial, issuer, datetime.fromisoformat(not_before),
        datetime.fromisoformat(not_after), key_type, fingerprint, int(version),
    )  # fmt: skip


def text(moment: datetime) -> str:
    """Write a time so that it sorts as text."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")
