"""A systemctl that remembers what was enabled and started; a program, so that its real caller is tested."""

from dataclasses import dataclass
from pathlib import Path

from certctl.timer.systemd import Systemd

_SCRIPT = """#!/bin/sh
cd {home}
[ "$1 $2" = "--no-pager --no-ask-password" ] || exit 64
shift 2
echo "$*" >> calls
last() {{ for word; do :; done; echo "$word"; }}
unit=$(last "$@")
[ ! -e broken ] || {{ [ "$1" = show ] || {{ echo "Failed to do that: it is broken."; exit 1; }}; }}
case $1 in
    daemon-reload) rm -f stale ;;
    enable)
        [ -e "{units}/$unit" ] || {{ echo "Unit file $unit does not exist."; exit 1; }}
        touch "enabled-$unit" "active-$unit"
        [ -e "started-$unit" ] || date -u "+ActiveEnterTimestamp=%a %F %T UTC" > "started-$unit" ;;
    restart)
        shift
        for unit; do date -u "+ActiveEnterTimestamp=%a %F %T UTC" > "started-$unit"; done ;;
    disable) rm -f "enabled-$unit" "active-$unit" ;;
    is-enabled) [ -e "enabled-$unit" ] ;;
    is-active) [ -e "active-$unit" ] ;;
    show)
        [ ! -e stale ] || echo "NeedDaemonReload=yes"
        case $unit in
            *.timer) [ "$TZ" = UTC ] && echo "NextElapseUSecRealtime=Mon 2026-11-23 21:21:48 UTC" ;;
            *) [ ! -e ran ] || cat ran; [ ! -e "started-$unit" ] || cat "started-$unit" ;;
        esac
        true ;;
    *) exit 64 ;;
esac
"""


@dataclass
class FakeSystemctl:
    """Its state is files in ``home``; what it prints was copied from systemd 252."""

    home: Path
    units: Path

    def __post_init__(self) -> None:
        self.home.mkdir()
        self.program.write_text(_SCRIPT.format(home=self.home, units=self.units))
        self.program.chmod(0o755)

    @property
    def program(self) -> Path:
        return self.home / "systemctl"

    @property
    def systemd(self) -> Systemd:
        return Systemd(str(self.program))

    @property
    def calls(self) -> list[str]:
        """What changed something; questions are left out."""
        path = self.home / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [line for line in lines if line.split()[0] in {"daemon-reload", "enable", "disable", "restart"}]

    def forget_calls(self) -> None:
        (self.home / "calls").unlink(missing_ok=True)

    def ran(self, *, result: str, code: int, status: int) -> None:
        """Make the service have run."""
        at = "ExecMainExitTimestamp=Mon 2026-11-23 13:12:48 UTC"
        (self.home / "ran").write_text(f"Result={result}\n{at}\nExecMainCode={code}\nExecMainStatus={status}\n")

    def touch(self, name: str) -> None:
        """Set ``stale``, ``broken`` or ``active-UNIT``."""
        (self.home / name).touch()
