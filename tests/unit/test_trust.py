"""What our TLS clients trust is read once, and read again when it is another file."""

import http.server
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from requests import Request
from requests.exceptions import SSLError
from urllib3.util.ssl_ import create_urllib3_context

from certctl.ca.directory import Directory
from certctl.ca.settings import CaSettings
from certctl.errors import Unreachable
from certctl.io.clock import SystemClock
from certctl.io.http_errors import in_words
from certctl.io.request import send

SECONDS = 30.0


class Quiet(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing on stderr."""


@pytest.fixture
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def port(ca: trustme.CA) -> Iterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("localhost").configure_cert(context)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count how often a context is made."""
    made = list[int]()

    def counted(cert_reqs: int) -> ssl.SSLContext:
        made.append(1)
        return create_urllib3_context(cert_reqs=cert_reqs)

    monkeypatch.setattr("certctl.io.request.create_urllib3_context", counted)
    return made


def ask(port: int, ca_file: Path, host: str = "localhost") -> int:
    return send(Request("GET", f"https://{host}:{port}/"), SECONDS, str(ca_file)).status_code


def test_the_file_is_read_once_for_many_connections(
    ca: trustme.CA, port: int, tmp_path: Path, loads: list[int]
) -> None:
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    assert [ask(port, tmp_path / "ca.pem") for _ in range(3)] == [200] * 3
    assert len(loads) == 1


def test_another_file_in_its_place_counts_at_once(ca: trustme.CA, port: int, tmp_path: Path) -> None:
    file, spare = tmp_path / "ca.pem", tmp_path / "spare.pem"
    ca.cert_pem.write_to_path(file)
    assert ask(port, file) == 200
    trustme.CA().cert_pem.write_to_path(spare)
    spare.rename(file)
    with pytest.raises(SSLError, match=r"self.signed|unable to get local issuer"):
        ask(port, file)
    ca.cert_pem.write_to_path(spare)
    spare.rename(file)
    assert ask(port, file) == 200


def test_a_shared_context_still_looks_at_the_name(ca: trustme.CA, port: int, tmp_path: Path) -> None:
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    assert ask(port, tmp_path / "ca.pem") == 200
    with pytest.raises(SSLError, match=r"IP address mismatch|doesn't match"):
        ask(port, tmp_path / "ca.pem", host="127.0.0.1")


def test_without_a_file_only_the_public_roots_are_trusted(port: int) -> None:
    with pytest.raises(SSLError):
        send(Request("GET", f"https://localhost:{port}/"), SECONDS)


@pytest.mark.parametrize("content", [None, "", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_file_that_holds_no_certificate_is_said_as_what_cannot_be_trusted(
    port: int, tmp_path: Path, content: str | None
) -> None:
    if content is not None:
        (tmp_path / "ca.pem").write_text(content)
    with pytest.raises(SSLError, match="no CA certificate can be read") as caught:
        ask(port, tmp_path / "ca.pem")
    assert in_words(caught.value) == "the ca_file cannot be read"


def test_a_directory_of_certificates_is_trusted_too(ca: trustme.CA, port: int, tmp_path: Path) -> None:
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    openssl = ["openssl", "x509", "-noout", "-subject_hash", "-in", str(tmp_path / "ca.pem")]
    name = subprocess.run(openssl, capture_output=True, text=True, timeout=60, check=True).stdout.strip()
    (tmp_path / "ca").mkdir()
    (tmp_path / "ca" / f"{name}.0").write_text((tmp_path / "ca.pem").read_text())
    assert ask(port, tmp_path / "ca") == 200


def test_a_file_of_the_cas_that_holds_no_certificate_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("none\n")
    settings = CaSettings("https://localhost:1/", tmp_path, tmp_path, ca_file=tmp_path / "ca.pem")
    with pytest.raises(Unreachable) as caught:
        Directory(settings, SystemClock()).require_ready()
    assert "no CA certificate can be read" in caught.value.seen[0]


def test_a_context_in_use_is_not_changed_for_the_next_connection(
    ca: trustme.CA, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenSSL copies the protocols of a context without a lock while CPython has released its own."""
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    assert ask(port, tmp_path / "ca.pem") == 200
    monkeypatch.setattr(ssl.SSLContext, "set_alpn_protocols", lambda *_: pytest.fail("changed while in use"))
    assert ask(port, tmp_path / "ca.pem") == 200
