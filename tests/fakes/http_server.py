"""An HTTP server made of scripts: raw bytes, silences and resets, as no well-behaved library would send them."""

import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

Script = Callable[[socket.socket], None]


class ScriptedServer:
    """Reads each request's head, then lets the current script do what it likes with the connection."""

    def __init__(
        self, script: Script, tls: ssl.SSLContext | None = None, listener: socket.socket | None = None
    ) -> None:
        self.script = script
        self.heads: list[str] = []
        self.bodies: list[bytes] = []
        self.sent = 0
        self.ended = threading.Event()
        self._tls = tls
        self._listener = listener or socket.create_server(("127.0.0.1", 0))
        self.port = 0 if listener else self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def paths(self) -> list[str]:
        """Return what was asked for, in order."""
        return [head.split(" ")[1] for head in self.heads]

    def stop(self) -> None:
        """Close everything and wait for the threads."""
        self.ended.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(timeout=120)
            assert not thread.is_alive(), "a connection to the scripted server was never closed"

    def _accept(self) -> None:
        while not self.ended.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True)
            with connection:
                head, body = self._request(connection)
                self.bodies.append(body)
                self.heads.append(head)
                self.script(connection)

    @staticmethod
    def _request(connection: socket.socket) -> tuple[str, bytes]:
        read = b""
        while b"\r\n\r\n" not in read and (more := connection.recv(65536)):
            read += more
        head, _, body = read.partition(b"\r\n\r\n")
        length = re.search(rb"^content-length: *(\d+)", head, re.MULTILINE | re.IGNORECASE)
        while length and len(body) < int(length[1]) and (more := connection.recv(65536)):
            body += more
        return head.decode("latin-1") + "\r\n\r\n", body

    def drip(self, pieces: Iterator[bytes], pause: float) -> Script:
        """Make a script that sends one piece after another until the other side has had enough."""

        def script(connection: socket.socket) -> None:
            for piece in pieces:
                if self.ended.wait(pause):
                    return
                connection.sendall(piece)
                self.sent += len(piece)

        return script


def say(data: bytes) -> Script:
    """Make a script that sends these bytes and closes."""

    def script(connection: socket.socket) -> None:
        connection.sendall(data)
        with suppress(OSError):
            connection.shutdown(socket.SHUT_WR)

    return script


def status(line: str, *headers: str) -> Script:
    """Make a script that answers with a status and an empty body."""
    return say("\r\n".join([f"HTTP/1.1 {line}", *headers, "Content-Length: 0", "", ""]).encode("latin-1"))


def reset_after(data: bytes) -> Script:
    """Make a script that sends these bytes and then a RST."""

    def script(connection: socket.socket) -> None:
        connection.sendall(data)
        time.sleep(0.05)  # let the bytes arrive: a RST overtakes what is not yet read
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return script


def listening_at(place: Path) -> socket.socket:
    """Listen on a unix socket that everybody may use."""
    place.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(place))
    place.chmod(0o666)
    listener.listen(256)
    return listener


@contextmanager
def serving(
    script: Script, tls: ssl.SSLContext | None = None, listener: socket.socket | None = None
) -> Iterator[ScriptedServer]:
    """Run a scripted server on a free port, or on a socket that is there."""
    server = ScriptedServer(script, tls, listener)
    try:
        yield server
    finally:
        server.stop()
