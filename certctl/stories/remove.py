"""The story: a customer leaves. The server block goes, nginx reloads, then the certificate goes."""

from certctl.errors import ConfigInvalid
from certctl.stories.journey import Journey, Step
from certctl.values import Certificate, Done, State
from certctl.world import World


def remove(journey: Journey, world: World, *, revoke: bool = False, keep_certificate: bool = False) -> None:
    """Take one domain out of nginx, prove it is gone, then forget its certificate and key.

    The intention is stored first, so a run that dies half-way is finished by the next one or by ``reconcile``.
    """
    domain = journey.domain
    with journey.attempt(world), world.locks.domain(domain):
        row = world.store.domain(domain)
        if row is None:
            raise ConfigInvalid(
                "unknown-domain", f"certctl has nothing under {domain}", next=["certctl status --all"]
            )
        journey.certificate = row.certificate
        if row.state is State.REMOVED and row.certificate is None and domain not in world.web.orphans([]):
            journey.state = State.REMOVED
            return
        world.store.set_state(domain, State.REMOVED)
        with world.web.change([], gone=[domain]) as change:
            journey.step(Step.PUBLISH, change.publish)
            journey.step(Step.RELOAD, change.reload)
            journey.step(Step.CONFIRM, change.confirm, domain)
        if revoke and row.certificate:
            journey.step(Step.REVOKE, _revoke, row.certificate, world)
        if row.certificate:
            world.ca.settled(row.certificate)  # a killed run may have left a second copy of the key
        world.store.forget(domain, keep_certificate=keep_certificate)
        journey.state, journey.changed = State.REMOVED, True
        journey.succeed("remove", world)


def _revoke(certificate: Certificate, world: World) -> Done:
    world.ca.revoke(certificate, world.store.pem(certificate))
    return Done(f"serial {certificate.serial}")
