"""What does a look at the store cost? ``certctl status`` on 10,000 certificates and on 100,000.

The floor is the same command on an empty store: what starting costs, whatever there is to see.

Run: ``python -m tests.bench.bench_status [certificates...]``.
"""

import sys
import tempfile
from pathlib import Path

from tests.bench.crowd import certctl, cost, settle

_LOOKS = (["status"], ["status", "--timeline"], ["status", "--json"], ["status", "--all"])


def main() -> None:
    counts = [int(argument) for argument in sys.argv[1:]] or [10_000, 100_000]
    with tempfile.TemporaryDirectory() as scratch:
        for count in [0, *counts]:
            settle(Path(scratch) / str(count), count)
        floor = cost(certctl(Path(scratch) / "0", "status"))
        print(
            f"{'certctl status, no certificates':<50} {floor.seconds:6.2f} s            {floor.megabytes:4.0f} MB"
        )
        for count in counts:
            for look in _LOOKS:
                took = cost(certctl(Path(scratch) / str(count), *look), 3)
                what, ratio = f"certctl {' '.join(look)}, {count} certificates", took.seconds / floor.seconds
                print(f"{what:<50} {took.seconds:6.2f} s  {ratio:5.1f} x  {took.megabytes:5.0f} MB")


if __name__ == "__main__":
    main()
