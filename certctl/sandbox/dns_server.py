"""The sandbox's DNS server: one port, UDP and TCP, on several loopback addresses.

The first address is the resolver, the others are nameservers (see ``zone_file``). Runs in a process of its own
(``python -m certctl.sandbox.dns_server``) or in a thread (``with DnsServer(...)``). Whatever bytes arrive, it
stays up: a packet it cannot read gets FORMERR or nothing.
"""

import argparse
import asyncio
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self, cast

import dns.exception
import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdatatype

from certctl.errors import CertctlError
from certctl.sandbox.dns_answers import answer, failure, format_error, truncated
from certctl.sandbox.dns_ports import bind_everywhere
from certctl.sandbox.dns_view import Index, Viewpoint, index
from certctl.sandbox.zone_file import NAMESERVERS, RESOLVER, DnsWorld, Fault, load

ADDRESSES = (RESOLVER, *NAMESERVERS)
_TCP, _UDP = "tcp", "udp"
_TCP_LIMIT = 65535
_UDP_LIMIT = 512
_START_SECONDS = 10
_IDLE_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Asked:
    """One query that arrived, for tests to count."""

    address: str
    name: str
    type: str
    transport: str


class DnsServer:
    """Serves a world file until the ``with`` block ends; ``port`` is its port and ``log`` the queries it got."""

    def __init__(self, file: Path, *, port: int = 0, addresses: Sequence[str] = ADDRESSES) -> None:
        self.log: list[Asked] = []
        self._file = file
        self._addresses = tuple(addresses)
        self._version: tuple[int, int, int] | None = None
        self._index = index(DnsWorld())
        self._sockets, self.port = bind_everywhere(self._addresses, port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.run, name="sandbox-dns", daemon=True)
        self._ready = threading.Event()
        self._stop = asyncio.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(_START_SECONDS):
            raise TimeoutError("the sandbox's DNS server did not start")
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._thread.join()

    def run(self) -> None:
        """Serve in this thread until ``stop``."""
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    def stop(self) -> None:
        """End ``run``, from any thread or from a signal handler."""
        self._loop.call_soon_threadsafe(self._stop.set)

    async def _serve(self) -> None:
        open_ends: list[asyncio.DatagramTransport | asyncio.Server] = []
        for address, (udp, tcp) in zip(self._addresses, self._sockets, strict=True):
            reply = partial(self._reply, address)
            transport, _ = await self._loop.create_datagram_endpoint(partial(_Datagrams, reply), sock=udp)
            open_ends += [transport, await asyncio.start_server(partial(_converse, reply), sock=tcp)]
        self._ready.set()
        await self._stop.wait()
        for end in open_ends:
            end.close()

    async def _reply(self, address: str, transport: str, wire: bytes) -> bytes | None:
        """Return the bytes of the response to a query; None for no response."""
        try:
            query = dns.message.from_wire(wire)
        except (dns.exception.DNSException, ValueError, EOFError):
            return format_error(wire)
        if query.flags & dns.flags.QR:
            return None
        limit = _TCP_LIMIT if transport == _TCP else max(_UDP_LIMIT, query.payload)
        response = await self._answer(query, address, transport)
        return response.to_wire(max_size=limit, prefer_truncation=True) if response else None

    async def _answer(self, query: dns.message.Message, address: str, transport: str) -> dns.message.Message | None:
        if query.opcode() != dns.opcode.QUERY or len(query.question) != 1:
            return failure(query, dns.rcode.NOTIMP)
        question = query.question[0]
        kind = dns.rdatatype.to_text(question.rdtype)
        self.log.append(Asked(address, question.name.to_text(omit_final_dot=True).lower(), kind, transport))
        view = Viewpoint(self._current(), address, is_resolver=address == self._addresses[0])
        rule = view.fault(question.name, question.rdtype)
        match rule.fault if rule else None:
            case Fault.DROP:
                return None
            case Fault.SERVFAIL | Fault.REFUSED | Fault.NXDOMAIN as fault:
                return failure(query, dns.rcode.from_text(fault))
            case Fault.TRUNCATE if transport == _UDP:
                return truncated(query)
            case Fault.DELAY if rule:
                await asyncio.sleep(rule.seconds)
        return answer(query, view)

    def _current(self) -> Index:
        """Return the world, read again when the file was replaced; a broken file is ignored."""
        try:
            state = self._file.stat()
            version = (state.st_mtime_ns, state.st_size, state.st_ino)
        except OSError:
            version = (0, 0, 0)
        if version != self._version:
            self._version = version
            try:
                self._index = index(load(self._file))
            except CertctlError as error:
                print(error.message, file=sys.stderr, flush=True)  # noqa: T201 - a program of its own
        return self._index


_Reply = Callable[[str, bytes], Coroutine[None, None, bytes | None]]


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, reply: _Reply) -> None:
        self._reply = reply
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Python 3.11's own datagram transport does not inherit from DatagramTransport, so isinstance would lie.
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        task = asyncio.get_running_loop().create_task(self._respond(data, addr))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _respond(self, data: bytes, addr: tuple[str, int]) -> None:
        response = await self._reply(_UDP, data)
        if response:
            self._transport.sendto(response, addr)


async def _converse(reply: _Reply, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the queries of one TCP connection (RFC 7766), until it ends or is idle."""
    try:
        with suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
            async with asyncio.timeout(_IDLE_SECONDS):
                while True:
                    wire = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
                    if response := await reply(_TCP, wire):
                        writer.write(len(response).to_bytes(2, "big") + response)
                        await writer.drain()
    finally:
        writer.close()


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM or SIGINT; print ``ready PORT`` once every address accepts queries."""
    parser = argparse.ArgumentParser(prog="python -m certctl.sandbox.dns_server")
    parser.add_argument("--file", type=Path, required=True, help="the world file (JSON)")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--address", action="append", help="repeatable; the first is the resolver")
    options = parser.parse_args(arguments)
    server = DnsServer(options.file, port=options.port, addresses=options.address or ADDRESSES)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    print(f"ready {server.port}", flush=True)  # noqa: T201 - a program of its own
    server.run()


if __name__ == "__main__":
    main()
