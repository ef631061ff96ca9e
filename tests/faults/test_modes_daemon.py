"""The daemon behind nginx, well and ill, played by a scripted server: nobody else may notice how it is."""

import itertools
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path

import pytest

from certctl.nginx.handshake import look
from certctl.values import Mode, Site
from tests.fakes.http_server import Script, ScriptedServer, listening_at, reset_after, say, serving, status
from tests.raw_sni import client_hello
from tests.real_nginx import RealNginx, canary, put_live, real_nginx, wait_for

pytestmark = pytest.mark.e2e

KNOWN, NEW = "known.example.com", "new.example.com"
PATIENT = 256 // 8
GIVES_UP = 12.0  # seconds until a handshake waits for the daemon no longer (certctl.lua)
AT_ONCE = GIVES_UP / 2


@pytest.fixture
def lua(tmp_path: Path) -> Iterator[RealNginx]:
    """Mode lua with a known customer, whose handshakes never fail whatever the daemon does."""
    with real_nginx(tmp_path, mode=Mode.LUA) as nginx:
        nginx.settings.socket.parent.mkdir(exist_ok=True)
        put_live(nginx, nginx.site(KNOWN))
        with canary(nginx, nginx.site(KNOWN)) as failures:
            yield nginx
        assert failures == []


def daemon(host: RealNginx, script: Script) -> AbstractContextManager[ScriptedServer]:
    return serving(script, listener=listening_at(host.settings.socket))


def publishing(host: RealNginx, *sites: Site) -> Script:
    """Make a certificate, as the daemon would, then say that it is ready."""

    def script(connection: socket.socket) -> None:
        put_live(host, *sites)
        status("200 OK")(connection)

    return script


def timed(host: RealNginx, name: str, wait: timedelta = timedelta(seconds=5)) -> tuple[str | None, float]:
    began = time.monotonic()
    return look(host.settings, name, wait).fingerprint, time.monotonic() - began


def test_the_first_handshake_waits_and_gets_the_certificate_that_is_made_for_it(lua: RealNginx) -> None:
    site = lua.site(NEW)
    with daemon(lua, publishing(lua, site)) as asked:
        assert lua.look(NEW) == site.certificate.fingerprint
        assert lua.look(NEW) == site.certificate.fingerprint
        # The second question is certctl's own proof, which found the certificate in the mirror already.
        assert asked.paths == [f"/certificate/{NEW}"]
        assert asked.heads[0] == f"GET /certificate/{NEW} HTTP/1.1\r\nHost: certctl\r\nConnection: close\r\n\r\n"


def test_a_refusal_is_kept_as_long_as_the_daemon_says_and_no_longer(lua: RealNginx) -> None:
    with daemon(lua, status("404 Not Found", "cache-control: private, max-age=1")) as asked:
        assert lua.look(NEW) is None
        wait_for(lambda: lua.look(NEW) is None and len(asked.paths) == 2)
        asked.script = status("404 Not Found", "cache-control: private, max-age=300")
        wait_for(lambda: lua.look(NEW) is None and len(asked.paths) == 3)
        assert [lua.look(NEW) for _ in range(3)] == [None] * 3
        assert len(asked.paths) == 3


def test_a_name_the_daemon_is_busy_with_is_asked_about_again_when_it_said(lua: RealNginx) -> None:
    with daemon(lua, status("503 Service Unavailable", "Retry-After: 60")) as asked:
        assert (lua.look(NEW), lua.look(NEW)) == (None, None)
        assert len(asked.paths) == 1
        put_live(lua, lua.site(NEW))
        assert lua.look(NEW) == lua.site(NEW).certificate.fingerprint, "the mirror comes before any refusal"


@pytest.mark.parametrize(
    "script",
    [
        say(b""),
        say(b"\x00\xff" * 5000),
        say(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 9000 + b"\r\n\r\n"),
        say(b"HTTP/1.1 404 Not Found\r\n\r\n"),
        say(b"HTTP/1.1 999 What\r\nCache-Control: max-age=99\r\n\r\n"),
        say(b"SSH-2.0-OpenSSH\r\n\r\n"),
        status("404 Not Found", "Cache-Control: max-age=-1"),
        status("404 Not Found", "Cache-Control: max-age=0"),
        status("500 Internal Server Error", "Cache-Control: max-age=300"),
        status("200 OK", "Cache-Control: max-age=300"),
        reset_after(b"HTTP/1.1 200 O"),
    ],
)
def test_garbage_is_no_certificate_and_nothing_to_remember(lua: RealNginx, script: Script) -> None:
    with daemon(lua, script) as asked:
        for _ in range(2):
            assert lua.look(NEW) is None
        assert len(asked.paths) == 2
        asked.script = publishing(lua, lua.site(NEW))
        assert lua.look(NEW) == lua.site(NEW).certificate.fingerprint


def test_a_dead_daemon_is_noticed_at_once_and_not_held_against_the_name(lua: RealNginx) -> None:
    leaf, seconds = timed(lua, NEW)
    assert (leaf, seconds < AT_ONCE) == (None, True)
    with daemon(lua, say(b"")):
        pass
    assert lua.settings.socket.exists()
    leaf, seconds = timed(lua, NEW)
    assert (leaf, seconds < AT_ONCE) == (None, True)
    with daemon(lua, publishing(lua, lua.site(NEW))):
        assert lua.look(NEW) == lua.site(NEW).certificate.fingerprint


def test_waiting_handshakes_hold_up_nobody_and_only_so_many_wait(lua: RealNginx) -> None:
    """One worker of 256 connections, 200 strangers and a daemon that does not answer: the canary goes on."""
    let_go = threading.Event()
    with daemon(lua, hanging(let_go)) as asked, ThreadPoolExecutor(200) as pool:
        waiting = [pool.submit(lua.look, f"n{number}.example.com") for number in range(200)]
        wait_for(lambda: sum(future.done() for future in waiting) == 200 - PATIENT)
        leaf, seconds = timed(lua, KNOWN)
        assert (leaf, seconds < AT_ONCE) == (lua.site(KNOWN).certificate.fingerprint, True)
        wait_for(lambda: len(asked.paths) >= PATIENT)
        assert len(asked.paths) == PATIENT
        let_go.set()
        assert [future.result() for future in waiting] == [None] * 200


def test_clients_that_leave_while_they_wait_free_their_places_when_the_daemon_answers(lua: RealNginx) -> None:
    let_go = threading.Event()
    with daemon(lua, hanging(let_go)) as asked:
        impatient = [_hello(lua, f"n{number}.example.com") for number in range(PATIENT)]
        wait_for(lambda: len(asked.paths) == PATIENT)
        for connection in impatient:
            connection.close()
        assert lua.look(NEW) is None
        let_go.set()
        asked.script = publishing(lua, lua.site(NEW))
        wait_for(lambda: lua.look(NEW) == lua.site(NEW).certificate.fingerprint)


def test_connections_that_run_out_of_time_while_they_wait_do_not_keep_their_places(lua: RealNginx) -> None:
    """Nginx ends them in mid-wait (``client_header_timeout``), and no code of theirs runs any more."""
    base = lua.settings.base_path
    base.write_text(base.read_text().replace("client_header_timeout 60s", "client_header_timeout 1s"))
    lua.web.force_reload()
    let_go = threading.Event()
    with daemon(lua, hanging(let_go)) as asked:
        slow = [_hello(lua, f"n{number}.example.com") for number in range(PATIENT)]
        wait_for(lambda: len(asked.paths) == PATIENT)
        for connection in slow:
            with connection:
                assert connection.recv(1) == b"", "nginx has ended it"
        let_go.set()
        asked.script = publishing(lua, lua.site(NEW))
        wait_for(lambda: lua.look(NEW) == lua.site(NEW).certificate.fingerprint, 20)


def test_a_daemon_that_never_ends_its_answer_is_given_up_before_the_client_gives_up(lua: RealNginx) -> None:
    with daemon(lua, say(b"")) as asked:
        asked.script = asked.drip(itertools.repeat(b"X-Slow: yes\r\n"), 0.1)
        leaf, seconds = timed(lua, NEW, timedelta(seconds=20))
        assert (leaf, seconds > GIVES_UP - 1) == (None, True)


def hanging(let_go: threading.Event) -> Script:
    """Say nothing until the test lets go, then refuse."""

    def script(connection: socket.socket) -> None:
        let_go.wait(120)
        status("503 Service Unavailable")(connection)

    return script


def _hello(host: RealNginx, name: str) -> socket.socket:
    """Begin a handshake and leave it there."""
    connection = socket.create_connection(("127.0.0.1", host.settings.https_port))
    connection.sendall(client_hello(name.encode()))
    return connection


def test_in_mode_shared_nginxs_own_words_reach_the_daemon_as_a_hint(tmp_path: Path) -> None:
    with real_nginx(tmp_path, mode=Mode.SHARED) as host:
        host.settings.socket.parent.mkdir(exist_ok=True)
        put_live(host, host.site(KNOWN))
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        listener.bind(str(host.settings.miss_socket))
        listener.settimeout(5)
        assert host.look(NEW) is None
        said = listener.recv(4096).decode()
        assert re.search(rf'certctl: .*cannot load certificate "{host.settings.live}/{NEW}/current/', said)
        assert host.look("not.a_plain.name") is None
        assert f'"{host.settings.live}/-/current/' in listener.recv(4096).decode()
        listener.close()
        for number in range(50):  # nobody listens any more
            assert host.look(f"n{number}.example.com") is None
        assert host.look(KNOWN) == host.site(KNOWN).certificate.fingerprint
