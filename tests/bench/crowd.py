"""A store full of certificates, and what a command on it costs, for the benchmarks."""

import os
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from certctl.io.clock import SystemClock
from certctl.store.sqlite import SqliteStore
from certctl.values import Suggestion
from tests.fakes.ca import FakeCa
from tests.fakes.ca_lab import approval

_REAL = 5
_TABLES = ("certificate", "pem", "suggestion")


def settle(root: Path, count: int, failing: int = 0) -> None:
    """Fill the store below ``root``; a few certificates are real and stand for all, none is due, some may fail."""
    path = root / "var/lib/certctl/certctl.db"
    store, ca, now = SqliteStore(path, SystemClock()), FakeCa(), datetime.now(UTC)
    for number in range(_REAL):
        certificate = store.keep(ca.obtain(approval(f"real{number}.example.com")))
        store.served(certificate)
        store.suggest([(certificate, Suggestion(now + timedelta(days=60), now + timedelta(hours=5)))])
    store.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.executescript(_multiply(db, count))
        db.execute(
            "UPDATE domain SET last_error = 'dns-no-data' WHERE rowid IN (SELECT rowid FROM domain LIMIT ?)",
            (failing,),
        )


def _multiply(db: sqlite3.Connection, count: int) -> str:
    """Write the SQL that copies the real domains under other names: one by one the store would need minutes."""
    statements = ["BEGIN"]
    for table, named in (("domain", "name"), *((table, "domain") for table in _TABLES)):
        columns = [name for _, name, *_ in db.execute(f"PRAGMA table_info({table})")]
        other = f"'status.customer' || n || '.' || {named}"
        copied = ", ".join({named: other, "names": f"json_array({other})"}.get(name, name) for name in columns)
        statements.append(
            f"WITH RECURSIVE crowd(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM crowd WHERE n + 1 < {count})"
            f" INSERT INTO {table} SELECT {copied} FROM crowd"
            f" JOIN {table} ON {count} > 0 AND {named} = 'real' || (n % {_REAL}) || '.example.com'"
        )
    statements += ["DELETE FROM domain WHERE name LIKE 'real_.example.com'", "COMMIT"]
    return ";\n".join(["PRAGMA foreign_keys = ON", *statements])


@dataclass(frozen=True, slots=True)
class Cost:
    """What one run took."""

    seconds: float
    megabytes: float


def certctl(root: Path, *arguments: str) -> list[str]:
    """Return the argv of a certctl whose every path is below ``root``."""
    return [sys.executable, "-m", "certctl", "--root", str(root), *arguments]


def cost(argv: list[str], rounds: int = 5) -> Cost:
    """Run a command several times; return its median wall time and its peak memory."""
    runs = sorted((_once(argv) for _ in range(rounds)), key=lambda run: run.seconds)
    return Cost(runs[rounds // 2].seconds, max(run.megabytes for run in runs))


def _once(argv: list[str]) -> Cost:
    env = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
    began = time.perf_counter()
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=env) as run:
        assert run.stderr
        said = run.stderr.read()
        _, status, usage = os.wait4(run.pid, 0)
        run.returncode = os.waitstatus_to_exitcode(status)
    assert run.returncode == 0, said
    return Cost(time.perf_counter() - began, usage.ru_maxrss / 1024)
