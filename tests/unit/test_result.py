"""What became of a domain: the word for it, and whether somebody is woken."""

from datetime import UTC, datetime, timedelta

import pytest

from certctl.domain import Domain
from certctl.errors import CATALOGUE, CertctlError, Unreachable
from certctl.slugs import Slug
from certctl.stories.issue import issue
from certctl.stories.journey import Journey
from certctl.stories.renew import renew, waiting
from certctl.stories.result import Disposition, JourneyResult
from certctl.values import DomainRow, State
from tests.fakes.world import FakeWorld, live_one

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
DOMAIN = Domain("a.example.com")


def run(fake: FakeWorld, domain: Domain, *, insists: bool = False) -> Journey:
    (journey,) = journeys = fake.journeys(domain, insists=insists)
    renew(journeys, fake.world)
    return journey


def result(fake: FakeWorld, domain: Domain, *, insists: bool = False) -> JourneyResult:
    found = run(fake, domain, insists=insists).result
    assert found.at
    return found


def error(slug: Slug) -> CertctlError:
    return CATALOGUE[slug].family(slug, "it went wrong")


def ended(slug: Slug, *, state: State = State.ACTIVE, late: bool = False) -> JourneyResult:
    row = DomainRow(DOMAIN, state, NOON, None, 0, None, None)
    return JourneyResult(domain=DOMAIN.name, at=NOON, before=row, after=row, error=error(slug), late=late)


@pytest.mark.parametrize(
    ("slug", "in_time", "late"),
    [
        # The operator's to mend: at once.
        (Slug.CA_CONNECTION, True, True),
        (Slug.CA_PAUSED, True, True),
        (Slug.APPROVAL_UNREACHABLE, True, True),
        (Slug.NGINX_TEST_FAILED, True, True),
        (Slug.STORE_UNREACHABLE, True, True),
        (Slug.DNS_TARGET_BROKEN, True, True),
        # The CA's or nobody's: when the certificate gets late over it.
        (Slug.CA_UNREACHABLE, False, True),
        (Slug.CA_RATE_LIMITED, False, True),
        (Slug.BUDGET_EXHAUSTED, False, True),
        (Slug.BACKING_OFF, False, True),
        (Slug.DNS_UNREACHABLE, False, True),
        (Slug.BUSY, False, True),
        # The customer's: never.
        (Slug.DNS_CNAME_MISMATCH, False, False),
        (Slug.CAA_FORBIDS, False, False),
        (Slug.CA_DNS, False, False),
        # Stopped: whoever stopped it knows.
        (Slug.INTERRUPTED, True, True),
    ],
)
def test_a_run_fails_for_what_the_operator_can_mend_and_for_what_gets_late(
    slug: Slug,
    in_time: bool,  # noqa: FBT001
    late: bool,  # noqa: FBT001
) -> None:
    assert (ended(slug).fails_timer_run, ended(slug, late=True).fails_timer_run) == (in_time, late)


@pytest.mark.parametrize("state", [State.MOVED, State.UNWANTED])
@pytest.mark.parametrize("slug", [Slug.DNS_CNAME_MISMATCH, Slug.APPROVAL_REFUSED, Slug.DNS_UNREACHABLE])
def test_a_parked_domain_wakes_nobody_however_late(state: State, slug: Slug) -> None:
    parked = ended(slug, state=state, late=True)
    assert (parked.disposition, parked.fails_timer_run) == (Disposition.PARKED, False)


def test_a_first_certificate_is_issued_and_the_next_one_renewed(fake: FakeWorld) -> None:
    domain = fake.customer("a.example.com")
    (first,) = fake.journeys(domain)
    issue([first], fake.world)
    assert first.result.disposition is Disposition.ISSUED
    fake.days_pass(61)
    renewed = result(fake, domain)
    assert (renewed.disposition, renewed.reason, renewed.days_left, renewed.late) == (
        Disposition.RENEWED,
        "share",
        28,
        False,
    )
    assert result(fake, domain, insists=True).reason == "forced"


def test_a_renewal_the_ca_asked_for_says_so(fake: FakeWorld) -> None:
    domain = live_one(fake)
    fake.ca.suggested[domain] = fake.clock.now() - timedelta(days=1)
    fake.days_pass(1)
    waiting(fake.world)
    assert result(fake, domain).reason == "ari"


def test_a_domain_is_parked_once_and_returns_once(fake: FakeWorld) -> None:
    domain = live_one(fake)
    fake.days_pass(61)
    fake.dns.cnames["a.example.com"] = "elsewhere.example.net"
    first, second = result(fake, domain), result(fake, domain)
    assert (first.disposition, first.is_news) == (Disposition.PARKED, True)
    assert (second.disposition, second.is_news) == (Disposition.PARKED, False)
    assert [event.slug for event in fake.store.events("a.example.com", 9) if not event.ok] == ["dns-cname-mismatch"]
    fake.dns.cnames["a.example.com"] = fake.dns.target
    assert result(fake, domain).disposition is Disposition.RENEWED


def test_a_domain_that_returns_before_it_is_due_is_healthy_again(fake: FakeWorld) -> None:
    domain = live_one(fake)
    fake.store.set_state(domain, State.MOVED)
    fake.store.failed(domain, Slug.DNS_CNAME_MISMATCH, None)
    assert result(fake, domain).disposition is Disposition.RETURNED
    row = fake.store.domain(domain)
    assert row
    assert (row.state, row.last_error) == (State.ACTIVE, None)


def test_a_domain_that_returns_while_the_ca_is_down_is_no_longer_parked(fake: FakeWorld) -> None:
    domain = live_one(fake)
    fake.store.set_state(domain, State.MOVED)
    fake.days_pass(80)
    fake.ca.outage = True
    journey = run(fake, domain)
    assert journey.state is State.ACTIVE
    assert (journey.result.disposition, journey.result.late, journey.result.fails_timer_run) == (
        Disposition.FAILED,
        True,
        True,
    )
    assert [event.slug for event in fake.store.events(domain.name, 1)] == ["ca-unreachable"], "it is worth a line"


def test_a_failure_gets_late_when_half_of_the_time_for_it_is_gone(fake: FakeWorld) -> None:
    domain = live_one(fake)
    fake.ca.outage = True
    fake.days_pass(61)
    assert not result(fake, domain).fails_timer_run
    fake.days_pass(15)
    assert result(fake, domain).fails_timer_run


def test_resting_is_not_another_failure(fake: FakeWorld) -> None:
    domain = live_one(fake)
    fake.days_pass(61)
    fake.ca.broken.add("a.example.com")
    assert result(fake, domain).disposition is Disposition.FAILED
    assert result(fake, domain).disposition is Disposition.RESTING
    row = fake.store.domain(domain)
    assert row
    assert (row.last_error, row.attempts) == ("ca-unauthorized", 1)


def test_what_nginx_did_not_take_is_published_by_the_next_run_without_an_order(fake: FakeWorld) -> None:
    domain = live_one(fake)
    fake.days_pass(61)
    fake.web.refused.add(domain)
    failed = run(fake, domain)
    assert (failed.result.disposition, failed.result.fails_timer_run, fake.ca.orders) == (
        Disposition.FAILED,
        True,
        2,
    )
    fake.web.refused.clear()
    asked = len(fake.dns.asked)
    assert [row.domain for row in waiting(fake.world)] == [domain]
    mended = run(fake, domain)
    row = fake.store.domain(domain)
    assert row
    assert row.certificate
    assert fake.web.served(domain) == row.certificate.fingerprint
    assert (mended.ok, row.last_error, fake.ca.orders, len(fake.dns.asked)) == (True, None, 2, asked)
    assert not waiting(fake.world)


def test_a_run_that_leaves_no_trace_has_no_end(fake: FakeWorld) -> None:
    journey = fake.journey(DOMAIN)
    journey.fail(Unreachable(Slug.DNS_UNREACHABLE, "nobody answered"))
    assert journey.result.at is None
