"""What a visitor, the CA and a stranger get from nginx with the text we write."""

import http.client
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from certctl.nginx.handshake import look
from tests.real_nginx import RealNginx, put_live, real_nginx

pytestmark = pytest.mark.e2e

TOKEN = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[RealNginx]:
    with real_nginx(tmp_path) as nginx:
        put_live(nginx, nginx.site("live.test"))
        (nginx.settings.challenges / TOKEN).write_text("token.thumbprint")
        (tmp_path / "secret-file-of-20-char").write_text("secret")
        yield nginx


def get(host: RealNginx, path: str, name: str = "new.test", method: str = "GET") -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", host.settings.http_port, timeout=60)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", name)
    connection.endheaders()
    answer = connection.getresponse()
    answer.body = answer.read()  # type: ignore[attr-defined]
    connection.close()
    return answer


def body(answer: http.client.HTTPResponse) -> bytes:
    return answer.body  # type: ignore[attr-defined,no-any-return]


def fetch_https(host: RealNginx, name: str, path: str = "/", **headers: str) -> tuple[int, bytes]:
    """Fetch a page as a browser would: the chain is verified."""
    context = ssl.create_default_context()
    host.ca.configure_trust(context)
    connection = http.client.HTTPSConnection("127.0.0.1", host.settings.https_port, context=context, timeout=60)
    plain = socket.create_connection(("127.0.0.1", host.settings.https_port), timeout=60)
    connection.sock = context.wrap_socket(plain, server_hostname=name)
    connection.request("GET", path, headers={"Host": name, **headers})
    answer = connection.getresponse()
    result = answer.status, answer.read()
    connection.close()
    return result


@pytest.mark.parametrize("name", ["new.test", "live.test", "127.0.0.1"])
def test_the_ca_gets_a_token_as_plain_text_whatever_the_name(host: RealNginx, name: str) -> None:
    answer = get(host, f"/.well-known/acme-challenge/{TOKEN}", name)
    assert (answer.status, body(answer)) == (200, b"token.thumbprint")
    assert answer.headers["Content-Type"] == "text/plain"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("name", ["new.test", "live.test"])
@pytest.mark.parametrize(
    "path",
    [
        "",
        "short",
        "absent-but-well-formed-token",
        "a" * 257,
        "a" * 256,
        "../secret-file-of-20-char",
        "%2e%2e/secret-file-of-20-char",
        "..%2fsecret-file-of-20-char",
        f"{TOKEN}/",
        f"{TOKEN}.txt",
        f"{TOKEN}%0a",
        f"x/{TOKEN}",
        "a-link-of-more-than-16",
        "a-directory-of-16-chars",
        "a-directory-of-16-chars/",
        ".hidden-file-of-16-chars",
    ],
)
def test_everything_else_below_the_challenge_path_is_404(host: RealNginx, name: str, path: str) -> None:
    challenges = host.settings.challenges
    (challenges / "a-link-of-more-than-16").symlink_to(host.root / "secret-file-of-20-char")
    (challenges / "a-directory-of-16-chars").mkdir()
    (challenges / ".hidden-file-of-16-chars").write_text("hidden")
    (challenges / "short").write_text("short")
    answer = get(host, f"/.well-known/acme-challenge/{path}", name)
    # Two dots leave the location: a live site then redirects, as for any other path, and shows nothing.
    leaves = "secret" in path and name == "live.test"
    assert answer.status == (301 if leaves else 404)
    assert b"secret" not in body(answer)


def test_a_name_without_a_certificate_gets_nothing_else_on_port_80(host: RealNginx) -> None:
    assert get(host, "/").status == 404
    assert get(host, "/index.html").status == 404


def test_a_live_name_is_sent_to_https_with_its_port(host: RealNginx) -> None:
    answer = get(host, "/path?q=1", "live.test")
    assert answer.status == 301
    assert answer.headers["Location"] == f"https://live.test:{host.settings.https_port}/path?q=1"


def test_a_stranger_is_refused_and_never_shown_another_leaf(host: RealNginx) -> None:
    seen = look(host.settings, "stranger.test")
    assert seen.fingerprint is None
    assert "UNRECOGNIZED_NAME" in seen.text.upper()


def test_a_visitor_gets_the_page_with_a_verified_chain(host: RealNginx) -> None:
    assert fetch_https(host, "live.test") == (200, b"all systems operational\n")
    assert fetch_https(host, "live.test", "/absent")[0] == 404
    (host.settings.site_root / ".git").mkdir()
    (host.settings.site_root / ".git" / "config").write_text("secret")
    assert fetch_https(host, "live.test", "/.git/config")[0] == 404


def test_http_2_is_offered(host: RealNginx) -> None:
    context = ssl.create_default_context()
    host.ca.configure_trust(context)
    context.set_alpn_protocols(["h2", "http/1.1"])
    plain = socket.create_connection(("127.0.0.1", host.settings.https_port), timeout=60)
    with context.wrap_socket(plain, server_hostname="live.test") as secure:
        assert secure.selected_alpn_protocol() == "h2"
        assert secure.version() == "TLSv1.3"


def test_an_upstream_is_told_who_asked_for_what(host: RealNginx) -> None:
    heard: dict[str, str] = {}

    class Application(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.update(self.headers.items())
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"from the application")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Application) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        upstream = f"http://127.0.0.1:{server.server_port}"
        put_live(replace(host, settings=replace(host.settings, upstream=upstream)), host.site("live.test"))
        answer = fetch_https(host, "live.test", "/x", Upgrade="websocket", Connection="Upgrade")
        server.shutdown()
        thread.join()
    assert answer == (200, b"from the application")
    assert heard["Host"] == heard["X-Forwarded-Host"] == "live.test"
    assert heard["X-Forwarded-Proto"] == "https"
    assert heard["X-Real-IP"] == "127.0.0.1"
    assert (heard["Upgrade"], heard["Connection"]) == ("websocket", "upgrade")
