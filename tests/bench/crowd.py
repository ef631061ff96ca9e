"""A store full of certificates, and what a command on it costs, for the benchmarks."""

import os
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from certctl.domain import Domain
from certctl.io.clock import SystemClock
from certctl.store.sqlite import SqliteStore
from certctl.values import Issued, Suggestion
from tests.fakes.ca import FakeCa
from tests.fakes.ca_lab import approval

_REAL = 5


def settle(root: Path, count: int) -> None:
    """Fill the store below ``root``; a few certificates are real and stand for all, none is due."""
    ca = FakeCa()
    real = [ca.obtain(approval(f"real{number}.example.com")) for number in range(_REAL)]
    store = SqliteStore(root / "var/lib/certctl/certctl.db", SystemClock())
    now = datetime.now(UTC)
    for number in range(count):
        _settle_one(store, real[number % _REAL], Domain(f"status.customer{number}.example.com"), now)
    store.close()


def _settle_one(store: SqliteStore, issued: Issued, domain: Domain, now: datetime) -> None:
    facts = replace(issued.certificate, domain=domain, names=(domain.name,))
    certificate = store.keep(replace(issued, certificate=facts))
    store.suggest([(certificate, Suggestion(now + timedelta(days=60), now + timedelta(hours=5)))])


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
