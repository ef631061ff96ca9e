"""How often a CA is asked: soon, then less often, and never before the time it names; on a clock of our own."""

from dataclasses import dataclass, field

import pytest
from acme.errors import TimeoutError as OutOfTime

from certctl.ca.engines.acme.polling import FIRST, GROWTH, LONGEST, poll


@dataclass
class SlowCa:
    """A CA that is done after some time; it names what it is told to name.

    Attributes:
        asked: When it was asked.
    """

    done_at: float
    names: float | None = None
    now: float = 0.0
    asked: list[float] = field(default_factory=list)

    def ask(self) -> tuple[str, float | None]:
        self.asked.append(self.now)
        return "done" if self.now >= self.done_at else "pending", self.names

    def pause(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds

    def polled(self, deadline: float = 60) -> str:
        return poll(self.ask, lambda state: state == "pending", self.pause, lambda: deadline - self.now)


def test_a_ca_that_is_done_is_asked_once() -> None:
    ca = SlowCa(done_at=0)
    assert ca.polled() == "done"
    assert ca.asked == [0]
    assert ca.now == 0


def test_a_fast_ca_is_noticed_within_milliseconds() -> None:
    ca = SlowCa(done_at=0.02)
    ca.polled()
    assert ca.now == pytest.approx(FIRST * (1 + GROWTH + GROWTH**2))
    assert ca.now < 0.03


def test_the_pauses_grow_and_stay_short_enough_for_whoever_waits() -> None:
    ca = SlowCa(done_at=3)
    ca.polled()
    pauses = [after - before for before, after in zip(ca.asked, ca.asked[1:], strict=False)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == pytest.approx(LONGEST)
    assert ca.now - ca.done_at <= LONGEST
    assert len(ca.asked) < 30


def test_a_time_the_ca_names_is_obeyed() -> None:
    ca = SlowCa(done_at=4, names=3)
    ca.polled()
    assert ca.asked == [0, 3, 6]


@pytest.mark.parametrize("names", [0, -5])
def test_a_time_that_is_over_does_not_make_us_ask_without_a_pause(names: float) -> None:
    ca = SlowCa(done_at=1, names=names)
    ca.polled()
    assert len(ca.asked) < 20


@pytest.mark.parametrize("names", [None, 3, 3600])
def test_nobody_waits_beyond_the_deadline(names: float | None) -> None:
    ca = SlowCa(done_at=100, names=names)
    with pytest.raises(OutOfTime):
        ca.polled(deadline=10)
    assert ca.now <= 10


def test_a_time_beyond_the_deadline_ends_the_wait_at_once() -> None:
    ca = SlowCa(done_at=100, names=3600)
    with pytest.raises(OutOfTime):
        ca.polled(deadline=60)
    assert ca.now == 0
