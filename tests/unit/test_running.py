"""Work in a thread of its own, which is waited for until a deadline and no longer."""

import time
from threading import Event

import pytest

from certctl.errors import Interrupted
from certctl.io import interrupt
from certctl.io.running import OutOfTime, Running


@pytest.mark.parametrize("what", ["", "while it was asked"])
def test_what_it_returns_is_returned_and_what_it_raises_is_raised(what: str) -> None:
    def fail() -> int:
        raise TimeoutError("its own")

    assert Running(lambda: 7, "seven").result(10, what) == 7
    with pytest.raises(TimeoutError, match="its own"):
        Running(fail, "fails").result(10, what)


@pytest.mark.parametrize("what", ["", "while it was asked"])
@pytest.mark.parametrize("seconds", [0.2, 0, -1])
def test_nobody_waits_beyond_the_deadline(seconds: float, what: str) -> None:
    over, began = Event(), time.monotonic()
    running = Running(over.wait, "slow")
    with pytest.raises(OutOfTime):
        running.result(seconds, what)
    assert max(0.0, seconds) <= time.monotonic() - began < 5
    assert running.thread.is_alive()
    over.set()
    running.thread.join(10)
    assert running.result(0) is True


def test_only_who_says_what_is_stopped_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Event()
    asked.set()
    monkeypatch.setattr(interrupt, "stopping", asked)
    over = Event()
    running = Running(over.wait, "slow")
    with pytest.raises(OutOfTime):
        running.result(0.2)
    with pytest.raises(Interrupted, match="stopped while it was asked"):
        running.result(600, "while it was asked")
    over.set()
