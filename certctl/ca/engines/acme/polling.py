"""How often to ask a CA that is not done yet: soon, then less often, and never before the time it names."""

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
    """Ask until the answer is final.

    Args:
        ask: Returns the state, and the seconds after which the CA wants to be asked again (RFC 8555 §7.5.1), if it
            said so.
        is_pending: Whether to ask again.
        pause: Waits for so many seconds.
        left: How many seconds remain.

    Raises:
        acme.errors.TimeoutError: there is no time left to wait for the next answer.
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
