"""The story, told on fakes: order of the steps, what is never spent, who is never harmed."""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from certctl.app.result import document
from certctl.budget import LETS_ENCRYPT, Bucket, Spend
from certctl.domain import Domain
from certctl.errors import CATALOGUE, ExitCode, RateLimited, Refused, Unreachable, WebServerFailed
from certctl.io.interrupt import stopping
from certctl.ports.world import World
from certctl.slugs import Slug
from certctl.stories.issue import deploy, issue, obtain, order, preflight, side_by_side
from certctl.stories.journey import Journey
from certctl.stories.result import Step
from certctl.values import Delegation, Done, Removal, Site, State
from tests.fakes.dns import FakeDns
from tests.fakes.web import FakeChange
from tests.fakes.world import FakeWorld


def test_a_name_goes_the_whole_way_in_order(fake: FakeWorld) -> None:
    domain = fake.customer("status.example.com")
    (journey,) = journeys = fake.journeys(domain)
    issue(journeys, fake.world)
    assert [step.name for step in journey.steps] == [
        Step.VERIFY, Step.APPROVE, Step.OBTAIN, Step.PUBLISH, Step.RELOAD, Step.CONFIRM,
    ]  # fmt: skip
    assert journey.certificate
    assert fake.web.served(domain) == journey.certificate.fingerprint
    assert (journey.ok, journey.changed, journey.state) == (True, True, State.ACTIVE)


def test_a_second_issue_orders_nothing_and_asks_nobody(fake: FakeWorld) -> None:
    domain = fake.customer("status.example.com")
    issue(fake.journeys(domain), fake.world)
    asked = len(fake.dns.asked), len(fake.operator.asked), fake.web.reloads
    (journey,) = journeys = fake.journeys(domain)
    issue(journeys, fake.world)
    assert (journey.ok, journey.changed) == (True, False)
    assert fake.ca.orders == 1
    assert (len(fake.dns.asked), len(fake.operator.asked), fake.web.reloads) == asked


def test_force_replaces_a_certificate_that_is_still_good(fake: FakeWorld) -> None:
    domain = fake.customer("status.example.com")
    issue(fake.journeys(domain), fake.world)
    (journey,) = journeys = fake.journeys(domain, insists=True)
    issue(journeys, fake.world)
    assert fake.ca.orders == 2
    assert journey.certificate
    assert journey.certificate.version == 2


def test_the_cheap_question_comes_first(fake: FakeWorld) -> None:
    domain = Domain("nowhere.example.com")
    (journey,) = journeys = fake.journeys(domain)
    issue(journeys, fake.world)
    assert journey.error
    assert journey.error.slug == "dns-no-such-name"
    assert not fake.operator.asked
    assert not fake.ca.orders
    row = fake.store.domain(domain)
    assert row
    assert (row.state, row.attempts, row.last_error) == (State.PENDING, 0, "dns-no-such-name")


def test_a_domain_the_operator_does_not_want_costs_the_ca_nothing(fake: FakeWorld) -> None:
    domain = fake.customer("status.example.com")
    fake.operator.approved.clear()
    (journey,) = journeys = fake.journeys(domain)
    issue(journeys, fake.world)
    assert journey.error
    assert journey.error.slug == "approval-refused"
    assert not fake.ca.orders


def test_a_bad_name_never_stops_the_good_ones(fake: FakeWorld) -> None:
    good = [fake.customer(f"status{number}.example.com") for number in range(5)]
    bad = Domain("nowhere.example.com")
    journeys = fake.journeys(good[0], bad, *good[1:])
    issue(journeys, fake.world, jobs=3)
    assert [journey.domain for journey in journeys if not journey.ok] == [bad]
    assert all(fake.web.served(domain) for domain in good)


def test_many_names_share_tests_and_reloads(fake: FakeWorld) -> None:
    domains = [fake.customer(f"status{number}.example.com") for number in range(20)]
    issue(fake.journeys(*domains), fake.world, jobs=8)
    assert fake.ca.orders == 20
    assert fake.web.reloads == fake.web.tests <= 20
    assert all(fake.web.served(domain) for domain in domains)


def test_one_block_nginx_refuses_leaves_all_the_others_live(fake: FakeWorld) -> None:
    domains = [fake.customer(f"status{number}.example.com") for number in range(7)]
    fake.web.refused.add(domains[3])
    journeys = fake.journeys(*domains)
    issue(journeys, fake.world, jobs=7)
    assert [journey.domain for journey in journeys if not journey.ok] == [domains[3]]
    assert [domain for domain in domains if not fake.web.served(domain)] == [domains[3]]


def test_one_place_that_cannot_be_written_leaves_all_the_others_live(fake: FakeWorld) -> None:
    """As that of server blocks, for a service whose unit is an older certctl's."""
    domains = [fake.customer(f"status{number}.example.com") for number in range(7)]
    fake.web.shut.add(domains[3])
    journeys = fake.journeys(*domains)
    issue(journeys, fake.world, jobs=7)
    assert [(j.domain, j.error.slug) for j in journeys if j.error] == [(domains[3], "state-unwritable")]
    assert [domain for domain in domains if not fake.web.served(domain)] == [domains[3]]


def test_where_nothing_could_be_published_nothing_is_ordered(fake: FakeWorld) -> None:
    fake.web.is_full = True
    (journey,) = journeys = fake.journeys(fake.customer("status.example.com"))
    issue(journeys, fake.world)
    assert journey.error
    assert (journey.error.slug, fake.ca.orders) == ("state-unwritable", 0)


def test_what_nginx_refused_is_published_next_time_without_a_new_order(fake: FakeWorld) -> None:
    domain = fake.customer("status.example.com")
    fake.web.refused.add(domain)
    issue(fake.journeys(domain), fake.world)
    fake.web.refused.clear()
    (journey,) = journeys = fake.journeys(domain)
    issue(journeys, fake.world)
    assert journey.ok
    assert fake.web.served(domain)
    assert fake.ca.orders == 1


def test_a_run_killed_between_the_ca_and_the_store_costs_no_second_order(fake: FakeWorld) -> None:
    domain = fake.customer("status.example.com")
    fake.ca.obtain(fake.operator.approve(fake.dns.verify(domain)))  # and here it was killed
    (journey,) = journeys = fake.journeys(domain)
    issue(journeys, fake.world)
    assert journey.ok
    assert fake.ca.orders == 1


def test_a_run_killed_between_the_store_and_its_tidying_does_not_make_an_old_certificate_look_new(
    fake: FakeWorld,
) -> None:
    domain = fake.customer("status.example.com")
    fake.store.keep(fake.ca.obtain(fake.operator.approve(fake.dns.verify(domain))))  # and here it was killed
    journey = fake.journey(domain, insists=True)
    obtain(journey, fake.world)
    assert journey.ok
    assert fake.ca.orders == 2


def test_an_unfinished_certificate_is_stored_before_it_is_called_settled(fake: FakeWorld) -> None:
    domain = fake.customer("status.example.com")
    journey = fake.journey(domain)
    order(journey, fake.operator.approve(fake.dns.verify(domain)), fake.world)
    row = fake.store.domain(domain)
    assert row
    assert row.certificate == journey.certificate
    assert "PRIVATE KEY" in fake.store.pem(row.certificate).private_key if row.certificate else False


@pytest.mark.parametrize(
    ("trouble", "slug"),
    [
        (lambda fake: fake.dns.silent.add("status.example.com"), "dns-unreachable"),
        (lambda fake: setattr(fake.operator, "outage", True), "approval-unreachable"),
        (lambda fake: setattr(fake.ca, "outage", True), "ca-unreachable"),
        (lambda fake: fake.ca.broken.add("status.example.com"), "ca-unauthorized"),
        (lambda fake: setattr(fake.web, "keeps_old", True), "nginx-reload-failed"),
        (lambda fake: fake.web.not_served.add(Domain("status.example.com")), "nginx-not-served"),
        (lambda fake: setattr(fake.web, "is_running", False), "nginx-not-running"),
        (lambda fake: fake.web.intercepted.add(Domain("status.example.com")), "nginx-challenge-intercepted"),
        (lambda fake: setattr(fake.ca, "clock_differs", True), "clock-wrong"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_no_failure_of_a_newcomer_touches_a_site_that_is_live(fake: FakeWorld, trouble: object, slug: str) -> None:
    neighbour = fake.customer("neighbour.example.com")
    issue(fake.journeys(neighbour), fake.world)
    before = fake.web.served(neighbour)
    newcomer = fake.customer("status.example.com")
    assert callable(trouble)
    trouble(fake)
    (journey,) = journeys = fake.journeys(newcomer)
    issue(journeys, fake.world)
    assert journey.error
    assert journey.error.slug == slug
    assert fake.web.served(neighbour) == before
    assert fake.listening.arrivals == ["neighbour.example.com", "status.example.com"]


def test_no_order_is_spent_to_find_out_that_nginx_is_down(fake: FakeWorld) -> None:
    domain = fake.customer("status.example.com")
    fake.web.is_running = False
    issue(fake.journeys(domain), fake.world)
    assert fake.ca.orders == 0
    row = fake.store.domain(domain)
    assert row
    assert row.retry_at is None
    fake.web.is_running = True
    issue(fake.journeys(domain), fake.world)
    assert fake.web.served(domain)


def test_no_order_is_spent_to_find_out_that_another_server_block_answers(fake: FakeWorld) -> None:
    domain = fake.customer("status.example.com")
    fake.web.intercepted.add(domain)
    (journey,) = journeys = fake.journeys(domain)
    issue(journeys, fake.world)
    row = fake.store.domain(domain)
    assert journey.error
    assert row
    assert (journey.error.exit_code, fake.ca.orders, row.attempts, row.retry_at) == (
        ExitCode.WEB_SERVER,
        0,
        0,
        None,
    )
    fake.web.intercepted.clear()
    issue(fake.journeys(domain), fake.world)
    assert fake.web.served(domain)


def test_a_live_name_is_renewed_with_a_warning_where_another_block_answers(fake: FakeWorld) -> None:
    domain = fake.customer("status.example.com")
    issue(fake.journeys(domain), fake.world)
    fake.web.intercepted.add(domain)
    fake.days_pass(61)
    (journey,) = journeys = fake.journeys(domain)
    issue(journeys, fake.world)
    assert (journey.ok, fake.ca.orders) == (True, 2)
    assert [warning.slug for warning in journey.warnings] == ["nginx-challenge-intercepted"]
    assert [text.startswith(str(domain)) for text in fake.listening.warnings] == [True]
    assert "nginx-challenge-intercepted" in [event.slug for event in fake.store.events(domain.name, 9)]
    (result,) = document("issue", [journey.result])["results"]
    assert [warning["code"] for warning in result["warnings"]] == ["nginx-challenge-intercepted"]


WEB_FAULTS = [kind.slug for kind in CATALOGUE.values() if kind.family is WebServerFailed]


@pytest.mark.parametrize("slug", WEB_FAULTS)
@pytest.mark.parametrize("was_served", [True, False])
def test_only_a_look_that_may_be_wrong_is_overruled_and_only_for_a_name_that_is_live(
    fake: FakeWorld, monkeypatch: pytest.MonkeyPatch, slug: Slug, *, was_served: bool
) -> None:
    """A balancer may answer the CA; but an order for a name nobody sees costs more than a question."""
    domain = fake.customer("status.example.com")
    (issue if was_served else obtain_each)(fake.journeys(domain), fake.world)

    def look(_: Domain) -> Done:
        raise WebServerFailed(slug, "port 80 shows something else")

    monkeypatch.setattr(fake.web, "require_challenge", look)
    (journey,) = journeys = fake.journeys(domain, insists=True)
    issue(journeys, fake.world)
    may_be_wrong = slug in {"nginx-challenge-intercepted", "nginx-not-included"}
    assert journey.ok is (was_served and may_be_wrong)
    assert fake.ca.orders == 1 + journey.ok


def obtain_each(journeys: Sequence[Journey], world: World) -> None:
    for journey in journeys:
        obtain(journey, world)


def test_a_name_whose_certificate_has_ended_is_not_live_any_more(fake: FakeWorld) -> None:
    domain = fake.customer("status.example.com")
    issue(fake.journeys(domain), fake.world)
    fake.web.intercepted.add(domain)
    fake.days_pass(91)
    (journey,) = journeys = fake.journeys(domain)
    issue(journeys, fake.world)
    assert (journey.ok, fake.ca.orders) == (False, 1)


def test_while_nginx_is_down_a_live_name_is_not_renewed_either(fake: FakeWorld) -> None:
    domain = fake.customer("status.example.com")
    issue(fake.journeys(domain), fake.world)
    fake.web.is_running = False
    fake.days_pass(61)
    (journey,) = journeys = fake.journeys(domain)
    issue(journeys, fake.world)
    assert journey.error
    assert (journey.error.slug, fake.ca.orders) == ("nginx-not-running", 1)


def test_by_a_wrong_clock_nothing_is_ordered_and_nothing_written_down(fake: FakeWorld) -> None:
    domain = fake.customer("status.example.com")
    fake.ca.clock_differs = True
    (journey,) = journeys = fake.journeys(domain)
    issue(journeys, fake.world)
    assert journey.error
    assert (journey.error.exit_code, journey.error.kind.who) == (ExitCode.CONFIG, "operator")
    assert (fake.ca.orders, fake.store.domain(domain), list(fake.store.events(domain.name, 9))) == (0, None, [])
    fake.ca.clock_differs = False
    issue(fake.journeys(domain), fake.world)
    assert fake.web.served(domain)


@pytest.mark.parametrize(
    ("trouble", "slug"),
    [
        (lambda fake: setattr(fake.ca, "outage", True), "ca-unreachable"),
        (lambda fake: setattr(fake.ca, "clock_differs", True), "clock-wrong"),
        (lambda fake: setattr(fake.web, "is_running", False), "nginx-not-running"),
        (lambda fake: fake.web.intercepted.add(Domain("status.example.com")), "nginx-challenge-intercepted"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_dry_run_says_what_would_stop_an_order(fake: FakeWorld, trouble: object, slug: str) -> None:
    domain = fake.customer("status.example.com")
    (journey,) = journeys = fake.journeys(domain)
    preflight(journeys, fake.world)
    assert journey.ok
    assert journey.steps[-1].name is Step.PROBE
    assert journey.steps[-1].detail.count(";") == 2
    assert callable(trouble)
    trouble(fake)
    (journey,) = journeys = fake.journeys(domain)
    preflight(journeys, fake.world)
    assert journey.error
    assert journey.error.slug == slug
    assert fake.store.domain(domain) is None


def test_the_history_tells_successes_and_failures(fake: FakeWorld) -> None:
    domain = fake.customer("status.example.com")
    fake.ca.failures["status.example.com"] = Refused(Slug.CA_CONNECTION, "port 80 is closed", quota_used=True)
    issue(fake.journeys(domain), fake.world)
    fake.ca.failures.clear()
    issue(fake.journeys(domain, insists=True), fake.world)
    told = [(event.step, event.ok, event.slug) for event in fake.store.events(domain.name, 9)]
    assert told == [("issue", True, None), ("obtain", False, "ca-connection")]


def test_a_dry_run_orders_nothing_and_writes_nothing(fake: FakeWorld) -> None:
    domain, stranger = fake.customer("status.example.com"), Domain("nowhere.example.com")
    journeys = fake.journeys(domain, stranger)
    preflight(journeys, fake.world)
    assert [journey.ok for journey in journeys] == [True, False]
    assert not fake.ca.orders
    assert not fake.store.domains()
    assert not fake.store.events(None, 9)


def test_a_run_that_is_stopped_on_a_names_way_writes_no_failure_down(fake: FakeWorld) -> None:
    domain = fake.customer("status.example.com")

    class Stopped(FakeDns):
        def verify(self, domain: Domain) -> Delegation:
            stopping.set()
            return super().verify(domain)

    (journey,) = journeys = fake.journeys(domain)
    try:
        issue(journeys, replace(fake.world, dns=Stopped(cnames=fake.dns.cnames)))
    finally:
        stopping.clear()
    assert journey.error
    assert (journey.error.slug, [step.name for step in journey.steps]) == ("interrupted", [Step.VERIFY])
    assert (fake.operator.asked, fake.store.domain(domain), list(fake.store.events(None, 9))) == ([], None, [])


def test_as_many_names_are_on_their_way_at_once_as_was_said(fake: FakeWorld) -> None:
    meet = threading.Barrier(3)

    def go(_: Journey) -> None:
        meet.wait(10)

    journeys = fake.journeys(*(fake.customer(f"s{number}.example.com") for number in range(3)))
    assert sum(len(arrived) for arrived in side_by_side(journeys, go, 3)) == 3
    assert all(journey.ok for journey in journeys)
    assert [len(arrived) for arrived in side_by_side(journeys[:1], lambda _: None, 0)] == [1]


def test_a_run_that_ends_early_lets_end_what_has_begun_and_begins_nothing_more(
    fake: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store is closed then: nobody may still be at work on it."""
    begun, ended, may_end, second = [], [], threading.Event(), threading.Event()

    class Pool(ThreadPoolExecutor):
        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002
            super().shutdown(wait=False, cancel_futures=cancel_futures)
            may_end.set()
            super().shutdown(wait=wait)

    def go(journey: Journey) -> None:
        begun.append(journey)
        if len(begun) == 2:
            second.set()
            may_end.wait(10)
            threading.Event().wait(0.1)
        ended.append(journey)

    monkeypatch.setattr("certctl.stories.issue.ThreadPoolExecutor", Pool)
    arriving = side_by_side(fake.journeys(*(Domain(f"s{number}.example.com") for number in range(4))), go, 1)
    with closing(arriving):  # type: ignore[type-var]
        next(arriving)
        second.wait(10)
    assert (len(begun), len(ended)) == (2, 2)


def test_a_bug_of_ours_is_said_and_stops_nobody_else(fake: FakeWorld) -> None:
    unlucky, lucky = fake.customer("unlucky.example.com"), fake.customer("lucky.example.com")
    fake.ca.failures["unlucky.example.com"] = ZeroDivisionError("a bug")  # type: ignore[assignment]
    (stumbled, fine) = journeys = fake.journeys(unlucky, lucky)
    issue(journeys, fake.world)
    assert stumbled.error
    assert (stumbled.error.slug, stumbled.error.exit_code) == ("internal", ExitCode.FAILED)
    assert "ZeroDivisionError: a bug" in stumbled.error.message
    assert fine.ok
    assert fake.web.served(lucky)


def test_a_site_whose_key_is_gone_fails_alone(fake: FakeWorld, tmp_path: Path) -> None:
    domains = [fake.customer(f"s{number}.example.com") for number in range(3)]
    for journey in fake.journeys(*domains):
        obtain(journey, fake.world)
    with sqlite3.connect(tmp_path / "certctl.db") as db:
        db.execute("DELETE FROM pem WHERE domain = ?", (domains[1].name,))
    db.close()
    journeys = fake.journeys(*domains)
    issue(journeys, fake.world, jobs=3)
    assert [journey.domain for journey in journeys if not journey.ok] == [domains[1]]
    assert fake.web.served(domains[0])
    assert fake.web.served(domains[2])


def test_what_is_published_is_the_newest_version_of_the_store(fake: FakeWorld) -> None:
    domain = fake.customer("status.example.com")
    old = fake.journey(domain)
    obtain(old, fake.world)
    issue(fake.journeys(domain, insists=True), fake.world)
    newest = fake.web.served(domain)
    deploy([old], fake.world)
    assert fake.web.served(domain) == newest
    assert old.certificate
    assert old.certificate.version == 2


def test_a_parked_customer_who_is_issued_again_costs_no_order(fake: FakeWorld) -> None:
    domain = fake.customer("status.example.com")
    issue(fake.journeys(domain), fake.world)
    fake.store.set_state(domain, State.MOVED)
    (journey,) = journeys = fake.journeys(domain)
    issue(journeys, fake.world)
    assert journey.state is State.ACTIVE
    assert fake.ca.orders == 1


def test_publishing_a_parked_domain_does_not_bring_it_back(fake: FakeWorld) -> None:
    domain = fake.customer("status.example.com")
    issue(fake.journeys(domain), fake.world)
    fake.store.set_state(domain, State.UNWANTED)
    journey = fake.journey(domain)
    deploy([journey], fake.world)
    row = fake.store.domain(domain)
    assert row
    assert (row.state, journey.state) == (State.UNWANTED, State.UNWANTED)


def test_an_order_that_nginx_made_useless_is_still_said_to_be_spent(fake: FakeWorld) -> None:
    domain = fake.customer("status.example.com")
    fake.web.refused.add(domain)
    (first,) = journeys = fake.journeys(domain)
    issue(journeys, fake.world)
    (second,) = journeys = fake.journeys(domain)
    issue(journeys, fake.world)
    assert first.error
    assert second.error
    assert (first.error.quota_used, second.error.quota_used) == (True, False)


def test_a_certificate_that_is_no_good_was_counted_by_the_ca_all_the_same(fake: FakeWorld) -> None:
    domain = fake.customer("status.example.com")
    fake.ca.failures["status.example.com"] = Refused(Slug.CA_BAD_CERTIFICATE, "for somebody else", quota_used=True)
    issue(fake.journeys(domain), fake.world)
    duplicates = Spend(Bucket.DUPLICATES, "status.example.com")
    assert len(fake.store.spent(duplicates, LETS_ENCRYPT[Bucket.DUPLICATES], fake.clock.now())) == 1


def test_an_outage_is_never_a_no(fake: FakeWorld) -> None:
    domain = fake.customer("status.example.com")
    fake.operator.outage = True
    (journey,) = journeys = fake.journeys(domain)
    issue(journeys, fake.world)
    assert isinstance(journey.error, Unreachable)


def test_a_failure_at_the_ca_rests_on_the_ladder_and_a_person_may_insist(fake: FakeWorld) -> None:
    domain = fake.customer("status.example.com")
    fake.ca.broken.add("status.example.com")
    for minutes in (1, 10, 100, 1440):
        issue(fake.journeys(domain), fake.world)
        (resting,) = journeys = fake.journeys(domain)
        issue(journeys, fake.world)
        assert resting.error
        assert (resting.error.slug, resting.error.retry_after) == ("backing-off", minutes * 60)
        fake.days_pass(minutes / 1440)
    assert fake.ca.orders == 4
    fake.ca.broken.clear()
    (insisting,) = journeys = fake.journeys(domain, insists=True)
    issue(journeys, fake.world)
    assert insisting.ok


def test_a_dns_failure_costs_no_rest(fake: FakeWorld) -> None:
    domain = Domain("status.example.com")
    issue(fake.journeys(domain), fake.world)
    fake.customer("status.example.com")
    (journey,) = journeys = fake.journeys(domain)
    issue(journeys, fake.world)
    assert journey.ok


def test_what_the_ca_told_us_to_wait_is_kept_by_the_next_run(fake: FakeWorld) -> None:
    domain = fake.customer("status.example.com")
    fake.ca.failures["status.example.com"] = RateLimited(Slug.CA_RATE_LIMITED, "too many", retry_after=5000)
    issue(fake.journeys(domain), fake.world)
    (journey,) = journeys = fake.journeys(domain)
    issue(journeys, fake.world)
    assert journey.error
    assert (journey.error.slug, journey.error.retry_after) == ("backing-off", 5000)


def test_the_sixth_failed_validation_within_the_hour_is_not_sent_even_if_a_person_insists(fake: FakeWorld) -> None:
    domain = fake.customer("status.example.com")
    fake.ca.broken.add("status.example.com")
    for _ in range(5):
        issue(fake.journeys(domain, insists=True), fake.world)
    (journey,) = journeys = fake.journeys(domain, insists=True)
    issue(journeys, fake.world)
    assert fake.ca.orders == 5
    assert journey.error
    assert (journey.error.slug, journey.error.exit_code) == ("budget-exhausted", ExitCode.RATE_LIMITED)
    assert journey.error.retry_after == 720


def test_the_fifty_first_certificate_of_a_registered_domain_is_not_ordered(fake: FakeWorld) -> None:
    domains = [fake.customer(f"s{number}.example.com") for number in range(51)]
    journeys = fake.journeys(*domains)
    issue(journeys, fake.world, jobs=1)
    assert [journey.error.slug for journey in journeys if journey.error] == ["budget-exhausted"]
    other = fake.customer("status.example.org")
    (elsewhere,) = journeys = fake.journeys(other)
    issue(journeys, fake.world)
    assert elsewhere.ok


def test_a_batch_publishes_nothing_that_another_run_has_overtaken_meanwhile(
    fake: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its older certificate nor a domain that was removed: what counts is seen under nginx's lock."""
    same, renewed, removed = domains = [fake.customer(f"s{number}.example.com") for number in range(3)]
    journeys = fake.journeys(*domains)
    for journey in journeys:
        obtain(journey, fake.world)
    older = {journey.certificate.fingerprint for journey in journeys[1:] if journey.certificate}
    change, shown = fake.web.change, set[str]()

    def overtake() -> None:
        obtain(fake.journey(renewed, insists=True), fake.world)
        fake.store.begin_removal(removed, Removal.FORGET)

    others = iter([overtake])

    @contextmanager
    def slow(sites: Sequence[Site], *, gone: Sequence[Domain] = ()) -> Iterator[FakeChange]:
        with change(sites, gone=gone) as made:
            next(others, lambda: None)()
            yield made
            shown.update(site.certificate.fingerprint for site in fake.web.files.values())

    monkeypatch.setattr(fake.web, "change", slow)
    deploy(journeys, fake.world)
    assert not shown & older
    row = fake.store.domain(renewed)
    assert row
    assert row.certificate
    assert fake.web.served(renewed) == row.certificate.fingerprint
    assert fake.web.served(same)
    assert (fake.web.served(removed), [journey.ok for journey in journeys]) == (None, [True, True, False])


ONE_SITES = {
    "nginx-test-failed",
    "nginx-conflict",
    "nginx-reload-failed",
    "nginx-not-served",
    "nginx-challenge-intercepted",
}


@pytest.mark.parametrize("slug", WEB_FAULTS)
def test_what_is_wrong_with_the_host_is_found_out_once_for_a_whole_batch(
    fake: FakeWorld, monkeypatch: pytest.MonkeyPatch, slug: Slug
) -> None:
    """A test that hangs would otherwise hang once for each name, and what no name caused ends for all of them."""
    journeys = fake.journeys(*(fake.customer(f"s{number}.example.com") for number in range(4)))
    for journey in journeys:
        obtain(journey, fake.world)
    changes: list[int] = []

    def broken(sites: Sequence[Site], *, gone: Sequence[Domain] = ()) -> AbstractContextManager[FakeChange]:  # noqa: ARG001
        changes.append(len(sites))
        raise WebServerFailed(slug, "no")

    monkeypatch.setattr(fake.web, "change", broken)
    deploy(journeys, fake.world)
    assert [journey.error.slug for journey in journeys if journey.error] == [slug] * 4
    assert changes == ([4, 2, 1, 1, 2, 1, 1] if slug in ONE_SITES else [4])
