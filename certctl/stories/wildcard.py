"""The story: the operator's own zone, ``*.ZONE`` and ``ZONE`` in one certificate, proven by DNS-01.

No customer is involved: no CNAME is looked up and no approval endpoint is asked. The zone is the operator's by
configuration, and a TXT record proves control over it to the CA.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from certctl.due import is_due, is_late, row_due_at
from certctl.errors import ConfigInvalid, WaitsFor, kind_of
from certctl.moments import is_void
from certctl.ports.world import World
from certctl.slugs import Slug
from certctl.stories.damage import require_readable
from certctl.stories.issue import deploy, is_settled, order
from certctl.stories.journey import Journey
from certctl.stories.quota import refuse_in_backoff, request_for, spending
from certctl.stories.result import Step
from certctl.txt_records import OrderOrigin
from certctl.values import Approval, DnsSolver, DomainRow, Event, State

BY_HAND = DnsSolver("manual")
_REMINDED = timedelta(days=1)


def wildcard(journey: Journey, solver: DnsSolver, world: World) -> None:
    """Take the operator's zone to live HTTPS; it is idempotent, and places no order while nothing is due."""
    obtain(journey, solver, world)
    deploy([journey], world)


def obtain(journey: Journey, solver: DnsSolver, world: World) -> None:
    """Verify the zone → approve it as our own → obtain by DNS-01, and store the solver for the renewals."""
    journey.with_lock(world, lambda held: _obtain(journey, solver, held))


def _obtain(journey: Journey, solver: DnsSolver, world: World) -> None:
    if not _has_nothing_to_do(journey, solver, world):
        approval = approve_own(journey, solver, world)
        if journey.before and not journey.insists and not solver.is_manual:
            refuse_in_backoff(journey.before, world)
        order(journey, approval, world, solver)
    world.store.set_solver(journey.domain, solver)


def begin(journey: Journey, world: World) -> None:
    """Place the order, if it is due, and set ``journey.demand``: a person adds the records and goes on later."""
    journey.with_lock(world, lambda held: _begin(journey, held))


def _begin(journey: Journey, world: World) -> None:
    domain = journey.domain
    if _has_nothing_to_do(journey, BY_HAND, world):
        return
    approval = approve_own(journey, BY_HAND, world)
    world.web.require_room(domain)
    if journey.certificate:
        world.ca.acknowledge_stored(journey.certificate)
    request = request_for(domain, renewal=journey.certificate is not None)
    with spending(replace(request, begins=True), world):
        journey.demand = journey.step(Step.ORDER, world.ca.begin, approval)
    journey.changed = journey.demand.opened is not OrderOrigin.SAME


def _has_nothing_to_do(journey: Journey, solver: DnsSolver, world: World) -> bool:
    """Read the zone's row into the journey; tell whether its certificate needs no replacement.

    Raises:
        ConfigInvalid: ``store-row-damaged``.
    """
    row = journey.before = world.store.domain(journey.domain)
    require_readable(row, insists=journey.insists)
    journey.certificate = row.certificate if row else None
    return row is not None and not journey.insists and _is_done(row, solver, world)


def approve_own(journey: Journey, solver: DnsSolver, world: World) -> Approval:
    """Verify the zone, and approve it as the operator's own by configuration."""
    delegation = journey.step(Step.VERIFY, world.dns.verify_own, journey.domain, solver)
    return journey.step(Step.APPROVE, world.operator.approve_own, delegation)


def solver_of(row: DomainRow) -> DnsSolver:
    """Return the solver of a wildcard; the manual one when none was stored."""
    return row.solver or BY_HAND


def needs_person(row: DomainRow) -> bool:
    """Tell whether only a person can renew this domain: a wildcard with the manual solver."""
    return row.domain.is_wildcard and not row.damage and solver_of(row).is_manual


@dataclass(frozen=True, slots=True)
class Reminder:
    """A wildcard that is due and that only a person can renew.

    Attributes:
        late: Whether it is so late that the run fails, instead of a reminder.
    """

    row: DomainRow
    expires: datetime
    late: bool

    @property
    def text(self) -> str:
        """Return the line that says who must do what by when."""
        zone = self.row.domain.zone
        return f"{self.row.domain}: you, by {self.expires:%Y-%m-%d}: it is renewed by hand: certctl wildcard {zone}"


def reminders(world: World, rows: Sequence[DomainRow] | None = None) -> Sequence[Reminder]:
    """Return the wildcards that are due and that only a person can renew; note each in the history once a day."""
    now = world.clock.now()
    found = []
    for row in world.candidates() if rows is None else rows:
        if not row.certificate or row.state is not State.ACTIVE or not needs_person(row):
            continue
        if is_due(row, now, world.fallback_fraction):
            late = is_late(row.certificate, now, world.fallback_fraction)
            found.append(Reminder(row, row.certificate.not_after, late))
            _note(found[-1], now, world)
    return found


def by_hand(row: DomainRow, world: World) -> ConfigInvalid:
    """Return the error for a renewal that only a person can make."""
    due = row_due_at(row, world.fallback_fraction)
    expires = f"{row.certificate.not_after:%Y-%m-%d}" if row.certificate else "never issued"
    return ConfigInvalid(
        Slug.WILDCARD_MANUAL,
        f"{row.domain} is renewed by hand: its TXT records are a person's to make",
        seen=[f"due {due:%Y-%m-%d}, expires {expires}" if due else expires],
        next=[f"certctl wildcard {row.domain.zone}", f"certctl wildcard {row.domain.zone} --dns PLUGIN"],
    )


def _is_done(row: DomainRow, solver: DnsSolver, world: World) -> bool:
    """Tell whether there is nothing to do; a new solver that needs no person is tried at once, before it is due."""
    return is_settled(row, world) and (solver.is_manual or solver == row.solver)


def _note(reminder: Reminder, now: datetime, world: World) -> None:
    name = reminder.row.domain.name
    last = next((event.at for event in world.store.events(name, 100) if _is_reminder(event)), None)
    if last is None or now - last >= _REMINDED or is_void(last, now):
        world.store.record(Event(now, name, "renew", ok=False, slug=Slug.WILDCARD_MANUAL, detail=reminder.text))


def _is_reminder(event: Event) -> bool:
    kind = kind_of(event.slug)
    return kind is not None and kind.waits_for is WaitsFor.PERSON
