"""The story: a customer's domain from a bare name to live HTTPS."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import suppress

from certctl.domain import Domain
from certctl.due import is_due
from certctl.errors import CertctlError, ConfigInvalid, WebServerFailed
from certctl.ports.parties import Change
from certctl.ports.world import World
from certctl.slugs import Slug
from certctl.stories.damage import require_readable
from certctl.stories.journey import Journey, take_together
from certctl.stories.quota import NoOrderYet, refuse_in_backoff, request_for, spending
from certctl.stories.remove import refuse_if_removed_lately
from certctl.stories.result import Step
from certctl.stories.unknown import require_newest, spare_order
from certctl.values import Approval, DnsSolver, DomainRow, Done, Site, State


def issue(journeys: Sequence[Journey], world: World, *, jobs: int = 1) -> None:
    """Take customers' domains from bare names to live HTTPS.

    The cheapest and most reversible step comes first: a DNS question is free, an approval costs the operator a
    request, an order spends the CA's limits, and only then does this host change. Names run in parallel; those
    that have their certificate at the same moment share one nginx test and one reload. It is idempotent: a name
    that is already live is left alone. Each journey ends with a certificate or an error.
    """
    for arrived in side_by_side(journeys, lambda journey: obtain(journey, world), jobs):
        deploy(arrived, world)


def obtain(journey: Journey, world: World, approval: Approval | None = None) -> None:
    """Verify → approve → obtain, unless the store already holds a certificate that is not due.

    A caller that has an approval already passes it in, so the endpoint is not asked twice. It was given before the
    lock was held, so it does not bring back a domain that was removed meanwhile. A run that waits for its next
    order releases the lock: a first visitor, for whom orders are reserved, does not wait with it.
    """
    with journey.attempt(world):
        while True:
            try:
                with world.holding(journey.domain) as held, journey.attempt(held):
                    approval = _approval_if_needed(journey, held, approval)
                    if approval:
                        order(journey, approval, held)
            except NoOrderYet as later:
                world.clock.pause(later.wait)
            else:
                return


def _approval_if_needed(journey: Journey, world: World, approval: Approval | None) -> Approval | None:
    """Return the approval to order by; None where nothing has to be ordered.

    Raises:
        NotApproved: ``removed-lately``, for an approval that was passed in.
        ConfigInvalid: ``store-row-damaged``.
    """
    row = journey.before = world.store.domain(journey.domain)
    require_readable(row, insists=journey.insists)
    journey.certificate = row.certificate if row else None
    if row and row.certificate and not journey.insists and is_settled(row, world):
        return None  # perhaps another run finished it while we waited
    if approval:
        refuse_if_removed_lately(row, world.clock.now(), approval)
    else:
        approval = verify_and_approve(journey, world)
        if row and row.state is State.REMOVED and row.certificate is None:
            world.store.set_state(journey.domain, State.PENDING)  # wanted again from now on, by whoever visits too
    if row and not journey.insists:
        if row.certificate and not is_due(row, world.clock.now(), world.fallback_fraction):
            world.store.set_state(journey.domain, State.ACTIVE)  # it was parked, or kept when it was removed
            return None
        refuse_in_backoff(row, world)
    return approval


def verify_and_approve(journey: Journey, world: World) -> Approval:
    """Verify → approve: the two steps that cost nothing and write nothing; return the approval."""
    delegation = journey.step(Step.VERIFY, world.dns.verify, journey.domain)
    return journey.step(Step.APPROVE, world.operator.approve, delegation)


def order(journey: Journey, approval: Approval, world: World, solver: DnsSolver | None = None) -> None:
    """Obtain a certificate from the CA, within its limits, and store it at once.

    The CA's facade also keeps the certificate and key in their working directory until nginx has them: a store that
    loses its last commit has not lost the key. A certificate that a killed run left there is not taken for a new
    one when the store has it already. No order is placed when nginx would not answer the challenge (HTTP-01,
    without a solver), when the certificate could not be published, or, unless the operator insists, when nginx
    serves a newer one than the store has.
    """
    if not journey.insists:
        spare_order(journey.domain, world)
    if solver is None:
        _require_challenge(journey, world)
    else:
        world.web.require_room(journey.domain)
    replaces = None
    if journey.certificate:
        world.ca.acknowledge_stored(journey.certificate)
        with suppress(ConfigInvalid):  # its pair is gone from the store: it is replaced all the same
            replaces = world.store.pem(journey.certificate)
    request = request_for(journey.domain, renewal=journey.certificate is not None)
    with spending(request, world):
        issued = journey.step(Step.OBTAIN, world.ca.obtain, approval, solver, replaces=replaces)
    journey.certificate = world.store.keep(issued)
    journey.changed = True


def _require_challenge(journey: Journey, world: World) -> None:
    """Check that nginx answers HTTP-01 for this domain; a wrong answer is only a warning when the domain is live.

    The check may be wrong, as behind a load balancer that answers the CA, and must not cost a live domain its
    renewal.
    """
    try:
        world.web.require_challenge(journey.domain)
    except WebServerFailed as error:
        if not error.kind.may_be_misread or not is_live(journey.before, world):
            raise
        journey.warn(error, world)


def is_live(row: DomainRow | None, world: World) -> bool:
    """Tell whether a domain is served with a certificate that has not expired."""
    if row is None or row.certificate is None or row.state is State.REMOVED:
        return False
    return row.served > 0 and row.certificate.not_after > world.clock.now()


def deploy(journeys: Sequence[Journey], world: World, leaving: Sequence[Journey] = ()) -> None:
    """Publish → reload → confirm: all sites with one test and one reload, or each alone if that fails.

    When nginx refuses a batch, or a file cannot be written, its halves are tried (bisection), so one site never
    stops another. The domains in ``leaving`` are taken out by the first change that nginx accepts; each of their
    journeys then has ``changed``, or the error.
    """
    ready = [journey for journey in journeys if journey.ok]
    for journey in ready:
        _catch_up(journey, world)
    ready = [journey for journey in ready if journey.ok]
    if not ready and not leaving:
        return
    try:
        _deploy_together(ready, leaving, world)
    except CertctlError as error:
        for journey in leaving:
            journey.error = error
        if len(ready) + bool(leaving) <= 1 or not error.kind.may_be_one_sites:
            for journey in ready:
                journey.fail(error.after_spending() if journey.has_ordered else error, world)
        else:
            _deploy_apart(ready, leaving, world)


def _deploy_apart(ready: Sequence[Journey], leaving: Sequence[Journey], world: World) -> None:
    """Deploy the halves of a batch, ``leaving`` with the first; a single site and ``leaving`` each alone."""
    middle = len(ready) // 2
    deploy(ready[:middle], world, leaving)
    deploy(ready[middle:], world, [journey for journey in leaving if not journey.changed] if middle else ())


def _deploy_together(journeys: Sequence[Journey], leaving: Sequence[Journey], world: World) -> None:
    sites = [journey.site for journey in journeys if journey.site]
    with world.web.change(sites, gone=[journey.domain for journey in leaving]) as change:
        # Again, now that nginx's lock is ours: whoever renews or removes a domain says so first and waits for it.
        caught_up = [_catch_up(journey, world) for journey in journeys]
        still_leaving = [journey for journey in leaving if not _is_back(journey.domain, world)]
        is_current = all(caught_up) and len(still_leaving) == len(leaving)
        _note_removals(still_leaving, world)
        changed = is_current and _take_steps(journeys, leaving, change)
    if not is_current:
        deploy(journeys, world, still_leaving)
        return
    for journey in leaving:
        journey.changed, journey.error = True, None
    with world.store.together():
        for journey in journeys:
            if journey.certificate:
                world.store.served(journey.certificate)
            journey.changed |= changed
            journey.succeed("issue", world)
    for journey in journeys:
        remove_working_directory(journey, world)


def remove_working_directory(journey: Journey, world: World) -> None:
    """Remove the working directory of a certificate that nginx has now; a failure is left to a later run."""
    if journey.certificate:
        try:
            world.ca.acknowledge_stored(journey.certificate)
        except CertctlError as error:
            journey.warn(error, world)


def _is_back(domain: Domain, world: World) -> bool:
    """Tell whether a domain that was to be taken out has been issued again meanwhile."""
    row = world.store.domain(domain)
    return row is not None and row.certificate is not None and row.state is not State.REMOVED


def _note_removals(leaving: Sequence[Journey], world: World) -> None:
    """Write the removal of these domains again with the present time: our handshakes are no first visits then."""
    with world.store.together():
        for journey in leaving:
            row = world.store.domain(journey.domain)
            if row and row.state is State.REMOVED:
                world.store.set_state(journey.domain, State.REMOVED)


def _take_steps(journeys: Sequence[Journey], leaving: Sequence[Journey], change: Change) -> bool:
    everyone = [*journeys, *leaving]
    published = take_together(everyone, Step.PUBLISH, change.publish)
    reloaded = take_together(everyone, Step.RELOAD, change.reload)
    for journey in journeys:
        journey.step(Step.CONFIRM, change.confirm, journey.domain)
    return published.changed or reloaded.changed


def _catch_up(journey: Journey, world: World) -> bool:
    """Take the domain's certificate from the store again; tell whether it is the one the journey had.

    Another run may have stored a newer version meanwhile, or removed the domain, which then ends the journey.
    """
    carried = journey.site
    with journey.attempt():
        row = world.store.domain(journey.domain)
        require_readable(row)
        if row is None or row.certificate is None or row.state is State.REMOVED:
            message = f"{journey.domain} was removed by another run meanwhile"
            raise ConfigInvalid(Slug.UNKNOWN_DOMAIN, message, next=[f"certctl log {journey.domain}"])
        mode = journey.mode or row.mode
        if mode is not row.mode:
            world.store.set_mode(journey.domain, mode)
        if carried is None or (carried.certificate, carried.mode) != (row.certificate, mode):
            require_newest(journey.domain, row, world)
            journey.site = Site(row.certificate, world.store.pem(row.certificate), mode)
        journey.certificate, journey.state = row.certificate, row.state
    return journey.ok and journey.site is carried


def is_settled(row: DomainRow, world: World) -> bool:
    """Tell whether a domain is live with a certificate that is not due for renewal."""
    if row.certificate is None or row.state is not State.ACTIVE:
        return False
    return not is_due(row, world.clock.now(), world.fallback_fraction)


def side_by_side(
    journeys: Sequence[Journey], go: Callable[[Journey], None], jobs: int
) -> Iterator[Sequence[Journey]]:
    """Run ``go`` for each journey on ``jobs`` threads; yield the journeys that have ended since the last yield."""
    pool = ThreadPoolExecutor(max_workers=max(1, jobs))
    try:
        pending = {pool.submit(go, journey): journey for journey in journeys}
        while pending:
            done, _ = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                if bug := future.exception():
                    pending[future].fail_unforeseen(bug)
            yield [pending.pop(future) for future in done]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def preflight(journeys: Sequence[Journey], world: World, *, jobs: int = 1) -> None:
    """Verify, approve, and check what an order would need (``--dry-run``); nothing is ordered or written."""
    for _ in side_by_side(journeys, lambda journey: _look(journey, world), jobs):
        pass


def _look(journey: Journey, world: World) -> None:
    with journey.attempt():
        verify_and_approve(journey, world)
        journey.step(Step.PROBE, _probe, journey.domain, world)


def _probe(domain: Domain, world: World) -> Done:
    """Check that nginx answers a challenge and speaks TLS, and that the CA answers; none of it costs a request."""
    done = (world.web.require_challenge(domain), world.web.require_tls(), world.ca.require_ready())
    return Done("; ".join(each.summary for each in done), changed=False)
