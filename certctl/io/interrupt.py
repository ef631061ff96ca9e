"""Whether this process was asked to stop: one event that every wait and step checks.

A signal reaches the main thread only: a worker that waits must look here itself.
"""

import time
from threading import Event

from certctl.errors import Interrupted
from certctl.slugs import Slug

NAP = 0.05

stopping = Event()
"""Set once, by a signal to this process. Only look at it: a handler cannot set what its own thread waits for."""


def nap(seconds: float, what: str) -> None:
    """Sleep, or until the process is asked to stop.

    Raises:
        Interrupted: it was asked; nothing of ``what`` had begun.
    """
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        raise_if_stopping(what)
        time.sleep(min(left, NAP))
    raise_if_stopping(what)


def raise_if_stopping(what: str) -> None:
    """Raise Interrupted if the process was asked to stop.

    Raises:
        Interrupted: it was asked.
    """
    if stopping.is_set():
        raise Interrupted(Slug.INTERRUPTED, f"stopped {what}")
