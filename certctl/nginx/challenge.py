"""Test before any order that nginx answers HTTP-01 (RFC 8555 §8.3): fetch a token of our own as the CA would.

``/proc`` is not used: a hardened unit cannot see other users' processes there (``ProtectProc=invisible``,
systemd.exec(5)), and a running master does not tell which server answers on port 80.
"""

import secrets
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from http.client import HTTPException, HTTPResponse
from io import BytesIO
from pathlib import Path
from typing import IO, Any, cast

from certctl.io.clock import Deadline
from certctl.io.files import PUBLIC, make_directory, write_new, writing
from certctl.nginx.handshake import address_of, outward_address
from certctl.nginx.settings import NginxSettings

PLACE = "/.well-known/acme-challenge/"
_PREFIX = "certctl-probe-"
_READABLE_BY_NGINX = 0o755
_PATIENCE = timedelta(seconds=5)
_LONGEST_ANSWER = 16_384
_SHOWN = 60
_STALE_SECONDS = 60
_OK = 200
_BUSY = {429, 503}  # limit_req and limit_conn (https://nginx.org/r/limit_req_status)
_PAUSES = (0.1, 0.3, 1.0, 2.0)


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of fetching one token.

    Attributes:
        is_right: The answer was the token's content.
        is_silence: No answer came, and the connection stayed open.
        refused: The connection was refused.
        is_passing: The answer says "too often" (429 or 503), and may change in a moment.
        text: The first part of a wrong answer.
    """

    text: str = ""
    is_right: bool = False
    is_silence: bool = False
    refused: bool = False
    is_passing: bool = False


def ask(settings: NginxSettings, host: str, patience: timedelta = _PATIENCE) -> Answer:
    """Write a random token for a moment, and fetch it for a host name from the address where nginx listens first.

    When nginx listens on all addresses, loopback is asked first, and a right answer on an outward address counts as
    well.

    Raises:
        ConfigInvalid: ``state-unwritable``: the directory of challenges cannot be written.
    """
    where, deadline = address_of(settings, settings.http_port), Deadline.after(patience)
    with _shown(settings.challenges) as (token, content):
        fetch = partial(_fetch, host=host, target=PLACE + token, content=content, deadline=deadline)
        answer = _unhurried(partial(fetch, where), deadline)
        outward = None if answer.is_right or answer.is_silence else outward_address(settings)
        other = fetch((outward, settings.http_port)) if outward else answer
        return other if other.is_right else answer


def _unhurried(fetch: Callable[[], Answer], deadline: Deadline) -> Answer:
    """Fetch again a few times while nginx answers "too often", as an operator's ``limit_req`` makes it.

    All requests of certctl come from one address; the CA's do not.
    """
    answer = fetch()
    for pause in _PAUSES:
        if not answer.is_passing or deadline.remaining() < pause:
            break
        time.sleep(pause)
        answer = fetch()
    return answer


def is_answered(settings: NginxSettings) -> bool:
    """Tell whether any server takes connections at the address where challenges are fetched."""
    try:
        socket.create_connection(address_of(settings, settings.http_port), timeout=1).close()
    except OSError as error:
        return not isinstance(error, ConnectionRefusedError)
    return True


@contextmanager
def _shown(challenges: Path) -> Iterator[tuple[str, bytes]]:
    """Yield (token, content) of a file in the directory of challenges; no link is followed, no file replaced."""
    token, content = _PREFIX + secrets.token_urlsafe(24), secrets.token_urlsafe(32).encode()
    path = challenges / token
    with writing(challenges):
        if challenges.parent.is_dir():  # on a host that was never set up a look makes nothing
            make_directory(challenges, _READABLE_BY_NGINX)
        _sweep(challenges)
        try:
            write_new(path, content, PUBLIC, durable=False)
            yield token, content
        finally:
            path.unlink(missing_ok=True)


def _sweep(challenges: Path) -> None:
    """Remove the tokens of killed runs."""
    with suppress(OSError):
        for left in challenges.glob(f"{_PREFIX}*"):
            if time.time() - left.lstat().st_mtime > _STALE_SECONDS:
                left.unlink(missing_ok=True)


def _fetch(where: tuple[str, int], *, host: str, target: str, content: bytes, deadline: Deadline) -> Answer:
    shown = f"{where[0]} port {where[1]}"
    head = (
        f"GET {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: certctl\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    )
    try:
        with socket.create_connection(where, timeout=max(0.1, deadline.remaining())) as connection:
            connection.sendall(head.encode("ascii"))
            heard = _read(connection, deadline)
    except ConnectionRefusedError:
        return Answer(f"nobody listens at {shown}", is_silence=True, refused=True)
    except (ConnectionResetError, BrokenPipeError):
        heard = b""
    except OSError as error:
        reason = "no answer in time" if isinstance(error, TimeoutError) else error.strerror or error
        return Answer(f"{shown}: {reason}", is_silence=True)
    return _judge(heard, content, shown)


def _read(connection: socket.socket, deadline: Deadline) -> bytes:
    heard = b""
    while len(heard) < _LONGEST_ANSWER and (left := deadline.remaining()):
        connection.settimeout(left)
        try:
            part = connection.recv(_LONGEST_ANSWER)
        except TimeoutError:
            break
        if not part:
            return heard
        heard += part
    if not heard:
        raise TimeoutError
    return heard


def _judge(heard: bytes, content: bytes, shown: str) -> Answer:
    if not heard:
        return Answer(f"{shown} closed the connection without an answer")
    response = HTTPResponse(cast("socket.socket", _Heard(heard)))  # it asks a socket for a file, nothing more
    try:
        response.begin()
        body = response.read()
    except HTTPException as error:
        return Answer(f"{shown} answered with what is no HTTP: {type(error).__name__}")
    if response.status == _OK and body == content:
        return Answer(is_right=True)
    if place := response.getheader("Location"):
        return Answer(f"{shown} answered {response.status} to {place[:200]}")
    if response.status == _OK:
        return Answer(f"{shown} answered 200 with another body: {body[:_SHOWN].decode('utf-8', 'replace')!a}")
    return Answer(f"{shown} answered {response.status}", is_passing=response.status in _BUSY)


class _Heard:
    """The bytes that were received, as ``HTTPResponse`` reads them."""

    def __init__(self, heard: bytes) -> None:
        self._heard = heard

    def makefile(self, *_: Any) -> IO[bytes]:  # noqa: ANN401 - the socket module's own signature
        """Return the bytes as a file."""
        return BytesIO(self._heard)
