"""Polling of an order or authorization (RFC 8555 §7.5.1): soon, then less often, never before ``Retry-After``."""

from collections.abc import Callable
from typing import TypeVar

from acme.errors import TimeoutError as OutOfTime

FIRST, GROWTH, LONGEST = 0.005, 1.6, 0.2
"""Seconds between questions; a longer back-off was measured to cost more than it saves (a CA that takes 0-2 s)."""

T = TypeVar("T")


def poll(
    ask: Callable[[], tuple[T, float | None]],
    is_pending: Callable[[T], bool],
    pause: Callable[[float], object],
    left: Callable[[], float],
) -> T:
    """Call ``ask`` until the state it returns is final, and return that state.

    Args:
        ask: Returns (state, seconds of ``Retry-After``); None for the seconds when the CA named none.
        is_pending: Tells whether a state is not final.
        pause: Sleeps for so many seconds.
        left: Returns the seconds until the deadline.

    Raises:
        acme.errors.TimeoutError: the deadline comes before the next poll.
    """
    step = FIRST
    while True:
        state, named = ask()
        if not is_pending(state):
            return state
        wait = max(step, named or 0.0)
        if wait >= left():
            raise OutOfTime
        pause(wait)
        step = min(step * GROWTH, LONGEST)
