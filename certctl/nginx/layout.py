"""Find nginx when the configuration does not name it: Debian's, or one in a tree of its own, such as OpenResty."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from certctl.io.fsuid import as_root
from certctl.io.process import Missing, find

_TREES = (Path("/usr/local/openresty/nginx"), Path("/usr/local/nginx"))
_MASTER = re.compile(r"nginx: master process (?P<words>.*)")
_OPTION = re.compile(r"(?:^|\s)-c\s*(?P<config>/[A-Za-z0-9._/+-]+)")
_USERS = re.compile(r"^Uid:\s+(.*)$", re.MULTILINE)  # real, effective, saved, filesystem's (proc(5))
_PLAIN = re.compile(r"/[A-Za-z0-9._/+-]+")


@dataclass(frozen=True, slots=True)
class Layout:
    """An nginx installation: its program, and its main configuration file."""

    binary: Path
    config: Path

    @property
    def conf_dir(self) -> Path:
        """Return the include directory for certctl's files, beside the main file as in Debian."""
        return self.config.parent / "certctl.d"


def look() -> Layout | None:
    """Return the nginx that is not on the system's path; None when the path has one, or when it is not clear which.

    The default prefixes of OpenResty and nginx are searched, then the running masters; two results count as none.
    """
    try:
        find("nginx")
    except Missing:
        installed = [tree for tree in _TREES if os.access(tree / "sbin/nginx", os.X_OK)]
        found = [Layout(tree / "sbin/nginx", tree / "conf/nginx.conf") for tree in installed] or [*{*_running()}]
        return found[0] if len(found) == 1 else None
    return None


@as_root()
def _running() -> Iterator[Layout]:
    """Yield the layout of each running master on this host, but not of those in containers."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            title = _MASTER.match((entry / "cmdline").read_bytes().decode("utf-8", "replace").strip("\0"))
            if (
                title is None
                or not _is_ours_or_roots(entry)
                or (entry / "ns/mnt").readlink() != Path("/proc/self/ns/mnt").readlink()
            ):
                continue
            binary = Path(str((entry / "exe").readlink()).removesuffix(" (deleted)"))
        except OSError:
            continue
        given = _OPTION.search(title["words"])
        config = Path(given["config"]) if given else binary.parent.parent / "conf/nginx.conf"
        if _PLAIN.fullmatch(str(binary)) and os.access(binary, os.X_OK) and config.is_file():
            yield Layout(binary, config)


def _is_ours_or_roots(entry: Path) -> bool:
    """Tell whether a process's real user is root or ours: any user can fake a title, and we run the program."""
    users = _USERS.search((entry / "status").read_text(encoding="ascii", errors="replace"))
    return users is not None and {*map(int, users[1].split())} <= {0, os.getuid()}
