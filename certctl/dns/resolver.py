"""The resolvers we may ask, and one bounded round of asking.

A ``Resolver`` lives for one verification: it repeats no question and gives up at its deadline. What it learns of
nameservers and of our own target may also come from a ``RecordCache`` that several verifications share.
``getaddrinfo`` never takes part: it hides who said what, and knows nothing of CNAME, CAA or NXDOMAIN.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar

import dns.name
import dns.rdatatype
from dns.name import Name
from dns.rdatatype import RdataType

from certctl.dns.ask import Outcome, Reply, Server, ask
from certctl.dns.memory import RecordCache
from certctl.dns.settings import DNS_PORT, DnsSettings
from certctl.errors import ConfigInvalid, Unreachable
from certctl.io.clock import Deadline
from certctl.slugs import Slug

MAX_AT_ONCE = 8
_ASKING = ThreadPoolExecutor(64, thread_name_prefix="dns")

Item = TypeVar("Item")
Result = TypeVar("Result")


class Resolver:
    """Ask the resolvers in their order; the first that answers is believed."""

    def __init__(self, settings: DnsSettings, memory: RecordCache | None = None) -> None:
        self.servers = _servers(settings)
        self._memory = memory or RecordCache()
        self._patience = settings.patience
        self._deadline = Deadline.after(settings.deadline)
        self._replies: dict[tuple[Name, RdataType], Reply] = {}

    def resolve(self, name: Name, kind: RdataType) -> Reply:
        """Return the first usable reply of a resolver, else the most telling of those that are not."""
        key = (name, kind)
        if key not in self._replies:
            self._replies[key] = self._first_usable(name, kind)
        return self._replies[key]

    def resolve_cached(self, name: Name, kind: RdataType) -> Reply:
        """Return what an earlier verification was told and still holds, else ``resolve``.

        For what is not the customer's own record: whoever has just changed that must not hear the old one.
        """
        reply = self._memory.recall(name, kind)
        if reply is None:
            reply = self.resolve(name, kind)
            self._memory.keep(name, kind, reply)
        return reply

    def ask(self, server: Server, name: Name, kind: RdataType) -> Reply:
        """Ask one server, within the deadline of the whole."""
        return ask(server, name, kind, patience=self._patience, deadline=self._deadline)

    def in_parallel(self, work: Callable[[Item], Result], items: Iterable[Item]) -> tuple[Result, ...]:
        """Do one thing to many at the same time, so that the slowest decides and not the sum.

        A thread costs more than a question, so all who ask share theirs. Whoever finds them busy does the work
        itself: that is why this may be nested, and why nobody waits behind somebody else's silent nameserver.
        """
        everything = tuple(items)
        others = [_ASKING.submit(work, item) for item in everything[1:]]
        results = [work(item) for item in everything[:1]]
        for item, other in zip(everything[1:], others, strict=True):
            results.append(work(item) if other.cancel() else other.result())
        return tuple(results)

    def resolves_tld(self, name: Name) -> bool:
        """Tell whether the resolvers can find the top-level domain of a name: if not, it is they who are ill."""
        top = Name(name.labels[-2:])
        return self.resolve(top, dns.rdatatype.NS).usable

    def _first_usable(self, name: Name, kind: RdataType) -> Reply:
        replies: list[Reply] = []
        for server in self.servers:
            replies.append(self.ask(server, name, kind))
            if replies[-1].usable:
                return replies[-1]
        return next((reply for reply in replies if reply.outcome is Outcome.FAILED), replies[0])


def parse_server(text: str) -> Server:
    """Parse ``ip``, ``ip:port`` or ``[ip]:port`` into a resolver.

    Raises:
        ConfigInvalid: it is none of these.
    """
    host, colon, port = text.rpartition(":")
    if not colon or (":" in host and not host.endswith("]")):
        host, port = text, str(DNS_PORT)
    try:
        address = str(ip_address(host.removeprefix("[").removesuffix("]")))
        return Server(address, int(port), text, recursive=True)
    except ValueError as error:
        raise ConfigInvalid(Slug.CONFIG_INVALID, f"{text!a} is not the address of a resolver") from error


def _servers(settings: DnsSettings) -> tuple[Server, ...]:
    return tuple(map(parse_server, settings.resolvers)) or _system(settings.resolv_conf)


def _system(path: Path) -> tuple[Server, ...]:
    """Read the host's resolvers (resolv.conf(5))."""
    try:
        rows = [line.split() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
        servers = tuple(parse_server(row[1]) for row in rows if row[:1] == ["nameserver"] and len(row) > 1)
        reason = "names no nameserver"
    except (OSError, ConfigInvalid) as error:
        servers, reason = (), f"cannot be used: {error}"
    if not servers:
        raise Unreachable(
            Slug.DNS_UNREACHABLE,
            f"there is no resolver to ask: {path} {reason}",
            expected=["nameserver IP in that file, or [dns] resolvers in certctl's configuration"],
            next=["certctl doctor"],
        )
    return servers
