"""A real BIND 9 that takes TSIG-signed updates (RFC 2136, RFC 8945), unprivileged and on a port of its own."""

import shutil
import socket
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_bytes

import dns.exception
import dns.message
import dns.query

from certctl.io import process
from certctl.sandbox import daemons

HOST = "127.0.0.1"
NAMESERVER = "ns1.lab."
_KEY = "certctl-test"
_START_SECONDS = 120


@dataclass(frozen=True)
class Bind:
    """A running server. ``credentials`` is what certbot-dns-rfc2136 reads."""

    root: Path
    port: int
    credentials: Path

    @property
    def log(self) -> str:
        return (self.root / "named.log").read_text(encoding="utf-8", errors="replace")

    def texts(self, name: str) -> list[str]:
        """Return the TXT records of a name."""
        response = dns.query.udp(dns.message.make_query(name, "TXT"), HOST, port=self.port, timeout=30)
        return [str(record) for rrset in response.answer for record in rrset]


@contextmanager
def bind(root: Path, zones: dict[str, list[str]], writable: dict[str, str]) -> Iterator[Bind]:
    """Run BIND with these zones and their records; ``writable`` names the one TXT record a zone lets us change."""
    root.mkdir(parents=True, exist_ok=True)
    secret = b64encode(token_bytes(32)).decode()
    port = _free_port()
    ready = Bind(root, port, _credentials(root / "rfc2136.ini", port, secret))
    (root / "named.conf").write_text(_configuration(root, port, secret, zones, writable))
    for zone, records in {".": [], **zones}.items():
        (root / f"{zone.strip('.') or 'root'}.zone").write_text("\n".join([*_apex(zone), *records]) + "\n")
    # Debian's AppArmor profile confines the path /usr/sbin/named to its own directories; a copy is another path.
    program = shutil.copy(process.find("named"), root / "named")
    daemon = daemons.start("named", [str(program), "-g", "-c", str(root / "named.conf")], root / "named.log")
    try:
        _wait(ready, daemon)
        yield ready
    finally:
        daemons.stop(daemon)


def _configuration(
    root: Path, port: int, secret: str, zones: dict[str, list[str]], writable: dict[str, str]
) -> str:
    lines = [
        f'key "{_KEY}" {{ algorithm hmac-sha256; secret "{secret}"; }};',
        "controls { };",
        f'options {{ directory "{root}"; pid-file none; session-keyfile "{root}/session.key"; recursion no;',
        f"listen-on port {port} {{ {HOST}; }}; listen-on-v6 {{ none; }}; dnssec-validation no; notify no;",
        "empty-zones-enable no; allow-transfer { none; }; };",
        'zone "." { type master; file "root.zone"; };',
    ]
    for zone in zones:
        policy = f"update-policy {{ grant {_KEY} name {writable[zone]} TXT; }};" if zone in writable else ""
        lines.append(f'zone "{zone}" {{ type master; file "{zone}.zone"; {policy} }};')
    return "\n".join(lines) + "\n"


def _apex(zone: str) -> list[str]:
    origin = zone.rstrip(".") + "."
    glue = [f"{NAMESERVER} A {HOST}"] if zone == "." else []
    return [
        "$TTL 60",
        f"{origin} SOA {NAMESERVER} hostmaster.lab. 1 3600 600 86400 60",
        f"{origin} NS {NAMESERVER}",
        *glue,
    ]


def _credentials(path: Path, port: int, secret: str) -> Path:
    values = {"server": HOST, "port": str(port), "name": _KEY, "secret": secret, "algorithm": "HMAC-SHA256"}
    path.write_text("".join(f"dns_rfc2136_{key} = {value}\n" for key, value in values.items()))
    path.chmod(0o600)
    return path


def _free_port() -> int:
    """Return a port that is free for UDP and TCP alike."""
    while True:
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind((HOST, 0))
            port = int(tcp.getsockname()[1])
            try:
                udp.bind((HOST, port))
            except OSError:
                continue
            return port


def _wait(server: Bind, daemon: daemons.Daemon) -> None:
    give_up = time.monotonic() + _START_SECONDS
    query = dns.message.make_query(".", "SOA")
    while time.monotonic() < give_up and daemon.running:
        try:
            dns.query.udp(query, HOST, port=server.port, timeout=0.2)
        except (dns.exception.DNSException, OSError):
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"BIND did not start: {server.log[-2000:]}")
