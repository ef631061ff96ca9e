"""``certctl timer``: renewal by systemd, or by cron where there is no systemd."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from certctl.app.context import Context
from certctl.app.ownership import require_legible, require_write
from certctl.app.report import Rows
from certctl.app.scheduler import (
    is_booted,
    lacks_cron,
    lineage_names,
    open_systemd,
    our_names,
    places,
    timer_settings,
)
from certctl.cli.framework import Command, Group, Invocation
from certctl.cli.opening import read_context
from certctl.cli.output.choose import open_report
from certctl.formats import rfc3339
from certctl.timer.files import Condition, HostFile
from certctl.timer.install import TimerState, state
from certctl.timer.systemd import LastRun
from certctl.timer.units import (
    TIMER,
    UnitSettings,
    cron_files,
    hidden_home,
    systemd_files,
)


@click.group("timer", cls=Group)
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
    from certctl.timer.certbot_timer import refuse_rivals, rivals
    from certctl.timer.install import install as put_in_place
    from certctl.timer.install import refuse_foreign

    context, report = read_context(invocation), open_report(invocation)
    if not dry_run:
        require_write(context.path("/etc/systemd/system"))
    settings, systemd = timer_settings(context), open_systemd(context)
    files = systemd_files(settings) if is_booted(context) else cron_files(settings)
    if found := rivals(settings.root, systemd):
        refuse_rivals(found, lineage_names(settings.root), our_names(context))
    refuse_foreign(files)
    if settings.owner:
        require_legible(*settings.owner, "certctl timer install")
    written = [file for file in files if file.to_write]
    diff = "".join(file.diff() for file in written)
    changed = bool(written) if dry_run else put_in_place(files, systemd)
    now = state(files, systemd)
    notes = _notes(settings, context, files)
    payload = {
        "dry_run": dry_run,
        "changed": changed,
        "diff": diff,
        **_payload(context, files, now),
        "notes": notes,
    }
    report.data(
        payload, "\n".join(filter(None, [diff, _said(files, now, dry_run=dry_run, changed=changed), *notes]))
    )
    return 0


@timer.command("status", cls=Command)
@click.pass_obj
def status(invocation: Invocation) -> int:
    """Show whether the timer is installed, when it runs next and how the last run ended."""
    context, report = read_context(invocation), open_report(invocation)
    files = _installed(timer_settings(context), context)
    now = state(files, open_systemd(context))
    rows = [[str(file.path), str(file.condition)] for file in files]
    report.data(_payload(context, files, now), Rows(["", ""], rows + _facts(now)))
    return 0


@timer.command("remove", cls=Command)
@click.pass_obj
def remove(invocation: Invocation) -> int:
    """Stop the timer and delete the files certctl wrote; yours stay."""
    from certctl.timer.install import remove as take_away

    context, report = read_context(invocation), open_report(invocation)
    require_write(context.path("/etc/systemd/system"))
    files = [*systemd_files(places(context)), *cron_files(places(context))]
    gone = take_away(files, open_systemd(context))
    removed = [str(file.path) for file in gone]
    kept = [str(file.path) for file in files if file.condition is not Condition.ABSENT]
    lines = [*(f"removed {path}" for path in removed), *(f"kept {path}: it is yours" for path in kept)]
    payload = {"changed": bool(gone), "removed": removed, "kept": kept}
    report.data(payload, "\n".join(lines or ["Nothing to remove."]))
    return 0


def _installed(settings: UnitSettings, context: Context) -> list[HostFile]:
    """Return the files of the scheduler that is installed, systemd or cron, or else of this host's."""
    systemd, cron = systemd_files(settings), cron_files(settings)
    first, second = (systemd, cron) if is_booted(context) else (cron, systemd)
    return second if state(second, None).installed and not state(first, None).installed else first


def _payload(context: Context, files: Sequence[HostFile], now: TimerState) -> dict[str, Any]:
    last = now.last_run
    return {
        "scheduler": "systemd" if files[-1].path.name == TIMER else "cron",
        "installed": now.installed,
        "enabled": now.enabled,
        "active": now.active,
        "next_run": rfc3339(now.next_run) if now.next_run else None,
        "last_run": {"at": rfc3339(last.at), "result": last.result, "exit_code": last.exit_code} if last else None,
        "files": [{"path": str(file.path), "condition": file.condition} for file in files],
        "root": str(context.path("/")),
    }


def _said(files: Sequence[HostFile], now: TimerState, *, dry_run: bool, changed: bool) -> str:
    if dry_run:
        return "Nothing was written." if changed else "Nothing would change."
    if not changed:
        return "Nothing changed: the timer is installed."
    next_run = f"; next run {rfc3339(now.next_run)}" if now.next_run else ""
    return f"Installed: {' '.join(str(file.path) for file in files)}{next_run}"


def _notes(settings: UnitSettings, context: Context, files: Sequence[HostFile]) -> list[str]:
    """Return notes on what an operator may not expect, such as variables that the timer does not get."""
    notes = []
    if settings.root != Path("/"):
        notes.append(f"Everything is below {settings.root}: systemd was not called, and runs nothing from there.")
    elif lacks_cron(context):
        notes.append("No cron is installed here, so nothing runs this line yet: apt-get install cron")
    if files[-1].path.name == TIMER and hidden_home(settings):
        notes.append(
            "Something the service needs is in a home directory: it may read those (ProtectHome=read-only)."
        )
    overrides = sorted(name for name in os.environ if name.startswith("CERTCTL_") and "__" in name)
    if overrides:
        notes.append(f"Set here, but not for the timer: {', '.join(overrides)}. Write them into {context.file}.")
    return notes


def _facts(now: TimerState) -> list[list[str]]:
    rows = [["installed", _yes(now.installed)]]
    if now.enabled is not None:
        rows += [["enabled", _yes(now.enabled)], ["active", _yes(now.active)]]
        rows += [["next run", rfc3339(now.next_run) if now.next_run else "none"]]
        rows += [["last run", _ended(now.last_run) if now.last_run else "none since boot"]]
    return rows


def _ended(last: LastRun) -> str:
    code = "" if last.exit_code is None else f", exit {last.exit_code}"
    return f"{rfc3339(last.at)} {last.result}{code}"


def _yes(value: bool | None) -> str:  # noqa: FBT001
    return "yes" if value else "no"
