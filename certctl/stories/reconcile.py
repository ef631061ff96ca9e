"""The story: make the mirror and nginx equal to the store, after a crash, a restore or a manual change."""

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
    """The result of a run.

    Attributes:
        journeys: A journey for each domain that the store knows.
        less: By domain, what the store lacks of one that nginx serves; these domains were left alone.
    """

    journeys: Sequence[Journey]
    less: Mapping[Domain, str | None]


@dataclass(frozen=True, slots=True)
class Orphans:
    """The domains that nginx has files for and the store has no certificate of.

    Attributes:
        leaving: Those the store has as removed: they are taken out.
        unknown: The others: they stay.
    """

    leaving: Sequence[Domain]
    unknown: Sequence[Domain]


def reconcile(world: World, start: Start) -> Reconciled:
    """Publish every live domain of the store, take out what it says is removed, and leave what it does not know.

    Removals that a killed run began are finished first. The rest is one change, which nginx accepts as a whole or
    not at all. It is idempotent: where nothing differs, nothing is written and nginx is not reloaded.
    """
    ended = finish_removals(world, start)
    found = find_orphans(world)
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


def find_orphans(world: World) -> Orphans:
    """Return the domains that nginx has files for and the store has no certificate of."""
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
    return Orphans(leaving, unknown)


def publish_everyone(world: World, start: Start, leaving: Sequence[Journey] = ()) -> Sequence[Journey]:
    """Publish every live domain of the store in its mode, and take the ``leaving`` out in the same change."""
    journeys = [begin(row.domain, start, world) for row in world.store.domains() if _is_served(row)]
    deploy(journeys, world, leaving)
    return journeys


def begin(domain: Domain, start: Start, world: World) -> Journey:
    """Return a journey for a domain with a certificate, its row already read."""
    journey = start(domain)
    journey.before = world.store.domain(domain)
    return journey


def _cleared(unknown: Sequence[Domain], world: World, start: Start) -> Sequence[Journey]:
    """Return ended journeys for the server blocks without a certificate, which the change has removed."""
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
    """Tell whether a journey failed only because another run removed its domain meanwhile."""
    row = world.store.domain(journey.domain) if journey.error else None
    return row is not None and row.state is State.REMOVED


def _is_served(row: DomainRow) -> bool:
    """Tell whether a domain is to be served; one with a damaged row may be."""
    return row.certificate is not None or bool(row.damage)
