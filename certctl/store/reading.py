"""Queries over many domains at once; with 100,000 rows SQLite filters them, not Python."""

import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from certctl.due import Shares
from certctl.moments import ASKED_AGAIN_WITHIN
from certctl.store.rows import domain_row, is_written, moment, text
from certctl.values import DomainRow, Event, Mode, State

_LIFE = "d.name, d.state, d.since, d.attempts, d.last_error, d.retry_at"
_DOMAIN = f"{_LIFE}, d.solver, d.served, d.mode, d.version, d.removal"
_SUGGESTED = "s.renew_at, s.ask_at"
_FACTS = "c.names, c.serial, c.issuer, c.not_before, c.not_after, c.key_type, c.fingerprint, c.version"
_ROWS = f"""
    SELECT {_DOMAIN}, {_SUGGESTED}, {_FACTS}
    FROM domain d LEFT JOIN certificate c ON c.domain = d.name AND c.version = d.version
    LEFT JOIN suggestion s ON s.domain = c.domain AND s.version = c.version
"""  # noqa: S608 - constants only

_LIFETIME = "(julianday(c.not_after) - julianday(c.not_before))"
_MAY_BE_DAMAGED = f"""
    d.mode NOT IN ({", ".join(f"'{mode}'" for mode in Mode)}) OR substr(d.solver, 1, 1) <> '{{'
    OR substr(c.names, 1, 2) <> '["' OR length(c.fingerprint) <> 64
    OR c.not_before >= c.not_after OR length(c.not_after) <> {len(text(datetime(2026, 1, 1, tzinfo=UTC)))}
"""
_CANDIDATE = f"""
    d.state <> '{State.ACTIVE}' OR d.last_error IS NOT NULL OR d.name LIKE '*.%'
    OR c.version IS NULL OR c.version > max(d.served, 1) OR s.renew_at <= :now
    OR coalesce(
        julianday(c.not_after) - {_LIFETIME} * iif({_LIFETIME} < :short_below, :short, :usual)
            <= julianday(:now) + :slack,
        TRUE
    )
    OR {_MAY_BE_DAMAGED}
"""
_DAY, _SLACK = timedelta(days=1), timedelta(minutes=1)  # more than rounding can do to a julian day


def one(db: sqlite3.Connection, name: str, now: datetime) -> DomainRow | None:
    """Return the row of one domain, removed or not; None when there is none."""
    row = db.execute(_ROWS + " WHERE d.name = ?", (name,)).fetchone()
    return domain_row(row, now) if row else None


def listed(db: sqlite3.Connection, now: datetime, where: str = "TRUE", **values: object) -> Sequence[DomainRow]:
    """Return the domains that were not removed and match an SQL condition, by name; none of ``unwritten``."""
    condition = f" WHERE d.state <> '{State.REMOVED}' AND ({where}) ORDER BY d.name"
    rows = db.execute(_ROWS + condition, {"now": text(now), **values})
    return [domain_row(row, now) for row in rows if is_written(row[0])]


def half_removed(db: sqlite3.Connection, now: datetime) -> Sequence[DomainRow]:
    """Return the domains with a removal that was begun and is not finished."""
    rows = db.execute(_ROWS + " WHERE d.state = ? AND d.removal IS NOT NULL ORDER BY d.name", (State.REMOVED,))
    return [domain_row(row, now) for row in rows if is_written(row[0])]


def unwritten(db: sqlite3.Connection) -> Sequence[tuple[int, str]]:
    """Return the row number and name of rows that certctl never wrote; every other query leaves them out."""
    return [(row, name) for row, name in db.execute("SELECT rowid, name FROM domain") if not is_written(name)]


def damaged(db: sqlite3.Connection, now: datetime) -> Sequence[DomainRow]:
    """Return the domains with a damaged row; every row is read for this."""
    return [row for row in listed(db, now) if row.damage]


def candidates(db: sqlite3.Connection, now: datetime, shares: Shares) -> Sequence[DomainRow]:
    """Return at least every domain that has a fault or a certificate that is due.

    It is a superset: for a certificate with a suggestion of the CA's its share of lifetime counts too, which may be
    earlier. ``due.py`` decides.
    """
    return listed(
        db,
        now,
        _CANDIDATE,
        usual=shares.usual,
        short=shares.short,
        short_below=shares.short_below / _DAY,
        slack=_SLACK / _DAY,
    )


def ari_due(db: sqlite3.Connection, now: datetime) -> Sequence[DomainRow]:
    """Return the active domains with a certificate that has no suggestion of the CA's (ARI), or an old one."""
    is_old = "coalesce(s.ask_at <= :now OR s.ask_at > :void, TRUE)"
    where = f"d.state = '{State.ACTIVE}' AND c.version IS NOT NULL AND {is_old}"
    return listed(db, now, where, void=text(now + ASKED_AGAIN_WITHIN))


def count(db: sqlite3.Connection) -> int:
    """Return how many domains were not removed."""
    row = db.execute("SELECT count(*) FROM domain WHERE state <> ?", (State.REMOVED,)).fetchone()
    return int(row[0])


def expiries(db: sqlite3.Connection) -> Sequence[datetime]:
    """Return the expiry of the certificate of every domain that was not removed."""
    rows = db.execute(
        "SELECT c.not_after FROM domain d JOIN certificate c ON c.domain = d.name AND c.version = d.version"
        " WHERE d.state <> ?",
        (State.REMOVED,),
    )
    return [expiry for (not_after,) in rows if (expiry := moment(not_after))]


def events(db: sqlite3.Connection, domain: str | None, limit: int) -> Sequence[Event]:
    """Return the history of one domain or of all, newest first."""
    rows = db.execute(
        "SELECT at, domain, step, ok, slug, detail FROM event"
        " WHERE ?1 IS NULL OR domain = ?1 ORDER BY id DESC LIMIT ?2",
        (domain, limit),
    )
    return [
        Event(noted, name, step, bool(ok), slug, detail)
        for at, name, step, ok, slug, detail in rows
        if (noted := moment(at))
    ]
