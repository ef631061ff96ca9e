"""The unix sockets of a daemon: passed by systemd, or bound here in place of a dead one."""

import os
import socket
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from certctl.errors import Busy
from certctl.io.files import make_directory, writing
from certctl.slugs import Slug

_FIRST_FD = 3  # SD_LISTEN_FDS_START, sd_listen_fds(3)
_MODE = 0o660
_BACKLOG = 1024


def inherited() -> Sequence[socket.socket]:
    """Return the sockets that systemd passed (sd_listen_fds(3)); children do not inherit them."""
    given, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if given != str(os.getpid()) or not count.isdecimal():
        return []
    sockets = [socket.socket(fileno=descriptor) for descriptor in range(_FIRST_FD, _FIRST_FD + int(count))]
    for each in sockets:
        each.set_inheritable(False)
    return sockets


def bind(path: Path, kind: socket.SocketKind, group: int | None = None) -> socket.socket:
    """Bind a unix socket that only its owner and one group may use; one without a listener is replaced.

    It has its mode from the first moment, and no link is followed: the directory may be another user's. The caller
    holds a lock against a second daemon.

    Raises:
        Busy: another process listens there.
        ConfigInvalid: ``state-unwritable``: the path is no socket.
    """
    with writing(path):
        make_directory(path.parent, 0o755)
        if path.exists() or path.is_symlink():
            _remove_dead(path, kind)
        bound = socket.socket(socket.AF_UNIX, kind)
        try:
            umask = os.umask(0o777 & ~_MODE)
            try:
                bound.bind(str(path))
            finally:
                os.umask(umask)
            if group is not None:
                os.chown(path, -1, group, follow_symlinks=False)
            if kind is socket.SOCK_STREAM:
                bound.listen(_BACKLOG)
        except BaseException:
            bound.close()
            raise
        return bound


def _remove_dead(path: Path, kind: socket.SocketKind) -> None:
    if not stat.S_ISSOCK(path.lstat().st_mode):
        raise FileExistsError(17, "it is in the way and no socket", str(path))
    with socket.socket(socket.AF_UNIX, kind) as probe:
        probe.settimeout(1)
        with suppress(ConnectionRefusedError, FileNotFoundError):
            probe.connect(str(path))
            raise Busy(Slug.BUSY, f"another daemon listens on {path}", seen=[f"socket {path}"])
    path.unlink(missing_ok=True)
