"""The rows of the ledger: what the CA's token buckets gave, and when."""

import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from certctl.budget import Bucket, Limit, Spend
from certctl.store.rows import moment, text


def missing(
    db: sqlite3.Connection, needed: Sequence[Spend], limits: Mapping[Bucket, Limit], at: datetime
) -> tuple[Spend, timedelta] | None:
    """Return the first token that is not free and how long until it is; None when all are free."""
    for token in needed:
        if limit := limits.get(token.bucket):
            wait = limit.wait(spent(db, token, limit, at), at)
            if wait > timedelta(0):
                return token, wait
    return None


def spend(db: sqlite3.Connection, spends: Sequence[Spend], at: datetime) -> None:
    """Insert tokens that were taken at this moment."""
    db.executemany("INSERT INTO spend VALUES (?, ?, ?)", [(text(at), s.bucket, s.key) for s in spends])


def refund(db: sqlite3.Connection, spends: Sequence[Spend], at: datetime) -> None:
    """Delete tokens that were written at this moment."""
    db.executemany(
        "DELETE FROM spend WHERE rowid = (SELECT rowid FROM spend WHERE at = ? AND bucket = ? AND key = ? LIMIT 1)",
        [(text(at), s.bucket, s.key) for s in spends],
    )


def spent(db: sqlite3.Connection, token: Spend, limit: Limit, at: datetime) -> Sequence[datetime]:
    """Return when tokens of this bucket and key were taken, as far back as it matters at ``at``."""
    wanted, latest = limit.capacity, text(limit.latest(at))
    while True:
        rows = db.execute(
            "SELECT at FROM spend WHERE bucket = ? AND key = ? AND at <= ? ORDER BY at DESC LIMIT ?",
            (token.bucket, token.key, latest, wanted),
        ).fetchall()
        moments = [taken for (at_text,) in reversed(rows) if (taken := moment(at_text))]
        if len(rows) < wanted or limit.is_told_by(moments, at):
            return moments
        wanted *= 4


def keys(db: sqlite3.Connection, bucket: Bucket, limit: Limit, at: datetime) -> Sequence[str]:
    """Return the keys of a bucket with tokens that still count, the most used first."""
    rows = db.execute(
        "SELECT key FROM spend WHERE bucket = ? AND at BETWEEN ? AND ? GROUP BY key ORDER BY count(*) DESC",
        (bucket, text(at - limit.memory), text(limit.latest(at))),
    ).fetchall()
    return [key for (key,) in rows]


def forgive(db: sqlite3.Connection, token: Spend) -> None:
    """Delete all tokens of a bucket and key."""
    db.execute("DELETE FROM spend WHERE bucket = ? AND key = ?", (token.bucket, token.key))
