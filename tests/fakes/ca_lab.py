"""A real CA to test against: Pebble, its DNS, and a web server that serves the challenge directory."""

import http.client
import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from certctl.ca.settings import CaSettings
from certctl.domain import Domain
from certctl.io.clock import SystemClock
from certctl.io.files import make_directory
from certctl.ports.manual_dns import ManualOperator, SilentPrompt
from certctl.sandbox import daemons, pebble
from certctl.sandbox.layout import free_ports
from certctl.txt_records import TxtSight
from certctl.values import CHALLENGE_LABEL, Approval, Delegation

_PREFIX = "/.well-known/acme-challenge/"


def approval(name: str) -> Approval:
    """Make the proof that lets a name be issued, as the parties before the CA would."""
    domain = Domain(name)
    delegation = Delegation(domain, "status.hyperping.io", (), "CNAME → status.hyperping.io")
    return Approval(delegation, datetime.now(UTC), remembered=False, summary="200")


class Dark:
    """Nameservers that nobody can see."""

    def look(self, zone: str, label: str = CHALLENGE_LABEL) -> TxtSight:
        return TxtSight(f"{label}.{zone}", f"{label}.{zone}")


def patient() -> ManualOperator:
    """Return somebody who could edit a zone, and does nothing."""
    return ManualOperator(SilentPrompt(), Dark(), SystemClock(), timedelta(seconds=1))


class TokenServer(http.server.ThreadingHTTPServer):
    """Serves tokens like nginx does; ``asked`` keeps what the CA fetched, ``lie`` is served instead."""

    daemon_threads = True

    def __init__(self, challenges: Path) -> None:
        super().__init__(("127.0.0.1", 0), _TokenHandler)
        self.challenges = challenges
        self.asked: list[str] = []
        self.modes: list[int] = []
        self.lie: bytes | None = None
        self.hold: threading.Event | None = None


class _TokenHandler(http.server.BaseHTTPRequestHandler):
    server: TokenServer

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.server.hold:
            self.server.hold.wait(120)
        path = self.server.challenges / self.path.removeprefix(_PREFIX)
        body = self.server.lie
        if body is None and path.is_file():
            body = path.read_bytes()
            self.server.modes.append(path.stat().st_mode & 0o777)
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *_: object) -> None:
        """Keep the test's output quiet."""


@dataclass
class CaLab:
    """One running Pebble with all it needs; ``settings`` point our facade at it."""

    root: Path
    pebble: pebble.Pebble
    program: Path
    tokens: TokenServer
    settings: CaSettings
    dns_management: int
    daemon: daemons.Daemon | None = None

    def start(self) -> None:
        pebble.write_files(self.pebble)
        log = self.root / "pebble.log"
        self.daemon = daemons.start(
            "pebble", pebble.argv(self.pebble, self.program), log, pebble.environment(self.pebble)
        )
        pebble.wait_ready(self.pebble)

    def stop(self) -> None:
        if self.daemon:
            daemons.stop(self.daemon)
            self.daemon = None

    def restart(self) -> None:
        """Let the CA forget every account and order, and make new roots."""
        self.stop()
        self.start()

    @property
    def log(self) -> str:
        return (self.root / "pebble.log").read_text(encoding="utf-8", errors="replace")

    @property
    def orders(self) -> int:
        return self.log.count("Added order")

    @property
    def issued(self) -> int:
        return self.log.count("Issued certificate serial")

    @property
    def accounts(self) -> int:
        return self.log.count("accounts in memory")

    def dns(self, action: str, **record: object) -> None:
        """Change the DNS the CA sees, such as ``dns("add-a", host="x.test.", addresses=["127.0.0.2"])``."""
        connection = http.client.HTTPConnection("127.0.0.1", self.dns_management, timeout=30)
        connection.request("POST", f"/{action}", json.dumps(record))
        response = connection.getresponse()
        response.read()
        connection.close()
        assert response.status == 200, action

    def is_revoked(self, serial: str) -> bool:
        return b'"Revoked"' in pebble.fetch(
            self.pebble, self.pebble.management_port, f"/cert-status-by-serial/{serial}"
        )

    def with_state(self, directory: Path) -> CaSettings:
        """Return settings with a state of their own: another host's, so to speak."""
        return replace(self.settings, acme_dir=directory / "acme")


@contextmanager
def dns_server(root: Path) -> Iterator[tuple[str, int]]:
    """Run a DNS server that says 127.0.0.1 for every name, and yield where it listens and is managed."""
    port, management = free_ports(2)
    where = f"127.0.0.1:{port}"
    command = [
        "pebble-challtestsrv",
        f"-dns01={where}",
        f"-management=127.0.0.1:{management}",
        "-http01=",
        "-https01=",
        "-tlsalpn01=",
        "-defaultIPv6=",
    ]
    daemon = daemons.start("dns", command, root / "dns.log")
    try:
        yield where, management
    finally:
        daemons.stop(daemon)


@contextmanager
def ca_lab(
    root: Path, *, program: Path | None = None, nonce_reject: int = 0, blocklist: tuple[str, ...] = ()
) -> Iterator[CaLab]:
    """Run Pebble, its DNS and a token server under ``root``; nothing is left running."""
    challenges = root / "challenges"
    make_directory(challenges, 0o755)
    tokens = TokenServer(challenges)
    threading.Thread(target=tokens.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
    acme, management, tls = free_ports(3)
    with dns_server(root) as (dns, dns_management):
        plan = pebble.Pebble(
            root=root / "ca",
            acme_port=acme,
            management_port=management,
            http_port=tokens.server_port,
            tls_port=tls,
            dns=dns,
            nonce_reject=nonce_reject,
            blocklist=blocklist,
        )
        settings = CaSettings(
            directory=plan.directory_url,
            acme_dir=root / "acme",
            challenges=challenges,
            ca_file=plan.ca_file,
            profile=pebble.DEFAULT_PROFILE,
            deadline=timedelta(seconds=60),
            wait=timedelta(seconds=60),
        )
        lab = CaLab(root, plan, program or pebble.find_pebble(), tokens, settings, dns_management)
        try:
            lab.start()
            yield lab
        finally:
            lab.stop()
            tokens.shutdown()
            tokens.server_close()
