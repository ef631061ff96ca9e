"""Pure: which stored timestamps are valid.

A run with a wrong clock may have written timestamps far in the future. They must not affect later runs: one that is
further ahead than any rule could have put it is void, as if it were not stored.
"""

from datetime import datetime, timedelta

LONGEST_REST = timedelta(days=7)
"""Of a domain after a failure: the ladder ends with a day, and a CA that names more is followed for a week."""

ASKED_AGAIN_WITHIN = timedelta(days=1)
"""When the CA is asked about a renewal again at the latest (RFC 9773 §4.3.2 asks for a limit of our own)."""

REFUSED_AFTER_REMOVAL = timedelta(minutes=10)
"""A domain after its removal, whoever visits it."""

_NOTHING = timedelta(0)


def is_void(moment: datetime, now: datetime, longest: timedelta = _NOTHING) -> bool:
    """Tell whether a timestamp is further in the future than ``longest``; by default, in the future at all."""
    return moment - now > longest
