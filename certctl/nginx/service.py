"""The systemd unit that runs nginx: Debian's is nginx.service, OpenResty's openresty.service."""

import re
from pathlib import Path

from certctl.io.fsuid import as_root

DEBIANS = "nginx.service"
_OPENRESTYS = "openresty.service"
_UNIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9@._-]*\.service")


def unit_of(pid: int | None, binary: str) -> str:
    """Return the unit of a master process, from its cgroup; else the usual unit of such a program."""
    seen = _cgroup(pid) if pid else ""
    if _UNIT.fullmatch(seen) and seen != _cgroup("self"):
        return seen
    return _OPENRESTYS if "openresty" in binary else DEBIANS


def name_of(pid: int | None, binary: str) -> str:
    """Return the unit's name as in ``systemctl reload nginx``."""
    return unit_of(pid, binary).removesuffix(".service")


@as_root()
def _cgroup(pid: int | str) -> str:
    """Return the last part of a process's cgroup, which systemd names after the unit (cgroups(7), version 2)."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    found = [line.rpartition("/")[2] for line in lines if line.startswith(("0::/", "1:name=systemd:/"))]
    return found[-1] if found else ""
