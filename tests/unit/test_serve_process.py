"""The daemon as a process: its sockets, its rights, what it tells systemd, and how it stops."""

import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

import certctl
from certctl.errors import Busy, ConfigInvalid
from certctl.io import sd_notify, sockets
from certctl.io.legible import first_closed
from certctl.io.unix_http import Unanswered, get
from tests.fakes.http_server import ScriptedServer, serving, status
from tests.real_nginx import free_ports

SECONDS = 120.0
NAME = "status.example.com"
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")

# systemd hands the sockets over as descriptors from 3 on, and says so in variables that name the new process.
_AS_SYSTEMD = """
import os, sys
serve, miss, *argv = sys.argv[1:]
os.dup2(int(serve), 3), os.dup2(int(miss), 4)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="2", LISTEN_FDNAMES="a:b")
os.execv(argv[0], argv)
"""


# A stop comes right before a call that the daemon makes while it starts.
_STOPPED_AT = """
import os, signal, sys
from importlib import import_module
place, _, name = sys.argv.pop(1).rpartition(":")
*outer, name = name.split(".")
holder = getattr(import_module(place), *outer) if outer else import_module(place)
call = getattr(holder, name)
monitor, user = os.getpid(), os.geteuid()
def stopped(*given, **named):
    os.kill(monitor if os.geteuid() == user else os.getpid(), signal.SIGTERM)
    return call(*given, **named)
setattr(holder, name, stopped)
sys.argv[0] = "certctl"
from certctl.cli import main
main()
"""


@dataclass
class Place:
    """A host below a temporary directory: an approval endpoint that refuses, and a resolver that never answers."""

    root: Path
    approval: ScriptedServer
    resolver: socket.socket

    @property
    def socket(self) -> Path:
        return self.root / "run/certctl/serve.sock"

    @property
    def argv(self) -> list[str]:
        return [sys.executable, "-m", "certctl", "--root", str(self.root), "serve"]

    def configure(self, **nginx: str) -> None:
        facts = "\n".join(f'{key} = "{value}"' for key, value in {"group": "daemon", **nginx}.items())
        port = self.resolver.getsockname()[1]
        path = self.root / "etc/certctl/config.toml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            f'[dns]\nresolvers = ["127.0.0.1:{port}"]\n'
            f'[approval]\nurl = "http://127.0.0.1:{self.approval.port}/{{domain}}"\n'
            f'[nginx]\n{facts}\n[serve]\nuser = "nobody"\n'
        )
        main = self.root / "etc/nginx/nginx.conf"
        main.parent.mkdir(parents=True, exist_ok=True)
        include = f"include {self.root}/etc/nginx/certctl.d/*.conf;"
        main.write_text(
            f"user root;\npid {self.root}/nginx.pid;\nevents {{}}\nhttp {{ access_log off; {include} }}\n"
        )

    def ask(self, target: str) -> str:
        return get(self.socket, target, SECONDS).decode()


@pytest.fixture
def place() -> Iterator[Place]:
    """A place that others than root may enter, unlike pytest's own directories."""
    with (
        tempfile.TemporaryDirectory() as root,
        serving(status("404 Not Found")) as approval,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as resolver,
    ):
        Path(root).chmod(0o755)
        resolver.bind(("127.0.0.1", 0))
        here = Place(Path(root), approval, resolver)
        here.configure()
        yield here


@dataclass
class Running:
    process: "subprocess.Popen[str]"
    told: socket.socket

    def hears(self, fact: str) -> list[str]:
        """Read what systemd is told until a fact comes; return all of it."""
        self.told.settimeout(SECONDS)
        heard: list[str] = []
        while fact not in heard:
            heard += self.told.recv(4096).decode().split("\n")
        return heard

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> tuple[int, str]:
        _, said = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, said


@contextmanager
def running(place: Place, *prefix: str, keep: tuple[int, ...] = (), **env: str) -> Iterator[Running]:
    """Start the daemon as systemd would: with a socket to tell, and whatever else the environment says."""
    told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    address = str(place.root / "notify")
    Path(address).unlink(missing_ok=True)
    told.bind(address)
    Path(address).chmod(0o666)
    argv = [*prefix, *place.argv]
    environment = {"PATH": os.environ["PATH"], "NOTIFY_SOCKET": address, "LANG": "C.UTF-8", **env}
    process = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, env=environment, pass_fds=keep)
    try:
        yield Running(process, told)
    finally:
        process.kill()
        process.communicate()
        told.close()


def test_it_is_ready_once_the_endpoint_refused_a_name_nobody_registered(place: Place) -> None:
    with running(place) as daemon:
        daemon.hears("READY=1")
        assert [
            re.fullmatch(r"/certctl-probe-\w{16}\.example\.net", path) is not None for path in place.approval.paths
        ] == [True]
        assert place.ask("/healthz") == "ok\n"
        assert json.loads(place.ask("/status"))["waiters"] == 0
        for path in (place.socket, place.socket.with_name("miss.sock")):
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
        code, said = daemon.stop()
    assert (code, "stopping" in said) == (0, True)
    assert [path.name for path in place.socket.parent.glob("*.sock")] == []


def test_it_says_when_it_stops_and_takes_no_watchdog_nobody_set(place: Place) -> None:
    with running(place) as daemon:
        assert "WATCHDOG=1" not in daemon.hears("READY=1")
        daemon.process.send_signal(signal.SIGTERM)
        assert "WATCHDOG=1" not in daemon.hears("STOPPING=1")
        assert daemon.ended()[0] == 0


def test_it_says_at_its_start_that_nginx_would_not_answer_for_a_new_name(place: Place) -> None:
    place.configure(http_port=str(free_ports(1)[0]))
    (place.root / "var/lib/certctl/challenges").mkdir(parents=True)
    with running(place) as daemon:
        daemon.hears("READY=1")
        code, said = daemon.stop()
    assert (code, "warning" in said, "nginx is not running" in said) == (0, True, True)


def test_systemd_hears_from_it_again_and_again(place: Place) -> None:
    with running(place, WATCHDOG_USEC="200000") as daemon:
        daemon.hears("READY=1")
        for _ in range(5):
            daemon.hears("WATCHDOG=1")


def test_half_of_the_time_that_systemd_allows_is_the_pause_between_two_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    assert sd_notify.watchdog() == timedelta(seconds=15)


@pytest.mark.parametrize("mode", ["blocks", "shared"])
def test_it_does_not_start_while_the_endpoint_approves_everything(place: Place, mode: str) -> None:
    place.configure(mode=mode)
    place.approval.script = status("200 OK")
    with running(place) as daemon:
        code, said = daemon.ended()
    assert (code, "error[approval-approves-everything]" in said) == (10, True)
    found = sorted(path.name for path in place.socket.parent.glob("*.sock"))
    assert found == ["miss.sock", "serve.sock"], "by which status and doctor see that the daemon is missing"


def test_a_second_daemon_is_busy_and_the_first_one_does_not_notice(place: Place) -> None:
    with running(place) as first:
        first.hears("READY=1")
        second = subprocess.run(place.argv, capture_output=True, text=True, timeout=SECONDS, check=False)
        assert (second.returncode, "error[busy]" in second.stderr) == (8, True)
        assert place.ask("/healthz") == "ok\n"


def test_the_socket_of_a_killed_daemon_is_replaced(place: Place) -> None:
    with running(place) as first:
        first.hears("READY=1")
        first.stop(signal.SIGKILL)
    assert place.socket.exists()
    with pytest.raises(Unanswered, match="connection refused"):
        place.ask("/healthz")
    with running(place) as second:
        second.hears("READY=1")
        assert place.ask("/healthz") == "ok\n"


def test_sockets_that_systemd_opened_are_used_and_left(place: Place) -> None:
    place.socket.parent.mkdir(parents=True)
    serve = sockets.bind(place.socket, socket.SOCK_STREAM)
    miss = sockets.bind(place.socket.with_name("miss.sock"), socket.SOCK_DGRAM)
    fds = (miss.fileno(), serve.fileno())  # in no order that could be relied on
    script = [sys.executable, "-c", _AS_SYSTEMD, *map(str, fds)]
    with serve, miss, running(place, *script, keep=fds) as daemon:
        daemon.hears("READY=1")
        assert place.ask("/healthz") == "ok\n"
        assert daemon.stop()[0] == 0
    assert place.socket.exists()


def test_sockets_meant_for_another_process_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getpid() + 1))
    monkeypatch.setenv("LISTEN_FDS", "2")
    assert sockets.inherited() == []
    assert "LISTEN_FDS" not in os.environ


@contextmanager
def waiting(place: Place) -> Iterator[list[str]]:
    """A visitor who waits, because nobody answers in DNS; yields what the visitor was told."""
    told: list[str] = []

    def wait() -> None:
        try:
            told.append(get(place.socket, f"/certificate/{NAME}", SECONDS).decode())
        except Unanswered as error:
            told.append(str(error))

    visitor = threading.Thread(target=wait)
    visitor.start()
    while json.loads(place.ask("/status"))["waiters"] == 0:
        time.sleep(0.01)
    yield told
    visitor.join(SECONDS)
    assert not visitor.is_alive()


def test_asked_to_stop_it_sends_the_waiting_away_and_ends_when_the_question_is_over(place: Place) -> None:
    with running(place) as daemon:
        daemon.hears("READY=1")
        with waiting(place) as told:
            daemon.process.send_signal(signal.SIGTERM)
        assert (told, daemon.process.poll()) == (["it answered 503"], None), "told before the question is over"
        assert daemon.ended()[0] == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("mode", ["blocks", "shared"])
def test_each_signal_that_asks_it_to_stop_is_heard_and_obeyed_with_care(
    place: Place, mode: str, number: signal.Signals
) -> None:
    place.configure(mode=mode)
    with running(place) as daemon:
        daemon.hears("READY=1")
        code, said = daemon.stop(number)
    assert (code, "stopping: no new names" in said) == (0, True)


@AS_ROOT
@pytest.mark.parametrize(
    "call",
    [
        "os:nice",
        "os:fork",
        "os:setsid",
        "certctl.io.sockets:bind",
        "certctl.nginx.server:Nginx.require_challenge",
        "certctl.io.accounts:become",
        "certctl.serve.daemon:Daemon.serve",
        "certctl.approval.operator:HttpOperator.require_refusal",
    ],
)
@pytest.mark.parametrize("mode", ["blocks", "shared"])
def test_told_to_stop_while_it_starts_it_ends_as_it_does_later(place: Place, mode: str, call: str) -> None:
    place.configure(mode=mode)
    argv = [sys.executable, "-c", _STOPPED_AT, call, *place.argv[3:]]
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert (ended.returncode, "error" in ended.stderr) == (0, False), ended.stderr
    assert [path.name for path in place.socket.parent.glob("*.sock")] == []


def test_asked_twice_it_ends_at_once(place: Place) -> None:
    with running(place) as daemon:
        daemon.hears("READY=1")
        with waiting(place):
            daemon.process.send_signal(signal.SIGTERM)
            daemon.hears("STOPPING=1")
            assert daemon.stop()[0] == 130


def facts_of(pid: int) -> dict[str, str]:
    rows = Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(row.split(":\t", 1) for row in rows if ":\t" in row)


def listener_of(daemon: Running) -> int:
    """Return the process without rights: the monitor is the one that was started."""
    tasks = Path(f"/proc/{daemon.process.pid}/task").glob("*/children")
    [child] = [int(pid) for task in tasks for pid in task.read_text().split()]
    return child


def is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def until(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.01)


@AS_ROOT
def test_in_mode_blocks_who_listens_to_strangers_is_nobody_and_who_is_root_has_no_door(place: Place) -> None:
    with running(place) as daemon:
        daemon.hears("READY=1")
        monitor, listener = daemon.process.pid, listener_of(daemon)
        facts = facts_of(listener)
        assert facts["Uid"].split() == ["65534"] * 4
        assert set(facts["CapEff"]) == set(facts["CapPrm"]) == {"0"}
        assert facts_of(monitor)["Uid"].split() == ["0"] * 4
        held = [str(fd.readlink()) for fd in Path(f"/proc/{monitor}/fd").iterdir() if int(fd.name) > 2]
        assert sorted(what.partition("[")[0] for what in held) == [
            str(place.socket.with_suffix(".lock")),
            "socket:",
        ]
        assert Path(f"/proc/{listener}/fd/0").readlink() == Path(os.devnull)
        assert os.getsid(listener) == listener
        assert json.loads(place.ask("/status"))["store_up"] is True
        assert daemon.stop()[0] == 0
    assert is_gone(listener)


@AS_ROOT
def test_a_daemon_whose_listening_half_was_killed_says_so_and_is_missed(place: Place) -> None:
    with running(place) as daemon:
        daemon.hears("READY=1")
        os.kill(listener_of(daemon), signal.SIGKILL)
        code, said = daemon.ended()
    assert (code, "error[serve-ended]" in said, "SIGKILL" in said) == (1, True, True)
    with pytest.raises(Unanswered, match="connection refused"):
        place.ask("/healthz")


@AS_ROOT
def test_whoever_listens_ends_with_the_monitor_whatever_happened_to_that(place: Place) -> None:
    with running(place) as daemon:
        daemon.hears("READY=1")
        listener = listener_of(daemon)
        daemon.stop(signal.SIGKILL)
        until(lambda: is_gone(listener))


@AS_ROOT
def test_the_listening_half_feeds_the_watchdog_of_the_main_process(place: Place) -> None:
    script = "import os, sys; os.environ['WATCHDOG_PID'] = str(os.getpid()); os.execv(sys.argv[1], sys.argv[1:])"
    with running(place, sys.executable, "-c", script, WATCHDOG_USEC="200000") as daemon:
        daemon.hears("WATCHDOG=1")


@AS_ROOT
@pytest.mark.parametrize("mode", ["shared", "lua"])
def test_started_as_root_it_becomes_the_user_that_owns_the_state(place: Place, mode: str) -> None:
    place.configure(mode=mode, group="daemon")
    with running(place) as daemon:
        daemon.hears("READY=1")
        facts = facts_of(daemon.process.pid)
        assert (facts["Uid"].split(), facts["Gid"].split()) == (["65534"] * 4, ["1"] * 4)
        assert facts["Groups"].split() == ["1", "65534"]
        assert set(facts["CapEff"]) == set(facts["CapPrm"]) == {"0"}
        assert (place.socket.stat().st_gid, place.socket.parent.stat().st_uid) == (1, 65534)
        assert place.ask("/healthz") == "ok\n"
        assert daemon.stop()[0] == 0


@AS_ROOT
def test_a_user_that_is_not_there_is_said_before_anything_is_served(place: Place) -> None:
    place.configure(mode="shared", group="nobody-has-this-one")
    with running(place) as daemon:
        code, said = daemon.ended()
    assert (code, "error[missing-account]" in said) == (10, True)


@pytest.fixture
def closed(place: Place) -> dict[str, str]:
    """A certctl of its own where only root gets to, and the environment in which it is the one that runs."""
    home = place.root / "home"
    home.mkdir(0o700)
    package = Path(certctl.__file__).parent
    shutil.copytree(package, home / "certctl", symlinks=False, ignore=shutil.ignore_patterns("__pycache__"))
    return {"PYTHONPATH": str(home), "PYTHONSAFEPATH": "1"}


@AS_ROOT
@pytest.mark.parametrize("mode", ["blocks", "shared", "lua"])
def test_a_certctl_that_its_user_cannot_read_is_said_and_not_started(
    place: Place, closed: dict[str, str], mode: str
) -> None:
    """Without a word, or over and over, is how it ended when the user found out."""
    place.configure(mode=mode)
    with running(place, keep=(), **closed) as daemon:
        code, said = daemon.ended()
    assert (code, "error[missing-program]" in said) == (10, True)
    assert f"the user nobody, who has to run certctl, cannot read {closed['PYTHONPATH']}" in said


@AS_ROOT
@pytest.mark.parametrize("words", [("serve", "--install"), ("timer", "install")])
def test_units_are_not_written_for_a_certctl_that_its_user_cannot_read(
    place: Place, closed: dict[str, str], words: tuple[str, ...]
) -> None:
    place.configure(mode="shared")
    (place.root / "run/systemd/system").mkdir(parents=True)
    argv = [*place.argv[:-1], *words]
    environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
    ended = subprocess.run(argv, capture_output=True, text=True, env=environment | closed, timeout=60, check=False)
    assert (ended.returncode, "error[missing-program]" in ended.stderr) == (10, True)
    assert closed["PYTHONPATH"] in ended.stderr
    assert not (place.root / "etc/systemd/system").exists()
    ended = subprocess.run(argv, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr


@AS_ROOT
def test_one_file_that_a_user_cannot_read_is_found_as_a_directory_on_the_way_is(place: Place) -> None:
    (place.root / "tree/a/b").mkdir(parents=True)
    file = place.root / "tree/a/b/late.py"
    file.touch(0o644)
    assert first_closed("nobody", "daemon", [place.root / "tree"]) is None
    file.chmod(0o600)
    assert first_closed("nobody", "daemon", [place.root / "tree"]) == file
    (place.root / "tree/a").chmod(0o700)
    assert first_closed("nobody", "daemon", [file]) == place.root / "tree/a"
    (place.root / "tree").chmod(0o711)
    assert first_closed("nobody", "daemon", [place.root / "tree"]) == place.root / "tree"


def test_something_else_in_the_way_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "serve.sock"
    path.write_text("precious")
    with pytest.raises(ConfigInvalid, match="in the way"):
        sockets.bind(path, socket.SOCK_STREAM)
    assert path.read_text() == "precious"


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_a_socket_somebody_listens_on_is_busy(tmp_path: Path, kind: socket.SocketKind) -> None:
    with sockets.bind(tmp_path / "it.sock", kind), pytest.raises(Busy):
        sockets.bind(tmp_path / "it.sock", kind)
    sockets.bind(tmp_path / "it.sock", kind).close()
