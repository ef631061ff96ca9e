"""Send one HTTP request to a daemon on a unix socket of this host."""

import socket
from http.client import HTTPConnection, HTTPException
from pathlib import Path

_MAX_BODY = 1_000_000


class Unanswered(Exception):
    """No process listens there, or there was no valid response in time."""


class _LocalConnection(HTTPConnection):
    def __init__(self, path: Path, seconds: float) -> None:
        super().__init__("localhost", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def get(path: Path, target: str, seconds: float) -> bytes:
    """Request ``target`` at the socket ``path``; return the body of a 200.

    Raises:
        Unanswered: with the reason in a few words.
    """
    connection = _LocalConnection(path, seconds)
    try:
        connection.request("GET", target)
        response = connection.getresponse()
        body = response.read(_MAX_BODY)
    except (OSError, HTTPException) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "no answer in time"
        raise Unanswered(reason.lower()) from error
    finally:
        connection.close()
    if response.status != 200:  # noqa: PLR2004 - HTTP's OK
        raise Unanswered(f"it answered {response.status}")
    return body
