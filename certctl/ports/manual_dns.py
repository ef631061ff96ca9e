"""What DNS-01 by hand takes: a person who is told what to add, and a look at the nameservers."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from certctl.io.clock import Clock
from certctl.txt_records import TxtDemand, TxtSight
from certctl.values import CHALLENGE_LABEL


class Watch(Protocol):
    """Looks at the TXT record of a zone's challenge (party 1)."""

    def look(self, zone: str, label: str = CHALLENGE_LABEL) -> TxtSight:
        """Say what every nameserver shows; never fails."""
        ...


class Prompt(Protocol):
    """Talks to the person who edits the zone."""

    def demand(self, demand: TxtDemand) -> None:
        """Show all records that are needed."""
        ...

    def sighted(self, demand: TxtDemand, sight: TxtSight) -> None:
        """Show how far it is.

        Raises:
            Interrupted: the person has had enough.
        """
        ...

    def over(self) -> None:
        """Stop showing it."""
        ...


class SilentPrompt:
    """Fits ``Prompt`` where nobody needs to be told."""

    def demand(self, demand: TxtDemand) -> None:
        """Keep it."""

    def sighted(self, demand: TxtDemand, sight: TxtSight) -> None:
        """Keep it."""

    def over(self) -> None:
        """Rest."""


@dataclass(frozen=True, slots=True)
class ManualOperator:
    """What solving by hand needs: someone to tell, eyes on the nameservers, and patience.

    Attributes:
        finishes: The person comes back to an order that was begun before; no other is made.
    """

    prompt: Prompt
    watch: Watch
    clock: Clock
    patience: timedelta
    finishes: bool = False
