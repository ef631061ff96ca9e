"""What does certctl add to certbot? The same names, the same Pebble, interleaved in one run.

certbot alone: ``certbot certonly --webroot`` with an account that exists, the floor nothing of ours can go below.
certctl: the whole story, from DNS to the handshake that proves the new certificate.

Run: ``python -m tests.bench.bench_issue [rounds]``.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

from certctl.io.process import beside_python
from tests.e2e.real_sandbox import Sandbox, bring_up, open_place, take_down


def certbot_alone(sandbox: Sandbox, home: Path, name: str) -> list[str]:
    """Return the argv of a certbot that gets this name by itself, its tokens served by the sandbox's nginx."""
    return [
        str(beside_python("certbot")), "certonly", "-n", "--agree-tos", "--register-unsafely-without-email",
        "--webroot", "-w", str(home / "webroot"), "--cert-name", name, "-d", name, "--preferred-profile", "default",
        "--server", str(sandbox.addresses["acme_directory"]), "--config-dir", str(home / "config"),
        "--work-dir", str(home / "work"), "--logs-dir", str(home / "logs"), "--max-log-backups", "0", "-q",
    ]  # fmt: skip


def seconds(run: list[str], env: dict[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run(run, check=True, capture_output=True, env=env)
    return time.perf_counter() - began


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with open_place() as home:
        sandbox = bring_up(home / "sandbox")
        try:
            tokens = home / "webroot/.well-known/acme-challenge"
            tokens.parent.mkdir(parents=True)
            tokens.symlink_to(sandbox.layout.root / "var/lib/certctl/challenges")
            env = {
                "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
                "REQUESTS_CA_BUNDLE": str(sandbox.addresses["acme_ca_file"]),
                "CERTCTL_CONFIG": str(sandbox.addresses["config"]),
            }
            certctl = [sys.executable, "-m", "certctl", "issue"]
            taken: dict[str, list[float]] = {"certbot alone": [], "certctl issue": []}
            for number in range(rounds + 1):
                name = sandbox.customer(f"bench{number}.example.com")
                alone = seconds(certbot_alone(sandbox, home, name), env)
                ours = seconds([*certctl, name], env)
                if number:  # the first round makes both accounts
                    taken["certbot alone"].append(alone)
                    taken["certctl issue"].append(ours)
        finally:
            take_down(home / "sandbox")
    floor = statistics.median(taken["certbot alone"])
    for what, values in taken.items():
        median = statistics.median(values)
        print(
            f"{what:<14} median {median:5.2f} s  {median / floor:4.2f} x  +{median - floor:.2f} s ({rounds} rounds)"
        )


if __name__ == "__main__":
    main()
