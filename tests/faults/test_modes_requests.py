"""What a visitor gets by plain HTTP before there is a certificate, and over HTTPS from a catch-all."""

import http.client
import re
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from certctl.domain import Domain
from certctl.values import Mode
from tests.fakes.http_server import Script, ScriptedServer, listening_at, say, serving, status
from tests.faults.test_nginx_requests import body, fetch_https, get
from tests.real_nginx import RealNginx, canary, put_live, real_nginx, wait_for

pytestmark = pytest.mark.e2e

READY = status("200 OK", "X-Accel-Redirect: @certctl_https")
WAIT = say(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 8\r\n\r\nprepared")


@pytest.fixture(params=Mode)
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RealNginx]:
    with real_nginx(tmp_path, mode=request.param) as nginx:
        nginx.settings.socket.parent.mkdir(exist_ok=True)
        put_live(nginx, nginx.site("live.test"))
        yield nginx


def daemon(host: RealNginx, script: Script) -> AbstractContextManager[ScriptedServer]:
    return serving(script, listener=listening_at(host.settings.socket))


def redirect(host: RealNginx, name: str, path: str) -> str:
    return f"https://{name}:{host.settings.https_port}{path}"


def test_without_a_daemon_a_name_without_a_certificate_is_not_found_and_nothing_is_logged(host: RealNginx) -> None:
    log = host.root / "error.log"
    before = len(log.read_text())
    assert get(host, "/page?x=1", "new.test").status == 404
    said = log.read_text()[before:]
    assert "[error]" not in said
    assert "[crit]" not in said


def test_a_name_with_a_certificate_is_sent_to_https_by_nginx_alone(host: RealNginx) -> None:
    with daemon(host, READY) as asked:
        answer = get(host, "/page?x=1&y=%2F", "LIVE.test.")
        assert (answer.status, asked.paths) == (301, [])
        assert answer.headers["Location"] == redirect(host, "live.test", "/page?x=1&y=%2F")


def test_the_first_visit_is_the_daemons_to_answer_and_ends_at_the_same_url(host: RealNginx) -> None:
    with daemon(host, READY) as asked:
        answer = get(host, "/page/../a%20b?x=1", "NEW.test")
        assert answer.status == 301
        assert answer.headers["Location"] == redirect(host, "new.test", "/page/../a%20b?x=1")
        (head,) = asked.heads
        lines = head.splitlines()
        assert lines[0].startswith("GET /visit HTTP/1.")
        assert sorted(lines[1:3]) == ["Host: new.test", "X-Real-IP: 127.0.0.1"]


def test_the_daemon_sees_nothing_of_a_visit_but_name_and_address(host: RealNginx) -> None:
    with daemon(host, READY) as asked:
        connection = http.client.HTTPConnection("127.0.0.1", host.settings.http_port, timeout=60)
        headers = {"Host": "new.test", "Cookie": "a=b", "X-Real-IP": "10.0.0.1", "X-Accel-Redirect": "/x"}
        connection.request("POST", "/visit/other", body=b"secret" * 1000, headers=headers)
        assert connection.getresponse().status == 301
        connection.close()
        assert asked.bodies == [b""]
        assert "Cookie" not in asked.heads[0]
        assert re.findall(r"X-Real-IP: (.*)\r", asked.heads[0]) == ["127.0.0.1"]
        assert asked.heads[0].startswith("GET /visit HTTP/")


def test_what_the_daemon_says_is_shown_as_it_is(host: RealNginx) -> None:
    with daemon(host, WAIT):
        answer = get(host, "/", "new.test")
        assert (answer.status, answer.headers["Retry-After"], body(answer)) == (503, "5", b"prepared")


def test_a_daemon_that_says_nothing_or_died_is_as_good_as_none(host: RealNginx) -> None:
    with daemon(host, say(b"")):
        assert get(host, "/", "new.test").status == 404
    assert host.settings.socket.exists()
    assert get(host, "/", "new.test").status == 404
    assert get(host, "/", "live.test").status == 301


HOSTILE = ["_", "-", "a", "a..b", "x" * 64 + ".test", "new.test/../x", "new_test.test", "%2e%2e.test",
           "'new.test", "new.test;", "[::1]", "new.-a.test", "e" * 300 + ".test"]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_host_that_is_not_a_plain_name_never_comes_to_the_daemon(tmp_path: Path, name: str) -> None:
    with real_nginx(tmp_path, mode=Mode.SHARED) as host:
        host.settings.socket.parent.mkdir(exist_ok=True)
        with daemon(host, READY) as asked:
            assert get(host, "/", name).status in {404, 400}
            assert asked.paths == []


def test_one_address_cannot_flood_the_daemon(host: RealNginx) -> None:
    with daemon(host, WAIT) as asked:
        answers = [get(host, "/", f"n{number}.test").status for number in range(80)]
        assert answers[:20] == [503] * 20
        assert answers.count(429) >= 20
        assert len(asked.paths) == answers.count(503)
        assert get(host, "/", "live.test").status == 301
    assert "limiting requests" not in (host.root / "error.log").read_text()


def test_visitors_who_wait_hold_up_nobody_and_only_so_many_wait(tmp_path: Path) -> None:
    """One worker of 256 connections, visitors from 200 addresses and a daemon that takes its time."""
    let_go, patient = threading.Event(), 256 // 8
    with real_nginx(tmp_path, mode=Mode.SHARED) as host:
        host.settings.socket.parent.mkdir(exist_ok=True)
        put_live(host, host.site("live.test"))

        def visit(number: int) -> int:
            source = (f"127.0.1.{number + 1}", 0)
            port = host.settings.http_port
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60, source_address=source)
            connection.request("GET", "/", headers={"Host": f"n{number}.test"})
            told = connection.getresponse().status
            connection.close()
            return told

        with (
            daemon(host, after(let_go, WAIT)) as asked,
            canary(host, host.site("live.test")) as failures,
            ThreadPoolExecutor(200) as pool,
        ):
            waiting = [pool.submit(visit, number) for number in range(200)]
            try:
                wait_for(lambda: sum(future.done() for future in waiting) == 200 - patient)
                assert len(asked.paths) == patient
                assert get(host, "/", "live.test").status == 301
            finally:
                let_go.set()
            assert Counter(future.result() for future in waiting) == {429: 200 - patient, 503: patient}
        assert failures == []
    assert "limiting connections" not in (host.root / "error.log").read_text()


def after(let_go: threading.Event, script: Script) -> Script:
    """Say nothing until the test lets go."""

    def wait(connection: socket.socket) -> None:
        let_go.wait(120)
        script(connection)

    return wait


def test_a_challenge_is_answered_for_any_name(host: RealNginx) -> None:
    (host.settings.challenges / ("t" * 30)).write_text("thumbprint")
    with daemon(host, READY) as asked:
        assert body(get(host, f"/.well-known/acme-challenge/{'t' * 30}", "new.test")) == b"thumbprint"
        assert asked.paths == []


@pytest.mark.parametrize("mode", [Mode.SHARED, Mode.LUA])
def test_a_page_is_served_to_the_name_the_connection_was_made_for_only(tmp_path: Path, mode: Mode) -> None:
    with real_nginx(tmp_path, mode=mode) as host:
        put_live(host, host.site("one.test"), host.site("two.test"))
        assert fetch_https(host, "one.test") == (200, b"all systems operational\n")
        assert fetch_https(host, "one.test", Host="ONE.test.")[0] == 200
        assert fetch_https(host, "one.test", Host="two.test")[0] == 421
        assert fetch_https(host, "one.test", Host="evil.test")[0] == 421
        assert fetch_https(host, "one.test", "/.hidden")[0] == 404


@pytest.mark.parametrize("mode", [Mode.SHARED, Mode.LUA])
def test_a_connection_does_not_outlive_its_name(tmp_path: Path, mode: Mode) -> None:
    with real_nginx(tmp_path, mode=mode) as host:
        put_live(host, host.site("one.test"))
        context = ssl.create_default_context()
        host.ca.configure_trust(context)
        plain = socket.create_connection(("127.0.0.1", host.settings.https_port), timeout=60)
        with context.wrap_socket(plain, server_hostname="one.test") as secure:
            assert ask(secure, "one.test") == b"HTTP/1.1 200"
            with host.web.change([], gone=[Domain("one.test")]) as change:
                change.publish()
                change.reload()
                change.confirm(Domain("one.test"))
            assert ask(secure, "one.test") == b"HTTP/1.1 421"


def ask(connection: ssl.SSLSocket, name: str) -> bytes:
    """Make one request on an open connection; return the beginning of the answer."""
    connection.sendall(f"GET / HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
    return connection.recv(65536)[:12]


@pytest.mark.parametrize("mode", [Mode.SHARED, Mode.LUA])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_resumed_session_is_no_way_to_a_page_of_a_name_without_a_certificate(
    tmp_path: Path, mode: Mode, version: ssl.TLSVersion
) -> None:
    """No certificate is looked for then, and in TLS 1.3 the name may be another one than before."""
    context = ssl.create_default_context()
    context.maximum_version = version
    with real_nginx(tmp_path, mode=mode) as host:
        host.ca.configure_trust(context)
        put_live(host, host.site("one.test"), host.site("two.test"))
        _, session = resumed(host, context, "one.test", None)
        assert resumed(host, context, "one.test", session)[0] == b"200"
        assert resumed(host, context, "never.test", session)[0] == b"421"
        with host.web.change([], gone=[Domain("one.test")]) as change:
            change.publish()
        assert resumed(host, context, "one.test", session)[0] == b"421"


def resumed(
    host: RealNginx, context: ssl.SSLContext, name: str, session: ssl.SSLSession | None
) -> tuple[bytes, ssl.SSLSession | None]:
    """Ask for a page with the session of an earlier connection; return the status and the session to go on with."""
    plain = socket.create_connection(("127.0.0.1", host.settings.https_port), timeout=60)
    context.check_hostname = session is None
    with context.wrap_socket(plain, server_hostname=name, session=session) as connection:
        connection.sendall(f"GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert bool(connection.session_reused) is (session is not None)
        return answer.split(b" ", 2)[1], connection.session


@pytest.mark.parametrize("mode", [Mode.SHARED, Mode.LUA])
def test_an_upstreams_errors_still_reach_the_operators_log(tmp_path: Path, mode: Mode) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    with real_nginx(tmp_path, mode=mode, base=False, start=False) as host:
        host.settings = replace(host.settings, upstream=f"http://127.0.0.1:{port}")
        host.web.install_base()
        host.start()
        put_live(host, host.site("one.test"))
        assert fetch_https(host, "one.test")[0] == 502
        assert (
            "connect() failed (111: Connection refused) while connecting to upstream"
            in (host.root / "error.log").read_text()
        )
