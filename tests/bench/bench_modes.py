"""What do the publish modes cost? Server CPU per handshake, memory and a change, as multiples of mode ``blocks``.

Three nginx at once serve the same NAMES certificates, each in its mode; slices of full TLS 1.3 handshakes with
random names go to each in turn, so that a noisy machine is noisy for all. CPU is the workers' own (schedstat),
memory is PSS of master and workers. A change is one new name: publish, reload, confirm.

Run: ``python -m tests.bench.bench_modes [names]``.
"""

import random
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from certctl.nginx.handshake import look
from certctl.nginx.master import workers
from certctl.values import Mode, Site
from tests.real_nginx import RealNginx, make_site, put_live, real_nginx

_SLICES, _HANDSHAKES, _CHANGES = 9, 250, 7
_WARM = 6  # rounds over all names, until both of lua's workers have (nearly) all parsed


def processes(host: RealNginx) -> list[int]:
    pid = host.web._master.pid()
    assert pid
    return [pid, *(worker for worker, _ in workers(pid).accepting)]


def cpu(host: RealNginx) -> float:
    """Return the milliseconds the workers have run (proc_pid_schedstat, kernel's sched-stats.rst)."""
    times = [Path(f"/proc/{pid}/schedstat").read_text().split()[0] for pid in processes(host)[1:]]
    return sum(map(int, times)) / 1e6


def memory(host: RealNginx) -> float:
    """Return the proportional set size in MB."""
    texts = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in processes(host)]
    return sum(int(kb) for text in texts for kb in re.findall(r"^Pss: +(\d+)", text, re.MULTILINE)) / 1000


def shake(host: RealNginx, names: list[str]) -> float:
    """Return the workers' milliseconds a handshake, over one slice."""
    before = cpu(host)
    for _ in range(_HANDSHAKES):
        assert look(host.settings, random.choice(names)).fingerprint
    return (cpu(host) - before) / _HANDSHAKES


def change(host: RealNginx, site: Site) -> float:
    began = time.perf_counter()
    put_live(host, site)
    return (time.perf_counter() - began) * 1000


def ratios(measure: Callable[[RealNginx], float], hosts: dict[Mode, RealNginx], rounds: int) -> dict[Mode, float]:
    """Measure all in turn, several times; return the medians."""
    taken: dict[Mode, list[float]] = {mode: [] for mode in hosts}
    for _ in range(rounds):
        for mode, host in hosts.items():
            taken[mode].append(measure(host))
    return {mode: statistics.median(values) for mode, values in taken.items()}


def show(what: str, unit: str, medians: dict[Mode, float]) -> None:
    base = medians[Mode.BLOCKS]
    told = ", ".join(f"{mode} {value / base:.2f}" for mode, value in medians.items() if mode is not Mode.BLOCKS)
    print(f"{what}, as a multiple of blocks: {told}   (blocks: {base:.3g} {unit})")


def main(count: int) -> None:
    with ExitStack() as held:
        hosts = {}
        for mode in Mode:
            place = Path(held.enter_context(tempfile.TemporaryDirectory()))
            hosts[mode] = held.enter_context(real_nginx(place, mode=mode, workers=2))
        ca = next(iter(hosts.values())).ca
        sites = [make_site(ca, f"s{number}.bench.test", 1) for number in range(count)]
        names = [str(site.domain) for site in sites]
        for host in hosts.values():
            with host.web.change(sites) as each:
                each.publish()
                each.reload()
        print(f"{count} names, nginx {'.'.join(map(str, hosts[Mode.BLOCKS].web._command.version))}")
        fresh = iter(make_site(ca, f"n{number}.bench.test", 1) for number in range(10**6))
        show("one new name", "ms", ratios(lambda host: change(host, next(fresh)), hosts, _CHANGES))
        for _ in range(_WARM):
            for name in names:
                assert look(hosts[Mode.LUA].settings, name).fingerprint
        show("server CPU of a full handshake", "ms", ratios(lambda host: shake(host, names), hosts, _SLICES))
        show("nginx's memory", "MB", ratios(memory, hosts, 1))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500)
