"""The story: the store takes in what nginx serves and it does not know, without an order and without a reload."""

from collections.abc import Callable, Sequence

from certctl.domain import Domain
from certctl.errors import ConfigInvalid
from certctl.ports.world import World
from certctl.slugs import Slug
from certctl.stories.journey import Journey
from certctl.stories.result import Step
from certctl.stories.unknown import lack
from certctl.values import Done, Issued


def adopt(world: World, start: Callable[[Domain], Journey]) -> Sequence[Journey]:
    """Take in each pair of which the store knows less; one that is no pair is that domain's trouble alone.

    Safe to repeat, also after a kill: what is in the store is passed over, and nothing else is written.
    """
    journeys = [start(domain) for domain in world.web.names() if _is_lacking(domain, world)]
    for journey in journeys:
        with journey.attempt(), world.holding(journey.domain) as held:
            if _is_lacking(journey.domain, held):
                journey.step(Step.ADOPT, _take, journey, held)
        journey.succeed("adopt", world)
    return journeys


def _is_lacking(domain: Domain, world: World) -> bool:
    return lack(domain, world.store.domain(domain), world) is not None


def _take(journey: Journey, world: World) -> Done:
    """Take one pair in, by its number in the mirror where that is free: then nothing is to be published."""
    site = world.web.in_force(journey.domain, world.clock.now())
    world.web.require_shown(site)
    with world.store.together():
        kept = world.store.keep(Issued(site.certificate, site.pem))
        world.store.set_mode(journey.domain, site.mode)
        world.store.served(kept)
    journey.certificate, journey.changed = kept, True
    if journey.domain.is_wildcard and (row := world.store.domain(journey.domain)) and row.solver is None:
        journey.warn(_by_hand(journey.domain), world)
    return Done(f"version {kept.version}, until {kept.not_after:%Y-%m-%d}")


def _by_hand(domain: Domain) -> ConfigInvalid:
    return ConfigInvalid(
        Slug.WILDCARD_MANUAL,
        f"nobody knows any more how {domain} was proven: it is renewed by hand",
        next=[f"certctl wildcard {domain.zone} --dns PLUGIN", f"certctl wildcard {domain.zone}"],
    )
