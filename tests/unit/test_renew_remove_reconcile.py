"""The other stories on fakes: renewal takes nothing away, removal leaves nothing behind."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta

import pytest

from certctl.domain import Domain
from certctl.errors import CATALOGUE, ConfigInvalid, NotApproved
from certctl.slugs import Slug
from certctl.stories.issue import issue, obtain
from certctl.stories.journey import Journey
from certctl.stories.reconcile import reconcile
from certctl.stories.remove import refuse_if_removed_lately, remove
from certctl.stories.renew import is_waiting, renew, renew_one, waiting
from certctl.values import Removal, State
from tests.fakes.web import FakeWeb
from tests.fakes.world import FakeWorld, live


def test_nothing_is_due_until_a_third_of_the_life_is_left(fake: FakeWorld) -> None:
    (domain,) = live(fake, "a.example.com")
    fake.days_pass(59)
    assert not waiting(fake.world)
    fake.days_pass(2)
    assert [row.domain for row in waiting(fake.world)] == [domain]


def test_all_that_is_due_is_renewed_with_one_reload(fake: FakeWorld) -> None:
    domains = live(fake, "a.example.com", "b.example.com", "c.example.com")
    before = {domain: fake.web.served(domain) for domain in domains}
    reloads = fake.web.reloads
    fake.days_pass(61)
    journeys = fake.journeys(*domains)
    renew(journeys, fake.world, jobs=3)
    assert all(journey.ok and journey.changed for journey in journeys)
    assert fake.web.reloads == reloads + 1
    assert all(fake.web.served(domain) not in {None, before[domain]} for domain in domains)
    assert sorted(fake.ca.replaced) == sorted(str(leaf) for leaf in before.values()), (
        "the CA is told what it replaces"
    )
    assert not waiting(fake.world)
    assert not any(is_waiting(row, fake.world) for row in fake.store.domains())


def test_the_soonest_to_expire_comes_first(fake: FakeWorld) -> None:
    fake.ca.lifetime = timedelta(days=90)
    (late,) = live(fake, "late.example.com")
    fake.ca.lifetime = timedelta(days=80)
    (soon,) = live(fake, "soon.example.com")
    fake.days_pass(70)
    assert [row.domain for row in waiting(fake.world)] == [soon, late]


def test_a_customer_who_moved_is_parked_and_still_served(fake: FakeWorld) -> None:
    stays, moved = live(fake, "stays.example.com", "moved.example.com")
    fake.dns.cnames["moved.example.com"] = "elsewhere.example.net"
    fake.days_pass(61)
    renew(journeys := fake.journeys(moved, stays), fake.world)
    row = fake.store.domain(moved)
    assert row
    assert ([journey.state for journey in journeys], row.state) == ([State.MOVED, State.ACTIVE], State.MOVED)
    assert fake.web.served(moved)
    assert fake.ca.orders == 3


def test_a_moved_customer_who_returns_is_renewed_again(fake: FakeWorld) -> None:
    (moved,) = live(fake, "moved.example.com")
    fake.dns.cnames["moved.example.com"] = "elsewhere.example.net"
    fake.days_pass(61)
    renew(fake.journeys(moved), fake.world)
    fake.dns.cnames["moved.example.com"] = fake.dns.target
    renew(fake.journeys(moved), fake.world)
    row = fake.store.domain(moved)
    assert row
    assert row.state is State.ACTIVE


def test_an_approval_outage_does_not_stop_a_renewal(fake: FakeWorld) -> None:
    (domain,) = live(fake, "a.example.com")
    fake.days_pass(61)
    fake.operator.remembered["a.example.com"] = fake.clock.now()
    fake.operator.outage = True
    (journey,) = journeys = fake.journeys(domain)
    renew(journeys, fake.world)
    assert journey.ok
    assert journey.changed


def test_a_failed_renewal_keeps_what_is_served(fake: FakeWorld) -> None:
    (domain,) = live(fake, "a.example.com")
    before = fake.web.served(domain)
    fake.days_pass(61)
    fake.ca.outage = True
    renew(fake.journeys(domain), fake.world)
    assert fake.web.served(domain) == before


def test_a_certificate_that_a_killed_run_stored_is_served_by_the_next_one_without_an_order(fake: FakeWorld) -> None:
    (domain,) = live(fake, "a.example.com")
    fake.days_pass(61)
    stored = fake.store.keep(fake.ca.obtain(fake.operator.approve(fake.dns.verify(domain))))  # here it was killed
    assert fake.web.served(domain) != stored.fingerprint
    rows = waiting(fake.world)
    renew(fake.journeys(*(row.domain for row in rows)), fake.world)
    assert fake.web.served(domain) == stored.fingerprint
    assert fake.ca.orders == 2
    assert not waiting(fake.world)


def test_an_unanswered_question_keeps_what_the_ca_said_before(fake: FakeWorld) -> None:
    (domain,) = live(fake, "a.example.com")
    fake.ca.suggested[domain] = fake.clock.now() + timedelta(days=2)
    assert not waiting(fake.world)
    fake.ca.outage = True
    fake.days_pass(3)
    assert [row.domain for row in waiting(fake.world)] == [domain]


def test_what_another_run_renewed_meanwhile_is_left_alone(fake: FakeWorld) -> None:
    (domain,) = live(fake, "a.example.com")
    (journey,) = journeys = fake.journeys(domain)
    renew(journeys, fake.world)
    assert (journey.ok, journey.changed, fake.ca.orders) == (True, False, 1)


def test_a_removed_domain_is_gone_everywhere(fake: FakeWorld) -> None:
    leaves, stays = live(fake, "leaves.example.com", "stays.example.com")
    journey = fake.journey(leaves)
    remove(journey, fake.world, Removal.REVOKE)
    assert journey.ok
    assert not fake.web.served(leaves)
    assert fake.web.served(stays)
    assert [row.domain for row in fake.store.domains()] == [stays]
    assert len(fake.ca.revoked) == 1
    again = fake.journey(leaves)
    remove(again, fake.world)
    assert (again.ok, again.changed, again.state) == (True, False, State.REMOVED)


@pytest.mark.parametrize(("seconds", "comes_back"), [(-1, False), (0, False), (1, True)])
def test_only_a_yes_that_was_given_after_the_removal_brings_a_visitor_back(
    fake: FakeWorld,
    seconds: int,
    comes_back: bool,  # noqa: FBT001
) -> None:
    (domain,) = live(fake, "a.example.com")
    remove(fake.journey(domain), fake.world)
    row = fake.store.domain(domain)
    assert row
    fake.operator.now = row.since + timedelta(seconds=seconds)
    yes = fake.operator.approve(fake.dns.verify(domain))
    with nullcontext() if comes_back else pytest.raises(NotApproved):
        refuse_if_removed_lately(row, row.since + timedelta(minutes=10), yes)


def test_a_removal_says_whether_the_operator_would_approve_the_name_again(fake: FakeWorld) -> None:
    wanted, unwanted, unknown = live(fake, "a.example.com", "b.example.com", "c.example.com")
    fake.operator.approved.remove("b.example.com")
    told = []
    for domain in (wanted, unwanted, unknown):
        fake.operator.outage = domain == unknown
        journey = fake.journey(domain)
        remove(journey, fake.world)
        assert journey.ok
        told.append(journey.result.still_approved)
    assert told == [True, False, None]


@pytest.mark.parametrize("finish", ["remove", "reconcile"])
def test_a_removal_that_another_run_finishes_a_day_later_keeps_visitors_away_from_then_on(
    fake: FakeWorld, finish: str
) -> None:
    """Its proof is a handshake for the name, and the daemon would take that for a first visit."""
    (domain,) = live(fake, "a.example.com")
    fake.store.set_state(domain, State.REMOVED)  # and here it was killed
    fake.store.forget(domain, keep_certificate=False)
    fake.days_pass(1)
    if finish == "remove":
        remove(fake.journey(domain), fake.world)
    else:
        reconcile(fake.world, fake.journey)
    assert not fake.web.served(domain)
    with pytest.raises(NotApproved) as caught:
        refuse_if_removed_lately(fake.store.domain(domain), fake.clock.now())
    assert caught.value.retry_after == 600


def test_removing_what_was_never_there_is_an_error(fake: FakeWorld) -> None:
    journey = fake.journey(Domain("never.example.com"))
    remove(journey, fake.world)
    assert journey.error
    assert journey.error.slug == "unknown-domain"


def test_a_removal_nginx_did_not_take_is_finished_by_the_next_run(fake: FakeWorld) -> None:
    (domain,) = live(fake, "a.example.com")
    fake.web.keeps_old = True
    first = fake.journey(domain)
    remove(first, fake.world)
    assert first.error
    fake.web.keeps_old = False
    second = fake.journey(domain)
    remove(second, fake.world)
    assert second.ok
    assert not fake.web.served(domain)


def test_a_removal_while_nginx_was_down_still_destroys_the_key_later(fake: FakeWorld) -> None:
    (domain,) = live(fake, "a.example.com")
    row = fake.store.domain(domain)
    fake.web.is_running = False
    remove(fake.journey(domain), fake.world)
    fake.web.is_running = True
    again = fake.journey(domain)
    remove(again, fake.world)
    assert again.ok
    assert row
    assert row.certificate
    with pytest.raises(ConfigInvalid):
        fake.store.pem(row.certificate)


def test_what_was_kept_at_a_removal_goes_with_the_next_one_that_keeps_nothing(fake: FakeWorld) -> None:
    (domain,) = live(fake, "a.example.com")
    remove(fake.journey(domain), fake.world, Removal.KEEP)
    row = fake.store.domain(domain)
    remove(again := fake.journey(domain), fake.world)
    assert (again.ok, again.changed, again.state) == (True, True, State.REMOVED)
    assert row
    assert row.certificate
    with pytest.raises(ConfigInvalid):
        fake.store.pem(row.certificate)


def test_a_removed_domain_can_come_back(fake: FakeWorld) -> None:
    (domain,) = live(fake, "a.example.com")
    remove(fake.journey(domain), fake.world)
    issue(fake.journeys(domain), fake.world)
    assert fake.web.served(domain)
    assert fake.ca.orders == 2


def test_reconcile_puts_back_what_is_missing_and_takes_out_what_was_removed(fake: FakeWorld) -> None:
    *domains, left = live(fake, "a.example.com", "b.example.com", "left.example.com")
    fake.web.files.pop(domains[0])
    fake.store.set_state(left, State.REMOVED)  # and here its removal was killed
    fake.store.forget(left, keep_certificate=False)
    done = reconcile(fake.world, fake.journey)
    assert sorted(journey.domain.name for journey in done.journeys if journey.changed) == [
        "a.example.com", "b.example.com", "left.example.com",
    ]  # fmt: skip
    assert not done.less
    assert set(fake.web.serving) == set(domains)
    assert not any(journey.changed for journey in reconcile(fake.world, fake.journey).journeys)


def test_a_domain_the_operator_no_longer_wants_is_parked_and_still_served(fake: FakeWorld) -> None:
    (domain,) = live(fake, "a.example.com")
    fake.days_pass(61)
    fake.operator.approved.clear()
    renew(fake.journeys(domain), fake.world)
    row = fake.store.domain(domain)
    assert row
    assert row.state is State.UNWANTED
    assert fake.web.served(domain)
    assert fake.ca.orders == 1
    fake.operator.approves(domain)
    renew(fake.journeys(*(row.domain for row in waiting(fake.world))), fake.world)
    assert fake.ca.orders == 2


def test_a_parked_domain_that_is_not_due_comes_back_without_an_order(fake: FakeWorld) -> None:
    (domain,) = live(fake, "a.example.com")
    fake.store.set_state(domain, State.MOVED)
    renew(fake.journeys(domain), fake.world)
    row = fake.store.domain(domain)
    assert row
    assert row.state is State.ACTIVE
    assert fake.ca.orders == 1


def test_the_ca_can_pull_a_renewal_forward(fake: FakeWorld) -> None:
    early, later = live(fake, "early.example.com", "later.example.com")
    fake.ca.suggested[early] = fake.clock.now() - timedelta(days=1)
    fake.days_pass(1)
    assert [row.domain for row in waiting(fake.world)] == [early]
    renew(fake.journeys(early, later), fake.world)
    assert fake.ca.orders == 3


def test_a_resting_failure_is_left_out_and_then_tried_after_everyone_else(fake: FakeWorld) -> None:
    bad, good = live(fake, "bad.example.com", "good.example.com")
    fake.days_pass(61)
    fake.ca.broken.add("bad.example.com")
    renew(fake.journeys(bad), fake.world)
    fake.clock.pause(timedelta(seconds=59))
    assert [row.domain for row in waiting(fake.world)] == [good]
    fake.clock.pause(timedelta(seconds=1))
    assert [row.domain for row in waiting(fake.world)] == [good, bad]


def test_a_first_renewal_killed_before_nginx_was_told_is_published_by_the_next_run(fake: FakeWorld) -> None:
    """Brought live step by step, so nobody noted that version 1 is served."""
    domain = fake.customer("a.example.com")
    journey = fake.journey(domain)
    obtain(journey, fake.world)
    fake.days_pass(61)
    renew_one(fake.journey(domain), fake.world)  # and here it was killed
    assert [row.domain for row in waiting(fake.world)] == [domain]
    renew(fake.journeys(domain), fake.world)
    row = fake.store.domain(domain)
    assert row
    assert row.certificate
    assert fake.web.served(domain) == row.certificate.fingerprint
    assert fake.ca.orders == 2


def test_what_never_was_live_is_not_the_renewals_business(fake: FakeWorld) -> None:
    """A certificate that was only obtained waits for the operator's own publish; one that failed, for a visit."""
    obtain(fake.journey(fake.customer("a.example.com")), fake.world)
    issue(fake.journeys(Domain("nowhere.example.com")), fake.world)
    assert not waiting(fake.world)
    assert not any(is_waiting(row, fake.world) for row in fake.store.domains())


def test_a_removed_domain_stays_removed_even_if_its_renewal_is_insisted_on(fake: FakeWorld) -> None:
    (domain,) = live(fake, "a.example.com")
    remove(fake.journey(domain), fake.world, Removal.KEEP)
    renew(fake.journeys(domain, insists=True), fake.world)
    row = fake.store.domain(domain)
    assert row
    assert row.state is State.REMOVED
    assert fake.ca.orders == 1


def test_what_was_kept_at_removal_is_used_when_the_customer_returns(fake: FakeWorld) -> None:
    (domain,) = live(fake, "a.example.com")
    remove(fake.journey(domain), fake.world, Removal.KEEP)
    issue(fake.journeys(domain), fake.world)
    assert fake.web.served(domain)
    assert fake.ca.orders == 1


def test_a_customer_who_returns_begins_without_the_old_rest(fake: FakeWorld) -> None:
    domain = fake.customer("a.example.com")
    fake.ca.broken.add("a.example.com")
    issue(fake.journeys(domain), fake.world)
    remove(fake.journey(domain), fake.world)
    fake.ca.broken.clear()
    (journey,) = journeys = fake.journeys(domain)
    issue(journeys, fake.world)
    assert journey.ok


def test_a_domain_issued_while_reconcile_looks_around_is_nobodys_leftover(fake: FakeWorld) -> None:
    domain = fake.customer("late.example.com")

    class Hurried(FakeWeb):
        """Somebody else issues a domain between the look and the lock."""

        def names(self) -> Sequence[Domain]:
            found = super().names()
            if fake.store.domain(domain) is None:
                issue(fake.journeys(domain), fake.world)
            return [*found, domain]

    world = replace(fake.world, web=Hurried(files=fake.web.files, serving=fake.web.serving))
    fake.world = world
    reconcile(world, fake.journey)
    assert isinstance(world.web, Hurried)
    assert world.web.served(domain)


def test_a_domain_that_another_run_removes_meanwhile_is_no_failure_of_reconcile(fake: FakeWorld) -> None:
    stays, leaves = live(fake, "a.example.com", "b.example.com")

    def start(domain: Domain) -> Journey:
        if domain == leaves:
            remove(fake.journey(leaves), fake.world)
        return fake.journey(domain)

    done = reconcile(fake.world, start)
    assert [(journey.domain, journey.ok) for journey in done.journeys] == [(stays, True)]
    assert not done.less


def test_reconcile_ends_the_trouble_with_nginx_it_has_mended(fake: FakeWorld) -> None:
    (domain,) = live(fake, "a.example.com")
    fake.store.failed(domain, Slug.NGINX_NOT_SERVED, None)
    reconcile(fake.world, fake.journey)
    row = fake.store.domain(domain)
    assert row
    assert row.last_error is None


@pytest.mark.parametrize("slug", [kind.slug for kind in CATALOGUE.values() if kind.blames_host])
def test_trouble_of_this_host_is_over_once_a_name_is_served(fake: FakeWorld, slug: Slug) -> None:
    (domain,) = live(fake, "status.example.com")
    fake.store.failed(domain, slug, None)
    renew(journeys := fake.journeys(*(row.domain for row in waiting(fake.world))), fake.world)
    row = fake.store.domain(domain)
    assert row
    assert ([journey.ok for journey in journeys], row.last_error, fake.ca.orders) == ([True], None, 1)


@pytest.mark.parametrize(
    "slug", [Slug.CA_UNREACHABLE, Slug.DNS_NO_DATA, Slug.MISSING_PROGRAM, Slug.BUDGET_EXHAUSTED]
)
def test_trouble_on_the_way_to_a_certificate_is_not_over_because_the_old_one_is_served(
    fake: FakeWorld, slug: Slug
) -> None:
    (domain,) = live(fake, "status.example.com")
    fake.store.failed(domain, slug, None)
    reconcile(fake.world, fake.journey)
    row = fake.store.domain(domain)
    assert row
    assert row.last_error == slug


def test_a_place_that_could_not_be_written_is_written_by_the_timers_run_when_it_can_be(fake: FakeWorld) -> None:
    domain = fake.customer("status.example.com")
    fake.web.shut.add(domain)
    issue(fake.journeys(domain), fake.world)
    fake.web.shut.clear()
    renew(fake.journeys(*(row.domain for row in waiting(fake.world))), fake.world)
    row = fake.store.domain(domain)
    assert row
    assert (fake.web.served(domain) is not None, row.last_error, fake.ca.orders) == (True, None, 1)
