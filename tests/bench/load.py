"""Visitors, and what they cost a server: handshakes from several processes, CPU and memory from /proc."""

import socket
import ssl
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cryptography import x509

_PROCESSES = 2


@dataclass(frozen=True, slots=True)
class Visit:
    """One visit over a new connection with a full handshake.

    Attributes:
        seconds: From connecting to the last byte of the page.
        handshake: From connecting to the end of the TLS handshake.
        status: The HTTP status; 0 when there was none.
        names: The SANs of the leaf that was shown.
        fault: Why it failed, empty when it did not.
    """

    name: str
    seconds: float
    handshake: float = 0.0
    status: int = 0
    names: tuple[str, ...] = ()
    fault: str = ""

    @property
    def ok(self) -> bool:
        """Tell whether the page came under a certificate for this name."""
        return self.status == 200 and self.name in self.names


def visit(port: int, name: str, path: str = "/", patience: float = 20) -> Visit:
    """Go to ``https://name/path`` at a local port; the chain is not verified, the leaf's names are returned."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    began = time.perf_counter()
    try:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=patience) as plain,
            context.wrap_socket(_as_browsers_do(plain), server_hostname=name) as secure,
        ):
            handshake = time.perf_counter() - began
            leaf = secure.getpeercert(binary_form=True) or b""
            secure.sendall(f"GET {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
            head = b"".join(iter(lambda: secure.recv(65536), b""))
    except OSError as error:
        return Visit(name, time.perf_counter() - began, fault=str(error))
    seconds = time.perf_counter() - began
    return Visit(name, seconds, handshake, int(head.split(b" ", 2)[1] or b"0"), _san(leaf))


def _as_browsers_do(plain: socket.socket) -> socket.socket:
    """Send small pieces at once: else the request waits for the acknowledgement of the handshake's last one."""
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return plain


def visits(port: int, names: Sequence[str], at_once: int) -> list[Visit]:
    """Visit every name, ``at_once`` of them at a time, from several processes."""
    if at_once == 1:
        return [visit(port, name) for name in names]
    parts = [names[number::_PROCESSES] for number in range(_PROCESSES)]
    with ProcessPoolExecutor(_PROCESSES) as pool:
        crowds = pool.map(partial(_crowd, port, max(1, at_once // _PROCESSES)), [list(part) for part in parts])
        return [seen for crowd in crowds for seen in crowd]


def _crowd(port: int, at_once: int, names: list[str]) -> list[Visit]:
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(partial(visit, port), names))


def _san(leaf: bytes) -> tuple[str, ...]:
    if not leaf:
        return ()
    parsed = x509.load_der_x509_certificate(leaf)
    return tuple(parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
        x509.DNSName
    ))  # fmt: skip


def quantile(values: Iterable[float], share: float) -> float:
    """Return the value below which that share lies (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def family(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    found, ahead = [], [pid]
    while ahead:
        this = ahead.pop()
        found.append(this)
        for task in Path(f"/proc/{this}/task").glob("*/children"):
            ahead += [int(child) for child in task.read_text().split()]
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the CPU time of processes with all their threads (proc(5), schedstat: nanoseconds on the CPU)."""
    return sum(
        int(stat.read_text().split()[0]) / 1e9
        for pid in pids
        for stat in Path(f"/proc/{pid}/task").glob("*/schedstat")
    )


def pss_megabytes(pids: Iterable[int]) -> float:
    """Return the proportional set size of processes: memory they share is counted once (proc(5), smaps_rollup)."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total / 1024


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Wait until something is so, or fail."""
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, "it did not happen in time"
        time.sleep(0.01)
