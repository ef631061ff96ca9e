"""What systemd itself thinks of the units, and that a wheel carries them."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.resources import files
from pathlib import Path

import pytest

from certctl.timer.units import RENEWING, SERVING, UnitSettings, cron_files, serve_files, systemd_files

ROOT = Path(__file__).parents[2]
SHIPPED = (
    "certctl-renew.service", "certctl-renew.timer", "certctl-alert@.service", "certctl.cron",
    "certctl-serve.service", "certctl-serve.socket",
)  # fmt: skip
EXPOSURE = 3.0


def needed(program: str) -> str:
    """Return a program's path; without it the test is skipped, but fails where everything must be there."""
    path = shutil.which(program)
    if path is None:
        if os.environ.get("CERTCTL_E2E") == "required":
            pytest.fail(f"{program} is required here and not installed")
        pytest.skip(f"{program} is not installed")
    return path


def told(*argv: str | Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"SYSTEMD_LOG_LEVEL": "warning", "LC_ALL": "C", "SYSTEMD_COLORS": "0"}
    return subprocess.run(
        argv, capture_output=True, text=True, timeout=120, check=False, env=environment, stdin=subprocess.DEVNULL
    )


@pytest.fixture(params=[None, ("nobody", "nogroup")], ids=["root-owns-the-state", "a-user-owns-the-state"])
def units(tmp_path: Path, request: pytest.FixtureRequest) -> dict[str, Path]:
    """The units as they are installed, with a program that exists."""
    host = UnitSettings(root=tmp_path, program=Path("/bin/true"), owner=request.param)
    written = [*systemd_files(host), *serve_files(host)]
    for file in written:
        file.path.parent.mkdir(parents=True, exist_ok=True)
        file.path.write_text(file.text)
    return {file.path.name: file.path for file in written}


def verified(*paths: Path) -> tuple[int, str]:
    ended = told(needed("systemd-analyze"), "verify", "--man=no", *paths)
    return ended.returncode, ended.stdout + ended.stderr


def exposure(service: Path) -> float:
    ended = told(needed("systemd-analyze"), "security", "--no-pager", "--offline=true", service)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", ended.stdout)
    assert found, ended.stdout + ended.stderr
    return float(found[1])


def instance(units: dict[str, Path]) -> Path:
    template = units["certctl-alert@.service"]
    return template.with_name("certctl-alert@certctl-renew.service.service")


def test_systemd_has_nothing_to_say_about_the_units(units: dict[str, Path]) -> None:
    service, timer = units["certctl-renew.service"], units["certctl-renew.timer"]
    daemon = [units["certctl-serve.service"], units["certctl-serve.socket"]]
    assert verified(service, timer, instance(units), *daemon) == (0, "")


def test_systemd_would_say_what_is_wrong(units: dict[str, Path]) -> None:
    service = units["certctl-renew.service"]
    service.write_text(service.read_text().replace("ProtectSystem=strict", "ProtectSytem=strict"))
    assert "'ProtectSytem'" in verified(service)[1]


@pytest.mark.parametrize("name", ["certctl-renew.service", "certctl-serve.service"])
def test_a_service_is_exposed_no_more_than_measured(units: dict[str, Path], name: str) -> None:
    assert exposure(units[name]) <= EXPOSURE


def test_units_leave_a_state_alone_that_belongs_to_somebody_else(tmp_path: Path) -> None:
    host = UnitSettings(
        root=tmp_path, program=Path("/bin/true"), owner=("keeper", "keepers"), socket_group="keepers"
    )
    service, socket = (file.text for file in serve_files(host))
    renewal = next(file.text for file in systemd_files(host) if file.path.name == "certctl-renew.service")
    for text in (service, renewal):
        assert not {"StateDirectory", "RuntimeDirectory"} & set(re.findall(r"(?m)^(\w+)=", text))
        assert "\nReadWritePaths=-/var/lib/certctl -/var/lib/certctl-sites -/run/certctl\n" in text
        assert "\nExecStartPre=+/usr/bin/install -d -m 0755 -o keeper -g keepers /run/certctl\n" in text
    assert "\nCapabilityBoundingSet=CAP_CHOWN CAP_SETGID CAP_SETUID\n" in service
    [bound] = re.findall(r"(?m)^CapabilityBoundingSet=(.*)$", renewal)
    assert {"CAP_SETGID", "CAP_SETUID"} <= set(bound.split()), "root works as the keeper in the keeper's state"
    assert "/var/log/nginx" in renewal
    assert "/var/log/nginx" not in service
    assert "\nSocketGroup=keepers\n" in socket


def test_the_monitor_may_pass_a_signal_on_to_who_is_not_root(tmp_path: Path) -> None:
    service, _ = serve_files(UnitSettings(root=tmp_path, program=Path("/bin/true")))
    [bound] = re.findall(r"(?m)^CapabilityBoundingSet=(.*)$", service.text)
    assert "CAP_KILL" in bound.split(), "kill(2): the process that hears strangers is another user's"


def test_a_service_without_hardening_is_over_the_limit(units: dict[str, Path]) -> None:
    service = units["certctl-renew.service"]
    service.write_text("[Service]\nType=oneshot\nExecStart=/bin/true\n")
    assert exposure(service) > EXPOSURE


def test_the_timer_elapses_every_six_hours(units: dict[str, Path]) -> None:
    timer = units["certctl-renew.timer"].read_text()
    [calendar] = re.findall(r"^OnCalendar=(.*)$", timer, re.MULTILINE)
    ended = told(
        needed("systemd-analyze"), "calendar", "--iterations=5", "--base-time=2026-11-23 00:00:01", calendar
    )
    assert re.findall(r"(\d\d):00:00", ended.stdout.partition("Next elapse")[2])[:4] == ["06", "12", "18", "00"]
    assert {"Persistent=true", "RandomizedDelaySec=6h", "FixedRandomDelay=true"} <= set(timer.splitlines())


def test_a_run_ends_before_the_next_begins(units: dict[str, Path]) -> None:
    lines = set(units["certctl-renew.service"].read_text().splitlines())
    assert {"TimeoutStartSec=5h", "TimeoutStopSec=3min", "KillMode=mixed"} <= lines


@pytest.mark.parametrize("name", SHIPPED)
def test_each_file_is_marked_as_ours_and_stands_beside_the_house(name: str) -> None:
    text = files("certctl").joinpath("systemd", name).read_text(encoding="utf-8")
    assert text.startswith((RENEWING.mark, SERVING.mark))
    assert text == (ROOT / "systemd" / name).read_text()


def test_the_cron_line_is_one_that_cron_and_sh_read_as_we_mean_it(tmp_path: Path) -> None:
    [cron] = cron_files(UnitSettings(root=tmp_path, program=Path("/bin/echo"), options=("--config", "/etc/c.toml")))
    assert "." not in cron.path.name
    [line] = [line for line in cron.text.splitlines() if " root " in line]
    minute, hour, *rest, user, command = line.split(maxsplit=6)[:5] + line.split(maxsplit=6)[5:]
    assert (minute, hour, *rest, user) == ("0", "*/6", "*", "*", "*", "root")
    assert "%" not in command
    assert cron.text.endswith("\n")
    quick = command.replace("0-3599", "0-0")
    absent = quick.replace("/run/systemd/system", str(tmp_path / "absent"))
    assert told("sh", "-c", absent).stdout == "--config /etc/c.toml --quiet renew\n"
    booted = told("sh", "-c", quick.replace("/run/systemd/system", str(tmp_path)))
    assert (booted.returncode, booted.stdout, booted.stderr) == (0, "", "")


def test_a_wheel_carries_the_units_and_the_lua(tmp_path: Path) -> None:
    options = ("--no-deps", "--no-build-isolation") if can_build() else ("--no-deps",)
    built = told(sys.executable, "-m", "pip", "wheel", "-q", *options, "-w", tmp_path, ROOT)
    if built.returncode and os.environ.get("CERTCTL_E2E") != "required":
        pytest.skip("hatchling cannot be had here; the files beside the package were compared above")
    assert built.returncode == 0, built.stderr
    [wheel] = tmp_path.glob("certctl-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        for name in SHIPPED:
            assert archive.read(f"certctl/systemd/{name}") == (ROOT / "systemd" / name).read_bytes()
        lua = "certctl/nginx/lua/certctl.lua"
        assert archive.read(lua) == (ROOT / lua).read_bytes()


def can_build() -> bool:
    return told(sys.executable, "-c", "import hatchling").returncode == 0
