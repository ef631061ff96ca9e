"""What DNS-01 by hand needs: a prompt for the person who adds TXT records, and a watch on the nameservers."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from certctl.io.clock import Clock
from certctl.txt_records import TxtDemand, TxtSight
from certctl.values import CHALLENGE_LABEL


class Watch(Protocol):
    """Reads the TXT record of a zone's challenge from its nameservers (party 1)."""

    def look(self, zone: str, label: str = CHALLENGE_LABEL) -> TxtSight:
        """Return what every nameserver answers; never fails."""
        ...


class Prompt(Protocol):
    """Tells the person who edits the zone what to do."""

    def demand(self, demand: TxtDemand) -> None:
        """Show all records that must be added."""
        ...

    def sighted(self, demand: TxtDemand, sight: TxtSight) -> None:
        """Show which nameservers have the records by now.

        Raises:
            Interrupted: the person stopped the run.
        """
        ...

    def over(self) -> None:
        """End the display: there is no more to wait for."""
        ...


class SilentPrompt:
    """A ``Prompt`` that shows nothing, for solvers that need no person."""

    def demand(self, demand: TxtDemand) -> None:
        """Show nothing: no person has to act."""

    def sighted(self, demand: TxtDemand, sight: TxtSight) -> None:
        """Show nothing: no person has to act."""

    def over(self) -> None:
        """Show nothing: no person has to act."""


@dataclass(frozen=True, slots=True)
class ManualOperator:
    """A person who can edit the zone: how to prompt them, how to watch the nameservers, and how long to wait.

    Attributes:
        finishes: Whether an order that was begun before is finished; no other is placed then.
    """

    prompt: Prompt
    watch: Watch
    clock: Clock
    patience: timedelta
    finishes: bool = False
