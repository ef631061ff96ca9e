"""The wildcard's story on fakes: our own zone, nobody asked, remembered, renewed where no person is needed."""

from dataclasses import replace
from datetime import timedelta

import pytest

from certctl.budget import LETS_ENCRYPT, Bucket, Limit, Spend
from certctl.domain import Domain
from certctl.errors import Refused
from certctl.slugs import Slug
from certctl.stories.journey import Journey
from certctl.stories.renew import renew, waiting
from certctl.stories.wildcard import begin, reminders, wildcard
from certctl.txt_records import OrderOrigin
from certctl.values import DnsSolver, State
from tests.fakes.world import FakeWorld

STAR = Domain("*.hyperping.io")
BY_HAND = DnsSolver("manual")
BY_PLUGIN = DnsSolver("rfc2136", (("credentials", "/etc/certctl/rfc2136.ini"),))


def made(fake: FakeWorld, solver: DnsSolver) -> None:
    journey = fake.journey(STAR)
    wildcard(journey, solver, fake.world)
    assert journey.ok, journey.error


def renewed(fake: FakeWorld, *, insists: bool = False) -> str | None:
    """Renew the wildcard; return the slug of what stopped it."""
    journey = fake.journey(STAR, insists=insists)
    renew([journey], fake.world)
    return journey.error.slug if journey.error else None


def test_our_own_zone_goes_live_without_asking_anyone(fake: FakeWorld) -> None:
    made(fake, BY_HAND)
    assert fake.operator.asked == []
    assert [step for _, step, _ in fake.listening.heard] == [
        "verify", "approve", "obtain", "publish", "reload", "confirm",
    ]  # fmt: skip
    row = fake.store.domain(STAR)
    assert row
    assert row.certificate
    assert row.certificate.names == ("*.hyperping.io", "hyperping.io")
    assert (row.state, row.solver) == (State.ACTIVE, BY_HAND)
    assert fake.web.served(STAR) == row.certificate.fingerprint
    assert fake.ca.solved_by[STAR] == BY_HAND


def test_again_changes_nothing_and_orders_nothing(fake: FakeWorld) -> None:
    made(fake, BY_HAND)
    made(fake, BY_HAND)
    assert fake.ca.orders == 1


def test_a_new_automatism_is_tried_at_once_and_remembered_only_when_it_works(fake: FakeWorld) -> None:
    made(fake, BY_HAND)
    fake.ca.failures[STAR.name] = Refused(Slug.CA_CHALLENGE_ABORTED, "the plugin could not write")
    journey = fake.journey(STAR)
    wildcard(journey, BY_PLUGIN, fake.world)
    assert journey.error
    row = fake.store.domain(STAR)
    assert row
    assert row.solver == BY_HAND
    del fake.ca.failures[STAR.name]
    fake.days_pass(1)
    made(fake, BY_PLUGIN)
    row = fake.store.domain(STAR)
    assert row
    assert row.solver == BY_PLUGIN
    orders = fake.ca.orders
    made(fake, BY_HAND)
    row = fake.store.domain(STAR)
    assert row
    assert (row.solver, fake.ca.orders) == (BY_HAND, orders), "going back to a person needs no trial"


def test_a_zone_that_is_not_ours_costs_no_order(fake: FakeWorld) -> None:
    journey = fake.journey(Domain("*.example.com"))
    wildcard(journey, BY_HAND, fake.world)
    assert journey.error
    assert (journey.error.slug, fake.ca.orders) == ("approval-refused", 0)


@pytest.mark.parametrize("solver", [BY_HAND, BY_PLUGIN])
def test_where_it_could_not_be_published_no_wildcard_is_ordered_nor_begun(
    fake: FakeWorld, solver: DnsSolver
) -> None:
    fake.web.is_full = True
    journey = fake.journey(STAR)
    wildcard(journey, solver, fake.world)
    assert journey.error
    assert (journey.error.slug, fake.ca.orders, fake.ca.solved_by) == ("state-unwritable", 0, {})
    journey = fake.journey(STAR)
    begin(journey, fake.world)
    assert journey.error
    assert (journey.error.slug, journey.demand) == ("state-unwritable", None)


def test_an_automated_wildcard_renews_unattended(fake: FakeWorld) -> None:
    made(fake, BY_PLUGIN)
    fake.days_pass(61)
    assert [row.domain for row in waiting(fake.world)] == [STAR]
    assert renewed(fake) is None
    assert fake.ca.orders == 2
    assert fake.ca.solved_by[STAR] == BY_PLUGIN
    assert fake.operator.asked == []
    assert reminders(fake.world) == []


def test_trouble_with_our_own_zone_never_parks_the_wildcard(fake: FakeWorld) -> None:
    made(fake, BY_PLUGIN)
    fake.days_pass(61)
    fake.dns.broken.add(STAR.zone)
    assert renewed(fake) == "dns-servfail"
    row = fake.store.domain(STAR)
    assert row
    assert row.state is State.ACTIVE
    fake.dns.broken.clear()
    assert renewed(fake) is None


def test_a_wildcard_by_hand_is_never_ordered_by_renew(fake: FakeWorld) -> None:
    made(fake, BY_HAND)
    fake.days_pass(61)
    assert renewed(fake) == "wildcard-manual"
    assert renewed(fake, insists=True) == "wildcard-manual"
    assert fake.ca.orders == 1


def test_a_wildcard_by_hand_is_first_a_reminder_and_then_a_failure(fake: FakeWorld) -> None:
    made(fake, BY_HAND)
    fake.days_pass(59)
    assert reminders(fake.world) == []
    fake.days_pass(2)
    assert waiting(fake.world) == [], "a run that only reminds does not fail"
    (reminder,) = reminders(fake.world)
    assert not reminder.late
    assert "certctl wildcard hyperping.io" in reminder.text
    fake.days_pass(15)
    assert [row.domain for row in waiting(fake.world)] == [STAR]
    (reminder,) = reminders(fake.world)
    assert reminder.late


def test_the_history_is_reminded_once_a_day(fake: FakeWorld) -> None:
    made(fake, BY_HAND)
    fake.days_pass(61)
    for _ in range(5):
        reminders(fake.world)
        fake.days_pass(0.25)
    said = [event for event in fake.store.events(STAR.name, 100) if event.slug == "wildcard-manual"]
    assert len(said) == 2


def test_a_failed_plugin_rests_and_a_person_may_go_on_at_once(fake: FakeWorld) -> None:
    fake.ca.failures[STAR.name] = Refused(Slug.CA_DNS, "no TXT record", quota_used=True)
    wildcard(fake.journey(STAR), BY_PLUGIN, fake.world)
    again = fake.journey(STAR)
    wildcard(again, BY_PLUGIN, fake.world)
    assert again.error
    assert (again.error.slug, again.error.next[1]) == ("backing-off", "certctl wildcard hyperping.io --force")
    wildcard(insisting := fake.journey(STAR, insists=True), BY_PLUGIN, fake.world)
    assert insisting.error
    assert insisting.error.slug == "ca-dns", "it was tried"
    del fake.ca.failures[STAR.name]
    made(fake, BY_HAND)


def test_a_wildcard_by_hand_is_reminded_of_whatever_comes_before_it(fake: FakeWorld) -> None:
    """Such as one that renews itself, or one that was parked: the list is by name."""
    automatic, parked = Domain("*.auto.hyperping.io"), Domain("*.gone.hyperping.io")
    fake.operator.own_zones |= {automatic.zone, parked.zone}
    for domain, solver in ((automatic, BY_PLUGIN), (parked, BY_HAND), (STAR, BY_HAND)):
        wildcard(fake.journey(domain), solver, fake.world)
    fake.store.set_state(parked, State.UNWANTED)
    fake.days_pass(61)
    assert [reminder.row.domain for reminder in reminders(fake.world)] == [STAR]


# In two steps.


def begun(fake: FakeWorld, *, insists: bool = False) -> Journey:
    journey = fake.journey(STAR, insists=insists)
    begin(journey, fake.world)
    assert journey.ok, journey.error
    return journey


def test_what_is_begun_demands_records_and_changes_nothing_here(fake: FakeWorld) -> None:
    journey = begun(fake)
    assert journey.demand
    assert len(journey.demand.values) == 2
    assert [step for _, step, _ in fake.listening.heard] == ["verify", "approve", "order"]
    assert (journey.changed, journey.certificate, fake.ca.orders) == (True, None, 1)
    assert not journey.has_ordered, "no certificate was made"


def test_to_begin_again_shows_the_same_and_changes_nothing(fake: FakeWorld) -> None:
    first, again = begun(fake), begun(fake)
    assert first.demand
    assert again.demand
    assert (again.demand.values, again.demand.opened) == (first.demand.values, OrderOrigin.SAME)
    assert (again.changed, fake.ca.orders) == (False, 1)


def test_who_comes_back_finishes_the_order_that_was_begun(fake: FakeWorld) -> None:
    begun(fake)
    made(fake, BY_HAND)
    assert fake.ca.orders == 1
    row = fake.store.domain(STAR)
    assert row
    assert fake.web.served(STAR) is not None


def test_while_nothing_is_due_nothing_is_begun_unless_the_operator_insists(fake: FakeWorld) -> None:
    made(fake, BY_HAND)
    assert begun(fake).demand is None
    assert fake.ca.orders == 1
    assert begun(fake, insists=True).demand


def test_the_ledger_takes_an_order_when_it_is_begun_and_a_certificate_when_it_is_made(fake: FakeWorld) -> None:
    limit = Limit(10, timedelta(hours=1), "account")
    fake.world = replace(fake.world, limits={Bucket.ORDERS: limit, Bucket.CERTIFICATES: limit})

    def taken() -> tuple[int, int]:
        keys = Spend(Bucket.ORDERS, ""), Spend(Bucket.CERTIFICATES, "hyperping.io")
        orders, certificates = (len(fake.store.spent(key, limit, fake.clock.now())) for key in keys)
        return orders, certificates

    begun(fake)
    assert taken() == (1, 0)
    made(fake, BY_HAND)
    assert taken()[1] == 1


def test_a_ca_that_is_away_begins_nothing_and_takes_nothing(fake: FakeWorld) -> None:
    fake.ca.outage = True
    journey = fake.journey(STAR)
    begin(journey, fake.world)
    assert journey.error
    assert (journey.error.slug, journey.demand) == ("ca-unreachable", None)
    assert not fake.store.spent(Spend(Bucket.ORDERS, ""), LETS_ENCRYPT[Bucket.ORDERS], fake.clock.now())
