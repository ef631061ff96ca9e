"""Call systemctl, the only interface to systemd that certctl uses."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from certctl.errors import ConfigInvalid
from certctl.io.process import Finished, Missing, find, run
from certctl.slugs import Slug

_DEADLINE = timedelta(minutes=2)
_EXITED = "1"  # CLD_EXITED, sigaction(2)
_STAMP = "%Y-%m-%d %H:%M:%S"


@dataclass(frozen=True, slots=True)
class LastRun:
    """How the service ended when it last ran (org.freedesktop.systemd1(5)).

    Attributes:
        result: systemd's ``Result``: success, exit-code, timeout, signal, …
        exit_code: None when a signal ended it.
    """

    at: datetime
    result: str
    exit_code: int | None


class Systemd:
    """The running systemd (PID 1), by systemctl.

    Raises:
        ConfigInvalid: ``missing-program``; ``failed`` with systemd's own words.
    """

    def __init__(self, program: str = "systemctl", failed: Slug = Slug.TIMER_FAILED) -> None:
        self._program = program
        self._failed = failed

    def reload_units(self) -> None:
        """Make systemd read its unit files again."""
        self._command("daemon-reload")

    def enable(self, unit: str) -> None:
        """Start a unit now and at every boot."""
        self._command("enable", "--now", unit)

    def disable(self, unit: str) -> None:
        """Stop a unit now and no longer start it at boot."""
        self._command("disable", "--now", unit)

    def restart(self, *units: str) -> None:
        """Restart units that run, in one job, so that none of them runs beside an old one."""
        self._command("restart", *units)

    def started(self, unit: str) -> datetime | None:
        """Return when a unit that runs was started; None when it does not run."""
        return _moment(self._show(unit, "ActiveEnterTimestamp").get("ActiveEnterTimestamp", ""))

    def is_active(self, unit: str) -> bool:
        """Tell whether a unit runs; one that does not exist does not."""
        return self._run("is-active", "--quiet", unit).ok

    def is_enabled(self, unit: str) -> bool:
        """Tell whether a unit starts at boot."""
        return self._run("is-enabled", "--quiet", unit).ok

    def is_stale(self, unit: str) -> bool:
        """Tell whether the unit's file changed since systemd read it."""
        return self._show(unit, "NeedDaemonReload").get("NeedDaemonReload") == "yes"

    def next_run(self, timer: str) -> datetime | None:
        """Return when a timer elapses next."""
        return _moment(self._show(timer, "NextElapseUSecRealtime").get("NextElapseUSecRealtime", ""))

    def last_run(self, service: str) -> LastRun | None:
        """Return how a service ended; None when it has not run since boot."""
        facts = self._show(service, "ExecMainExitTimestamp", "Result", "ExecMainCode", "ExecMainStatus")
        at = _moment(facts.get("ExecMainExitTimestamp", ""))
        if at is None:
            return None
        status = facts.get("ExecMainStatus", "")
        exited = facts.get("ExecMainCode") == _EXITED and status.isdecimal()
        return LastRun(at, facts.get("Result", "unknown"), int(status) if exited else None)

    def _show(self, unit: str, *properties: str) -> Mapping[str, str]:
        ended = self._command("show", "--property", ",".join(properties), unit)
        return dict(line.split("=", 1) for line in ended.output.splitlines() if "=" in line)

    def _command(self, *arguments: str) -> Finished:
        ended = self._run(*arguments)
        if not ended.ok:
            reason = "did not end in time" if ended.code is None else f"ended with {ended.code}"
            raise ConfigInvalid(
                self._failed,
                f"systemctl {' '.join(arguments)} {reason}",
                seen=[line for line in ended.output.splitlines() if line.strip()][-5:],
                next=["journalctl -xe"],
            )
        return ended

    def _run(self, *arguments: str) -> Finished:
        """Run systemctl with times in UTC: it prints them in the caller's time zone otherwise (systemd 252)."""
        try:
            argv = [find(self._program), "--no-pager", "--no-ask-password", *arguments]
            return run(
                argv,
                deadline=_DEADLINE,
                env={"TZ": "UTC", "LC_ALL": "C"},
                root_because="units are root's, and systemd asks nobody for a password here",
            )
        except Missing as error:
            raise ConfigInvalid(Slug.MISSING_PROGRAM, f"{self._program} cannot be run") from error


def _moment(text: str) -> datetime | None:
    """Parse ``Mon 2026-11-23 18:00:00 UTC``; empty, ``n/a`` and ``infinity`` are no moment."""
    words = text.split()
    if len(words) != 4:  # noqa: PLR2004 - weekday, date, time, zone
        return None
    try:
        return datetime.strptime(f"{words[1]} {words[2]}", _STAMP).replace(tzinfo=UTC)
    except ValueError:
        return None
