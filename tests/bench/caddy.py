"""Caddy, the peer: on-demand TLS against a Pebble of its own, or certificates it was given."""

import http.server
import json
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from certctl.sandbox import daemons
from certctl.sandbox.pebble import Pebble
from tests.bench.load import wait_for


class _SaysYes(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Keep the benchmark's output quiet."""


@contextmanager
def approving() -> Iterator[str]:
    """Run an endpoint that says yes to whatever Caddy asks; yield its URL."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _SaysYes)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/ask"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def on_demand(root: Path, port: int, http_port: int, ca: Pebble) -> Iterator[daemons.Daemon]:
    """Run Caddy with on-demand TLS on a port; it proves names by TLS-ALPN-01 there."""
    with approving() as ask:
        issuer = {
            "module": "acme",
            "ca": ca.directory_url,
            "trusted_roots_pem_files": [str(ca.ca_file)],
            "challenges": {"http": {"disabled": True}, "tls-alpn": {"alternate_port": port}},
        }
        tls = {
            "automation": {"policies": [{"on_demand": True, "issuers": [issuer]}], "on_demand": {"ask": ask}},
        }
        with running(root, port, http_port, tls) as daemon:
            yield daemon


@contextmanager
def with_certificates(
    root: Path, port: int, http_port: int, pairs: Sequence[tuple[Path, Path]]
) -> Iterator[daemons.Daemon]:
    """Run Caddy with certificates loaded from files: its best case for a warm handshake."""
    files = [{"certificate": str(chain), "key": str(key)} for chain, key in pairs]
    with running(root, port, http_port, {"certificates": {"load_files": files}}) as daemon:
        yield daemon


@contextmanager
def running(root: Path, port: int, http_port: int, tls: Mapping[str, object]) -> Iterator[daemons.Daemon]:
    """Run Caddy with one page and this ``tls`` app."""
    root.mkdir(parents=True, exist_ok=True)
    page = {"handle": [{"handler": "static_response", "body": "all systems operational\n"}]}
    server = {
        "listen": [f"127.0.0.1:{port}"],
        "routes": [page],
        "tls_connection_policies": [{}],
        "automatic_https": {"disable": True},
    }
    config = {
        "admin": {"disabled": True, "config": {"persist": False}},
        "logging": {"logs": {"default": {"level": "ERROR"}}},
        "storage": {"module": "file_system", "root": str(root / "storage")},
        "apps": {"http": {"http_port": http_port, "https_port": port, "servers": {"one": server}}, "tls": tls},
    }
    file = root / "caddy.json"
    file.write_text(json.dumps(config))
    env = {"HOME": str(root), "XDG_DATA_HOME": str(root), "XDG_CONFIG_HOME": str(root)}
    daemon = daemons.start("caddy", ["caddy", "run", "--config", str(file)], root / "caddy.log", env)
    try:
        wait_for(lambda: _listens(port) or not daemon.running)
        assert daemon.running, daemon.log_tail()
        yield daemon
    finally:
        daemons.stop(daemon)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
