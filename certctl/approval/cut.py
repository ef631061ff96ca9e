"""A deadline for a whole HTTP request: requests' own timeout counts from byte to byte, and a server can drip."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

from requests import Response
from requests.adapters import HTTPAdapter

_AGAIN_SECONDS = 0.2


class OutOfTime(Exception):
    """The deadline passed before the head of the answer was there."""


def within(seconds: float, send: Callable[[], Response], adapter: "CuttableAdapter") -> Response:
    """Return what ``send`` returns or raise what it raises, unless the deadline passes first.

    It runs in a thread because looking up a host name cannot be interrupted in any other way.

    Raises:
        OutOfTime: the deadline passed; the connection is cut and the thread ends soon after.
    """
    results: SimpleQueue[Response | Exception] = SimpleQueue()

    def work() -> None:
        try:
            results.put(send())
        except Exception as error:  # noqa: BLE001 - raised again by whoever waits
            results.put(error)

    worker = threading.Thread(target=work, name="approval", daemon=True)
    worker.start()
    try:
        result = results.get(timeout=max(0.0, seconds))
    except Empty:
        threading.Thread(target=adapter.cut_until_ended, args=(worker,), daemon=True).start()
        raise OutOfTime from None
    if isinstance(result, Exception):
        raise result
    return result


class CuttableAdapter(HTTPAdapter):
    """Opens connections that another thread can cut."""

    def __init__(self) -> None:
        self._connections: list[Any] = []
        super().__init__(max_retries=0)

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - urllib3's pool
        """Return the pool requests would use, made to tell us of every connection it opens."""
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        make = pool.ConnectionCls

        def connection(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            self._connections.append(made := make(*args, **kwargs))
            return made

        pool.ConnectionCls = connection
        return pool

    def cut_until_ended(self, worker: threading.Thread) -> None:
        """End the connection, so that the thread reading from it wakes up.

        Once is not enough: a connection still in its TLS handshake cannot be reached, but has a timeout of its own.
        """
        while worker.is_alive():
            for connection in tuple(self._connections):
                with suppress(OSError, AttributeError):
                    connection.sock.shutdown(socket.SHUT_RDWR)
            worker.join(_AGAIN_SECONDS)
