"""The story: a customer leaves. The server block goes, nginx reloads, then the certificate goes."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from math import ceil

from certctl.domain import Domain
from certctl.errors import ConfigInvalid, NotApproved, Unreachable
from certctl.moments import REFUSED_AFTER_REMOVAL, is_void
from certctl.ports.world import World
from certctl.slugs import Slug
from certctl.stories.journey import Journey
from certctl.stories.result import Step
from certctl.values import Approval, Certificate, DomainRow, Done, Pem, Removal, State


def remove(journey: Journey, world: World, removal: Removal = Removal.FORGET) -> None:
    """Take one domain out of nginx, prove it is gone, then forget its certificate and key, unless told otherwise.

    The removal is stored first, so that one a killed run began is finished by the next run, by ``reconcile`` or by
    ``renew``, and the handshake that confirms it is no first visit (see ``refuse_if_removed_lately``). Last the
    operator is asked whether a later visit would bring the domain back.
    """
    journey.with_lock(world, lambda held: _take_out(journey, held, removal))
    if journey.ok and not journey.domain.is_wildcard:
        journey.still_approved = world.operator.would_approve(journey.domain)


def finish_removals(world: World, start: Callable[[Domain], Journey]) -> Sequence[Journey]:
    """Do the rest of what ``remove`` began and did not end: nothing of it is kept that was not to be kept."""
    journeys = [start(row.domain) for row in world.store.half_removed()]
    for journey in journeys:
        journey.with_lock(world, partial(_finish, journey))
    return journeys


def _finish(journey: Journey, world: World) -> None:
    row = world.store.domain(journey.domain)
    if row and row.removal and row.state is State.REMOVED:  # another run may have ended it meanwhile
        _take_out(journey, world, row.removal)


def refuse_if_removed_lately(row: DomainRow | None, now: datetime, yes: Approval | None = None) -> None:
    """Refuse a first visit to a domain that was removed lately, or with an approval from before its removal.

    For ten minutes the approval endpoint is not asked: visits that are still under way, our own handshake among
    them, do not bring the domain back. The command ``issue`` does not call this. A removal that lies further in the
    future was written by a wrong clock and counts for nothing.

    Raises:
        NotApproved: ``removed-lately``, with the time to wait.
    """
    if row is None or row.state is not State.REMOVED or is_void(row.since, now, REFUSED_AFTER_REMOVAL):
        return
    until = row.since + REFUSED_AFTER_REMOVAL
    if now >= until and (yes is None or yes.given_at > row.since):
        return
    raise NotApproved(
        Slug.REMOVED_LATELY,
        f"{row.domain} was removed at {row.since:%Y-%m-%d %H:%M:%S} UTC",
        expected=[f"a yes that is asked for after {until:%H:%M:%S} UTC, or your own command"],
        next=[f"certctl issue {row.domain}"],
        retry_after=max(1, ceil((until - now).total_seconds())),
    )


def _take_out(journey: Journey, world: World, removal: Removal) -> None:
    domain = journey.domain
    row = world.store.domain(domain)
    is_served = domain in world.web.names() if row is None or row.certificate is None else True
    if row is None and not is_served:
        raise ConfigInvalid(
            Slug.UNKNOWN_DOMAIN, f"certctl has nothing under {domain}", next=["certctl status --all"]
        )
    journey.certificate = row.certificate if row else None
    if row and row.state is State.REMOVED and not (is_served or row.removal):
        world.web.discard(domain)
        journey.state = State.REMOVED
        return
    pair = _pair(journey, world) if removal.revokes else None
    world.store.begin_removal(domain, removal)
    with world.web.change([], gone=[domain]) as change:
        journey.step(Step.PUBLISH, change.publish)
        journey.step(Step.RELOAD, change.reload)
        journey.step(Step.CONFIRM, change.confirm, domain)
    if pair:
        journey.step(Step.REVOKE, _revoke, *pair, world)
    world.ca.abandon(domain)  # a killed run may have left a copy of a key
    world.web.discard(domain)
    world.store.forget(domain, keep_certificate=removal.keeps)
    journey.state, journey.changed = State.REMOVED, True
    journey.succeed("remove", world)


def _pair(journey: Journey, world: World) -> tuple[Certificate, Pem] | None:
    """Return the certificate and PEM to revoke: the store's, or else what nginx serves; None without either."""
    if journey.certificate:
        return journey.certificate, world.store.pem(journey.certificate)
    with suppress(Unreachable):
        site = world.web.in_force(journey.domain, world.clock.now())
        return site.certificate, site.pem
    return None


def _revoke(certificate: Certificate, pem: Pem, world: World) -> Done:
    world.ca.revoke(certificate, pem)
    return Done(f"serial {certificate.serial}")
