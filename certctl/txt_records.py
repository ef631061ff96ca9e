"""The TXT records by which a zone is proven to be ours: what must stand in DNS, and what does."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class TxtAnswer:
    """What one nameserver says about a TXT record: its values, or why there is no answer."""

    server: str
    values: tuple[str, ...] = ()
    problem: str = ""

    def holds(self, values: Collection[str]) -> bool:
        """Tell whether this nameserver shows all of these values."""
        return not self.problem and set(values) <= set(self.values)

    def said_of(self, values: Collection[str]) -> str:
        """Say in a few words what this nameserver shows of the wanted values."""
        if self.problem:
            return self.problem
        others = len(set(self.values) - set(values))
        shown = f"shows {sum(value in self.values for value in values)} of {len(values)}"
        return f"{shown}, and {others} other{'s' if others > 1 else ''}" if others else shown


@dataclass(frozen=True, slots=True)
class TxtSight:
    """What every nameserver says about one TXT record at one moment.

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
        """Return what stands there besides these values."""
        return tuple(sorted({value for answer in self.answers for value in answer.values} - set(values)))


class Opened(StrEnum):
    """How the order came about for which a person must make records."""

    NEW = "a new order"
    SAME = "the order that was begun before"
    ANEW = "a new order, because the one begun before has expired or failed"


@dataclass(frozen=True, slots=True)
class TxtDemand:
    """What a person must put into DNS before the CA may look.

    Attributes:
        values: All of them must stand at the same name at the same time.
        sight: What stood there when the demand was made.
        until: When the CA forgets the order, if it said so.
        patience_ends: When we give up waiting; None when nobody waits.
        stands: Whether the record must stay for good, so that every renewal finds it.
        opened: Whether the same was demanded before.
    """

    values: tuple[str, ...]
    sight: TxtSight
    until: datetime | None
    patience_ends: datetime | None = None
    stands: bool = False
    opened: Opened = Opened.NEW

    @property
    def ttl(self) -> int:
        """Return the time to live to ask for, in seconds: short for what a mistake in must be mended soon."""
        return 3600 if self.stands else 60

    @property
    def summary(self) -> str:
        """Say it in half a line."""
        count = len(self.values)
        records = f"{count} TXT record{'' if count == 1 else 's'} to make at {self.sight.owner}"
        return f"{records}; {self.opened}" if count else "the CA asks for no proof this time"
