"""The daemon seen from outside: its journal, ``status``, ``doctor``, and its units."""

import json
import socket
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Self

import pytest

from certctl.app.context import Context
from certctl.app.daemon_status import DaemonStatus, examine, look
from certctl.cli import run
from certctl.cli.framework import Invocation
from certctl.cli.opening import open_context
from certctl.cli.output.daemon_log import DaemonLogWriter
from certctl.domain import Domain
from certctl.errors import ConfigInvalid
from certctl.io import sockets
from certctl.serve.answers import PREPARING, READY, Answer, Kind, WireResult
from certctl.serve.ondemand import FlightResult
from certctl.slugs import Slug
from certctl.timer.files import Condition
from certctl.timer.install import install, remove
from certctl.timer.units import UnitSettings, serve_files
from certctl.values import Level
from tests.fakes.http_server import say, serving
from tests.fakes.serving import Serving, on_a_loop, until
from tests.fakes.serving import serving as daemon
from tests.fakes.systemctl import FakeSystemctl
from tests.fakes.world import FakeClock, FakeWorld

NAME = Domain("status.example.com")
REFUSED = Answer(Kind.REFUSED, timedelta(seconds=300), Slug.APPROVAL_REFUSED)


def refused(name: Domain = NAME) -> FlightResult:
    return FlightResult(name, WireResult(REFUSED, who="operator", message="the endpoint\n<3>said \x1b[2J no"), 0.25)


@pytest.fixture
def context(tmp_path: Path) -> Context:
    file = tmp_path / "config.toml"
    file.write_text('[nginx]\ngroup = "daemon"\n[serve]\nuser = "nobody"\n', encoding="utf-8")
    main = tmp_path / "etc/nginx/nginx.conf"
    main.parent.mkdir(parents=True)
    main.write_text("user root;\n")
    (tmp_path / "run/certctl").mkdir(parents=True)
    return open_context(Invocation(config=file, root=tmp_path))


# The journal


def test_a_decision_is_one_line_that_nothing_from_outside_can_forge(capsys: pytest.CaptureFixture[str]) -> None:
    DaemonLogWriter(Invocation(), FakeClock()).flight_ended(refused())
    said = capsys.readouterr().err
    assert said == (
        "2026-11-23T12:00:00Z refused domain=status.example.com code=approval-refused who=operator took=0.250s"
        ' again_in=300s message="the endpoint\\\\n<3>said \\\\x1b[2J no"\n'
    )


@on_a_loop
async def test_a_certificate_for_a_visitor_is_a_line_and_a_page_that_was_there_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fakes = FakeWorld(tmp_path)
    here = Serving(fakes, tmp_path)
    fakes.customer(NAME.name)
    with closing(fakes.store):
        async with daemon(here):
            await here.visit(NAME.name)
            here.now.moment = 60
            await here.visit(NAME.name)
    voice = DaemonLogWriter(Invocation(), fakes.clock)
    for result in here.heard.landings:
        voice.flight_ended(result)
    [line] = capsys.readouterr().err.splitlines()
    assert line.endswith("issued domain=status.example.com took=0.000s expires=2027-02-21T11:59:00Z")


@on_a_loop
async def test_what_nobody_would_read_is_counted_and_trouble_is_said_all_the_same(
    capsys: pytest.CaptureFixture[str],
) -> None:
    voice = DaemonLogWriter(Invocation(), FakeClock())
    for number in range(1000):
        voice.flight_ended(refused(Domain(f"x{number}.attacker.com")))
        voice.answered(Answer(Kind.BUSY, slug=Slug.SERVE_BUSY))
    voice.flight_ended(FlightResult(NAME, WireResult(Answer(Kind.RESTING, slug=Slug.CA_REFUSED)), 1))
    *refusals, trouble = capsys.readouterr().err.splitlines()
    assert (len(refusals), "code=ca-refused" in trouble) == (60, True)
    voice._sum_up()
    [summed] = capsys.readouterr().err.splitlines()
    assert summed.endswith("unsaid seconds=60 total=1940 serve-busy=1000 approval-refused=940")


@on_a_loop
async def test_a_name_that_is_still_under_way_is_counted_as_that(capsys: pytest.CaptureFixture[str]) -> None:
    voice = DaemonLogWriter(Invocation(), FakeClock())
    for _ in range(61):
        voice.flight_ended(FlightResult(NAME, WireResult(PREPARING), 1))
    voice._sum_up()
    assert capsys.readouterr().err.splitlines()[-1].endswith("unsaid seconds=60 total=1 preparing=1")


@on_a_loop
async def test_the_sum_is_said_by_itself(capsys: pytest.CaptureFixture[str]) -> None:
    voice = DaemonLogWriter(Invocation(), FakeClock(), every=timedelta(milliseconds=10))
    voice.answered(Answer(Kind.BUSY, slug=Slug.SERVE_BUSY))
    await until(lambda: "unsaid" in capsys.readouterr().err)


def test_a_quiet_daemon_says_only_what_somebody_should_mend(capsys: pytest.CaptureFixture[str]) -> None:
    voice = DaemonLogWriter(Invocation(quiet=True), FakeClock())
    voice.flight_ended(refused())
    voice.flight_ended(FlightResult(NAME, WireResult(READY), 1))
    voice.note("nothing")
    assert capsys.readouterr().err == ""
    voice.warn("mend this")
    assert capsys.readouterr().err.endswith('warning said="mend this"\n')


# status and doctor


def summary(**facts: object) -> bytes:
    return json.dumps(
        {
            "since": "9999-11-23T12:00:00Z", "mode": "blocks", "waiters": 2, "flights": 1, "orders": 3,
            "first_hit": {"count": 3, "p50_ms": 48, "p95_ms": 51}, "answers": {"ready": 3, "refused": 7},
            "reasons": {"approval-refused": 7}, "refusing": None, "store_up": True,
            "last_error": {"code": "ca-timeout", "at": "2026-11-23T12:01:00Z"},
        }
        | facts
    ).encode()  # fmt: skip


class Answering:
    """Something that listens where the daemon would, and always says the same."""

    def __init__(self, context: Context, body: bytes) -> None:
        self.path = context.path(context.settings.serve.socket)
        self._socket = sockets.bind(self.path, socket.SOCK_STREAM)
        self._body = body

    def __enter__(self) -> Self:
        self._server = serving(say(b"HTTP/1.1 200 OK\r\n\r\n" + self._body), listener=self._socket)
        self._server.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.__exit__(None, None, None)
        self.path.unlink()


def levels(context: Context) -> list[tuple[Level, str]]:
    return [(finding.level, finding.text) for finding in examine(context)]


def test_where_there_is_no_daemon_nobody_speaks_of_it(context: Context) -> None:
    assert look(context) is None
    assert levels(context) == []


def test_a_daemon_says_how_it_does_in_one_line(context: Context) -> None:
    with Answering(context, summary()):
        sight = look(context)
        found = levels(context)
    assert sight
    assert sight.summary == (
        "the daemon: 3 first visits (p50 48 ms, p95 51 ms), 1 under way for 2 visitors, 7 refused, "
        "last trouble ca-timeout at 2026-11-23T12:01:00Z"
    )
    assert found == [(Level.OK, sight.summary)]


@pytest.mark.parametrize(
    ("directory", "fix"),
    [
        ("/run/systemd/system", "certctl serve --install"),
        ("/run", "start 'certctl serve' again, under whatever starts nginx here"),
    ],
)
def test_a_dead_daemon_is_said_and_how_to_start_it_on_this_host(context: Context, directory: str, fix: str) -> None:
    context.path(directory).mkdir(parents=True, exist_ok=True)
    sockets.bind(context.path(context.settings.serve.socket), socket.SOCK_STREAM).close()
    [finding] = examine(context)
    assert finding.level is Level.PROBLEM
    assert finding.text == "the daemon does not answer (connection refused): first visitors get no certificate"
    assert finding.fix == fix


def test_an_installed_daemon_without_a_socket_is_dead_too_and_systemd_starts_it(context: Context) -> None:
    unit = context.path("/etc/systemd/system/certctl-serve.service")
    unit.parent.mkdir(parents=True)
    unit.touch()
    assert look(context) == DaemonStatus(problem="no socket")
    assert list(examine(context))[-1].fix == "systemctl restart certctl-serve.socket certctl-serve.service"


def test_a_daemon_older_than_its_configuration_is_to_be_started_anew(context: Context) -> None:
    context.path("/run/systemd/system").mkdir(parents=True)
    with Answering(context, summary(since="2026-11-23T12:00:00Z")):
        working, old = examine(context)
    assert working.level is Level.OK
    assert "started before its configuration" in old.text
    assert (old.level, old.fix) == (Level.WARNING, "certctl serve --install")


def test_a_daemon_that_takes_on_no_name_is_a_problem(context: Context) -> None:
    with Answering(context, summary(refusing="approval-approves-everything")):
        [finding] = examine(context)
    assert (finding.level, finding.fix) == (Level.PROBLEM, "certctl explain approval-approves-everything")


def test_a_daemon_in_another_mode_than_its_host_is_a_problem_that_a_restart_mends(context: Context) -> None:
    with Answering(context, summary(mode="shared")):
        [finding] = examine(context)
    assert (finding.level, finding.text) == (
        Level.PROBLEM,
        "the daemon was started in mode shared, and this host is in mode blocks",
    )
    assert "certctl serve" in finding.fix


def test_mode_lua_without_the_daemon_is_half_a_mode(context: Context) -> None:
    [finding] = examine(context.in_mode("lua"))
    assert (finding.level, finding.fix) == (Level.WARNING, "certctl serve --install")


def test_a_socket_that_everybody_may_use_is_a_problem(context: Context) -> None:
    with Answering(context, summary()) as listening:
        listening.path.chmod(0o666)
        first, _ = levels(context)
    assert (first[0], "has mode 0666" in first[1]) == (Level.PROBLEM, True)


def test_a_user_that_is_not_there_is_a_problem_where_rights_are_given_up(tmp_path: Path, context: Context) -> None:
    (tmp_path / "config.toml").write_text(
        '[nginx]\nmode = "lua"\ngroup = "root"\n[serve]\nuser = "nobody-has-it"\n'
    )
    context = open_context(Invocation(config=tmp_path / "config.toml", root=tmp_path))
    with Answering(context, summary(mode="lua")):
        first, *_ = levels(context)
    assert first == (Level.PROBLEM, "the user nobody-has-it or the group root is not on this host")


def test_status_shows_the_daemon_and_adds_it_to_the_json(
    tmp_path: Path, context: Context, capsys: pytest.CaptureFixture[str]
) -> None:
    with Answering(context, summary()):
        assert run(["--root", str(tmp_path), "status"], Invocation()) == 0
        assert "the daemon: 3 first visits" in capsys.readouterr().out
        assert run(["--root", str(tmp_path), "--json", "status"], Invocation()) == 0
        assert json.loads(capsys.readouterr().out)["serve"]["first_hit"]["p95_ms"] == 51
    assert run(["--root", str(tmp_path), "--json", "status"], Invocation()) == 0
    assert json.loads(capsys.readouterr().out)["serve"] is None


# The units


@pytest.fixture
def systemctl(tmp_path: Path) -> FakeSystemctl:
    return FakeSystemctl(tmp_path / "systemctl", tmp_path / "etc/systemd/system")


def units(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "etc/systemd/system").glob("certctl-serve*"))


def test_the_socket_is_there_before_the_service_and_goes_after_it(tmp_path: Path, systemctl: FakeSystemctl) -> None:
    files = serve_files(UnitSettings(root=tmp_path, program=Path("/opt/certctl/bin/certctl")))
    assert install(files, systemctl.systemd)
    enable = ["enable --now certctl-serve.socket", "enable --now certctl-serve.service"]
    assert systemctl.calls == ["daemon-reload", *enable]
    assert not install(files, systemctl.systemd)
    systemctl.forget_calls()
    assert [file.path.name for file in remove(files, systemctl.systemd)] == [file.path.name for file in files]
    disable = ["disable --now certctl-serve.service", "disable --now certctl-serve.socket"]
    assert systemctl.calls == [*disable, "daemon-reload"]
    assert units(tmp_path) == []


def test_install_shows_a_diff_and_writes_the_sockets_this_configuration_names(
    tmp_path: Path, context: Context, capsys: pytest.CaptureFixture[str]
) -> None:
    def serve(*options: str) -> tuple[int, str]:
        code = run(["--config", str(context.file), "--root", str(tmp_path), "serve", *options], Invocation())
        return code, capsys.readouterr().out

    (tmp_path / "run/systemd/system").mkdir(parents=True)
    code, said = serve("--install", "--dry-run")
    assert (code, f"+ListenStream={tmp_path}/run/certctl/serve.sock" in said, units(tmp_path)) == (0, True, [])
    assert "+SocketGroup=root" in said
    assert serve("--install")[0] == 0
    assert units(tmp_path) == ["certctl-serve.service", "certctl-serve.socket"]
    assert serve("--install") == (0, "Nothing changed: the daemon is installed.\n")
    assert serve("--uninstall")[0] == 0
    assert units(tmp_path) == []


def test_somebody_elses_unit_is_not_overwritten(tmp_path: Path) -> None:
    files = serve_files(UnitSettings(root=tmp_path, program=Path("/opt/certctl/bin/certctl")))
    files[0].path.parent.mkdir(parents=True)
    files[0].path.write_text("[Service]\n")
    with pytest.raises(ConfigInvalid, match="did not write it") as caught:
        install(files, None)
    assert (caught.value.slug, files[1].condition) == ("serve-failed", Condition.ABSENT)


@pytest.mark.parametrize("options", [["--dry-run"], ["--uninstall", "--dry-run"]])
def test_a_dry_run_of_something_else_than_an_installation_is_a_mistake(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["serve", *options], Invocation()) == 2
    assert "--dry-run goes with --install" in capsys.readouterr().err
