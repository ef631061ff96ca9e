"""How long do many new names take? ``certctl issue -`` against lego, the same number of names, on one Pebble.

certctl takes the whole way: DNS at the customers' nameservers, CAA, approval, order, mirror, nginx, a handshake for
each name. lego (Debian's package) only orders, as many processes at once as certctl has jobs. Both are given their
account beforehand. The same names once more are what repeating an interrupted run costs.

Run: ``python -m tests.bench.bench_bulk [--names N] [--jobs N] [--engine certbot|acme] [--mode blocks|shared|lua]``.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from certctl.io.process import find
from tests.e2e.real_sandbox import Sandbox, bring_up, open_place, take_down


@dataclass(frozen=True, slots=True)
class Took:
    """Wall seconds, and processor seconds of the process alone."""

    seconds: float
    cpu: float


def issue(sandbox: Sandbox, names: Sequence[str], jobs: int, engine: str) -> Took:
    """Give certctl all the names on stdin."""
    env = {
        "PATH": os.environ["PATH"],
        "CERTCTL_CONFIG": str(sandbox.addresses["config"]),
        "CERTCTL_CA__ENGINE": engine,
    }
    argv = [sys.executable, "-m", "certctl", "issue", "--jobs", str(jobs), "-"]
    began = time.perf_counter()
    with tempfile.TemporaryFile() as said, subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=said, stderr=subprocess.STDOUT, env=env
    ) as run:  # fmt: skip
        assert run.stdin
        run.stdin.write("\n".join(names).encode())
        run.stdin.close()
        _, status, usage = os.wait4(run.pid, 0)
        run.returncode = os.waitstatus_to_exitcode(status)
        took = Took(time.perf_counter() - began, usage.ru_utime + usage.ru_stime)
        said.seek(0)
        assert run.returncode == 0, said.read()[-2000:].decode()
    return took


def lego(sandbox: Sandbox, home: Path, name: str) -> bool:
    """Let lego order one name; its tokens are served by the sandbox's nginx. Pebble's bad nonces make some fail."""
    argv = [
        find("lego"), "--accept-tos", "--email", "bench@example.com", "--path", str(home / "lego"),
        "--server", str(sandbox.addresses["acme_directory"]), "--http", "--http.webroot", str(home / "webroot"),
        "--key-type", "ec256", "--domains", name, "run",
    ]  # fmt: skip
    env = {"PATH": os.environ["PATH"], "LEGO_CA_CERTIFICATES": str(sandbox.addresses["acme_ca_file"])}
    return subprocess.run(argv, check=False, capture_output=True, env=env).returncode == 0


def lego_all(sandbox: Sandbox, home: Path, names: Sequence[str], jobs: int) -> tuple[float, int]:
    """Return the seconds lego takes for all of them, so many processes at once, and how many it failed for."""
    began = time.perf_counter()
    with ThreadPoolExecutor(jobs) as pool:
        failed = list(pool.map(partial(lego, sandbox, home), names)).count(False)
    return time.perf_counter() - began, failed


def measure(home: Path, options: argparse.Namespace) -> None:
    sandbox = bring_up(home / "sandbox", *(["--mode", options.mode] if options.mode != "blocks" else []))
    try:
        tokens = home / "webroot/.well-known/acme-challenge"
        tokens.parent.mkdir(parents=True)
        tokens.symlink_to(sandbox.layout.root / "var/lib/certctl/challenges")
        names = [f"status.customer{number}.com" for number in range(options.names)]
        others = [f"status.other{number}.com" for number in range(options.names)]
        sandbox.customers([*names, *others, "status.first.com", "status.second.com"])
        issue(sandbox, ["status.first.com"], 1, options.engine)
        assert lego(sandbox, home, "status.second.com") or lego(sandbox, home, "status.second.com")
        before = sandbox.orders()
        ours = issue(sandbox, names, options.jobs, options.engine)
        orders = sandbox.orders() - before
        again = issue(sandbox, names, options.jobs, options.engine)
        theirs, failed = lego_all(sandbox, home, others, options.jobs)
    finally:
        take_down(home / "sandbox")
    each = 1000 / options.names
    print(f"{options.names} names, {options.jobs} at once, engine {options.engine}, mode {options.mode}")
    print(
        f"certctl issue, the whole way  {ours.seconds:7.1f} s  {ours.cpu * each:5.1f} ms CPU each  {orders} orders"
    )
    print(f"certctl issue, live already   {again.seconds:7.1f} s  {again.cpu * each:5.1f} ms CPU each")
    print(
        f"lego, orders only             {theirs:7.1f} s  {theirs / ours.seconds:5.2f} x certctl's time"
        f"  {failed} failed"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bench_bulk")
    parser.add_argument("--names", type=int, default=500)
    parser.add_argument("--jobs", type=int, default=16)
    parser.add_argument("--engine", choices=["certbot", "acme"], default="certbot")
    parser.add_argument("--mode", choices=["blocks", "shared", "lua"], default="blocks")
    with open_place() as home:
        measure(home, parser.parse_args())


if __name__ == "__main__":
    main()
