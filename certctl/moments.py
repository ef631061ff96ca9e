"""Pure: which stored moments still count.

A clock that was wrong during one run has written moments far ahead of the right time. They must not steer the runs
after it: what is further ahead than any rule could have put it is void, as if nothing were stored.
"""

from datetime import datetime, timedelta

LONGEST_REST = timedelta(days=7)
"""Of a domain after a failure: the ladder ends with a day, and a CA that names more is followed for a week."""

ASKED_AGAIN_WITHIN = timedelta(days=1)
"""When the CA is asked about a renewal again at the latest (RFC 9773 §4.3.2 asks for a limit of our own)."""

STAYS_AWAY = timedelta(minutes=10)
"""A domain after its removal, whoever visits it."""

_NOTHING = timedelta(0)


def is_void(moment: datetime, now: datetime, longest: timedelta = _NOTHING) -> bool:
    """Tell whether a moment is further ahead than ``longest``; by default, whether it is yet to come at all."""
    return moment - now > longest
