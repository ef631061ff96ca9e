"""The daemon as a systemd service with socket activation (systemd.socket(5)): the sockets outlive it."""

from dataclasses import replace
from pathlib import Path

import certctl
from certctl.app.context import Context
from certctl.app.daemon import group_name
from certctl.timer.files import HostFile
from certctl.timer.units import UnitSettings, serve_files


def daemon_files(context: Context, settings: UnitSettings) -> list[HostFile]:
    """Return the daemon's units with the group that nginx's workers have now."""
    return serve_files(replace(settings, socket_group=group_name(context)))


def newest(context: Context) -> float:
    """Return when what the daemon reads at its start last changed (a timestamp): configuration and certctl."""
    read = [path for path in (context.file, Path(certctl.__file__), Path(certctl.__file__).parent) if path.exists()]
    return max(path.stat().st_mtime for path in read)
