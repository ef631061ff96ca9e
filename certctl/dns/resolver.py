"""The configured resolvers, and the queries of one verification within its deadline.

A ``Resolver`` lives for one verification: it repeats no query and stops at its deadline. Answers about nameservers
and our own target may come from the ``ResolverCache`` that several verifications share. ``getaddrinfo`` is not
used: it does not tell which server answered, and has no CNAME, CAA or NXDOMAIN.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar

import dns.name
import dns.rdatatype
from dns.name import Name
from dns.rdatatype import RdataType

from certctl.dns.ask import Outcome, Reply, Server, ask
from certctl.dns.resolver_cache import ResolverCache
from certctl.dns.settings import DNS_PORT, DnsSettings
from certctl.errors import ConfigInvalid, Unreachable
from certctl.io.clock import Deadline
from certctl.slugs import Slug

MAX_AT_ONCE = 8
_HURRY = timedelta(milliseconds=300)
_ASKING = ThreadPoolExecutor(64, thread_name_prefix="dns")

Item = TypeVar("Item")
Result = TypeVar("Result")


class Resolver:
    """Queries the resolvers in their order, and takes the first usable reply."""

    def __init__(self, settings: DnsSettings, cache: ResolverCache | None = None) -> None:
        self.servers = _servers(settings)
        self._cache = cache or ResolverCache()
        self._patience = settings.patience
        self._deadline = Deadline.after(settings.deadline)
        self._replies: dict[tuple[Name, RdataType], Reply] = {}

    def resolve(self, name: Name, kind: RdataType) -> Reply:
        """Return the first usable reply of a resolver, else the most telling of the failures."""
        key = (name, kind)
        if key not in self._replies:
            self._replies[key] = self._first_usable(name, kind)
        return self._replies[key]

    def resolve_cached(self, name: Name, kind: RdataType) -> Reply:
        """Return the reply that an earlier verification cached, else ``resolve``.

        The customer's own record must not be asked for here: it may just have been changed.
        """
        reply = self._cache.recall(name, kind)
        if reply is None:
            reply = self.resolve(name, kind)
            self._cache.keep(name, kind, reply)
        return reply

    def ask(self, server: Server, name: Name, kind: RdataType) -> Reply:
        """Return one server's reply, within the deadline of the verification."""
        return ask(server, name, kind, patience=self._patience, deadline=self._deadline)

    def in_parallel(self, work: Callable[[Item], Result], items: Iterable[Item]) -> tuple[Result, ...]:
        """Return the results of ``work`` for all items, done at the same time.

        All verifications share a pool of threads, because a thread costs more than a query. A caller that finds the
        pool busy does the work itself: so calls may be nested, and none waits for another's silent nameserver.
        """
        everything = tuple(items)
        others = [_ASKING.submit(work, item) for item in everything[1:]]
        results = [work(item) for item in everything[:1]]
        for item, other in zip(everything[1:], others, strict=True):
            results.append(work(item) if other.cancel() else other.result())
        return tuple(results)

    def resolves_tld(self, name: Name) -> bool:
        """Tell whether the resolvers find the top-level domain of a name; if not, they are at fault."""
        top = Name(name.labels[-2:])
        return self.resolve(top, dns.rdatatype.NS).usable

    def _first_usable(self, name: Name, kind: RdataType) -> Reply:
        """Return the first usable reply, else the first failure: all resolvers in a hurry, then patiently.

        The silent ones are asked again with the whole patience. A resolver that was silent where another answered
        comes last for a minute, so a dead one delays one query, not each.
        """
        silent, failed = list[Reply](), list[Reply]()
        servers = self._cache.responsive_first(self.servers)
        for patience in (min(_HURRY, self._patience), self._patience) if len(servers) > 1 else (self._patience,):
            for server in servers:
                reply = ask(server, name, kind, patience=patience, deadline=self._deadline)
                if reply.usable:
                    self._cache.note_silent({each.server for each in silent} - {server})
                    return reply
                (silent if reply.outcome is Outcome.SILENT else failed).append(reply)
            servers = tuple(server for server in servers if server not in {each.server for each in failed})
        return (failed or silent)[0]


def parse_server(text: str) -> Server:
    """Return the resolver that ``ip``, ``ip:port`` or ``[ip]:port`` names.

    Raises:
        ConfigInvalid: the text is none of these.
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
    """Return the host's resolvers (resolv.conf(5))."""
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
