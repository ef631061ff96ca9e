"""What errors have in common and what follows from it, over the whole catalogue; the words are public slugs."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress

import pytest

from certctl.budget import Bucket, Spend
from certctl.domain import Domain
from certctl.errors import CATALOGUE, CertctlError
from certctl.slugs import Slug
from certctl.stories.issue import deploy
from certctl.stories.quota import backoff_until, request_for, spending
from certctl.stories.renew import is_waiting
from certctl.stories.result import Disposition, JourneyResult, Step
from certctl.values import Done, Site
from tests.fakes.web import FakeChange
from tests.fakes.world import FakeWorld, live

VALIDATIONS = {"ca-dns", "ca-connection", "ca-unauthorized", "ca-caa"}
PERHAPS_MADE = {"ca-bad-certificate", "ca-timeout", "ca-unrecognised"}
OTHER_ATTEMPTS = {
    "ca-rejected-identifier", "ca-refused", "ca-account", "ca-challenge-missing", "ca-challenge-aborted",
    "ca-rate-limited", "ca-paused", "ca-unreachable", "ca-bad-nonce",
}  # fmt: skip
ONE_SITES = {
    "nginx-test-failed", "nginx-conflict", "nginx-reload-failed", "nginx-not-served", "nginx-challenge-intercepted",
    "state-unwritable",
}  # fmt: skip
THE_HOSTS = ONE_SITES | {
    "nginx-missing", "nginx-not-running", "nginx-already-broken", "nginx-not-included", "nginx-cannot-test",
    "nginx-timeout", "busy", "keys-out-of-reach", "missing-account",
}  # fmt: skip


def error(slug: Slug, *, quota_used: bool = False) -> CertctlError:
    return CATALOGUE[slug].family(slug, "it went wrong", quota_used=quota_used)


def those(of_which: Callable[[CertctlError], bool], *, quota_used: bool = False) -> set[str]:
    """Return the slugs of the errors of which something is true."""
    return {str(slug) for slug in Slug if of_which(error(slug, quota_used=quota_used))}


@pytest.mark.parametrize(("quota_used", "more"), [(True, {"certbot-killed"}), (False, set[str]())])
def test_a_domain_rests_after_an_attempt_at_the_ca(fake: FakeWorld, more: set[str], *, quota_used: bool) -> None:
    def rests(error: CertctlError) -> bool:
        return backoff_until(Domain("a.example.com"), error, fake.world) is not None

    assert those(rests, quota_used=quota_used) == VALIDATIONS | PERHAPS_MADE | OTHER_ATTEMPTS | more


@pytest.mark.parametrize(("quota_used", "more"), [(True, {"certbot-killed"}), (False, set[str]())])
def test_what_the_ca_may_have_done_all_the_same_is_counted(
    fake: FakeWorld, more: set[str], *, quota_used: bool
) -> None:
    domain = Domain("a.example.com")
    request = request_for(domain, renewal=False)

    def grows(spend: Spend) -> Callable[[CertctlError], bool]:
        def counts(error: CertctlError) -> bool:
            fake.days_pass(30)
            with suppress(CertctlError), spending(request, fake.world):
                raise error
            limit, now = fake.world.limits[spend.bucket], fake.clock.now()
            return now in fake.store.spent(spend, limit, now)

        return counts

    (made, *_) = request.certificate
    assert those(grows(made), quota_used=quota_used) == PERHAPS_MADE | more
    assert those(grows(Spend(Bucket.FAILURES, domain.name)), quota_used=quota_used) == VALIDATIONS


def test_trouble_of_this_host_is_over_once_a_name_is_served_and_until_then_it_waits(fake: FakeWorld) -> None:
    (domain,) = live(fake, "status.example.com")

    def last(error: CertctlError) -> str | None:
        fake.store.failed(domain, error.slug, None)
        row = fake.store.domain(domain)
        assert row
        assert row.certificate
        assert is_waiting(row, fake.world) is (error.slug in THE_HOSTS), error.slug
        fake.store.served(row.certificate)
        after = fake.store.domain(domain)
        assert after
        return after.last_error

    assert those(lambda error: last(error) is None) == THE_HOSTS


def test_what_may_be_one_sites_fault_is_looked_for_site_by_site(
    fake: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    domains = live(fake, "a.example.com", "b.example.com")

    def is_looked_for(error: CertctlError) -> bool:
        tried: list[int] = []

        def broken(sites: Sequence[Site], *, gone: Sequence[Domain] = ()) -> AbstractContextManager[FakeChange]:  # noqa: ARG001
            tried.append(len(sites))
            raise error

        monkeypatch.setattr(fake.web, "change", broken)
        deploy(fake.journeys(*domains), fake.world)
        return tried == [2, 1, 1]

    assert those(is_looked_for) == ONE_SITES


def test_nothing_is_written_down_where_nothing_was_tried(fake: FakeWorld) -> None:
    domain = fake.customer("status.example.com")

    def is_written(error: CertctlError) -> bool:
        journey = fake.journey(domain)

        def look() -> Done:
            raise error

        before = len(fake.store.events(domain.name, 1000))
        with journey.attempt(fake.world):
            journey.step(Step.PROBE, look)
        return len(fake.store.events(domain.name, 1000)) > before

    unwritten = {"interrupted", "backing-off", "clock-wrong"}
    assert those(is_written) == set(Slug) - unwritten


def test_only_a_domain_that_rests_is_said_to_rest(fake: FakeWorld) -> None:
    def is_said(error: CertctlError) -> bool:
        result = JourneyResult(domain="a.example.com", at=fake.clock.now(), error=error)
        return result.disposition is Disposition.RESTING

    assert those(is_said) == {"backing-off"}
