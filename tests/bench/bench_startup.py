"""How long does certctl take to say its name, against the floor of importing click in a bare interpreter?

Run: ``python -m tests.bench.bench_startup [rounds]``. Commands are interleaved; what counts is the ratio.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

CERTCTL = str(Path(sys.executable).parent / "certctl")
COMMANDS = {
    "python -c 'import click'": [sys.executable, "-c", "import click"],
    "certctl --version": [CERTCTL, "--version"],
    "certctl --help": [CERTCTL, "--help"],
    "certctl issue --help": [CERTCTL, "issue", "--help"],
}


def seconds(argv: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(argv, check=True, capture_output=True)
    return time.perf_counter() - began


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    taken: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, argv in COMMANDS.items():
            taken[name].append(seconds(argv))
    floor = statistics.median(next(iter(taken.values())))
    for name, values in taken.items():
        median = statistics.median(values)
        print(f"{name:<28} median {median * 1000:6.1f} ms   {median / floor:4.2f} x the floor   ({rounds} rounds)")


if __name__ == "__main__":
    main()
