"""A clock that was a year ahead for one run: what that run wrote steers none of those after it."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from certctl.budget import LETS_ENCRYPT, Bucket, Limit, Spend
from certctl.cli import run as certctl
from certctl.cli.framework import Invocation
from certctl.domain import Domain
from certctl.moments import ASKED_AGAIN_WITHIN, LONGEST_REST, REFUSED_AFTER_REMOVAL
from certctl.slugs import Slug
from certctl.stories.issue import issue
from certctl.stories.remove import refuse_if_removed_lately, remove
from certctl.stories.renew import refresh_suggestions, renew, resting, waiting
from certctl.stories.wildcard import BY_HAND, reminders, wildcard
from certctl.values import Certificate, State, Suggestion
from tests.fakes.world import FakeWorld

YEAR = 365
NAME = "a.example.com"


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeWorld]:
    fake = FakeWorld(tmp_path / "var/lib/certctl")
    yield fake
    fake.store.close()


def live(fake: FakeWorld, name: str = NAME) -> Domain:
    domain = fake.customer(name)
    issue(fake.journeys(domain), fake.world)
    return domain


def certificate(fake: FakeWorld, domain: Domain) -> Certificate:
    row = fake.store.domain(domain)
    assert row
    assert row.certificate
    return row.certificate


def test_a_due_name_is_renewed_by_the_right_clock_whatever_failed_by_the_wrong_one(fake: FakeWorld) -> None:
    domain = live(fake)
    fake.days_pass(YEAR)
    fake.ca.broken.add(NAME)
    refresh_suggestions(fake.world)
    for _ in range(5):  # as many as the CA lets fail in an hour
        (failed,) = journeys = fake.journeys(domain, insists=True)
        renew(journeys, fake.world)
        assert failed.error
        assert failed.error.slug == "ca-unauthorized"
    fake.days_pass(61 - YEAR)
    fake.ca.broken.clear()
    assert [row.domain for row in waiting(fake.world)] == [domain]
    assert not resting(fake.world, fake.world.candidates())
    (journey,) = journeys = fake.journeys(domain)
    renew(journeys, fake.world)
    assert journey.error is None
    assert journey.changed


def test_a_new_name_is_tried_again_by_the_right_clock(fake: FakeWorld) -> None:
    domain = fake.customer(NAME)
    fake.days_pass(YEAR)
    fake.ca.broken.add(NAME)
    issue(fake.journeys(domain), fake.world)
    fake.days_pass(-YEAR)
    fake.ca.broken.clear()
    (journey,) = journeys = fake.journeys(domain)
    issue(journeys, fake.world)
    assert journey.error is None


def test_a_rest_counts_up_to_the_longest_there_is_and_one_beyond_that_is_not_shown_either(
    fake: FakeWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    domain, now = live(fake), fake.clock.now()
    fake.store.failed(domain, Slug.CA_REFUSED, now + LONGEST_REST)
    assert [row.domain for row in resting(fake.world, fake.store.domains())] == []  # not due
    assert fake.store.domains()[0].retry_at == now + LONGEST_REST
    fake.store.failed(domain, Slug.CA_REFUSED, now + LONGEST_REST + timedelta(seconds=1))
    assert fake.store.domain(domain).retry_at is None  # type: ignore[union-attr]
    assert [row.retry_at for row in (*fake.store.domains(), *fake.world.candidates())] == [None, None]
    fake.store.failed(domain, Slug.CA_REFUSED, datetime.now(UTC) + timedelta(days=YEAR))
    assert certctl(["--root", str(tmp_path), "status"], Invocation()) == 0
    told = capsys.readouterr().out
    assert "ca-refused" in told
    assert "next try" not in told


def test_the_ca_is_asked_about_renewals_again_although_that_was_put_off_for_a_year(fake: FakeWorld) -> None:
    domain = live(fake)
    for ahead, is_asked in ((ASKED_AGAIN_WITHIN, False), (ASKED_AGAIN_WITHIN + timedelta(seconds=1), True)):
        fake.store.suggest([(certificate(fake, domain), Suggestion(None, fake.clock.now() + ahead))])
        assert [row.domain for row in fake.store.ari_due(fake.clock.now())] == [domain] * is_asked
    fake.ca.suggested[domain] = fake.clock.now()
    assert [row.domain for row in waiting(fake.world)] == [domain]


@pytest.mark.parametrize("bucket", list(Bucket))
def test_what_was_spent_a_year_ahead_is_no_debt(fake: FakeWorld, bucket: Bucket) -> None:
    spend, limit, now = Spend(bucket, "x"), LETS_ENCRYPT[bucket], fake.clock.now()
    fake.store.spend([spend] * limit.capacity, now + limit.memory + timedelta(seconds=1))
    assert fake.store.spent(spend, limit, now) == []
    assert fake.store.spent_keys(bucket, limit, now) == []
    assert fake.store.take([spend], [spend], LETS_ENCRYPT, now) is None
    fake.store.spend([spend], now)
    assert len(fake.store.spent(spend, limit, now)) == 2


def test_what_was_spent_minutes_ahead_counts_as_spent_just_now() -> None:
    limit, now = Limit(5, timedelta(minutes=12), "name"), datetime(2026, 11, 23, tzinfo=UTC)
    assert limit.tokens([now + timedelta(minutes=30)] * 3, now) == 2
    assert limit.wait([now + timedelta(minutes=30)] * 5, now) == timedelta(minutes=12)


def test_budget_draws_no_debt_from_the_future(
    fake: FakeWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spends = [Spend(Bucket.ORDERS, "")] * 300 + [Spend(Bucket.CERTIFICATES, "example.com")] * 50
    fake.store.spend(spends, datetime.now(UTC) + timedelta(days=YEAR))
    assert certctl(["--root", str(tmp_path), "--json", "budget"], Invocation()) == 0
    gauges = json.loads(capsys.readouterr().out)["data"]
    assert [(gauge["bucket"], gauge["left"]) for gauge in gauges] == [("orders", 300.0)]


def test_a_wildcard_by_hand_is_reminded_of_again(fake: FakeWorld) -> None:
    star = Domain("*.hyperping.io")
    wildcard(fake.journey(star), BY_HAND, fake.world)
    fake.days_pass(YEAR)
    reminders(fake.world)
    fake.days_pass(61 - YEAR)
    reminders(fake.world)
    noted = [event.at for event in fake.store.events(star.name, 10) if event.slug == "wildcard-manual"]
    assert fake.clock.now() in noted


def test_a_removal_noted_a_year_ahead_keeps_nobody_away(fake: FakeWorld) -> None:
    domain = live(fake)
    fake.days_pass(YEAR)
    remove(fake.journey(domain), fake.world)
    fake.days_pass(-YEAR)
    row = fake.store.domain(domain)
    assert row
    assert row.state is State.REMOVED
    assert row.since - fake.clock.now() > REFUSED_AFTER_REMOVAL
    refuse_if_removed_lately(row, fake.clock.now())
