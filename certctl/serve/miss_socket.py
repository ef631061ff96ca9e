"""The miss socket: nginx says in its error log which name it had no certificate for (mode ``shared``).

It is an untrusted hint: anyone who can open a TLS connection can cause one. So it is treated like a visit, and no
answer is sent. What arrives while we are busy is dropped by the kernel, never by nginx (measured, 1.22.1).
"""

import asyncio
import re
from collections.abc import Callable

from certctl.domain import CHECK_DOMAIN

_NAME = rb"[A-Za-z0-9][A-Za-z0-9.-]{2,252}"
_MISS = re.compile(
    rb'cannot load certificate "/[A-Za-z0-9._/@+~-]*/live/(' + _NAME + rb')/current/fullchain\.pem":'
)
MAX_DATAGRAM = 4096  # nginx cuts a line at 2,048 bytes (NGX_MAX_ERROR_STR)


def missed_name(datagram: bytes) -> str | None:
    """Return the name in nginx's error about a certificate it cannot load; None for any other datagram."""
    found = _MISS.search(datagram[:MAX_DATAGRAM])
    name = found[1].decode("ascii") if found else None
    return None if name == CHECK_DOMAIN.name else name  # our own look at TLS is nobody's visit


class MissSocket(asyncio.DatagramProtocol):
    """Reads nginx's error log as syslog datagrams, and ignores every other line."""

    def __init__(self, hint: Callable[[str], object]) -> None:
        self._hint = hint

    def datagram_received(self, data: bytes, _address: object) -> None:
        """Pass the missed name in a datagram on."""
        if name := missed_name(data):
            self._hint(name)
