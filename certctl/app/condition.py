"""The condition of a domain in one word: the column of that name in ``certctl status``."""

from datetime import datetime, timedelta

from certctl.due import is_due
from certctl.stories.wildcard import needs_person
from certctl.values import DomainRow, State

HEALTHY = "ok"
FAILING = frozenset({"failing", "expired"})
_STATES = (State.PENDING, State.MOVED, State.UNWANTED)  # of an active one another word says more
CONDITIONS = (HEALTHY, "due", "failing", "expired", "manual", *map(str, _STATES))


def condition(row: DomainRow, now: datetime, fraction: float) -> str:
    """Return the condition of a domain in one word.

    Args:
        row: What the store has of it.
        now: The time.
        fraction: How much of a lifetime is left when a certificate is due, where the CA suggests nothing.
    """
    if row.damage:
        return "failing"
    if row.certificate and row.certificate.remaining(now) <= timedelta(0):
        return "expired"
    if row.state is State.ACTIVE and row.certificate and needs_person(row):
        return "manual"
    if row.state is State.ACTIVE and row.certificate:
        due = is_due(row, now, fraction)
        return "failing" if row.last_error else "due" if due else HEALTHY
    return "failing" if row.state is State.PENDING and row.last_error else str(row.state)
