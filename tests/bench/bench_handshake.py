"""What does a warm, full TLS 1.3 handshake cost the server? CPU per handshake, many certificates, random SNI.

All servers are up at once with the same certificates (ECDSA P-256, leaf and intermediate) and are visited in turn,
in slices of one run: nginx with a server block per name (the floor: static certificates), nginx in modes ``lua``
and ``shared``, and Caddy with all certificates loaded from files, its best case. The client shares the machine, so
the CPU time of the server's processes per visit is the number to compare; p99 and the memory of each server (PSS,
after every worker has shown every name) are stated.

With ``--newer PATH`` a newer nginx (1.27.4 or later) runs ``shared`` with and without ``ssl_certificate_cache``.

Run: ``python -m tests.bench.bench_handshake [names [--newer PATH]]``.
"""

import argparse
import random
import statistics
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from certctl.nginx import mirror
from certctl.sandbox.layout import free_ports
from certctl.values import Mode, Site
from tests.bench import caddy
from tests.bench.load import Visit, cpu_seconds, family, pss_megabytes, quantile, visits
from tests.bench.nginxes import Server, make_sites, nginx

_ROUNDS = 7
_SLICE = 600
_AT_ONCE = 8


@dataclass(slots=True)
class Measured:
    """What was seen of one server, a slice at a time."""

    server: Server
    cpu: list[float] = field(default_factory=list)
    seen: list[Visit] = field(default_factory=list)
    megabytes: float = 0

    def slice(self, names: list[str]) -> None:
        """Visit names at random and note what that cost."""
        chosen = random.choices(names, k=_SLICE)
        pids = family(self.server.pid)
        before = cpu_seconds(pids)
        seen = visits(self.server.port, chosen, _AT_ONCE)
        self.cpu.append((cpu_seconds(pids) - before) / len(seen) * 1000)
        self.seen += seen

    @property
    def milliseconds(self) -> float:
        """Return the median CPU time of a visit."""
        return statistics.median(self.cpu)


def warm(servers: list[Measured], names: list[str]) -> None:
    """Let every worker of every server see every name: caches are a worker's own."""
    for measured in servers:
        for _ in range(4):
            visits(measured.server.port, names, _AT_ONCE)


def everyone(stack: ExitStack, root: Path, sites: list[Site], newer: str | None) -> list[Measured]:
    """Bring all servers up."""
    servers = [
        stack.enter_context(nginx(root / mode, mode, sites)) for mode in (Mode.BLOCKS, Mode.LUA, Mode.SHARED)
    ]
    if newer:
        for cached in (True, False):
            place = root / f"newer-{cached}"
            one = nginx(place, Mode.SHARED, sites, newer, certificate_cache=cached)
            servers.append(stack.enter_context(one))
    pairs = [mirror.current_path(root / Mode.BLOCKS / "sites", site.domain) for site in sites]
    files = [(pair / mirror.CHAIN, pair / mirror.KEY) for pair in pairs]
    https, http = free_ports(2)
    peer = stack.enter_context(caddy.with_certificates(root / "caddy", https, http, files))
    return [Measured(server) for server in [*servers, Server("caddy, loaded", https, peer.pid)]]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="?", type=int, default=1000)
    parser.add_argument("--newer")
    arguments = parser.parse_args()
    sites = make_sites(arguments.names)
    names = [site.domain.name for site in sites]
    with tempfile.TemporaryDirectory() as workdir, ExitStack() as stack:
        Path(workdir).chmod(0o755)
        servers = everyone(stack, Path(workdir), sites, arguments.newer)
        warm(servers, names)
        for _ in range(_ROUNDS):
            for measured in servers:
                measured.slice(names)
        for measured in servers:
            measured.megabytes = pss_megabytes(family(measured.server.pid))
    static = servers[0].milliseconds
    peer = servers[-1].milliseconds
    print(f"{len(names)} certificates, {_ROUNDS} slices of {_SLICE} full handshakes each, {_AT_ONCE} clients")
    for measured in servers:
        times = [seen.handshake * 1000 for seen in measured.seen]
        failed = sum(not seen.ok for seen in measured.seen)
        print(
            f"  {measured.server.what:<46} {measured.milliseconds:.3f} ms CPU  "
            f"{measured.milliseconds / static:4.2f} x static  {measured.milliseconds / peer:4.2f} x caddy  "
            f"handshake p50 {quantile(times, 0.5):.1f} ms  p99 {quantile(times, 0.99):.1f} ms  {failed} failed  "
            f"{measured.megabytes:.0f} MB  {measured.megabytes / servers[0].megabytes:.3f} x static"
        )


if __name__ == "__main__":
    main()
