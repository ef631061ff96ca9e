"""The story up to the point where it would cost something: for ``--dry-run``."""

from collections.abc import Sequence

from certctl.domain import Domain
from certctl.stories.issue import side_by_side, welcome
from certctl.stories.journey import Journey, Step
from certctl.values import Done
from certctl.world import World


def preflight(journeys: Sequence[Journey], world: World, *, jobs: int = 1) -> None:
    """Verify, ask for approval, and try what an order would need; nothing is ordered, nothing stays written."""
    for _ in side_by_side(journeys, lambda journey: _look(journey, world), jobs):
        pass


def _look(journey: Journey, world: World) -> None:
    with journey.attempt():
        welcome(journey, world)
        journey.step(Step.PROBE, _probe, journey.domain, world)


def _probe(domain: Domain, world: World) -> Done:
    """Ask nginx for a challenge and for TLS, and the CA for its directory: free, each of them."""
    done = (world.web.require_challenge(domain), world.web.require_tls(), world.ca.require_ready())
    return Done("; ".join(each.summary for each in done), changed=False)
