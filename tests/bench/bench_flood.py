"""What do a thousand live customers notice of a flood of invented names?

The flood: FLOOD random names in a minute, half as SNI, half as Host of plain HTTP, each once, while known customers
are visited at a steady pace. Their p99 is compared with that of a quiet minute of the same run. Counted as well:
their visits that failed, orders at the CA, and the memory of the daemon and of nginx before and after.

Run: ``python -m tests.bench.bench_flood [flood [customers]]``.
"""

import os
import secrets
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial

from tests.bench.lab import Manner, customers, daemon_pid, field, port
from tests.bench.load import Visit, cpu_seconds, family, pss_megabytes, quantile, visit
from tests.e2e.real_sandbox import Sandbox, certctl, open_place

_MINUTE = 60.0
_PER_SECOND = 50
_FLOODERS = 4


def known_visits(https: int, known: list[str], seconds: float) -> list[Visit]:
    """Visit known customers at a steady pace, one after the other."""
    seen, began = list[Visit](), time.perf_counter()
    while (spent := time.perf_counter() - began) < seconds:
        seen.append(visit(https, known[len(seen) % len(known)]))
        time.sleep(max(0.0, len(seen) / _PER_SECOND - spent))
    return seen


def flood(https: int, http: int, count: int) -> int:
    """Ask for invented names at a steady pace for a minute; return how many were asked for."""
    began = time.perf_counter()
    for number in range(count):
        name = f"{secrets.token_hex(6)}.{secrets.token_hex(4)}.com"
        if number % 2:
            visit(https, name, patience=15)
        else:
            _plain(http, name)
        time.sleep(max(0.0, began + number * _MINUTE / count - time.perf_counter()))
    return count


def _plain(http: int, name: str) -> None:
    with suppress(OSError), socket.create_connection(("127.0.0.1", http), timeout=15) as connection:
        connection.sendall(f"GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
        while connection.recv(65536):
            pass


def _elsewhere() -> None:
    """Leave the machine to the others: a flood's senders are other machines (sched(7), SCHED_IDLE)."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


@contextmanager
def flooded(https: int, http: int, count: int) -> Iterator[None]:
    """Keep a flood going from other processes."""
    each = count // _FLOODERS
    with ProcessPoolExecutor(_FLOODERS, initializer=_elsewhere) as pool:
        running = [pool.submit(partial(flood, https, http, each)) for _ in range(_FLOODERS)]
        yield
        sent = sum(future.result() for future in running)
    print(f"  {sent} invented names were asked for")


def measure(sandbox: Sandbox, known: list[str], count: int) -> None:
    """Compare a quiet minute with a flooded one."""
    https, http = port(sandbox, "https"), port(sandbox, "http")
    serve, nginx = daemon_pid(sandbox, "serve"), daemon_pid(sandbox, "nginx")
    known_visits(https, known, 5)
    memory = [pss_megabytes(family(pid)) for pid in (serve, nginx)]
    orders = sandbox.orders()
    quiet = known_visits(https, known, _MINUTE)
    before = cpu_seconds(family(serve))
    with flooded(https, http, count):
        loud = known_visits(https, known, _MINUTE)
    spent = cpu_seconds(family(serve)) - before
    after = [pss_megabytes(family(pid)) for pid in (serve, nginx)]
    for what, seen in (("quiet", quiet), ("flooded", loud)):
        times = [v.seconds * 1000 for v in seen]
        print(
            f"  {what:<8} {len(seen)} visits of known customers, {sum(not v.ok for v in seen)} failed, "
            f"p50 {quantile(times, 0.5):.1f} ms  p99 {quantile(times, 0.99):.1f} ms"
        )
    p99 = [quantile([v.seconds for v in seen], 0.99) for seen in (loud, quiet)]
    print(f"  p99 of known customers, flooded / quiet: {p99[0] / p99[1]:.2f}")
    print(f"  the daemon's CPU: {spent:.1f} s, {1000 * spent / count:.2f} ms an invented name")
    print(f"  orders at the CA meanwhile: {sandbox.orders() - orders}")
    for what, before, now in zip(("daemon", "nginx"), memory, after, strict=True):
        print(f"  memory of the {what}: {before:.1f} MB before, {now:.1f} MB after ({now / before:.2f})")


def main() -> None:
    arguments = [int(argument) for argument in sys.argv[1:]]
    count, number = (*arguments, *(10_000, 1000)[len(arguments) :])
    with open_place() as place, field(place, Manner()) as here:
        known = customers(here.sandbox, [f"status.known{each}.test" for each in range(number)])
        env = {"CERTCTL_CONFIG": str(here.sandbox.addresses["config"]), "CERTCTL_CA__ENGINE": "acme"}
        ran = certctl("issue", "-", "--jobs", "16", "-q", env=env, stdin="\n".join(known) + "\n")
        assert ran.code == 0, ran.err[-2000:]
        print(f"{number} known customers; {count} invented names in a minute")
        measure(here.sandbox, known, count)


if __name__ == "__main__":
    main()
