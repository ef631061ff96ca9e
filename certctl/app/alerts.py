"""Choose what of a run an operator is alerted to, and send it after the work; a failing notifier breaks no run."""

import socket
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta

from certctl.app.context import Context
from certctl.app.report import Report
from certctl.due import is_late
from certctl.errors import WaitsFor, Who, kind_of
from certctl.moments import is_void
from certctl.notify import Alert, AlertKind, Message
from certctl.stories.result import PARKED, Disposition, JourneyResult
from certctl.values import DomainRow, Event

_REMINDED = "remind"
_REMIND_AGAIN = timedelta(days=7)


def alert(context: Context, results: Sequence[JourneyResult], code: int, report: Report, *, whole: bool) -> None:
    """Send a run's alerts to the configured notifier, and ping the monitor (``[notify] ping``) when ``whole``.

    A notifier that hangs, fails or is not there costs at most its deadline and one line.
    """
    if context.settings.notify == type(context.settings.notify)():
        return
    told = [
        *alerts_of(results, context.settings.renewal.fallback_fraction),
        *(_reminders(context) if whole else ()),
    ]
    message = Message(
        host=socket.gethostname(), command="renew", at=context.clock.now(), exit_code=code, alerts=told
    )
    if faults := context.notifier.tell(message, ping=whole):
        report.warn("; ".join(faults))


def alerts_of(results: Iterable[JourneyResult], fraction: float) -> Iterator[Alert]:
    """Yield an alert for each result that is news to an operator; a renewal that simply worked is none."""
    for o in results:
        if o.at and (what := _what(o, o.at, fraction)):
            yield Alert(what, o)


def _what(o: JourneyResult, at: datetime, fraction: float) -> AlertKind | None:
    """Return the kind of alert for a result, None for no alert; a domain in its back-off gives no second one."""
    before = o.before
    if o.disposition is Disposition.PARKED:
        return AlertKind.PARKED if o.is_news else None
    if o.error:
        told = (
            o.fails_timer_run
            and o.disposition is Disposition.FAILED
            and o.error.kind.waits_for is not WaitsFor.PERSON
        )
        return (AlertKind.LATE if o.late else AlertKind.FAILED) if told else None
    if before is None or before.certificate is None:
        return None
    if before.state in PARKED:
        return AlertKind.RETURNED if o.is_news else None
    return AlertKind.RECOVERED if _was_told(before, at, fraction) else None


def _was_told(before: DomainRow, at: datetime, fraction: float) -> bool:
    """Tell whether an alert was sent for the failure that is over now."""
    told = kind_of(before.last_error)
    if told is None or before.certificate is None:
        return False
    late = is_late(before.certificate, at, fraction)
    return told.who is Who.OPERATOR or (late and told.who is not Who.CUSTOMER)


def _reminders(context: Context) -> Iterator[Alert]:
    """Yield an alert for each wildcard a person must renew: when it is due, then weekly, and daily once late."""
    from certctl.stories.renew import is_waiting
    from certctl.stories.wildcard import by_hand, needs_person

    now, fraction = context.clock.now(), context.settings.renewal.fallback_fraction
    for row in context.world.candidates():
        if row.certificate is None or not needs_person(row) or not is_waiting(row, context.world):
            continue
        late = is_late(row.certificate, now, fraction)
        pause = timedelta(days=1) if late else _REMIND_AGAIN
        name = row.domain.name
        last = next((event.at for event in context.store.events(name, 100) if event.step == _REMINDED), None)
        if last is None or now - last >= pause - timedelta(hours=3) or is_void(last, now):
            error = by_hand(row, context.world)
            context.store.record(Event(now, name, _REMINDED, ok=True, slug=None, detail=error.message))
            what = AlertKind.LATE if late else AlertKind.PERSON_NEEDED
            yield Alert(what, JourneyResult(domain=name, at=now, error=error, certificate=row.certificate))
