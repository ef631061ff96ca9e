"""The story up to the point where it would cost something: for ``--dry-run``."""

from collections.abc import Sequence

from certctl.stories.issue import side_by_side, welcome
from certctl.stories.journey import Journey
from certctl.world import World


def preflight(journeys: Sequence[Journey], world: World, *, jobs: int = 1) -> None:
    """Verify and ask for approval, and leave no trace: nothing ordered, nothing written."""
    for _ in side_by_side(journeys, lambda journey: _look(journey, world), jobs):
        pass


def _look(journey: Journey, world: World) -> None:
    with journey.attempt():
        welcome(journey, world)
