"""Read names for shell completion: no file is created, locked for long, or migrated."""

import sqlite3
import stat
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from certctl.values import State

_SECONDS = 0.2


def names_beginning(path: Path, prefix: str, most: int) -> Sequence[str]:
    """Return at most ``most`` names that begin with ``prefix`` and were not removed.

    While no other process has the file open there is no write-ahead log to read, and SQLite would make one; it is
    told that the file stands still instead (https://www.sqlite.org/uri.html, immutable).

    Raises:
        OSError: There is no such file.
        sqlite3.Error: It cannot be read.
    """
    if not stat.S_ISREG(path.lstat().st_mode):
        return []
    how = "mode=ro" if path.with_name(f"{path.name}-wal").exists() else "immutable=1"
    with closing(sqlite3.connect(f"{path.as_uri()}?{how}", uri=True, timeout=_SECONDS)) as db:
        rows = db.execute(
            "SELECT name FROM domain WHERE name >= :prefix AND name < :prefix || char(127) AND state <> :removed"
            " ORDER BY name LIMIT :most",
            {"prefix": prefix, "removed": State.REMOVED, "most": most},
        )
        return [str(name) for (name,) in rows]
