"""Wait until a program of the sandbox answers, or report why it does not."""

import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

from certctl.errors import ConfigInvalid
from certctl.io import unix_http
from certctl.sandbox.daemons import Daemon
from certctl.slugs import Slug

_START_SECONDS = 20
_POLL_SECONDS = 0.02
_HOST = "127.0.0.1"
_READY = "ready "


class PortTaken(Exception):
    """A port that was free was taken by another process before the program bound it."""


def python_module(module: str, *arguments: str) -> list[str]:
    """Return the argv of one of our modules; ``-P`` keeps the current directory out of its imports."""
    return [sys.executable, "-P", "-m", module, *arguments]


def port_announced(daemon: Daemon) -> int:
    """Wait until one of our modules has printed ``ready PORT``, and return that port.

    Raises:
        ConfigInvalid: ``sandbox-failed`` with the end of its log.
    """
    announced = [""]

    def has_announced() -> bool:
        words = Path(daemon.log).read_text(encoding="utf-8", errors="replace")
        announced[:] = [line for line in words.splitlines(keepends=True) if line.startswith(_READY)]
        return announced[:1] != [] and announced[0].endswith("\n")

    _wait_for(daemon, has_announced)
    return int(announced[0].removeprefix(_READY))


def wait_for_port(daemon: Daemon, port: int) -> None:
    """Wait until a program accepts connections.

    Raises:
        PortTaken: another process has the port; choose another and try again.
        ConfigInvalid: ``sandbox-failed`` with the end of its log.
    """

    def listens() -> bool:
        try:
            socket.create_connection((_HOST, port), timeout=1).close()
        except OSError:
            return False
        return True

    _wait_for(daemon, listens)


def wait_for_socket(daemon: Daemon, path: Path) -> None:
    """Wait until a program answers on a unix socket.

    Raises:
        ConfigInvalid: ``sandbox-failed`` with the end of its log.
    """

    def answers() -> bool:
        try:
            return bool(unix_http.get(path, "/healthz", seconds=1))
        except unix_http.Unanswered:
            return False

    _wait_for(daemon, answers)


def _wait_for(daemon: Daemon, is_ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while daemon.running and time.monotonic() < deadline:
        if is_ready():
            return
        time.sleep(_POLL_SECONDS)
    words = daemon.log_tail()
    if any("address already in use" in line.lower() for line in words):
        raise PortTaken
    how = "did not answer in time" if daemon.running else "ended at once"
    raise ConfigInvalid(
        Slug.SANDBOX_FAILED,
        f"the sandbox's {daemon.name} {how}",
        seen=words or ["it said nothing"],
        next=[f"less {daemon.log}"],
    )
