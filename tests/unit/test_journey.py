"""What a journey notices on its way: how long a step took, and why it ended, whatever the store says to that."""

import pytest

from certctl.domain import Domain
from certctl.errors import Unreachable, WebServerFailed
from certctl.slugs import Slug
from certctl.stories.issue import issue
from certctl.stories.renew import renew
from certctl.stories.result import Step
from certctl.values import Done, State
from tests.fakes.world import FakeWorld

NAME = Domain("status.example.com")


@pytest.fixture
def no_store(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A store that takes nothing any more, such as on a full disk."""

    def full(*_: object) -> None:
        raise Unreachable(Slug.STORE_UNREACHABLE, "database or disk is full")

    monkeypatch.setattr("certctl.store.sqlite.SqliteStore.failed", full)
    monkeypatch.setattr("certctl.store.sqlite.SqliteStore.record", full)
    return monkeypatch


def test_a_step_says_in_milliseconds_how_long_it_took(fake: FakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([100.0, 101.5])
    monkeypatch.setattr("certctl.stories.journey.time.monotonic", lambda: next(moments))
    journey = fake.journey(NAME)
    journey.step(Step.PROBE, lambda: Done("looked"))
    assert [(step.ms, step.ok) for step in journey.steps] == [(1500, True)]


@pytest.mark.usefixtures("no_store")
def test_a_failure_that_cannot_be_written_down_is_still_the_one_that_is_told(fake: FakeWorld) -> None:
    (journey,) = journeys = fake.journeys(fake.customer(NAME.name))
    fake.ca.outage = True
    issue(journeys, fake.world)
    assert journey.error
    assert (journey.error.slug, fake.listening.arrivals) == ("ca-unreachable", [NAME.name])


@pytest.mark.usefixtures("no_store")
def test_a_warning_that_cannot_be_written_down_stops_nobody(fake: FakeWorld) -> None:
    journey = fake.journey(NAME)
    journey.warn(WebServerFailed(Slug.NGINX_CHALLENGE_INTERCEPTED, "another block answers"), fake.world)
    assert (journey.ok, len(journey.warnings), len(fake.listening.warnings)) == (True, 1, 1)


def test_a_parked_domain_has_one_line_for_each_reason_it_is_parked_for(fake: FakeWorld) -> None:
    issue(fake.journeys(fake.customer(NAME.name)), fake.world)
    fake.days_pass(61)
    fake.dns.cnames[NAME.name] = "elsewhere.example.net"
    renew(fake.journeys(NAME), fake.world)
    fake.customer(NAME.name)
    fake.operator.approved.clear()
    for _ in range(2):
        renew(fake.journeys(NAME), fake.world)
    row = fake.store.domain(NAME)
    assert row
    assert row.state is State.UNWANTED
    told = [event.slug for event in fake.store.events(NAME.name, 9) if not event.ok]
    assert told == ["approval-refused", "dns-cname-mismatch"]
