"""``certctl timer``: renewal by systemd, or by cron where there is no systemd."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

import certctl
from certctl.cli.base import Command, Invocation
from certctl.cli.outcome import rfc3339
from certctl.cli.reports import Rows, open_report
from certctl.cli.wiring import House, open_house
from certctl.config import chosen_file
from certctl.errors import ConfigInvalid
from certctl.io.process import Missing, beside_python, find
from certctl.timer.life import TimerState, state
from certctl.timer.systemd import Systemd
from certctl.timer.units import (
    TIMER,
    Condition,
    TimerFile,
    TimerSettings,
    cron_files,
    hidden_home,
    systemd_files,
)

_CRONS = ("cron", "crond")


@click.group("timer")
def timer() -> None:
    """Renew by systemd timer or cron."""


@timer.command("install", cls=Command)
@click.option("--dry-run", is_flag=True, help="Show the diff; write nothing, start nothing.")
@click.pass_obj
def install(invocation: Invocation, dry_run: bool) -> int:  # noqa: FBT001
    """Write the service and its timer, and start the timer; a cron line where there is no systemd.

    What changes on the disk is shown as a diff. Running it again changes nothing. It refuses while certbot's own
    timer would renew names that certctl has.
    """
    from certctl.timer.life import install as put_in_place
    from certctl.timer.life import refuse_foreign
    from certctl.timer.rival import refuse_rivals, rivals

    house, report = open_house(invocation), open_report(invocation)
    settings, systemd = _settings(invocation, house), _systemd(house)
    files = systemd_files(settings) if _is_booted(house) else cron_files(settings)
    if found := rivals(settings.root, systemd):
        refuse_rivals(found, settings.root, _names(house))
    refuse_foreign(files)
    written = [file for file in files if file.to_write]
    diff = "".join(file.diff() for file in written)
    changed = bool(written) if dry_run else put_in_place(files, systemd)
    now = state(files, systemd)
    notes = _notes(settings, house, files)
    payload = (
        {"dry_run": dry_run, "changed": changed, "diff": diff} | _payload(house, files, now) | {"notes": notes}
    )
    report.data(
        payload, "\n".join([diff, *_said(files, now, dry_run=dry_run, changed=changed), *notes]).lstrip("\n")
    )
    return 0


@timer.command("status", cls=Command)
@click.pass_obj
def status(invocation: Invocation) -> int:
    """Show whether the timer is installed, when it runs next and how the last run ended."""
    house, report = open_house(invocation), open_report(invocation)
    files = _installed(_settings(invocation, house), house)
    now = state(files, _systemd(house))
    rows = [[str(file.path), str(file.condition)] for file in files]
    report.data(_payload(house, files, now), Rows(["", ""], rows + _facts(now)))
    return 0


@timer.command("remove", cls=Command)
@click.pass_obj
def remove(invocation: Invocation) -> int:
    """Stop the timer and delete the files certctl wrote; yours stay."""
    from certctl.timer.life import remove as take_away

    house, report = open_house(invocation), open_report(invocation)
    settings = _settings(invocation, house)
    gone = take_away([*systemd_files(settings), *cron_files(settings)], _systemd(house))
    left = [
        file for file in (*systemd_files(settings), *cron_files(settings)) if file.condition is not Condition.ABSENT
    ]
    removed, kept = [str(file.path) for file in gone], [str(file.path) for file in left]
    lines = [*(f"removed {path}" for path in removed), *(f"kept {path}: it is yours" for path in kept)]
    report.data(
        {"changed": bool(gone), "removed": removed, "kept": kept}, "\n".join(lines or ["Nothing to remove."])
    )
    return 0


def _settings(invocation: Invocation, house: House) -> TimerSettings:
    program, config = _program(), chosen_file(invocation.config)
    options = ["--config", str(config.absolute())] if config else []
    if invocation.root:
        options += ["--root", str(invocation.root.absolute())]
    needs = [
        Path(sys.executable),
        Path(sys.prefix),
        Path(certctl.__file__),
        *([config.absolute()] if config else []),
    ]
    writable = (
        [] if not invocation.root and not house.settings.paths.root else [house.state, house.path("/run/certctl")]
    )
    database = house.path(house.settings.store.url.removeprefix("sqlite:///")).parent
    if database != house.state:
        writable.append(database)
    return TimerSettings(
        root=house.path("/"),
        program=program,
        options=tuple(options),
        needs=tuple(needs),
        conf_dir=house.path(house.settings.nginx.conf_dir),
        writable=tuple(writable),
    )


def _program() -> Path:
    """Return this certctl, by the name it was called: a link such as /usr/local/bin/certctl outlives an upgrade.

    Raises:
        ConfigInvalid: ``missing-program``.
    """
    for path in (Path(sys.argv[0]).absolute(), beside_python("certctl")):
        if path.name == "certctl" and path.is_file() and os.access(path, os.X_OK):
            return path
    raise ConfigInvalid("missing-program", "this certctl has no program file that a timer could run")


def _is_booted(house: House) -> bool:
    """Tell whether systemd runs this host (sd_booted(3))."""
    return house.path("/run/systemd/system").is_dir()


def _systemd(house: House) -> Systemd | None:
    """Return systemd; below another root its files are written, but it is never called."""
    return Systemd() if house.path("/") == Path("/") and _is_booted(house) else None


def _installed(settings: TimerSettings, house: House) -> list[TimerFile]:
    """Return the files of the scheduler in use, or of the one that would be."""
    systemd, cron = systemd_files(settings), cron_files(settings)
    first, second = (systemd, cron) if _is_booted(house) else (cron, systemd)
    return second if state(second, None).installed and not state(first, None).installed else first


def _names(house: House) -> set[str]:
    """Return every name certctl has; a store that does not exist yet is not created for it."""
    if not house.path(house.settings.store.url.removeprefix("sqlite:///")).exists():
        return set()
    rows = house.store.domains()
    return {n for row in rows for n in (row.domain.name, *(row.certificate.names if row.certificate else ()))}


def _payload(house: House, files: Sequence[TimerFile], now: TimerState) -> dict[str, Any]:
    last = now.last_run
    return {
        "scheduler": "systemd" if files[-1].path.name == TIMER else "cron",
        "installed": now.installed,
        "enabled": now.enabled,
        "active": now.active,
        "next_run": rfc3339(now.next_run) if now.next_run else None,
        "last_run": {"at": rfc3339(last.at), "result": last.result, "exit_code": last.exit_code} if last else None,
        "files": [{"path": str(file.path), "condition": file.condition} for file in files],
        "root": str(house.path("/")),
    }


def _said(files: Sequence[TimerFile], now: TimerState, *, dry_run: bool, changed: bool) -> list[str]:
    if dry_run:
        return ["Nothing was written." if changed else "Nothing would change."]
    if not changed:
        return ["Nothing changed: the timer is installed."]
    listed = " ".join(str(file.path) for file in files)
    next_run = f"; next run {rfc3339(now.next_run)}" if now.next_run else ""
    return [f"Installed: {listed}{next_run}"]


def _notes(settings: TimerSettings, house: House, files: Sequence[TimerFile]) -> list[str]:
    """Say what the operator may not expect."""
    notes = []
    if settings.root != Path("/"):
        notes.append(f"Everything is below {settings.root}: systemd was not called, and runs nothing from there.")
    elif not _is_booted(house) and not any(map(_is_there, _CRONS)):
        notes.append("No cron is installed here, so nothing runs this line yet: apt-get install cron")
    if files[-1].path.name == TIMER and hidden_home(settings):
        notes.append(
            "certctl is installed in a home directory: the service may read those (ProtectHome=read-only)."
        )
    overrides = sorted(name for name in os.environ if name.startswith("CERTCTL_") and "__" in name)
    if overrides:
        notes.append(f"Set here, but not for the timer: {', '.join(overrides)}. Write them into {house.file}.")
    return notes


def _is_there(program: str) -> bool:
    try:
        return bool(find(program))
    except Missing:
        return False


def _facts(now: TimerState) -> list[list[str]]:
    rows = [["installed", _yes(now.installed)]]
    if now.enabled is not None:
        rows += [["enabled", _yes(now.enabled)], ["active", _yes(now.active)]]
        rows += [["next run", rfc3339(now.next_run) if now.next_run else "none"]]
        last = now.last_run
        rows += [
            ["last run", f"{rfc3339(last.at)} {last.result}, exit {last.exit_code}" if last else "none since boot"]
        ]
    return rows


def _yes(value: bool | None) -> str:  # noqa: FBT001
    return "yes" if value else "no"
