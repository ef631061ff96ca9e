"""What does one more name cost in each publish mode? Publish, reload and confirm, as multiples of mode ``blocks``.

Three nginx at once serve the same NAMES certificates, each in its mode; new names go to each in turn, so that a
noisy machine is noisy for all. What a handshake costs and how much memory nginx takes: ``bench_handshake``.

Run: ``python -m tests.bench.bench_publish [names]``.
"""

import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from certctl.values import Mode, Site
from tests.real_nginx import RealNginx, make_site, put_live, real_nginx

_CHANGES = 7


def change(host: RealNginx, site: Site) -> float:
    """Put one name live; return the seconds it took."""
    began = time.perf_counter()
    put_live(host, site)
    return time.perf_counter() - began


def main(count: int) -> None:
    with ExitStack() as held:
        hosts = {}
        for mode in Mode:
            place = Path(held.enter_context(tempfile.TemporaryDirectory()))
            hosts[mode] = held.enter_context(real_nginx(place, mode=mode, workers=2))
        ca = hosts[Mode.BLOCKS].ca
        sites = [make_site(ca, f"s{number}.bench.test", 1) for number in range(count)]
        for host in hosts.values():
            with host.web.change(sites) as each:
                each.publish()
                each.reload()
        fresh = iter(make_site(ca, f"n{number}.bench.test", 1) for number in range(10**6))
        taken: dict[Mode, list[float]] = {mode: [] for mode in hosts}
        for _ in range(_CHANGES):
            for mode, host in hosts.items():
                taken[mode].append(change(host, next(fresh)))
        print(f"one more name beside {count}, nginx {'.'.join(map(str, hosts[Mode.BLOCKS].web._command.version))}")
        floor = statistics.median(taken[Mode.BLOCKS])
        for mode, seconds in taken.items():
            spent = statistics.median(seconds)
            print(f"  {mode:<8} {1000 * spent:7.1f} ms  {spent / floor:.3f} x blocks")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500)
