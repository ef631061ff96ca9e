"""``certctl serve --install``: the daemon as a service of systemd, with sockets that outlive it."""

from dataclasses import replace
from pathlib import Path

import certctl
from certctl.cli.base import Invocation
from certctl.cli.reports import open_report
from certctl.cli.serve import group_name, make_account, require_reader
from certctl.cli.timer_host import is_booted, open_systemd, places, timer_settings
from certctl.cli.wiring import House
from certctl.errors import ConfigInvalid
from certctl.timer.files import HostFile
from certctl.timer.life import install, refuse_foreign, remove
from certctl.timer.units import SERVING, UnitSettings, serve_files


def write(invocation: Invocation, house: House, *, dry_run: bool) -> int:
    """Write the units and start them, or only show what would change."""
    if not is_booted(house):
        raise ConfigInvalid(
            "serve-failed",
            "systemd does not run this host",
            expected=["'certctl serve' under whatever starts nginx here"],
        )
    files = daemon_files(house, timer_settings(invocation, house))
    refuse_foreign(files)
    if not dry_run:
        make_account(house)
        require_reader(house)
    diff = "".join(file.diff() for file in files)
    changed = bool(diff) if dry_run else install(files, open_systemd(house, SERVING), newest(house))
    done = "Nothing was written." if dry_run else _said(files, written=bool(diff))
    said = done if changed else "Nothing changed: the daemon is installed."
    payload = {"dry_run": dry_run, "changed": changed, "diff": diff, "files": _conditions(files)}
    open_report(invocation).data(payload, "\n".join(filter(None, [diff, said])))
    return 0


def daemon_files(house: House, settings: UnitSettings) -> list[HostFile]:
    """Return the daemon's units with the group that nginx's workers have now."""
    return serve_files(replace(settings, socket_group=group_name(house)))


def newest(house: House) -> float:
    """Return when what the daemon reads at its start last changed: the configuration, and certctl itself."""
    read = [path for path in (house.file, Path(certctl.__file__), Path(certctl.__file__).parent) if path.exists()]
    return max(path.stat().st_mtime for path in read)


def _said(files: list[HostFile], *, written: bool) -> str:
    if written:
        return f"Installed: {' '.join(str(file.path) for file in files)}"
    return "Started anew: what it reads at its start had changed, or it was not running."


def take_away(invocation: Invocation, house: House) -> int:
    """Stop the daemon and delete the units certctl wrote."""
    files = serve_files(places(house))
    removed = [str(file.path) for file in remove(files, open_systemd(house, SERVING))]
    payload = {"changed": bool(removed), "removed": removed, "files": _conditions(files)}
    open_report(invocation).data(payload, "\n".join(f"removed {path}" for path in removed) or "Nothing to remove.")
    return 0


def _conditions(files: list[HostFile]) -> list[dict[str, str]]:
    return [{"path": str(file.path), "condition": str(file.condition)} for file in files]
