"""Run a function on a thread that can be abandoned: a host name lookup cannot be interrupted."""

import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from threading import Thread
from typing import Generic, TypeVar

from certctl.io.interrupt import NAP, raise_if_stopping

T = TypeVar("T")


class OutOfTime(Exception):
    """The deadline passed before the function returned."""


class Running(Generic[T]):
    """A function that runs on a daemon thread (``threading``): it does not keep the process alive.

    Attributes:
        thread: The thread, for a caller that can end its work early.
    """

    def __init__(self, do: Callable[[], T], name: str) -> None:
        self._do = do
        self._ended: Future[T] = Future()
        self.thread = Thread(target=self._work, name=name, daemon=True)
        self.thread.start()

    def result(self, seconds: float, what: str = "") -> T:
        """Return what the function returns or raise what it raises, but wait no longer.

        Raises:
            OutOfTime: it has not ended in that time; its thread is left behind.
            Interrupted: this process was asked to stop ``what``; only where that is given.
        """
        until = time.monotonic() + seconds
        while not wait([self._ended], self._patience(until, what)).done:
            if what:
                raise_if_stopping(what)
            if time.monotonic() >= until:
                raise OutOfTime
        return self._ended.result()

    def _patience(self, until: float, what: str) -> float:
        left = max(0.0, until - time.monotonic())
        return min(left, NAP) if what else left

    def _work(self) -> None:
        try:
            self._ended.set_result(self._do())
        except Exception as error:  # noqa: BLE001 - raised again by whoever waits
            self._ended.set_exception(error)
