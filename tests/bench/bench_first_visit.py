"""How long does the very first visitor of a new domain wait? certctl in mode ``lua`` against Caddy's on-demand TLS.

Both get their certificates from a Pebble with the same settings, in one run, visited in turn by the same client: a
TCP connection, a full TLS handshake and one page. certctl verifies DNS and asks the approval endpoint on the way;
Caddy asks an endpoint that says yes at once. A visit counts only if the page came under a certificate for its name.

Run: ``python -m tests.bench.bench_first_visit [names]`` (as root or not; ``apt-get install caddy``).
"""

import sys
import time
from collections.abc import Sequence

from tests.bench.lab import Field, Manner, customers, field
from tests.bench.load import Visit, quantile, visit, visits
from tests.e2e.real_sandbox import open_place

_NAMES = 50
_SLOW_NAMES = 10
_CROWD = 20


def names(sandbox_of: Field, kind: str, count: int) -> list[str]:
    """Make new customers, each under a registered domain of its own, as customers are."""
    return customers(sandbox_of.sandbox, [f"status.{kind}{number}.test" for number in range(count)])


def cold(here: Field, kind: str, count: int) -> None:
    """Visit new names one after the other, each server in turn."""
    ours, theirs = list[Visit](), list[Visit]()
    for name in names(here, kind, count):
        ours.append(visit(here.ours, name))
        theirs.append(visit(here.theirs, name))
    for what, seen in (("certctl", ours), ("caddy", theirs)):
        print(f"  {what:<8} {said(seen)}")
    for share in (0.5, 0.95):
        mine, peer = (quantile([v.seconds for v in seen if v.ok], share) for seen in (ours, theirs))
        print(f"  p{share * 100:.0f}: certctl takes {mine / peer:.3f} of caddy's time (1/{peer / mine:.1f})")


def said(seen: Sequence[Visit]) -> str:
    """Sum visits up; the times are those of the visits that succeeded."""
    fine = [v.seconds for v in seen if v.ok]
    faults = sorted({v.fault or f"status {v.status}" for v in seen if not v.ok})
    missed = f"  {len(seen) - len(fine)} of {len(seen)} FAILED: {'; '.join(faults)}" if faults else ""
    if not fine:
        return f"none succeeded{missed}"
    return f"p50 {quantile(fine, 0.5):.3f} s  p95 {quantile(fine, 0.95):.3f} s  max {max(fine):.3f} s{missed}"


def crowd_on_one(here: Field) -> None:
    """Send many clients to one new name at the same moment, and count what the CA was asked for."""
    (name,) = names(here, "crowd", 1)
    before = here.sandbox.orders()
    seen = visits(here.ours, [name] * _CROWD, _CROWD)
    print(f"  certctl  {said(seen)}  {here.sandbox.orders() - before} order at the CA")
    print(f"  caddy    {said(visits(here.theirs, [name] * _CROWD, _CROWD))}")


def many_at_once(here: Field, count: int) -> None:
    """Send one client to each of many new names at the same moment."""
    new = names(here, "burst", count)
    wall = dict[str, float]()
    for what, port in (("certctl", here.ours), ("caddy", here.theirs)):
        began = time.perf_counter()
        seen = visits(port, new, count)
        wall[what] = time.perf_counter() - began
        print(f"  {what:<8} all of them in {wall[what]:.2f} s  {said(seen)}")
    print(f"  certctl takes {wall['certctl'] / wall['caddy']:.3f} of caddy's time")


def run(manner: Manner, count: int, *, crowds: bool = False) -> None:
    """Measure with CAs that behave in one manner."""
    with open_place() as place, field(place, manner) as here:
        cold(here, "warmup", 1)
        print(f"{count} first visits, one after the other; the CA: {manner}")
        cold(here, "cold", count)
        if crowds:
            print(f"{_CROWD} clients at once on one new name")
            crowd_on_one(here)
            print(f"{_NAMES} new names at once")
            many_at_once(here, _NAMES)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else _NAMES
    run(Manner(), count, crowds=True)
    run(Manner(retry_after=(3, 5)), min(count, _SLOW_NAMES))
    run(Manner(sleep=2), min(count, _SLOW_NAMES))


if __name__ == "__main__":
    main()
