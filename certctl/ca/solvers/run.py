"""Solve the challenges of one order with one of our solvers, for either engine."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from certctl.ca.solvers.base import Challenge, Solver
from certctl.errors import Refused
from certctl.slugs import Slug


@dataclass(slots=True)
class Solving:
    """The challenges of one order, from ``present`` to ``clean_up``.

    Attributes:
        solver: Presents the challenges.
        zones: The names of the order without ``*.``; a challenge for any other name is refused.
        note: Called with the challenges before they are presented, so that the run after a crash can remove them.
    """

    solver: Solver
    zones: Collection[str]
    note: Callable[[Sequence[Challenge]], None]
    _presented: list[Challenge] = field(default_factory=list)

    def solve(self, challenges: Sequence[Challenge]) -> None:
        """Present the challenges and return when the CA may validate.

        Raises:
            CertctlError: it may not: the solver's error, or ``ca-challenge-aborted``.
        """
        self._check(challenges)
        self.note(challenges)
        self._presented += challenges
        self.solver.present(challenges)
        self.solver.wait(challenges)

    def clean_up(self) -> None:
        """Remove what was presented; a second call does nothing."""
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
