"""Domains of which the store knows less than nginx serves: nothing, or only an older certificate.

The store was lost, restored from a backup, or is another host's. That it knows less than nginx serves is never a
reason to take a site out: such a domain is served on until the operator removes it, or lets the store adopt it,
without an order and without a reload.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from certctl.domain import Domain
from certctl.due import due_at
from certctl.errors import ConfigInvalid, Unreachable
from certctl.ports.world import World
from certctl.slugs import Slug
from certctl.stories.journey import Journey
from certctl.stories.result import Step
from certctl.values import Certificate, DomainRow, Done, Issued, State


def newer_in_force(domain: Domain, row: DomainRow | None, world: World) -> Certificate | None:
    """Return the certificate in force when the store has none of the domain, or only an older one; else None.

    Dates decide, not version numbers, which another store counted for itself. One of the store's own earlier
    versions is not newer, and a pair that is broken or expired does not count.
    """
    known = row.certificate if row else None
    leaf = world.web.leaf(domain)
    if leaf is None or (known and (leaf == known.fingerprint or world.store.has(domain, leaf))):
        return None
    with suppress(Unreachable):
        found = world.web.in_force(domain, world.clock.now()).certificate
        if known is None or (found.not_before, found.not_after) > (known.not_before, known.not_after):
            return found
    return None


def lack(domain: Domain, row: DomainRow | None, world: World) -> str | None:
    """Return in words what the store lacks of a domain that nginx has files for; None when it lacks nothing."""
    if is_unknown(row):
        return "not in the store"
    if row is None or row.certificate is None or row.state is State.REMOVED:
        return None
    found = newer_in_force(domain, row, world)
    until = f"in the store until {row.certificate.not_after:%Y-%m-%d}"
    return f"served until {found.not_after:%Y-%m-%d}, {until}" if found else None


def require_newest(domain: Domain, row: DomainRow, world: World) -> None:
    """Refuse to publish an older certificate over a newer one that is in force.

    Raises:
        Unreachable: ``store-knows-less``.
    """
    if lacks := lack(domain, row, world):
        raise store_knows_less({domain: lacks})


def spare_order(domain: Domain, world: World) -> None:
    """Refuse an order for a domain that nginx serves with a certificate the store lacks, while that is not due.

    Once it is due it is ordered like any other, so that no site expires while the operator is away.

    Raises:
        Unreachable: ``store-knows-less``.
    """
    row = world.store.domain(domain)
    if row and row.state is State.REMOVED:
        return
    found = newer_in_force(domain, row, world)
    if found and world.clock.now() < due_at(found, world.fallback_fraction):
        raise store_knows_less({domain: lack(domain, row, world)})


def is_unknown(row: DomainRow | None) -> bool:
    """Tell whether the store has no certificate of a domain and does not have it as removed either."""
    return row is None or (row.certificate is None and not row.damage and row.state is not State.REMOVED)


def find_unknown(world: World) -> Mapping[Domain, str]:
    """Return, by domain, what the store lacks of each that nginx has files for."""
    lacks = ((domain, lack(domain, world.store.domain(domain), world)) for domain in world.web.names())
    return {domain: text for domain, text in lacks if text}


def store_knows_less(domains: Mapping[Domain, str | None]) -> Unreachable:
    """Return one error about these domains; the mapping has what the store lacks of each."""
    first = next(iter(domains))
    alone = len(domains) == 1
    which = str(first) if alone else f"{len(domains)} domains"
    return Unreachable(
        Slug.STORE_KNOWS_LESS,
        f"the store knows less of {which} than nginx serves: nothing of {'it' if alone else 'theirs'} was changed",
        seen=[f"{domain}: {lacks or 'known by now'}" for domain, lacks in domains.items()],
        expected=["the store of this host, in its newest state"],
        next=["certctl reconcile --adopt", f"certctl remove {first if alone else 'DOMAIN'}"],
    )


def adopt(world: World, start: Callable[[Domain], Journey]) -> Sequence[Journey]:
    """Store each certificate and key that nginx serves and the store lacks; a broken pair fails only its domain.

    It is safe to repeat, also after a kill: what the store has is skipped.
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
    """Store one pair, under its version number in the mirror if that is free: then no file has to change."""
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
