"""The protocol between certctl and certbot's plugin: JSON lines over an inherited socket.

certbot's side (``ca/engines/certbot/plugin.py``) sends ``{"challenges": [...]}`` and waits for ``{"ok": true}`` or
``{"abort": reason}``; later it sends ``{"failed": [...]}`` for what the CA could not validate and
``{"done": true}``. When certctl is killed the socket closes, and a certbot that has no answer yet gives up
before the CA is asked: nothing is spent.
"""

import json
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field

from certctl.ca.solvers.base import Challenge
from certctl.ca.solvers.run import Solving
from certctl.errors import CertctlError

DESCRIPTOR = "CERTCTL_EXCHANGE_FD"
_MAX_LINE = 1_000_000


@dataclass(frozen=True, slots=True)
class Problem:
    """An ACME problem document (RFC 8555 §6.7) about one identifier, or about the whole request.

    Attributes:
        type: The name after ``urn:ietf:params:acme:error:``, or the full URI of any other type.
    """

    type: str
    detail: str
    identifier: str = ""


def encode(message: Mapping[str, object]) -> bytes:
    """Return a message as one JSON line."""
    return json.dumps(message).encode() + b"\n"


def challenges_message(challenges: Sequence[Challenge]) -> dict[str, object]:
    """Return the message that asks certctl to solve an order's challenges."""
    return {"challenges": [asdict(challenge) for challenge in challenges]}


def failed_message(problems: Sequence[Problem]) -> dict[str, object]:
    """Return the message that names the challenges the CA could not validate."""
    return {"failed": [asdict(problem) for problem in problems]}


@dataclass(slots=True)
class PluginSocket:
    """certctl's end of the socket for one run of certbot: solves its challenges, collects its failures.

    Attributes:
        solving: Presents the challenges and removes them.
        failed: The challenges the CA could not validate.
        aborted: The error for which certctl gave the order up; None when it did not.
    """

    solving: Solving
    failed: list[Problem] = field(default_factory=list)
    aborted: CertctlError | None = None

    def serve(self, channel: socket.socket, until: float) -> None:
        """Answer certbot until it closes its end or the monotonic clock reaches ``until``; then clean up."""
        try:
            for line in _lines(channel, until):
                self._handle(channel, line)
        finally:
            self.solving.clean_up()

    def _handle(self, channel: socket.socket, line: bytes) -> None:
        message = json.loads(line)
        if "challenges" in message:
            self._solve([Challenge(**item) for item in message["challenges"]])
            self._reply(channel)
        elif "failed" in message:
            self.failed.extend(Problem(**item) for item in message["failed"])
        elif "done" in message:
            self.solving.clean_up()

    def _reply(self, channel: socket.socket) -> None:
        reply = {"abort": self.aborted.message[:500]} if self.aborted else {"ok": True}
        with suppress(OSError):  # a certbot that ended while we solved: its exit code is the evidence
            channel.sendall(encode(reply))

    def _solve(self, challenges: list[Challenge]) -> None:
        try:
            self.solving.solve(challenges)
        except CertctlError as error:
            self.aborted = error


def _lines(channel: socket.socket, until: float) -> Iterator[bytes]:
    """Yield whole lines until the other end closes, the time is up, or a line is too long."""
    pending = b""
    while (left := until - time.monotonic()) > 0 and len(pending) < _MAX_LINE:
        channel.settimeout(left)
        try:
            received = channel.recv(65536)
        except (TimeoutError, ConnectionResetError):
            return
        if not received:
            return
        *whole, pending = (pending + received).split(b"\n")
        yield from whole
