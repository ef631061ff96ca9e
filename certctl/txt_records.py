"""The TXT records that prove control of a zone: those that must be in DNS, and those that are."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class TxtAnswer:
    """One nameserver's answer about a TXT record: its values, or why there is none."""

    server: str
    values: tuple[str, ...] = ()
    problem: str = ""

    def holds(self, values: Collection[str]) -> bool:
        """Tell whether this nameserver shows all of these values."""
        return not self.problem and set(values) <= set(self.values)

    def said_of(self, values: Collection[str]) -> str:
        """Return in a few words which of the wanted values this nameserver has."""
        if self.problem:
            return self.problem
        others = len(set(self.values) - set(values))
        shown = f"shows {sum(value in self.values for value in values)} of {len(values)}"
        return f"{shown}, and {others} other{'s' if others > 1 else ''}" if others else shown


@dataclass(frozen=True, slots=True)
class TxtSight:
    """Every nameserver's answer about one TXT record at one moment.

    Attributes:
        asked: The name the CA looks at.
        owner: The name that must have the record: where the CNAMEs of ``asked`` end.
        zone: The zone that holds ``owner``; empty when it was not found.
        answers: One per nameserver.
        notes: What a person should know about this name, such as a wildcard record above it.
    """

    asked: str
    owner: str
    zone: str = ""
    answers: tuple[TxtAnswer, ...] = ()
    notes: tuple[str, ...] = ()

    def agrees(self, values: Collection[str]) -> bool:
        """Tell whether every nameserver shows all of these values."""
        return bool(self.answers) and all(answer.holds(values) for answer in self.answers)

    def others(self, values: Collection[str]) -> tuple[str, ...]:
        """Return the other values that are in the record."""
        return tuple(sorted({value for answer in self.answers for value in answer.values} - set(values)))


class OrderOrigin(StrEnum):
    """Whether the order for which a person must add records is new, was placed before, or replaces a lost one."""

    NEW = "a new order"
    SAME = "the order that was begun before"
    ANEW = "a new order, because the one begun before has expired or failed"


@dataclass(frozen=True, slots=True)
class TxtDemand:
    """The TXT records that a person must put into DNS before the CA validates.

    Attributes:
        values: All of them must be at the same name at the same time.
        sight: What the nameservers had when the demand was made.
        until: When the order expires (RFC 8555 ``expires``), if the CA said so.
        patience_ends: When we give up waiting; None when nobody waits.
        stands: Whether the record must stay for good, so that every renewal finds it.
        opened: Whether the same was demanded before.
    """

    values: tuple[str, ...]
    sight: TxtSight
    until: datetime | None
    patience_ends: datetime | None = None
    stands: bool = False
    opened: OrderOrigin = OrderOrigin.NEW

    @property
    def ttl(self) -> int:
        """Return the TTL to ask for, in seconds: short, so that a mistake can be mended soon."""
        return 3600 if self.stands else 60

    @property
    def summary(self) -> str:
        """Return the demand in half a line."""
        count = len(self.values)
        records = f"{count} TXT record{'' if count == 1 else 's'} to make at {self.sight.owner}"
        return f"{records}; {self.opened}" if count else "the CA asks for no proof this time"
