"""Choose the rows of history and ledger that are old and no longer count, to be deleted a few at a time.

Rows are walked by number, which is the order they were written in, so neither table needs an index by time.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime

from certctl.budget import Bucket, Limit, Spend
from certctl.store import ledger
from certctl.store.rows import text

BATCH = 1000
"""Rows of one transaction: a few milliseconds during which nobody else writes."""


def reaches_back(db: sqlite3.Connection, before: datetime) -> bool:
    """Tell whether one of the first rows is older than a moment."""
    found = db.execute(
        "SELECT 1 FROM (SELECT at FROM (SELECT at FROM event ORDER BY id LIMIT ?1)"
        " UNION ALL SELECT at FROM (SELECT at FROM spend ORDER BY rowid LIMIT ?1)) WHERE at < ?2 LIMIT 1",
        (BATCH, text(before)),
    ).fetchone()
    return found is not None


def old_events(db: sqlite3.Connection, after: int, before: datetime) -> tuple[Sequence[int], int | None]:
    """Return the next events to delete by row number, and the number after which to go on; None at the end.

    The newest event of each domain in the store stays, however old it is.
    """
    rows = db.execute(
        "SELECT id, at < ?, id = (SELECT max(id) FROM event n WHERE n.domain = e.domain)"
        " AND EXISTS (SELECT 1 FROM domain WHERE name = e.domain) FROM event e WHERE id > ? ORDER BY id LIMIT ?",
        (text(before), after, BATCH),
    ).fetchall()
    gone = [row for row, is_old, stays in rows if is_old and not stays]
    return gone, rows[-1][0] if any(is_old for _, is_old, _ in rows) else None


class OldSpends:
    """The rows of the ledger that may go; what each bucket still counts is looked up once."""

    def __init__(
        self, db: sqlite3.Connection, before: datetime, limits: Mapping[Bucket, Limit], at: datetime
    ) -> None:
        self._db = db
        self._before = before
        self._limits = limits
        self._at = at
        self._counting: dict[tuple[str, str], str | None] = {}

    def next(self, after: int) -> tuple[Sequence[int], int | None]:
        """Return the next rows to delete by number, and the number after which to go on; None at the end."""
        rows = self._db.execute(
            "SELECT rowid, at, at < ?, bucket, key FROM spend WHERE rowid > ? ORDER BY rowid LIMIT ?",
            (text(self._before), after, BATCH),
        ).fetchall()
        old = [(row, taken, self._counts_from(bucket, key)) for row, taken, is_old, bucket, key in rows if is_old]
        gone = [row for row, taken, since in old if since is None or taken < since]
        return gone, rows[-1][0] if old else None

    def _counts_from(self, bucket: str, key: str) -> str | None:
        """Return since when the tokens of a bucket count, as it was full before; None when none does."""
        if (bucket, key) not in self._counting:
            self._counting[bucket, key] = self._look_up(bucket, key)
        return self._counting[bucket, key]

    def _look_up(self, bucket: str, key: str) -> str | None:
        limit = self._limits.get(Bucket(bucket)) if bucket in set(Bucket) else None
        if limit is None:
            return None
        moments = ledger.spent(self._db, Spend(Bucket(bucket), key), limit, self._at)
        counting = moments[limit.forgotten(moments, self._at) :]
        return text(counting[0]) if counting else None
