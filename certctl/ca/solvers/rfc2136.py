"""DNS-01 by our own dynamic updates: the record is written where its CNAMEs end, by a clerk instead of a person.

Everything else is as by hand: every nameserver must show the record before the CA may look.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from certctl.ca.solvers.base import Challenge
from certctl.ca.solvers.dns01 import PropagatingDns01
from certctl.io.clock import Clock
from certctl.ports.manual_dns import ManualOperator, SilentPrompt, Watch
from certctl.txt_records import TxtDemand
from certctl.values import DnsSolver

PATIENCE = timedelta(minutes=5)  # a secondary nameserver takes a change over when it is notified
_PLUGINS = frozenset({"rfc2136"})


class Updates(Protocol):
    """Writes TXT records (party 1)."""

    def add(self, zone: str, owner: str, values: Sequence[str]) -> None:
        """Add records beside whatever stands there."""
        ...

    def remove(self, zone: str, owner: str, values: Sequence[str]) -> None:
        """Remove these records and no others."""
        ...


@dataclass(frozen=True, slots=True)
class TxtAutomation:
    """What writing elsewhere needs: eyes on the nameservers, a writer for a solver's credentials, and time."""

    watch: Watch
    updates: Callable[[DnsSolver], Updates]
    clock: Clock

    def unattended(self, patience: timedelta) -> ManualOperator:
        """Return what looks at the nameservers where nobody has to do anything."""
        return ManualOperator(SilentPrompt(), self.watch, self.clock, patience)

    def knows(self, solver: DnsSolver) -> bool:
        """Tell whether we can write with this solver's credentials ourselves."""
        return solver.plugin in _PLUGINS

    def must_follow(self, zone: str) -> bool:
        """Tell whether this zone's record must stand elsewhere, where certbot's plugins do not write."""
        sight = self.watch.look(zone)
        return sight.owner != sight.asked


@dataclass(frozen=True, slots=True)
class TxtWriter(SilentPrompt):
    """Writes what is demanded, and needs to be told nothing more."""

    updates: Updates

    def demand(self, demand: TxtDemand) -> None:
        """Write the records where the CNAME ends."""
        self.updates.add(demand.sight.zone, demand.sight.owner, demand.values)


class DnsByUpdate(PropagatingDns01):
    """Fits ``solvers.base.Solver``; takes its own records away again."""

    def __init__(
        self, automation: TxtAutomation, solver: DnsSolver, order_ends: Callable[[], datetime | None]
    ) -> None:
        self._updates = automation.updates(solver)
        self._watch_here = automation.watch
        super().__init__(
            ManualOperator(TxtWriter(self._updates), automation.watch, automation.clock, PATIENCE), order_ends
        )

    def clean_up(self, challenges: Sequence[Challenge]) -> None:
        """Remove our records, also those a killed run left; where they stand is looked up again."""
        if challenges:
            sight = self._watch_here.look(challenges[0].domain)
            self._updates.remove(sight.zone, sight.owner, [challenge.validation for challenge in challenges])
