"""What does asking nginx for a token add to an order? The probe alone, and as a share of a first visit's way.

A real nginx with live sites is asked as before each order, one after the other and by sixteen threads at a time,
as the daemon does. The budget is 10 ms; a warm order of the engine ``acme`` takes about 30 ms and certbot 2.4 s.

Run: ``python -m tests.bench.bench_probe [rounds]``.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from certctl.domain import Domain
from certctl.values import Mode
from tests.real_nginx import RealNginx, make_site, put_live, real_nginx

_NAMES = 50
_AT_ONCE = 16
_BUDGET_MS = 10.0
_WARM_ORDER_MS = 29.0  # engine acme against one Pebble


def probe(host: RealNginx, name: str) -> float:
    """Ask once for a name nobody has a server block for; return the milliseconds it took."""
    began = time.perf_counter()
    host.web.require_challenge(Domain(name))
    return 1000 * (time.perf_counter() - began)


def said(what: str, taken: Sequence[float]) -> str:
    """Sum it up."""
    middle, late = statistics.median(taken), statistics.quantiles(taken, n=20)[-1]
    return (
        f"  {what:<22} p50 {middle:5.2f} ms  p95 {late:5.2f} ms  "
        f"{middle / _BUDGET_MS:.2f} of the budget, {middle / _WARM_ORDER_MS:.3f} of a warm order"
    )


def main(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as place, real_nginx(Path(place), mode=Mode.SHARED, workers=2) as host:
        put_live(host, *(make_site(host.ca, f"s{number}.bench.test", 1) for number in range(_NAMES)))
        names = [f"n{number}.bench.test" for number in range(rounds)]
        probe(host, "warm.bench.test")
        print(f"{rounds} probes beside {_NAMES} live names")
        print(said("one after the other", [probe(host, name) for name in names]))
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            print(said(f"{_AT_ONCE} at once", list(pool.map(lambda name: probe(host, name), names))))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
