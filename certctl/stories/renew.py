"""The story: every certificate that is due gets a successor, whether or not anyone visits the page."""

from collections.abc import Sequence

from certctl.due import is_due
from certctl.errors import NotReady
from certctl.stories.issue import deploy, order, side_by_side
from certctl.stories.journey import Journey, Step
from certctl.values import DomainRow, State
from certctl.world import World


def renew(journeys: Sequence[Journey], world: World, *, jobs: int = 1, force: bool = False) -> None:
    """Renew side by side what is due, then publish everything with one reload.

    Whatever fails, the certificate in force keeps being served: nothing is taken away here.
    """
    for _ in side_by_side(journeys, lambda journey: succeed_to(journey, world, force=force), jobs):
        pass
    deploy([journey for journey in journeys if journey.changed], world)


def succeed_to(journey: Journey, world: World, *, force: bool = False) -> None:
    """Verify → approve again → obtain, for a domain that is live.

    A domain whose DNS left us is parked as *moved*: it keeps being served and costs the CA nothing.
    """
    domain = journey.domain
    with journey.attempt(world), world.locks.domain(domain):
        row = world.store.domain(domain)
        journey.certificate = row.certificate if row else None
        if row is None or not (force or needs_renewal(row, world)):
            return  # another run renewed it while we waited for the lock
        try:
            delegation = journey.step(Step.VERIFY, world.dns.verify, domain)
        except NotReady:
            world.store.set_state(domain, State.MOVED)
            journey.state = State.MOVED
            raise
        approval = journey.step(Step.APPROVE, world.operator.approve_again, delegation)
        order(journey, approval, world)


def needs_renewal(row: DomainRow, world: World) -> bool:
    """Tell whether a domain is live, or was, and its certificate is due."""
    return (
        row.certificate is not None
        and row.state in {State.ACTIVE, State.MOVED}
        and is_due(row.certificate, world.clock.now(), world.fallback_fraction)
    )


def due_rows(world: World) -> Sequence[DomainRow]:
    """Return what is due, the soonest to expire first."""
    rows = [row for row in world.store.domains() if needs_renewal(row, world)]
    return sorted(rows, key=lambda row: row.certificate.not_after if row.certificate else row.since)
