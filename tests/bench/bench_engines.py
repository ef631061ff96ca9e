"""What does the engine ``acme`` save? Both engines, one account, one Pebble, interleaved in one run.

cold: a new process that gets one certificate, as a command does. warm: one more in a process that has got some, as
the daemon does. crowd: many names side by side.

Run: ``python -m tests.bench.bench_engines [rounds] [names] [threads]``.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

from certctl.ca.authority import Authority
from certctl.ca.settings import CaSettings
from tests.fakes.ca_lab import approval, ca_lab

ENGINES = ("certbot", "acme")
NAMES = (f"bench{number}.example.com" for number in count())

COLD = """
import sys
from pathlib import Path
from certctl.ca.authority import Authority
from certctl.ca.settings import CaSettings
from tests.fakes.ca_lab import approval
directory, acme_dir, challenges, ca_file, name, engine = sys.argv[1:]
settings = CaSettings(directory, Path(acme_dir), Path(challenges), Path(ca_file), profile="default")
Authority(settings, engine).obtain(approval(name))
"""


def seconds(do: Callable[[], object]) -> float:
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


def cold(settings: CaSettings, engine: str) -> float:
    words = (settings.directory, settings.acme_dir, settings.challenges, settings.ca_file, next(NAMES), engine)
    argv = [sys.executable, "-c", COLD, *map(str, words)]
    return seconds(lambda: subprocess.run(argv, check=True))


def crowd(party: Authority, names: int, threads: int) -> float:
    chosen = [next(NAMES) for _ in range(names)]
    with ThreadPoolExecutor(threads) as pool:
        return seconds(lambda: list(pool.map(lambda name: party.obtain(approval(name)), chosen)))


def say(what: str, taken: dict[str, float]) -> None:
    certbot, acme = (taken[engine] for engine in ENGINES)
    print(f"{what:<28} certbot {certbot:7.3f} s   acme {acme:7.3f} s   {certbot / acme:5.1f} x")


def main() -> None:
    rounds, names, threads = (int(word) for word in [*sys.argv[1:], *("7", "100", "16")[len(sys.argv) - 1 :]])
    with tempfile.TemporaryDirectory() as root, ca_lab(Path(root)) as lab:
        parties = {engine: Authority(lab.settings, engine) for engine in ENGINES}
        for party in parties.values():  # makes the account, and warms the process
            party.obtain(approval(next(NAMES)))
        one: dict[str, dict[str, list[float]]] = {"cold": {}, "warm": {}}
        for _ in range(rounds):
            for engine, party in parties.items():
                one["cold"].setdefault(engine, []).append(cold(lab.settings, engine))
                name = next(NAMES)
                warm = seconds(lambda party=party, name=name: party.obtain(approval(name)))  # type: ignore[misc]
                one["warm"].setdefault(engine, []).append(warm)
        for what, taken in one.items():
            say(f"one, {what} ({rounds} rounds)", {e: statistics.median(v) for e, v in taken.items()})
        many = {engine: crowd(party, names, threads) for engine, party in parties.items()}
        say(f"{names}, {threads} threads", many)


if __name__ == "__main__":
    main()
