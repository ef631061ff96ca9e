"""The story: every certificate that is due is replaced, whether or not its site has visitors."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from functools import partial

from certctl.due import is_due, is_late
from certctl.errors import CertctlError, ConfigInvalid, NotApproved, NotReady, kind_of
from certctl.ports.world import World
from certctl.stories.damage import require_readable
from certctl.stories.issue import deploy, order, side_by_side
from certctl.stories.journey import Journey
from certctl.stories.quota import refuse_in_backoff
from certctl.stories.result import PARKED, Step
from certctl.stories.wildcard import approve_own, by_hand, needs_person, solver_of
from certctl.values import Approval, Certificate, DomainRow, State, Suggestion

_ASKING = 16
_WRITTEN_TOGETHER = 500


def renew(journeys: Sequence[Journey], world: World, *, jobs: int = 1) -> None:
    """Renew what is due in parallel, then publish everything with one reload.

    When a renewal fails, the certificate in force is served on: this story takes nothing out.
    """
    ready: list[Journey] = []
    for arrived in side_by_side(journeys, lambda journey: renew_one(journey, world), jobs):
        for journey in arrived:
            if journey.changed or _is_unpublished(journey.before):
                ready.append(journey)
            else:
                journey.succeed("renew", world)
    deploy(ready, world)


def renew_one(journey: Journey, world: World) -> None:
    """Verify → approve again → obtain, for a domain that has a certificate.

    A domain that no longer ends at our target, or is no longer approved, is parked: it is served until its
    certificate expires, places no orders, is verified again by every run, and is renewed once it is back.
    """
    journey.with_lock(world, lambda held: _renew(journey, held))


def _renew(journey: Journey, world: World) -> None:
    row = world.store.domain(journey.domain)
    if row is None or row.state is State.REMOVED or not (journey.insists or is_waiting(row, world)):
        return  # another run renewed or removed it while we waited for the lock
    require_readable(row, insists=journey.insists)
    journey.before, journey.certificate, journey.state = row, row.certificate, row.state
    due = journey.insists or is_due(row, world.clock.now(), world.fallback_fraction)
    if row.certificate and _is_unpublished(row) and not due:
        return
    _approve_and_order(journey, row, world)


def _approve_and_order(journey: Journey, row: DomainRow, world: World) -> None:
    if needs_person(row):
        raise by_hand(row, world)
    own = row.domain.is_wildcard
    approval = approve_own(journey, solver_of(row), world) if own else _ask_again(journey, world)
    journey.state = State.ACTIVE
    if row.state in PARKED:
        world.store.set_state(row.domain, State.ACTIVE)
    if not journey.insists:
        if not is_due(row, world.clock.now(), world.fallback_fraction):
            return
        refuse_in_backoff(row, world)
    order(journey, approval, world, row.solver)


def _ask_again(journey: Journey, world: World) -> Approval:
    """Verify and approve a customer's domain again for its renewal; a refusal parks it."""
    with _parking(journey, NotReady, State.MOVED, world):
        delegation = journey.step(Step.VERIFY, world.dns.verify, journey.domain)
    with _parking(journey, NotApproved, State.UNWANTED, world):
        return journey.step(Step.APPROVE, world.operator.approve_again, delegation)


def waiting(world: World, rows: Sequence[DomainRow] | None = None) -> Sequence[DomainRow]:
    """Return the rows a run should renew: those that never failed first, then by their expiry.

    Without ``rows`` old suggestions of the CA (ARI) are refreshed first, and the store's candidates are taken.
    """
    if rows is None:
        refresh_suggestions(world)
        rows = world.candidates()
    rows = [row for row in rows if is_waiting(row, world) and not _rests(row, world)]
    rows = [row for row in rows if not needs_person(row) or _is_unpublished(row) or _is_late(row, world)]
    return sorted(
        rows, key=lambda row: (row.attempts > 0, row.certificate.not_after if row.certificate else row.since)
    )


def resting(world: World, rows: Sequence[DomainRow]) -> Sequence[DomainRow]:
    """Return those of the rows that are due and in their back-off, so that a run leaves them alone."""
    return [row for row in rows if _rests(row, world) and is_waiting(row, world)]


def is_waiting(row: DomainRow, world: World) -> bool:
    """Tell whether a domain's certificate is due or unpublished, or whether it is parked and may have come back.

    A damaged row always does, so that the run reports it to the operator.
    """
    if row.damage:
        return True
    if row.certificate is None or row.state not in {State.ACTIVE, *PARKED}:
        return False
    due = is_due(row, world.clock.now(), world.fallback_fraction)
    return due or row.state in PARKED or _is_unpublished(row)


def _is_unpublished(row: DomainRow | None) -> bool:
    """Tell whether the store has a certificate that nginx lacks: it is published and not ordered again.

    Either nginx refused it, or the run that renewed it was killed before the reload. A first version that was only
    obtained waits for the operator's ``publish``.
    """
    if row is None or row.certificate is None:
        return False
    failure = kind_of(row.last_error)
    blames_host = failure is not None and failure.blames_host
    return blames_host or row.certificate.version > max(row.served, 1)


def _is_late(row: DomainRow, world: World) -> bool:
    """Tell whether a manual wildcard is so late that the run fails for it, instead of a reminder."""
    return row.certificate is not None and is_late(row.certificate, world.clock.now(), world.fallback_fraction)


def _rests(row: DomainRow, world: World) -> bool:
    return row.retry_at is not None and row.retry_at > world.clock.now()


def refresh_suggestions(world: World) -> None:
    """Ask the CA for its renewal window (ARI, RFC 9773) of each certificate with no suggestion or an old one.

    Without an answer the last suggestion stays in force.
    """
    old = [
        (row.certificate, row.suggestion.renew_at if row.suggestion else None)
        for row in world.store.ari_due(world.clock.now())
        if row.certificate
    ]
    for start in range(0, len(old), _WRITTEN_TOGETHER):
        with ThreadPoolExecutor(max_workers=_ASKING) as pool:
            answers = pool.map(partial(_ask, world), old[start : start + _WRITTEN_TOGETHER])
            world.store.suggest([answer for answer in answers if answer])


def _ask(world: World, known: tuple[Certificate, datetime | None]) -> tuple[Certificate, Suggestion] | None:
    certificate, before = known
    try:
        pem = world.store.pem(certificate)
    except ConfigInvalid:  # another run removed it meanwhile
        return None
    suggestion = world.ca.suggestion(certificate, pem)
    return certificate, Suggestion(suggestion.renew_at or before, suggestion.ask_at)


@contextmanager
def _parking(journey: Journey, reason: type[CertctlError], state: State, world: World) -> Iterator[None]:
    try:
        yield
    except reason:
        world.store.set_state(journey.domain, state)
        journey.state = state
        raise
