"""What do looking and a renewal run cost on a host with very many certificates? The time should not grow with them.

Two floors are measured in the same run: the same command on an empty store, which is what starting costs; and a
bare interpreter in which SQLite alone reads every row those commands decide about.

Run: ``python -m tests.bench.bench_scale [certificates [failing]]``.
"""

import sys
import tempfile
from pathlib import Path

from tests.bench.crowd import certctl, cost, settle

_COMMANDS = (
    ["status"],
    ["status", "--failing"],
    ["status", "--timeline"],
    ["renew", "-q"],
    ["renew", "--dry-run"],
    ["status", "--all"],
    ["status", "--json"],
)
_SCAN = """
import sqlite3, sys
print(sqlite3.connect(sys.argv[1]).execute(
    "SELECT max(d.state), max(d.last_error), max(c.not_before), max(c.not_after), max(s.renew_at), max(s.ask_at)"
    " FROM domain d LEFT JOIN certificate c ON c.domain = d.name AND c.version = d.version"
    " LEFT JOIN suggestion s ON s.domain = c.domain AND s.version = c.version"
).fetchone())
"""


def main() -> None:
    arguments = [int(argument) for argument in sys.argv[1:]]
    certificates, failing = (*arguments, *(100_000, 1_000)[len(arguments) :])
    with tempfile.TemporaryDirectory() as workdir:
        empty, full = Path(workdir) / "empty", Path(workdir) / "full"
        settle(empty, 0)
        settle(full, certificates, failing)
        scan = cost([sys.executable, "-c", _SCAN, str(full / "var/lib/certctl/certctl.db")])
        print(f"{certificates} certificates, {failing} of them failing")
        print(f"{'SQLite alone reads the rows':<28} {scan.seconds:6.2f} s  {scan.megabytes:4.0f} MB")
        for command in _COMMANDS:
            floor, took = cost(certctl(empty, *command)), cost(certctl(full, *command))
            print(
                f"{'certctl ' + ' '.join(command):<28} {took.seconds:6.2f} s  {took.megabytes:4.0f} MB"
                f"  {took.seconds / floor.seconds:5.1f} x an empty store"
                f"  {took.seconds / (floor.seconds + scan.seconds):5.1f} x start and scan"
            )


if __name__ == "__main__":
    main()
