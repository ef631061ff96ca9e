"""The story: make the mirror and nginx equal to the store, after a crash, a restore or a hand's mistake."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from certctl.domain import Domain
from certctl.ports.world import World
from certctl.stories.issue import deploy
from certctl.stories.journey import Journey
from certctl.stories.remove import finish_removals
from certctl.stories.unknown import is_unknown, lack
from certctl.values import DomainRow, State

Start = Callable[[Domain], Journey]


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What a run did, and what it left alone.

    Attributes:
        journeys: The domains the store knows.
        less: The domains of which it knows less than nginx serves, and what it lacks.
    """

    journeys: Sequence[Journey]
    less: Mapping[Domain, str | None]


@dataclass(frozen=True, slots=True)
class Found:
    """The domains nginx has files for and the store has no certificate of.

    Attributes:
        leaving: The store says that they were removed.
        unknown: The store does not say so. They stay.
    """

    leaving: Sequence[Domain]
    unknown: Sequence[Domain]


def reconcile(world: World, start: Start) -> Reconciled:
    """Publish every live domain of the store, take out what it says is removed, and leave what it does not know.

    What a killed ``remove`` began is ended first. The rest is one change: nginx would not take the one without the
    other. Idempotent: where nothing differs, nothing is written, and nginx is not reloaded.
    """
    ended = finish_removals(world, start)
    found = sort_out(world)
    leaving = [start(domain) for domain in found.leaving]
    finished = [domain for domain in found.leaving if _is_certificate_left(domain, world)]
    journeys = publish_everyone(world, start, leaving)
    for journey in leaving:
        _end(journey, world)
    for domain in finished:
        world.web.discard(domain)  # the operator removed it, and that run was killed: nothing is kept
    outdated = [journey.domain for journey in journeys if _is_less(journey)]
    cleared = _cleared(found.unknown, world, start)
    unknown = [domain for domain in found.unknown if domain not in {journey.domain for journey in cleared}]
    less = {domain: lack(domain, world.store.domain(domain), world) for domain in (*unknown, *outdated)}
    known = [journey for journey in journeys if not (_is_less(journey) or _was_removed(journey, world))]
    return Reconciled([*ended, *known, *leaving, *cleared], less)


def sort_out(world: World) -> Found:
    """Look at nginx's files for what the store has no certificate of."""
    names = world.web.names()
    known = {row.domain for row in world.store.domains() if _is_served(row)}
    leaving, unknown = list[Domain](), list[Domain]()
    for domain in names:
        if domain in known:
            continue
        row = world.store.domain(domain)
        if row and row.state is State.REMOVED:
            leaving.append(domain)
        elif is_unknown(row):
            unknown.append(domain)
    return Found(leaving, unknown)


def publish_everyone(world: World, start: Start, leaving: Sequence[Journey] = ()) -> Sequence[Journey]:
    """Publish every live domain of the store, each as it is to be served now, and take others out with that."""
    journeys = [begin(row.domain, start, world) for row in world.store.domains() if _is_served(row)]
    deploy(journeys, world, leaving)
    return journeys


def begin(domain: Domain, start: Start, world: World) -> Journey:
    """Start a journey for a domain that has its certificate already."""
    journey = start(domain)
    journey.before = world.store.domain(domain)
    return journey


def _cleared(unknown: Sequence[Domain], world: World, start: Start) -> Sequence[Journey]:
    """Report whose server block had no pair, served nobody, and went with the change."""
    names = set(world.web.names())
    journeys = [start(domain) for domain in unknown if domain not in names]
    for journey in journeys:
        journey.changed = True
        _end(journey, world)
    return journeys


def _end(journey: Journey, world: World) -> None:
    row = world.store.domain(journey.domain)
    journey.state = row.state if row else None
    if journey.error:
        journey.fail(journey.error)
    else:
        journey.succeed("remove", world)


def _is_certificate_left(domain: Domain, world: World) -> bool:
    row = world.store.domain(domain)
    return row is not None and row.certificate is not None


def _is_less(journey: Journey) -> bool:
    return journey.error is not None and journey.error.kind.is_store_behind


def _was_removed(journey: Journey, world: World) -> bool:
    """Tell whether another run removed a domain meanwhile, which is as it should be."""
    row = world.store.domain(journey.domain) if journey.error else None
    return row is not None and row.state is State.REMOVED


def _is_served(row: DomainRow) -> bool:
    """Tell whether a domain is to be served, or may be, if only its row could be read."""
    return row.certificate is not None or bool(row.damage)
