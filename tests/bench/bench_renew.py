"""What does a renewal run cost when nothing is due? certctl on 10,000 certificates against certbot on what fits.

certbot alone gets one real lineage from the sandbox's Pebble; its copies, with their names changed, are what
certbot's own ``renew`` walks. Both know already when the CA wants renewals and when to ask again (ARI), so neither
speaks to it. certbot is measured on 1 and on LINEAGES lineages, interleaved with certctl; the line through both
points gives its cost per certificate and the EXTRAPOLATED time for as many certificates as certctl had.

Run: ``python -m tests.bench.bench_renew [certificates [lineages]]``.
"""

import shutil
import sys
from pathlib import Path

from certctl.io.process import beside_python
from tests.bench.bench_issue import certbot_alone, seconds
from tests.bench.crowd import Cost, certctl, cost, settle
from tests.e2e.real_sandbox import Sandbox, bring_up, open_place, take_down

_PEM = ("cert", "chain", "fullchain", "privkey")
_FIRST = "bench0.example.com"


def certbot_renew(home: Path) -> list[str]:
    return [
        str(beside_python("certbot")), "renew", "-n", "-q", "--no-random-sleep-on-renew", "--max-log-backups", "0",
        "--config-dir", str(home / "config"), "--work-dir", str(home / "work"), "--logs-dir", str(home / "logs"),
    ]  # fmt: skip


def one_lineage(sandbox: Sandbox, home: Path) -> None:
    """Let certbot get one certificate by itself and ask the CA once when to renew it."""
    tokens = home / "webroot/.well-known/acme-challenge"
    tokens.parent.mkdir(parents=True)
    tokens.symlink_to(sandbox.layout.root / "var/lib/certctl/challenges")
    env = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "REQUESTS_CA_BUNDLE": str(sandbox.addresses["acme_ca_file"]),
    }
    seconds(certbot_alone(sandbox, home, sandbox.customer(_FIRST)), env)
    seconds(certbot_renew(home), env)
    conf = (home / "config/renewal" / f"{_FIRST}.conf").read_text()
    assert "ari_retry_after" in conf, "certbot would ask the CA about every copy"


def copies(home: Path, count: int) -> None:
    """Copy the one lineage; only names and paths differ."""
    config = home / "config"
    conf = (config / "renewal" / f"{_FIRST}.conf").read_text()
    for number in range(1, count):
        name = f"bench{number}.example.com"
        shutil.copytree(config / "archive" / _FIRST, config / "archive" / name)
        live = config / "live" / name
        live.mkdir()
        for part in _PEM:
            (live / f"{part}.pem").symlink_to(f"../../archive/{name}/{part}1.pem")
        (config / "renewal" / f"{name}.conf").write_text(conf.replace(_FIRST, name))


def measure(root: Path, home: Path, lineages: int) -> tuple[Cost, Cost, Cost]:
    """Return what certctl took, and certbot on one lineage and on many."""
    one = cost(certbot_renew(home), 3)
    copies(home, lineages)
    ours = cost(certctl(root, "renew", "-q"))
    many = cost(certbot_renew(home), 3)
    again = cost(certctl(root, "renew", "-q"))
    return max(ours, again, key=lambda c: c.seconds), one, many


def main() -> None:
    arguments = [int(argument) for argument in sys.argv[1:]]
    certificates, lineages = (*arguments, *(10_000, 300)[len(arguments) :])
    with open_place() as home:
        settle(home / "crowd", certificates)
        sandbox = bring_up(home / "sandbox")
        try:
            one_lineage(sandbox, home)
        finally:
            take_down(home / "sandbox")
        ours, one, many = measure(home / "crowd", home, lineages)
    each = (many.seconds - one.seconds) / (lineages - 1)
    theirs = one.seconds + each * (certificates - 1)
    print(f"certctl renew, {certificates} certificates, none due: {ours.seconds:.2f} s, {ours.megabytes:.0f} MB")
    print(f"certbot renew,     1 lineage,  not due: {one.seconds:.2f} s, {one.megabytes:.0f} MB")
    print(f"certbot renew, {lineages:5} lineages, not due: {many.seconds:.2f} s, {many.megabytes:.0f} MB")
    print(f"certbot renew, {certificates} lineages, EXTRAPOLATED linearly from these two: {theirs:.0f} s")
    print(f"per certificate, start included: {theirs / ours.seconds:.0f} times faster (extrapolated)")


if __name__ == "__main__":
    main()
