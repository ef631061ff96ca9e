"""What verifications share: resolvers' answers, each for its TTL (RFC 2181 §8), and which resolvers are silent.

Only positive answers are kept, so none is older than what the resolver itself could answer. A negative answer is
never kept: it is what a customer is about to change.
"""

import time
from collections.abc import Iterable, Sequence

from dns.name import Name
from dns.rdatatype import RdataType

from certctl.dns.ask import Outcome, Reply, Server

_LONGEST_SECONDS = 60
_MOST = 4096


class ResolverCache:
    """A bounded cache of replies, and of silent resolvers; safe to use from several threads."""

    def __init__(self) -> None:
        self._kept: dict[tuple[Name, RdataType], tuple[float, Reply]] = {}
        self._silent: dict[Server, float] = {}

    def note_silent(self, servers: Iterable[Server]) -> None:
        """Note for a minute the resolvers that were silent where another one answered."""
        until = time.monotonic() + _LONGEST_SECONDS
        self._silent.update((server, until) for server in servers)

    def responsive_first(self, servers: Sequence[Server]) -> tuple[Server, ...]:
        """Return resolvers in their order, those last that were silent in the last minute."""
        now = time.monotonic()
        return tuple(sorted(servers, key=lambda server: self._silent.get(server, 0.0) > now))

    def keep(self, name: Name, kind: RdataType, reply: Reply) -> None:
        """Keep a reply that has records."""
        if reply.outcome is not Outcome.RECORDS:
            return
        if len(self._kept) >= _MOST:
            self._kept = {}
        self._kept[name, kind] = (time.monotonic() + min(reply.ttl, _LONGEST_SECONDS), reply)

    def recall(self, name: Name, kind: RdataType) -> Reply | None:
        """Return a reply whose TTL has not passed; None when there is none."""
        until, reply = self._kept.get((name, kind), (0.0, None))
        return reply if time.monotonic() < until else None
