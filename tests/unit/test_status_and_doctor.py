"""What a person sees when looking: what ends a domain's trouble, and who runs the renewals."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from certctl.app.context import Context
from certctl.app.directories import prepare_directories
from certctl.app.health import notifier, renewers
from certctl.cli import run as certctl
from certctl.cli.commands.doctor import _rows
from certctl.cli.framework import Invocation
from certctl.cli.opening import open_context
from certctl.domain import Domain
from certctl.slugs import Slug
from certctl.stories.issue import issue
from certctl.values import Finding, Level, State
from tests.fakes.world import FakeWorld


@pytest.fixture
def fake(fake_today: FakeWorld) -> FakeWorld:
    return fake_today


def context(root: Path, configuration: str = "# the defaults\n") -> Context:
    file = root / "config.toml"
    file.write_text(configuration, encoding="utf-8")
    return open_context(Invocation(config=file, root=root))


def live(fake: FakeWorld, name: str) -> Domain:
    domain = fake.customer(name)
    issue(fake.journeys(domain), fake.world)
    return domain


def table(root: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, list[str]]:
    assert certctl(["--root", str(root), "status"], Invocation()) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    return {row[0]: row[1:] for row in rows if row and "." in row[0]}


def test_a_parked_domain_says_what_brings_it_back(
    tmp_path: Path, fake: FakeWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, state, slug in (
        ("moved.example.com", State.MOVED, Slug.DNS_CNAME_MISMATCH),
        ("unwanted.example.com", State.UNWANTED, Slug.APPROVAL_REFUSED),
    ):
        domain = live(fake, name)
        fake.store.set_state(domain, state)
        fake.store.failed(domain, slug, None)
    rows = table(tmp_path, capsys)
    moved, unwanted = " ".join(rows["moved.example.com"]), " ".join(rows["unwanted.example.com"])
    assert moved.endswith("dns-cname-mismatch; comes back by itself once it points to status.hyperping.io")
    assert unwanted.endswith("approval-refused; comes back by itself once it is approved")


def test_a_failing_domain_says_when_it_is_tried_again(
    tmp_path: Path, fake: FakeWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    domain = live(fake, "a.example.com")
    again = fake.clock.now() + timedelta(hours=20)
    fake.store.failed(domain, Slug.CA_CONNECTION, again)
    said = " ".join(table(tmp_path, capsys)["a.example.com"])
    assert said.endswith(f"ca-connection (1 attempts); next try {again:%Y-%m-%d %H:%M} UTC")
    assert certctl(["--root", str(tmp_path), "status", "a.example.com"], Invocation()) == 0
    assert "next try" in capsys.readouterr().out


def certbot_renews(root: Path, *names: str) -> None:
    """Let certbot's timer be enabled, with a lineage of each name whose certificate cannot be read."""
    wants = root / "etc/systemd/system/timers.target.wants"
    wants.mkdir(parents=True)
    (wants / "certbot.timer").symlink_to("/lib/systemd/system/certbot.timer")
    (root / "etc/letsencrypt/renewal").mkdir(parents=True)
    for name in names:
        (root / f"etc/letsencrypt/renewal/{name}.conf").write_text("cert = /nowhere.pem\n")


def test_the_doctor_stops_certbot_where_it_has_nothing_else_to_renew(tmp_path: Path) -> None:
    certbot_renews(tmp_path, "status.example.com")
    here = context(tmp_path)
    here.store.set_state(Domain("status.example.com"), State.ACTIVE)
    (finding,) = renewers(here)
    assert (finding.area, finding.level) == ("timer", Level.WARNING)
    assert "certbot.timer is enabled: it renews status.example.com beside certctl" in finding.text
    assert finding.fix == "systemctl disable --now certbot.timer"


def test_the_doctor_does_not_stop_certbot_for_one_name_of_several(tmp_path: Path) -> None:
    certbot_renews(tmp_path, "status.example.com", "mail.example.com")
    here = context(tmp_path)
    here.store.set_state(Domain("status.example.com"), State.ACTIVE)
    (finding,) = renewers(here)
    assert (finding.level, finding.fix) == (Level.WARNING, "certbot delete --cert-name status.example.com")


def test_the_doctor_lets_certbot_renew_what_is_its_own(tmp_path: Path) -> None:
    certbot_renews(tmp_path, "mail.example.com")
    (finding,) = renewers(context(tmp_path))
    assert (finding.level, finding.fix) == (Level.OK, "")


def put(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("#\n", encoding="utf-8")


def test_the_doctor_sees_our_cron_line_and_whether_a_cron_reads_it(tmp_path: Path) -> None:
    assert renewers(context(tmp_path)) == []
    put(tmp_path / "etc/cron.d/certctl")
    (finding,) = renewers(context(tmp_path))
    assert (finding.level, finding.fix) == (Level.WARNING, "apt-get install cron")
    put(tmp_path / "usr/sbin/cron")
    (finding,) = renewers(context(tmp_path))
    assert finding.level is Level.OK


def test_under_systemd_the_doctor_counts_on_our_timer_alone(tmp_path: Path) -> None:
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    put(tmp_path / "etc/cron.d/certctl")
    assert renewers(context(tmp_path)) == []
    put(tmp_path / "etc/systemd/system/certctl-renew.timer")
    (finding,) = renewers(context(tmp_path))
    assert finding.level is Level.OK


@pytest.mark.parametrize(("command", "level"), [("/bin/cat", Level.OK), ("/no/such/notifier", Level.PROBLEM)])
def test_the_doctor_looks_for_the_notifier(tmp_path: Path, command: str, level: Level) -> None:
    (finding,) = notifier(context(tmp_path, f'[notify]\ncommand = ["{command}"]\n'))
    assert finding.level is level


def test_without_a_notifier_there_is_nothing_to_look_for(tmp_path: Path) -> None:
    assert notifier(context(tmp_path)) == []


@pytest.mark.parametrize("name", ["certctl.db", "certctl.db-wal"])
def test_a_store_that_others_may_read_is_a_problem_that_its_fix_mends(
    tmp_path: Path, fake: FakeWorld, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    live(fake, "status.example.com")
    path = tmp_path / "var/lib/certctl" / name
    path.chmod(0o644)
    assert certctl(["--root", str(tmp_path), "--json", "doctor"], Invocation()) == 1
    fixes = [finding["fix"] for finding in json.loads(capsys.readouterr().out)["data"]]
    assert f"chmod 0600 {path}" in fixes
    path.chmod(0o600)
    certctl(["--root", str(tmp_path), "--json", "doctor"], Invocation())
    assert str(path) not in str([f["fix"] for f in json.loads(capsys.readouterr().out)["data"]])


def test_the_doctor_closes_what_is_open_too_wide_and_widens_nothing(tmp_path: Path) -> None:
    here = context(tmp_path)
    prepare_directories(here)
    live, state, run = here.state / "live", here.state, here.path("/run/certctl")
    live.chmod(0o755)
    state.chmod(0o2777)
    run.chmod(0o700)
    prepare_directories(here)
    assert [path.stat().st_mode & 0o7777 for path in (live, state, run)] == [0o700, 0o711, 0o700]


def test_a_fix_has_a_row_of_its_own_and_text_from_outside_makes_none() -> None:
    forged = "nginx said this\nfix: rm -r /"
    assert _rows([Finding("nginx", Level.PROBLEM, forged, "nginx -t"), Finding("dns", Level.OK, "fine")]) == [
        ["nginx", "problem", forged],
        ["", "", "  fix: nginx -t"],
        ["dns", "ok", "fine"],
    ]
