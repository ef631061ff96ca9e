"""How long a store with a million lines of history and as many of the ledger takes to prune.

python -m tests.bench.bench_pruning [ROWS]
"""

import sqlite3
import sys
import tempfile
import time
from contextlib import closing
from datetime import timedelta
from pathlib import Path

from certctl.budget import LETS_ENCRYPT, Bucket
from certctl.io.clock import SystemClock
from certctl.store.rows import text
from certctl.store.sqlite import SqliteStore
from certctl.stories.pruning import KEPT


def main(rows: int = 1_000_000) -> None:
    """Fill a store evenly over 800 days, prune it as runs do, and say what it took."""
    with tempfile.TemporaryDirectory() as directory:
        path, now = Path(directory) / "certctl.db", SystemClock().now()
        store = SqliteStore(path, SystemClock())
        store.domains()
        times = [text(now - timedelta(days=800) * (rows - number) / rows) for number in range(rows)]
        with closing(sqlite3.connect(path)) as db, db:
            db.executemany(
                "INSERT INTO event (at, domain, step, ok, detail) VALUES (?, ?, 'issue', 1, 'seen on the wire')",
                ((at, f"d{number % 100_000}.example.com") for number, at in enumerate(times)),
            )
            kinds = [(Bucket.ORDERS, ""), (Bucket.CERTIFICATES, "d{}.example"), (Bucket.DUPLICATES, "d{}.example")]
            spends = [
                (at, bucket, key.format(n % 50_000)) for n, at in enumerate(times) for bucket, key in [kinds[n % 3]]
            ]
            db.executemany("INSERT INTO spend VALUES (?, ?, ?)", spends)
        gone, longest, began = 0, 0.0, time.perf_counter()
        last = began
        for taken in store.prune(now - KEPT, LETS_ENCRYPT, now):
            gone, longest, last = gone + taken, max(longest, time.perf_counter() - last), time.perf_counter()
        print(f"{gone} of {2 * rows} rows in {last - began:.1f} s, the longest transaction {longest * 1000:.0f} ms")
        began = time.perf_counter()
        list(store.prune(now - KEPT, LETS_ENCRYPT, now))
        print(f"again, with nothing old: {(time.perf_counter() - began) * 1000:.1f} ms")
        store.close()


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
