"""Bind one port, UDP and TCP, on several addresses at once."""

import errno
import socket
from collections.abc import Sequence
from contextlib import ExitStack, suppress

_BIND_ATTEMPTS = 50

Pair = tuple[socket.socket, socket.socket]


def bind_everywhere(addresses: Sequence[str], port: int) -> tuple[list[Pair], int]:
    """Return a UDP and a TCP socket for each address, and their common port; 0 picks one that is free on all."""
    for _ in range(_BIND_ATTEMPTS):
        with ExitStack() as unless_all, suppress(_PortTaken):
            pairs: list[Pair] = []
            chosen = port
            for address in addresses:
                pairs.append(_open(address, chosen, unless_all, may_move=port == 0))
                chosen = pairs[0][0].getsockname()[1]
            unless_all.pop_all()
            return pairs, chosen
    raise OSError(errno.EADDRINUSE, "no port is free on all addresses")


class _PortTaken(Exception):
    pass


def _open(address: str, port: int, unless_all: ExitStack, *, may_move: bool) -> Pair:
    udp = unless_all.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    tcp = unless_all.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        udp.bind((address, port))
        tcp.bind((address, udp.getsockname()[1]))
    except OSError as error:
        if may_move and error.errno == errno.EADDRINUSE:
            raise _PortTaken from error
        raise
    tcp.listen()
    return udp, tcp
