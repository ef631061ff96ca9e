"""DNS-01 by dynamic update (RFC 2136): certctl writes the TXT records where the challenge's CNAMEs end.

As with records added by hand, every nameserver must show them before the CA may validate.
"""

from collections.abc import Callable, Mapping, Sequence
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


class Updates(Protocol):
    """Adds and removes TXT records by dynamic update; DNS (party 1) implements it."""

    def add(self, zone: str, owner: str, values: Sequence[str]) -> None:
        """Add TXT records to a zone at ``owner``, beside those that stand there."""
        ...

    def remove(self, zone: str, owner: str, values: Sequence[str]) -> None:
        """Remove these TXT records and no others."""
        ...


@dataclass(frozen=True, slots=True)
class TxtAutomation:
    """What automatic TXT records need: a watch on the nameservers, a writer for a solver, and a clock."""

    watch: Watch
    updates: Mapping[str, Callable[[DnsSolver], Updates]]
    clock: Clock

    def unattended(self, patience: timedelta) -> ManualOperator:
        """Return a ``ManualOperator`` with no person: it polls the nameservers and prompts for nothing."""
        return ManualOperator(SilentPrompt(), self.watch, self.clock, patience)

    def knows(self, solver: DnsSolver) -> bool:
        """Tell whether certctl can write with this solver's credentials itself."""
        return solver.plugin in self.updates

    def must_follow(self, zone: str) -> bool:
        """Tell whether a zone's challenge name is a CNAME: certbot's plugins do not write at its end."""
        sight = self.watch.look(zone)
        return sight.owner != sight.asked


@dataclass(frozen=True, slots=True)
class TxtWriter(SilentPrompt):
    """A prompt that writes the demanded records itself instead of asking a person."""

    updates: Updates

    def demand(self, demand: TxtDemand) -> None:
        """Write the records at the end of the challenge's CNAMEs."""
        self.updates.add(demand.sight.zone, demand.sight.owner, demand.values)


class DnsByUpdate(PropagatingDns01):
    """Implements ``solvers.base.Solver`` by dynamic update; removes its records afterwards."""

    def __init__(
        self, automation: TxtAutomation, solver: DnsSolver, order_ends: Callable[[], datetime | None]
    ) -> None:
        self._updates = automation.updates[solver.plugin](solver)
        self._watch_here = automation.watch
        super().__init__(
            ManualOperator(TxtWriter(self._updates), automation.watch, automation.clock, PATIENCE), order_ends
        )

    def clean_up(self, challenges: Sequence[Challenge]) -> None:
        """Remove our records, and those of a killed run, where the CNAMEs end now."""
        if challenges:
            sight = self._watch_here.look(challenges[0].domain)
            self._updates.remove(sight.zone, sight.owner, [challenge.validation for challenge in challenges])
