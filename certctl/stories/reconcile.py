"""The story: make the mirror and nginx equal to the store, after a crash, a restore or a hand's mistake."""

from collections.abc import Callable, Sequence

from certctl.domain import Domain
from certctl.stories.issue import deploy
from certctl.stories.journey import Journey, Step, take_together
from certctl.values import State
from certctl.world import World


def reconcile(world: World, start: Callable[[Domain], Journey]) -> Sequence[Journey]:
    """Publish every live domain of the store and take out what the store does not know.

    Idempotent: where nothing differs, nothing is written and nginx is not reloaded.
    """
    return [*publish_everyone(world, start), *_take_out(world, start)]


def publish_everyone(world: World, start: Callable[[Domain], Journey]) -> Sequence[Journey]:
    """Publish every live domain of the store, each as it is to be served now."""
    journeys = [begin(row.domain, start, world) for row in world.store.domains() if row.certificate]
    deploy(journeys, world)
    return journeys


def begin(domain: Domain, start: Callable[[Domain], Journey], world: World) -> Journey:
    """Start a journey for a domain that has its certificate already."""
    journey = start(domain)
    journey.before = world.store.domain(domain)
    return journey


def _take_out(world: World, start: Callable[[Domain], Journey]) -> Sequence[Journey]:
    gone = world.web.orphans(_known(world))
    journeys = [start(domain) for domain in gone]
    if not journeys:
        return []
    with world.web.change([], gone=gone) as change:
        # Again, now that nginx's lock is ours: a domain that was issued meanwhile is nobody's leftover.
        is_current = not set(gone) & set(_known(world))
        if is_current:
            _note_removals(gone, world)
            take_together(journeys, Step.PUBLISH, change.publish)
            take_together(journeys, Step.RELOAD, change.reload)
    if not is_current:
        return _take_out(world, start)
    for journey in journeys:
        journey.state, journey.changed = State.REMOVED, True
    return journeys


def _note_removals(gone: Sequence[Domain], world: World) -> None:
    """Note anew that these are removed, whenever that was begun: the handshakes that follow are no first visits."""
    with world.store.together():
        for domain in gone:
            row = world.store.domain(domain)
            if row and row.state is State.REMOVED:
                world.store.set_state(domain, State.REMOVED)


def _known(world: World) -> Sequence[Domain]:
    return [row.domain for row in world.store.domains() if row.certificate]
