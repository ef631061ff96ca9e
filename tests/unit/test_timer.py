"""The timer: what is written, what systemd is told, and what is refused."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme

from certctl.app.daemon_units import daemon_files
from certctl.app.health import notifier, renewers
from certctl.app.scheduler import host_settings
from certctl.app.scheduler_status import examine_units
from certctl.cli import run
from certctl.cli.framework import Invocation
from certctl.cli.opening import open_context
from certctl.domain import Domain
from certctl.errors import ConfigInvalid, Internal
from certctl.io.clock import SystemClock
from certctl.store.sqlite import SqliteStore
from certctl.timer.assign import assignments, filled, replaced
from certctl.timer.certbot_timer import rivals
from certctl.timer.files import Condition
from certctl.timer.install import TimerState, install, remove, state
from certctl.timer.systemd import LastRun
from certctl.timer.units import SERVE, UnitSettings, cron_files, hidden_home, serve_files, systemd_files
from certctl.values import Level, State
from tests.fakes.systemctl import FakeSystemctl

UNITS = "etc/systemd/system"
CRON = "etc/cron.d/certctl"
DEBIAN_CRON = "0 */12 * * * root test -x /usr/bin/certbot -a \\! -d /run/systemd/system && certbot -q renew\n"

needs_nginx = pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")

Certctl = Callable[..., tuple[int, str, str]]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host of our own, below the temporary directory."""
    for name in [name for name in os.environ if name.startswith("CERTCTL_")]:
        monkeypatch.delenv(name)
    (tmp_path / "host").mkdir()
    return tmp_path / "host"


@pytest.fixture
def with_systemd(root: Path) -> Path:
    (root / "run/systemd/system").mkdir(parents=True)
    return root


@pytest.fixture
def certctl(root: Path, capsys: pytest.CaptureFixture[str]) -> Certctl:
    def call(*arguments: str) -> tuple[int, str, str]:
        code = run(["--root", str(root), *arguments], Invocation())
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


@pytest.fixture
def systemctl(tmp_path: Path) -> FakeSystemctl:
    return FakeSystemctl(tmp_path / "systemctl", tmp_path / "host" / UNITS)


def settings(root: Path, program: str = "/opt/certctl/bin/certctl", **more: Any) -> UnitSettings:
    return UnitSettings(root=root, program=Path(program), **more)


def data(printed: str) -> dict[str, Any]:
    return dict(json.loads(printed)["data"])


def tree(root: Path) -> dict[str, str]:
    return {str(p.relative_to(root)): p.read_text() for p in sorted(root.rglob("*")) if p.is_file()}


def nginx_conf(root: Path, logs: str, more: str = "") -> Path:
    """Let the host's nginx keep all it writes below one directory."""
    path = root / "etc/nginx/nginx.conf"
    path.parent.mkdir(parents=True, exist_ok=True)
    (root / "srv/nginx/more").mkdir(parents=True, exist_ok=True)
    bodies = " ".join(f"{kind}_temp_path {root}/srv/nginx/{kind};" for kind in ("client_body", "proxy"))
    path.write_text(
        f"pid {logs}/nginx.pid;\nerror_log {logs}/error.log;\nevents {{}}\n"
        f"http {{\n{bodies}\naccess_log off;\ninclude {root}/etc/nginx/more/*.conf;\n{more}}}\n"
    )
    return path


def unit(root: Path, name: str = "certctl-renew.service") -> dict[str, list[str]]:
    return assignments((root / UNITS / name).read_text())


# The commands


def test_install_writes_the_units_and_shows_them_as_a_diff(with_systemd: Path, certctl: Certctl) -> None:
    code, out, _ = certctl("timer", "install")
    assert code == 0
    for name in ("certctl-renew.service", "certctl-renew.timer", "certctl-alert@.service"):
        path = with_systemd / UNITS / name
        assert path.stat().st_mode & 0o777 == 0o644
        assert f"+++ {path}" in out
    assert "+OnCalendar=*-*-* 00/6:00:00" in out
    assert "systemd was not called" in out


def test_a_second_install_changes_nothing(with_systemd: Path, certctl: Certctl) -> None:
    certctl("timer", "install")
    before = {path: path.stat().st_ino for path in (with_systemd / UNITS).iterdir()}
    code, out, _ = certctl("timer", "install")
    assert (code, "Nothing changed" in out, "+++" in out) == (0, True, False)
    assert {path: path.stat().st_ino for path in (with_systemd / UNITS).iterdir()} == before


def test_quiet_says_nothing(certctl: Certctl) -> None:
    assert certctl("-q", "timer", "install") == (0, "", "")


def test_a_dry_run_shows_the_diff_and_writes_nothing(with_systemd: Path, certctl: Certctl) -> None:
    before = tree(with_systemd)
    code, out, _ = certctl("timer", "install", "--dry-run")
    assert (code, "+ExecStart=" in out, "Nothing was written." in out) == (0, True, True)
    assert tree(with_systemd) == before


def test_the_service_runs_this_certctl_with_this_configuration(with_systemd: Path, certctl: Certctl) -> None:
    config = with_systemd / "elsewhere.toml"
    config.write_text('[nginx]\nconf_dir = "/srv/nginx"\n[store]\nurl = "sqlite:////srv/state/c.db"\n')
    certctl("--config", str(config), "timer", "install")
    lines = (with_systemd / UNITS / "certctl-renew.service").read_text().splitlines()
    [command] = [line.removeprefix("ExecStart=") for line in lines if line.startswith("ExecStart=")]
    program, *options = command.split()
    assert os.access(program, os.X_OK)
    assert options == ["--config", str(config), "--root", str(with_systemd), "renew"]
    writable = " ".join(line for line in lines if line.startswith("ReadWritePaths="))
    for place in ("srv/nginx", "srv/state", "var/lib/certctl", "run/certctl"):
        assert f"-{with_systemd / place}" in writable


def test_without_systemd_it_is_a_cron_line(root: Path, certctl: Certctl) -> None:
    code, out, _ = certctl("timer", "install")
    assert (code, f"+++ {root / CRON}" in out) == (0, True)
    assert set(tree(root)) == {CRON}
    assert "Nothing changed" in certctl("timer", "install")[1]
    assert data(certctl("--json", "timer", "status")[1])["scheduler"] == "cron"
    assert certctl("timer", "remove")[1] == f"removed {root / CRON}\n"
    assert tree(root) == {}


def test_status_says_what_is_there(with_systemd: Path, certctl: Certctl) -> None:
    assert data(certctl("timer", "status", "--json")[1])["installed"] is False
    certctl("timer", "install")
    payload = data(certctl("timer", "status", "--json")[1])
    assert (payload["scheduler"], payload["installed"], payload["enabled"]) == ("systemd", True, None)
    assert {file["condition"] for file in payload["files"]} == {"current"}
    timer = with_systemd / UNITS / "certctl-renew.timer"
    timer.write_text(timer.read_text() + "# more\n")
    code, out, _ = certctl("timer", "status")
    assert (code, "outdated" in out) == (0, True)


def test_remove_leaves_nothing_of_ours_and_can_be_repeated(with_systemd: Path, certctl: Certctl) -> None:
    certctl("timer", "install")
    (with_systemd / UNITS / "other.service").write_text("[Service]\n")
    assert certctl("timer", "remove")[0] == 0
    assert set(tree(with_systemd)) == {f"{UNITS}/other.service"}
    assert certctl("timer", "remove") == (0, "Nothing to remove.\n", "")


@pytest.mark.parametrize("name", ["certctl-renew.service", "certctl-renew.timer"])
def test_a_file_that_is_not_ours_is_neither_overwritten_nor_removed(
    with_systemd: Path, certctl: Certctl, name: str
) -> None:
    path = with_systemd / UNITS / name
    path.parent.mkdir(parents=True)
    path.write_text("[Unit]\nDescription=mine\n")
    before = tree(with_systemd)
    code, out, err = certctl("timer", "install")
    assert (code, out, "error[timer-conflict]" in err) == (10, "", True)
    assert certctl("timer", "install", "--dry-run")[0] == 10
    with pytest.raises(ConfigInvalid, match="certctl did not write it"):
        install(systemd_files(settings(with_systemd)), None)
    assert tree(with_systemd) == before
    assert f"kept {path}" in certctl("timer", "remove")[1]
    assert tree(with_systemd) == before


def test_a_masked_or_linked_unit_stays_a_link(with_systemd: Path, certctl: Certctl) -> None:
    certctl("timer", "install")
    path = with_systemd / UNITS / "certctl-renew.timer"
    kept = path.rename(with_systemd / "kept.timer")
    for target in (Path("/dev/null"), kept):
        path.unlink(missing_ok=True)
        path.symlink_to(target)
        assert certctl("timer", "install")[0] == 10
        assert f"kept {path}" in certctl("timer", "remove")[1]
        assert path.readlink() == target


def test_the_alert_is_a_sample_that_an_operator_may_edit(with_systemd: Path, certctl: Certctl) -> None:
    certctl("timer", "install")
    alert = with_systemd / UNITS / "certctl-alert@.service"
    alert.write_text("[Service]\nType=oneshot\nExecStart=/usr/local/bin/page-me %i\n")
    assert "Nothing changed" in certctl("timer", "install")[1]
    certctl("timer", "remove")
    assert set(tree(with_systemd)) == {f"{UNITS}/certctl-alert@.service"}


def test_without_rights_it_says_who_may_and_writes_nothing(with_systemd: Path) -> None:
    with_systemd.chmod(0o555)
    powerless = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-all"] if os.geteuid() == 0 else []
    argv = [*powerless, sys.executable, "-m", "certctl", "--root", str(with_systemd), "timer", "install"]
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=240, check=False)
    assert (ended.returncode, ended.stdout) == (10, "")
    assert f"you may not write to {with_systemd}" in ended.stderr
    assert "sudo certctl timer install" in ended.stderr
    assert tree(with_systemd) == {}


def test_settings_from_the_environment_are_named_because_the_timer_will_not_have_them(
    certctl: Certctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CERTCTL_RENEWAL__JOBS", "3")
    code, out, _ = certctl("timer", "install")
    assert (code, "CERTCTL_RENEWAL__JOBS" in out) == (0, True)


# Where nginx keeps its files


@needs_nginx
def test_the_service_may_write_where_this_hosts_nginx_does(with_systemd: Path, certctl: Certctl) -> None:
    (with_systemd / "var/logs").mkdir(parents=True)
    (with_systemd / "elsewhere").mkdir()
    nginx_conf(with_systemd, f"{with_systemd}/var/logs")
    more = with_systemd / "etc/nginx/more/site.conf"
    more.parent.mkdir()
    more.write_text(f"server {{ listen 127.0.0.1:1; access_log {with_systemd}/elsewhere/a.log; }}\n")
    assert certctl("timer", "install")[0] == 0
    writable = " ".join(unit(with_systemd)["ReadWritePaths"]).split()
    for place in ("var/logs", "elsewhere", "srv/nginx"):
        assert f"-{with_systemd}/{place}" in writable


@needs_nginx
def test_the_doctor_sees_that_nginx_moved_its_logs_away_from_the_units(
    with_systemd: Path, certctl: Certctl
) -> None:
    for name in ("old", "new"):
        (with_systemd / name).mkdir()
    nginx_conf(with_systemd, f"{with_systemd}/old")
    certctl("timer", "install")
    configure(with_systemd, "# the defaults")
    looked = partial(renewers, open_context(Invocation(root=with_systemd)))
    assert [finding.level for finding in looked()] == [Level.OK]
    nginx_conf(with_systemd, f"{with_systemd}/new")
    (finding,) = looked()
    assert (finding.level, finding.fix) == (Level.PROBLEM, "certctl timer install")
    assert "certctl-renew.service no longer fits this host (ReadWritePaths)" in finding.text
    assert certctl("timer", "install")[0] == 0
    assert [finding.level for finding in looked()] == [Level.OK]


def test_the_doctor_sees_that_the_service_runs_a_certctl_that_is_gone(with_systemd: Path, certctl: Certctl) -> None:
    certctl("timer", "install")
    path = with_systemd / UNITS / "certctl-renew.service"
    path.write_text(re.sub("(?m)^ExecStart=.*$", "ExecStart=/opt/gone/bin/certctl renew", path.read_text()))
    (finding,) = renewers(open_context(Invocation(root=with_systemd)))
    assert (finding.level, finding.fix) == (Level.PROBLEM, "certctl timer install")
    assert "/opt/gone/bin/certctl, which is not there" in finding.text


def test_the_doctor_sees_a_daemons_unit_of_another_mode(with_systemd: Path) -> None:
    here = open_context(Invocation(root=with_systemd))
    files = daemon_files(here, host_settings(here, Path("/bin/true"), ()))
    install(files, None)
    looked = [*examine_units(here, SERVE, partial(daemon_files, here))]
    assert looked == []
    moved = here.in_mode("shared")
    findings = [*examine_units(moved, SERVE, partial(daemon_files, moved))]
    assert {finding.fix for finding in findings} == {"certctl serve --install"}
    assert any("CapabilityBoundingSet" in finding.text for finding in findings)


@pytest.fixture
def on_this_shells_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that a shell finds and a service does not."""
    program = tmp_path / "own/bin/nginx-of-mine"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho nginx version: nginx/1.26.3\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return program


def configure(root: Path, text: str) -> None:
    config = root / "etc/certctl/config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(text)


@pytest.mark.parametrize(
    "words", [("timer", "install"), ("serve", "--install"), ("reload",), ("init", "--dry-run")]
)
def test_an_nginx_that_only_a_shell_finds_is_missing_for_everybody(
    with_systemd: Path, certctl: Certctl, on_this_shells_path: Path, words: tuple[str, ...]
) -> None:
    configure(with_systemd, f'[nginx]\nbinary = "{on_this_shells_path.name}"\n')
    code, _, err = certctl(*words)
    assert (code, "error[nginx-missing]" in err) == (7, True)
    assert f'put binary = "{on_this_shells_path}" into [nginx] of the configuration' in " ".join(err.split())
    assert not (with_systemd / UNITS).exists()


def test_the_doctor_looks_for_programs_as_a_service_does(with_systemd: Path, on_this_shells_path: Path) -> None:
    configure(with_systemd, f'[notify]\ncommand = ["{on_this_shells_path.name}"]\n')
    (finding,) = notifier(open_context(Invocation(root=with_systemd)))
    assert (finding.level, str(on_this_shells_path) in finding.text) == (Level.PROBLEM, True)


# Certbot's own timer


def lineage(root: Path, name: str, *names: str) -> None:
    """Let certbot have a certificate."""
    for directory in ("renewal", f"live/{name}"):
        (root / "etc/letsencrypt" / directory).mkdir(parents=True, exist_ok=True)
    (root / f"etc/letsencrypt/live/{name}/cert.pem").write_bytes(
        trustme.CA().issue_cert(*names).cert_chain_pems[0].bytes()
    )
    (root / f"etc/letsencrypt/renewal/{name}.conf").write_text(f"cert = /etc/letsencrypt/live/{name}/cert.pem\n")


def known(root: Path, name: str) -> None:
    """Let certctl have a domain."""
    with closing(SqliteStore(root / "var/lib/certctl/certctl.db", SystemClock())) as store:
        store.set_state(Domain(name), State.ACTIVE)


def enable_certbot(root: Path) -> Path:
    wanted = root / UNITS / "timers.target.wants/certbot.timer"
    wanted.parent.mkdir(parents=True)
    wanted.symlink_to("/lib/systemd/system/certbot.timer")
    return wanted


def test_certbots_timer_over_the_same_names_is_a_conflict_until_it_is_settled(
    with_systemd: Path, certctl: Certctl
) -> None:
    lineage(with_systemd, "customers", "www.example.com", "status.example.com")
    known(with_systemd, "status.example.com")
    known(with_systemd, "www.example.com")
    wanted = enable_certbot(with_systemd)
    code, out, err = certctl("timer", "install")
    assert (code, out) == (10, "")
    for fact in (
        "error[timer-conflict]",
        "certbot.timer is enabled",
        "certbot's lineage customers has status.example.com, www.example.com",
        "systemctl disable --now certbot.timer",
        "certbot delete --cert-name customers",
    ):
        assert fact in err
    assert not (with_systemd / UNITS / "certctl-renew.timer").exists()
    assert certctl("timer", "install", "--dry-run")[0] == 10
    wanted.unlink()
    assert certctl("timer", "install")[0] == 0


def test_certbot_is_not_to_be_stopped_while_it_renews_names_of_its_own(
    with_systemd: Path, certctl: Certctl
) -> None:
    lineage(with_systemd, "mixed", "status.example.com", "shop.example.com")
    lineage(with_systemd, "taken", "www.example.com")
    lineage(with_systemd, "theirs", "mail.example.com")
    known(with_systemd, "status.example.com")
    known(with_systemd, "www.example.com")
    enable_certbot(with_systemd)
    code, _, err = certctl("timer", "install")
    assert (code, "systemctl disable" in err) == (10, False)
    assert "certbot delete --cert-name taken" in err
    assert "certbot certonly --cert-name mixed --renew-with-new-domains -d shop.example.com" in err
    assert "theirs" not in err


def test_certbot_may_go_on_renewing_names_of_its_own(with_systemd: Path, certctl: Certctl) -> None:
    lineage(with_systemd, "other.example.com", "other.example.com")
    known(with_systemd, "status.example.com")
    enable_certbot(with_systemd)
    assert certctl("timer", "install")[0] == 0


def test_a_host_without_a_store_has_no_conflict_and_gets_no_store(with_systemd: Path, certctl: Certctl) -> None:
    lineage(with_systemd, "status.example.com", "status.example.com")
    enable_certbot(with_systemd)
    assert certctl("timer", "install")[0] == 0
    assert not (with_systemd / "var/lib/certctl").exists()


def test_a_lineage_whose_certificate_is_unreadable_counts_by_its_name(with_systemd: Path, certctl: Certctl) -> None:
    lineage(with_systemd, "status.example.com", "status.example.com")
    (with_systemd / "etc/letsencrypt/live/status.example.com/cert.pem").write_text("")
    known(with_systemd, "status.example.com")
    enable_certbot(with_systemd)
    assert certctl("timer", "install")[0] == 10


def test_certbots_cron_line_is_a_rival_only_where_it_does_something(root: Path) -> None:
    (root / "etc/cron.d").mkdir(parents=True)
    (root / "etc/cron.d/certbot").write_text(f"# comment about certbot\n{DEBIAN_CRON}")
    assert [rival.name for rival in rivals(root, None)] == ["/etc/cron.d/certbot"]
    (root / "run/systemd/system").mkdir(parents=True)
    assert rivals(root, None) == []
    (root / "etc/cron.d/certbot").write_text("0 3 * * * root certbot renew\n")
    assert [rival.name for rival in rivals(root, None)] == ["/etc/cron.d/certbot"]


def test_a_running_certbot_timer_is_a_rival_even_when_it_is_not_enabled(
    root: Path, systemctl: FakeSystemctl
) -> None:
    assert rivals(root, systemctl.systemd) == []
    systemctl.touch("active-snap.certbot.renew.timer")
    [rival] = rivals(root, systemctl.systemd)
    assert (rival.name, rival.how) == ("snap.certbot.renew.timer", "active")


# What systemd is told


def test_systemd_reads_the_units_and_starts_the_timer_once(root: Path, systemctl: FakeSystemctl) -> None:
    files = systemd_files(settings(root))
    assert install(files, systemctl.systemd) is True
    assert systemctl.calls == ["daemon-reload", "enable --now certctl-renew.timer"]
    systemctl.forget_calls()
    assert install(files, systemctl.systemd) is False
    assert systemctl.calls == []


def test_an_upgrade_makes_systemd_read_the_new_text_without_a_restart(root: Path, systemctl: FakeSystemctl) -> None:
    install(systemd_files(settings(root)), systemctl.systemd)
    systemctl.forget_calls()
    assert install(systemd_files(settings(root, "/opt/new/bin/certctl")), systemctl.systemd) is True
    assert systemctl.calls == ["daemon-reload"]


def changed(path: Path, seconds: int) -> None:
    """Let a file have changed so much later than it did."""
    at = path.stat().st_mtime + seconds
    os.utime(path, (at, at))


def test_a_daemon_that_runs_is_started_anew_by_what_changes_its_units(root: Path, systemctl: FakeSystemctl) -> None:
    """A move to another mode: it goes on in the old one otherwise, as another user and behind another group."""
    install(serve_files(settings(root)), systemctl.systemd)
    systemctl.forget_calls()
    moved = serve_files(settings(root, owner=("certctl", "certctl"), socket_group="certctl"))
    assert install(moved, systemctl.systemd) is True
    assert systemctl.calls == ["daemon-reload", "restart certctl-serve.socket certctl-serve.service"]
    systemctl.forget_calls()
    assert install(moved, systemctl.systemd) is False
    assert systemctl.calls == []


def test_a_daemons_sockets_stay_open_when_only_the_service_changed(root: Path, systemctl: FakeSystemctl) -> None:
    install(serve_files(settings(root)), systemctl.systemd)
    systemctl.forget_calls()
    install(serve_files(settings(root, "/opt/new/bin/certctl")), systemctl.systemd)
    assert systemctl.calls == ["daemon-reload", "restart certctl-serve.service"]


def test_a_daemon_older_than_its_configuration_is_started_anew(root: Path, systemctl: FakeSystemctl) -> None:
    files = serve_files(settings(root))
    install(files, systemctl.systemd)
    systemctl.forget_calls()
    started = files[0].path.stat().st_mtime
    assert install(files, systemctl.systemd, newest=started - 60) is False
    assert install(files, systemctl.systemd, newest=started + 60) is True
    assert systemctl.calls == ["restart certctl-serve.service"]


def test_a_restart_that_a_killed_install_owed_is_done_by_the_next(root: Path, systemctl: FakeSystemctl) -> None:
    files = serve_files(settings(root))
    install(files, systemctl.systemd)
    systemctl.forget_calls()
    changed(files[1].path, 60)
    assert install(files, systemctl.systemd) is True
    assert systemctl.calls == ["restart certctl-serve.socket certctl-serve.service"]


def test_an_install_killed_before_systemd_was_told_is_finished_by_the_next(
    root: Path, systemctl: FakeSystemctl
) -> None:
    files = systemd_files(settings(root))
    install(files, None)
    assert install(files, systemctl.systemd) is True
    assert systemctl.calls == ["enable --now certctl-renew.timer"]
    systemctl.forget_calls()
    systemctl.touch("stale")
    assert install(files, systemctl.systemd) is True
    assert systemctl.calls == ["daemon-reload"]


def test_systemds_refusal_is_shown_in_its_own_words(root: Path, systemctl: FakeSystemctl) -> None:
    systemctl.touch("broken")
    with pytest.raises(ConfigInvalid, match="systemctl daemon-reload ended with 1") as caught:
        install(systemd_files(settings(root)), systemctl.systemd)
    assert caught.value.slug == "timer-failed"
    assert caught.value.seen == ("Failed to do that: it is broken.",)


def test_the_timer_is_stopped_before_its_file_goes(root: Path, systemctl: FakeSystemctl) -> None:
    files = systemd_files(settings(root))
    install(files, systemctl.systemd)
    systemctl.forget_calls()
    assert [file.path.name for file in remove(files, systemctl.systemd)][-1] == "certctl-renew.timer"
    assert systemctl.calls == ["disable --now certctl-renew.timer", "daemon-reload"]
    assert remove(files, systemctl.systemd) == []


def test_a_timer_that_cannot_be_stopped_keeps_its_files(root: Path, systemctl: FakeSystemctl) -> None:
    files = systemd_files(settings(root))
    install(files, systemctl.systemd)
    systemctl.touch("broken")
    with pytest.raises(ConfigInvalid):
        remove(files, systemctl.systemd)
    assert {file.condition for file in files} == {Condition.CURRENT}


def test_status_knows_the_next_run_and_how_the_last_ended(root: Path, systemctl: FakeSystemctl) -> None:
    files = systemd_files(settings(root))
    assert state(files, systemctl.systemd) == TimerState(installed=False)
    install(files, systemctl.systemd)
    at = datetime(2026, 11, 23, 21, 21, 48, tzinfo=UTC)
    assert state(files, systemctl.systemd) == TimerState(
        installed=True, enabled=True, active=True, next_run=at, last_run=None
    )
    systemctl.ran(result="exit-code", code=1, status=226)
    ended = datetime(2026, 11, 23, 13, 12, 48, tzinfo=UTC)
    assert state(files, systemctl.systemd).last_run == LastRun(ended, "exit-code", 226)
    systemctl.ran(result="timeout", code=2, status=15)
    assert state(files, systemctl.systemd).last_run == LastRun(ended, "timeout", None)


def test_a_host_without_systemctl_gets_an_error_with_a_name(root: Path, systemctl: FakeSystemctl) -> None:
    systemctl.program.unlink()
    with pytest.raises(ConfigInvalid) as caught:
        install(systemd_files(settings(root)), systemctl.systemd)
    assert caught.value.slug == "missing-program"


# What is filled in


@pytest.mark.parametrize(
    "path", ["/opt/my certctl/certctl", "/opt/50%/certctl", "/opt/$HOME/c", "/opt/a\nb", "/o/../c"]
)
def test_a_path_that_systemd_cron_and_the_shell_read_differently_is_refused(path: str) -> None:
    for files in (systemd_files, cron_files):
        with pytest.raises(ConfigInvalid, match="cannot be written") as caught:
            files(settings(Path("/"), path))
        assert caught.value.slug == "timer-failed"


def test_a_certctl_in_a_temporary_directory_is_refused() -> None:
    with pytest.raises(ConfigInvalid, match="cannot see"):
        systemd_files(settings(Path("/"), "/tmp/venv/bin/certctl"))


@pytest.mark.parametrize(
    ("where", "protection"), [("/opt/c/bin", "yes"), ("/root/c/bin", "read-only"), ("/home/me/c", "read-only")]
)
def test_a_certctl_in_a_home_directory_stays_visible_to_the_service(where: str, protection: str) -> None:
    chosen = settings(Path("/"), f"{where}/certctl")
    [service] = [file.text for file in systemd_files(chosen) if file.path.name == "certctl-renew.service"]
    assert f"\nProtectHome={protection}\n" in service
    assert hidden_home(chosen) is (protection != "yes")


def test_an_interpreter_in_a_home_directory_counts_too() -> None:
    assert hidden_home(settings(Path("/"), needs=(Path("/root/.pyenv/bin/python"),)))


@pytest.mark.parametrize("sample", ["ExecStart=/bin/other\n", "0 3 * * * root /bin/other\n"])
def test_a_sample_that_lacks_what_is_filled_in_is_an_error_and_not_a_unit_of_defaults(sample: str) -> None:
    with pytest.raises(Internal):
        replaced(sample, "ExecStart", "/usr/local/bin/certctl", "/opt/certctl")
    with pytest.raises(Internal):
        filled(sample, "/usr/local/bin/certctl", "/opt/certctl")
