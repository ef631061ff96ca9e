"""Solving the challenges of one order by a solver of ours, whichever engine handed them over."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from certctl.ca.solvers.base import Challenge, Solver
from certctl.errors import Refused
from certctl.slugs import Slug


@dataclass(slots=True)
class Solving:
    """What one order's challenges need.

    Attributes:
        solver: Shows the challenges.
        zones: The names we asked a certificate for, without ``*.``; a challenge for any other is refused.
        note: Called with the challenges before they are shown, so that a crash leaves a trace of them.
    """

    solver: Solver
    zones: Collection[str]
    note: Callable[[Sequence[Challenge]], None]
    _presented: list[Challenge] = field(default_factory=list)

    def solve(self, challenges: Sequence[Challenge]) -> None:
        """Return when the CA may look.

        Raises:
            CertctlError: it must not; whatever the solver raises, or ``ca-challenge-aborted``.
        """
        self._check(challenges)
        self.note(challenges)
        self._presented += challenges
        self.solver.present(challenges)
        self.solver.wait(challenges)

    def clean_up(self) -> None:
        """Take away what was shown; a second time does nothing."""
        self.solver.clean_up(self._presented)
        self._presented = []

    def _check(self, challenges: Sequence[Challenge]) -> None:
        for challenge in challenges:
            if challenge.domain not in self.zones or challenge.type != self.solver.challenge_type:
                raise Refused(
                    Slug.CA_CHALLENGE_ABORTED,
                    "the CA set a challenge that belongs to no name of this order",
                    seen=[f"{challenge.type} for {challenge.domain[:300]}"],
                    expected=[f"{self.solver.challenge_type} for {name}" for name in sorted(self.zones)],
                )
