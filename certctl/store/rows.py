"""Convert between the rows of the database and ``certctl.values``."""

import json
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TypeVar

from certctl.domain import Domain
from certctl.errors import Unreachable
from certctl.moments import LONGEST_REST, is_void
from certctl.slugs import Slug
from certctl.values import Certificate, DnsSolver, DomainRow, Mode, Removal, State, Suggestion

_WRITTEN = re.compile(r"(?:\*\.)?[a-z0-9-]{1,63}(?:\.[a-z0-9-]{1,63})+")
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_WITH_CERTIFICATE = frozenset({State.ACTIVE, State.MOVED, State.UNWANTED})
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
_SHOWN = 40

T = TypeVar("T")


class Faults:
    """Collects the fields of one row that cannot be read; each gets a default, and the row is marked damaged."""

    def __init__(self) -> None:
        self._found: list[str] = []

    def read(self, what: str, parse: Callable[[], T], stored: object, otherwise: T) -> T:
        """Return a parsed field; for one that certctl never wrote note the fault and return ``otherwise``."""
        try:
            return parse()
        except (ValueError, TypeError, LookupError, AttributeError):
            self._found.append(f"{what}: {str(stored)[:_SHOWN]!a}")
            return otherwise

    def __str__(self) -> str:
        """Return all faults in one line."""
        return "; ".join(self._found)


def is_written(name: object) -> bool:
    """Tell whether a name is one that certctl may have written.

    The daemon's user may own the store and write any name; root would use it as a path and in nginx's
    configuration.
    """
    return _WRITTEN.fullmatch(str(name)) is not None


def domain_row(row: Sequence[object], now: datetime) -> DomainRow:
    """Return a domain with its newest certificate from the columns of ``reading.py``'s query.

    A back-off longer than any rule gives was written by a wrong clock and is void, as is a time that cannot be
    parsed. Any other field that cannot be read marks the row damaged.

    Raises:
        Unreachable: ``store-unreachable``: a name certctl never wrote.
    """
    (
        name, state, since, attempts, last_error, retry_at, solver, served, mode, version, removal, renew_at,
        ask_at, *facts,
    ) = row  # fmt: skip
    if not is_written(name):
        raise Unreachable(
            Slug.STORE_UNREACHABLE, f"the store has a name that certctl never wrote: {str(name)[:80]!a}"
        )
    domain, rests_until, faults = Domain(str(name)), moment(retry_at), Faults()
    if rests_until and is_void(rests_until, now, LONGEST_REST):
        rests_until = None
    asks_at = moment(ask_at)
    life = faults.read("state", lambda: State(str(state)), state, State.ACTIVE)
    known = facts[-1] is not None or (life in _WITH_CERTIFICATE and version != 0)
    return DomainRow(
        domain,
        life,
        moment(since) or _LONG_AGO,
        faults.read("certificate", lambda: _certificate(domain, facts), facts, None) if known else None,
        int(str(attempts)),
        str(last_error) if last_error else None,
        rests_until,
        Suggestion(moment(renew_at), asks_at) if asks_at else None,
        faults.read("solver", lambda: _solver(str(solver)), solver, None) if solver is not None else None,
        int(str(served)),
        faults.read("mode", lambda: Mode(str(mode)), mode, None) if mode is not None else None,
        faults.read("removal", lambda: Removal(str(removal)), removal, None) if removal is not None else None,
        str(faults),
    )


def _solver(stored: str) -> DnsSolver:
    found = json.loads(stored)
    plugin, options = found["plugin"], tuple(sorted(found["options"].items()))
    if not all(isinstance(text, str) for text in (plugin, *(part for option in options for part in option))):
        raise TypeError
    return DnsSolver(plugin, options)


def moment(stored: object) -> datetime | None:
    """Return a stored time; None when it cannot be parsed or has no time zone."""
    try:
        return _time(str(stored)) if stored else None
    except ValueError:
        return None


def _time(stored: str) -> datetime:
    at = datetime.fromisoformat(stored)
    if at.tzinfo is None:
        raise ValueError(stored)
    return at


def _certificate(domain: Domain, facts: Sequence[object]) -> Certificate:
    names, serial, issuer, not_before, not_after, key_type, fingerprint, version = map(str, facts)
    listed, since, until = json.loads(names), _time(not_before), _time(not_after)
    is_list = isinstance(listed, list) and all(isinstance(name, str) for name in listed)
    if not is_list or not since < until or not _FINGERPRINT.fullmatch(fingerprint):
        raise ValueError(names)
    return Certificate(domain, tuple(listed), serial, issuer, since, until, key_type, fingerprint, int(version))


def text(at: datetime) -> str:
    """Return a time as text that sorts by time."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds")
