"""What of a run is worth telling people, and telling them: after the work, and whatever happens without harm."""

import socket
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta

from certctl.cli.outcome import Outcome
from certctl.cli.reports import Report
from certctl.cli.wiring import House
from certctl.due import is_late
from certctl.errors import WaitsFor, Who, kind_of
from certctl.moments import is_void
from certctl.notify import Happening, Message, What
from certctl.stories.ending import PARKED, Ending, Word
from certctl.values import DomainRow, Event

_REMINDED = "remind"
_REMIND_AGAIN = timedelta(days=7)


def alert(house: House, outcomes: Sequence[Outcome], code: int, report: Report, *, whole: bool) -> None:
    """Tell whoever is configured what happened in a run, and ping after one over everything.

    A notifier that hangs, fails or is not there costs at most its deadline and one line.
    """
    if house.settings.notify == type(house.settings.notify)():
        return
    told = [*happenings(outcomes, house.settings.renewal.fallback_fraction), *(_reminders(house) if whole else ())]
    message = Message(
        host=socket.gethostname(), command="renew", at=house.clock.now(), exit_code=code, happenings=told
    )
    if faults := house.notifier.tell(message, ping=whole):
        report.warn("; ".join(faults))


def happenings(outcomes: Iterable[Outcome], fraction: float) -> Iterator[Happening]:
    """Yield what somebody may want to know; a renewal that simply worked is not among it."""
    for o in outcomes:
        if o.ending and (what := _what(o.ending, fraction)):
            row = o.ending.after
            yield Happening(
                what=what,
                domain=o.domain,
                at=o.ending.at,
                error=o.error,
                certificate=o.ending.certificate,
                attempts=row.attempts if row else 0,
                retry_at=row.retry_at if row else None,
            )


def _what(ending: Ending, fraction: float) -> What | None:
    """Name it. A failure was told when it happened: resting is not another one."""
    before = ending.before
    if ending.word is Word.PARKED:
        return What.PARKED if ending.is_news else None
    if ending.error:
        told = ending.wakes and ending.word is Word.FAILED and ending.error.kind.waits_for is not WaitsFor.PERSON
        return (What.LATE if ending.late else What.FAILED) if told else None
    if before is None or before.certificate is None:
        return None
    if before.state in PARKED:
        return What.RETURNED if ending.is_news else None
    return What.RECOVERED if _was_told(before, ending, fraction) else None


def _was_told(before: DomainRow, ending: Ending, fraction: float) -> bool:
    """Tell whether somebody has heard of the failure that is over now."""
    told = kind_of(before.last_error)
    if told is None or before.certificate is None:
        return False
    late = is_late(before.certificate, ending.at, fraction)
    return told.who is Who.OPERATOR or (late and told.who is not Who.CUSTOMER)


def _reminders(house: House) -> Iterator[Happening]:
    """Yield wildcards that wait for a person: when they become due, then weekly, and daily once they are late."""
    from certctl.stories.renew import is_waiting
    from certctl.stories.wildcard import by_hand, needs_person

    now, fraction = house.clock.now(), house.settings.renewal.fallback_fraction
    for row in house.world.candidates():
        if row.certificate is None or not needs_person(row) or not is_waiting(row, house.world):
            continue
        late = is_late(row.certificate, now, fraction)
        pause = timedelta(days=1) if late else _REMIND_AGAIN
        name = row.domain.name
        last = next((event.at for event in house.store.events(name, 100) if event.step == _REMINDED), None)
        if last is None or now - last >= pause - timedelta(hours=3) or is_void(last, now):
            error = by_hand(row, house.world)
            house.store.record(Event(now, name, _REMINDED, ok=True, slug=None, detail=error.message))
            what = What.LATE if late else What.PERSON_NEEDED
            yield Happening(what=what, domain=str(row.domain), at=now, error=error, certificate=row.certificate)
