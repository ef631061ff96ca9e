"""How the challenges of one order are solved: over HTTP, by hand in DNS, or by a certbot plugin alone."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from certctl.ca.dns01 import DnsByHand, Person
from certctl.ca.dns_plugin import authenticator, require_plugin, require_private_files
from certctl.ca.dns_update import PATIENCE, DnsByUpdate, Office
from certctl.ca.profiles import patient_profile
from certctl.ca.settings import CaSettings
from certctl.ca.solver import Solver
from certctl.errors import ConfigInvalid
from certctl.values import DnsSolver

_LONGEST_PROPAGATION = timedelta(minutes=20)  # no plugin of certbot's house waits longer by itself


@dataclass(frozen=True, slots=True)
class Way:
    """One order's settings, certbot's words for its authenticator, and our solver when it is ours.

    Attributes:
        solver: None when a certbot plugin does it all.
    """

    settings: CaSettings
    authenticator: tuple[str, ...]
    solver: Solver | None

    @property
    def is_by_hand(self) -> bool:
        """Tell whether a person makes the records, who may come back to the same order later."""
        return isinstance(self.solver, DnsByHand) and not isinstance(self.solver, DnsByUpdate)

    @property
    def proof(self) -> str:
        """Return what a person put into DNS for it, in words."""
        return self.solver.proof if isinstance(self.solver, DnsByHand) else ""


def ours(settings: CaSettings, solver: Solver) -> Way:
    """Solve in our own process, by our own authenticator."""
    words = ("--authenticator=certctl", f"--preferred-challenges={solver.challenge_type}")
    return Way(settings, words, solver)


def by_hand(settings: CaSettings, person: Person | None, order_ends: Callable[[], datetime | None]) -> Way:
    """Solve with a person's help, in that person's time.

    Raises:
        ConfigInvalid: ``wildcard-manual``, there is nobody to ask.
    """
    if person is None:
        raise ConfigInvalid("wildcard-manual", "its DNS records are made by hand, and nobody is here to make them")
    slow = replace(
        settings,
        deadline=settings.deadline + person.patience,
        profile=settings.profile or patient_profile(settings),
    )
    return ours(slow, DnsByHand(person, order_ends))


def by_update(
    settings: CaSettings, office: Office, solver: DnsSolver, order_ends: Callable[[], datetime | None]
) -> Way:
    """Write the record by ourselves, at the end of a CNAME that the plugin would not follow.

    Raises:
        ConfigInvalid: the credentials file cannot be read by us, or can be read by others.
    """
    require_private_files(solver)
    slow = replace(settings, deadline=settings.deadline + PATIENCE)
    return ours(slow, DnsByUpdate(office, solver, order_ends))


def by_plugin(settings: CaSettings, solver: DnsSolver) -> Way:
    """Let certbot and its plugin do it.

    Raises:
        ConfigInvalid: the plugin is not there, or its options cannot be right.
    """
    require_plugin(solver, settings)
    asked = dict(solver.options).get("propagation-seconds", "")
    waits = timedelta(seconds=int(asked)) if asked.isdecimal() else _LONGEST_PROPAGATION
    return Way(replace(settings, deadline=settings.deadline + waits), tuple(authenticator(solver)), None)
