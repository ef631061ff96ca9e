"""A customer who is changing DNS right now is asked about again: ever more seldom, and no longer than was said."""

from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from certctl.domain import Domain
from certctl.errors import Interrupted, NotReady, Unreachable
from certctl.io.interrupt import stopping
from certctl.stories.dns_wait import PatientDns
from tests.fakes.world import FakeClock, FakeWorld

NAME = "status.example.com"


@dataclass
class Pauses(FakeClock):
    """Remembers how many seconds were waited at a time; at one of them the customer is done."""

    fake: FakeWorld | None = None
    done_after: int = 1000
    waited: list[float] = field(default_factory=list)

    def pause(self, duration: timedelta) -> None:
        super().pause(duration)
        self.waited.append(duration.total_seconds())
        assert len(self.waited) < 1000, "it would wait for ever"
        if self.fake and len(self.waited) == self.done_after:
            self.fake.dns.silent.clear()
            self.fake.customer(NAME)


def patient(fake: FakeWorld, clock: Pauses, told: list[str], minutes: float = 10) -> PatientDns:
    return PatientDns(fake.dns, clock, timedelta(minutes=minutes), told.append)


@pytest.mark.parametrize("is_silent", [False, True])
def test_it_is_asked_again_until_dns_points_here(fake: FakeWorld, *, is_silent: bool) -> None:
    told: list[str] = []
    clock = Pauses(fake=fake, done_after=2)
    domain = fake.customer(NAME)
    fake.dns.cnames.clear()
    fake.dns.silent.update({NAME} if is_silent else set())
    assert patient(fake, clock, told).verify(domain).domain == domain
    assert (len(fake.dns.asked), clock.waited) == (3, [2, 3])
    assert [text.startswith(f"{NAME}: ") for text in told] == [True, True]


def test_pauses_grow_to_half_a_minute_and_end_with_the_patience(fake: FakeWorld) -> None:
    clock = Pauses()
    with pytest.raises(NotReady) as caught:
        patient(fake, clock, []).verify(Domain(NAME))
    assert caught.value.slug == "dns-no-such-name"
    assert clock.waited[:-1] == sorted(clock.waited[:-1])
    assert max(clock.waited) == 30
    assert sum(clock.waited) == pytest.approx(600)
    assert len(fake.dns.asked) == len(clock.waited) + 1, "the end of the patience is a moment to ask, too"


def test_without_patience_one_answer_is_the_answer(fake: FakeWorld) -> None:
    clock, domain = Pauses(), fake.customer(NAME)
    fake.dns.silent.add(NAME)
    with pytest.raises(Unreachable):
        patient(fake, clock, [], minutes=0).verify(domain)
    assert (fake.dns.asked, clock.waited) == ([NAME], [])


def test_who_is_asked_to_stop_waits_no_longer(fake: FakeWorld) -> None:
    clock, domain = Pauses(), fake.customer(NAME)
    fake.dns.silent.add(NAME)
    stopping.set()
    try:
        with pytest.raises(Interrupted):
            patient(fake, clock, []).verify(domain)
    finally:
        stopping.clear()
    assert clock.waited == []
