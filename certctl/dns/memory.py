"""What resolvers said in earlier verifications, for as long as it holds.

Only positive answers, and only as long as their TTL says: then it is no older than what the resolver itself could
say. A negative answer is never kept: it is what a customer is about to change.
"""

import time

from dns.name import Name
from dns.rdatatype import RdataType

from certctl.dns.ask import Outcome, Reply

_LONGEST_SECONDS = 60
_MOST = 4096


class RecordCache:
    """Resolvers' answers about names and types. Safe to use from several threads; bounded."""

    def __init__(self) -> None:
        self._kept: dict[tuple[Name, RdataType], tuple[float, Reply]] = {}

    def keep(self, name: Name, kind: RdataType, reply: Reply) -> None:
        """Keep an answer if it is one with records."""
        if reply.outcome is not Outcome.RECORDS:
            return
        if len(self._kept) >= _MOST:
            self._kept = {}
        self._kept[name, kind] = (time.monotonic() + min(reply.ttl, _LONGEST_SECONDS), reply)

    def recall(self, name: Name, kind: RdataType) -> Reply | None:
        """Return an answer that still holds."""
        until, reply = self._kept.get((name, kind), (0.0, None))
        return reply if time.monotonic() < until else None
