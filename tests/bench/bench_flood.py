"""What does a flood of invented names cost the daemon, and do visitors of those who are live notice?

10,000 random names in a minute are asked for at the daemon's door, as nginx would pass them on, by a process of
its own, while known customers are visited by TLS: a quiet round, the flood, and a quiet round, in one run.

Run: ``python -m tests.bench.bench_flood [names [seconds]]``.
"""

import asyncio
import os
import random
import socket
import ssl
import string
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Self

from certctl.sandbox import standing
from tests.e2e.real_sandbox import Sandbox, bring_up, take_down

_KNOWN = 5
_QUIET_SECONDS = 15.0
_PAUSE = 0.02


@dataclass(frozen=True, slots=True)
class Use:
    """What a process has used so far (proc(5))."""

    cpu_seconds: float
    megabytes: float


def use(pid: int) -> Use:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    resident = Path(f"/proc/{pid}/status").read_text(encoding="ascii").partition("VmRSS:")[2].split()[0]
    return Use((int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"), int(resident) / 1000)


class Visitors:
    """Shakes hands with nginx for known names, one after another, until told to stop."""

    def __init__(self, sandbox: Sandbox, names: list[str]) -> None:
        self.seconds: list[float] = []
        self._sandbox, self._names = sandbox, names
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._visit)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join()

    def _visit(self) -> None:
        host, _, port = str(self._sandbox.addresses["https"]).rpartition(":")
        trust = ssl.create_default_context(cafile=self._sandbox.addresses["issuer_root_file"])
        while not self._enough.wait(_PAUSE):
            began = time.perf_counter()
            with socket.create_connection((host, int(port))) as raw:
                trust.wrap_socket(raw, server_hostname=random.choice(self._names)).close()
            self.seconds.append(time.perf_counter() - began)

    def percentile(self, share: float) -> float:
        return 1000 * sorted(self.seconds)[int(share * (len(self.seconds) - 1))]


async def flood(path: Path, names: int, seconds: float) -> dict[int, int]:
    """Ask for so many names in that time; return how often each status was the answer."""
    answers: dict[int, int] = {}

    async def ask() -> None:
        name = "".join(random.choices(string.ascii_lowercase, k=12)) + ".com"
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(f"GET /visit HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
        status = int((await reader.read()).split(b" ", 2)[1])
        writer.close()
        answers[status] = answers.get(status, 0) + 1

    began = time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        for number in range(names):
            await asyncio.sleep(max(0.0, began + seconds * number / names - time.monotonic()))
            tasks.create_task(ask())
    return answers


def flooded_by(path: Path, names: int, seconds: float) -> dict[int, int]:
    return asyncio.run(flood(path, names, seconds))


def measure(sandbox: Sandbox, names: int, seconds: float) -> None:
    known = [sandbox.customer(f"known{number}.example.com") for number in range(_KNOWN)]
    sandbox.must("issue", *known)
    [daemon] = [each for each in standing.read(sandbox.layout).daemons if each.name == "serve"]
    orders, before = sandbox.orders(), use(daemon.pid)
    with Visitors(sandbox, known) as quiet:
        time.sleep(_QUIET_SECONDS)
    with Visitors(sandbox, known) as flooded, get_context("spawn").Pool(1) as elsewhere:
        answers = elsewhere.apply(flooded_by, (sandbox.layout.serve_socket, names, seconds))
    after = use(daemon.pid)
    with Visitors(sandbox, known) as afterwards:
        time.sleep(_QUIET_SECONDS)
    cpu = after.cpu_seconds - before.cpu_seconds
    store = Path(sandbox.layout.root / "var/lib/certctl/certctl.db-wal").stat().st_size
    locks = len(list((sandbox.layout.root / "run/certctl").rglob("*.lock")))
    print(
        f"{names} invented names in {seconds:g} s: answers {answers}, orders at the CA {sandbox.orders() - orders}"
    )
    print(
        f"daemon: {cpu:.1f} s of CPU, {100 * cpu / seconds:.0f} % of one core, {1000 * cpu / names:.2f} ms a name;"
    )
    print(
        f"        {before.megabytes:.0f} → {after.megabytes:.0f} MB; {locks} lock files; write-ahead log {store} B"
    )
    for what, visitors in (("quiet", quiet), ("flood", flooded), ("after", afterwards)):
        p50, p99 = visitors.percentile(0.5), visitors.percentile(0.99)
        print(f"known customers, {what}: {len(visitors.seconds)} handshakes, p50 {p50:.1f} ms, p99 {p99:.1f} ms")
    calm = (quiet.percentile(0.99) + afterwards.percentile(0.99)) / 2
    print(f"p99 flood / quiet: {flooded.percentile(0.99) / calm:.2f}")


def main() -> None:
    numbers = [float(word) for word in sys.argv[1:]]
    names, seconds = int(numbers[0]) if numbers else 10_000, numbers[1] if len(numbers) > 1 else 60.0
    with tempfile.TemporaryDirectory() as root:
        try:
            measure(bring_up(Path(root), "--serve"), names, seconds)
        finally:
            take_down(Path(root))


if __name__ == "__main__":
    main()
