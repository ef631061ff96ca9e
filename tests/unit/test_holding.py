"""What one run learns about a name is written before the next one may have it; who waited does not order again."""

import multiprocessing
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from certctl.domain import Domain
from certctl.errors import Busy, Refused
from certctl.io.locks import HostLocks
from certctl.ports.world import World
from certctl.slugs import Slug
from certctl.stories.issue import deploy, issue, obtain
from certctl.stories.journey import Journey
from certctl.stories.pruning import remove_working_directories
from certctl.stories.reconcile import reconcile
from certctl.stories.remove import remove
from certctl.stories.renew import renew, renew_one
from certctl.stories.wildcard import BY_HAND, begin, wildcard
from certctl.txt_records import OrderOrigin
from certctl.values import Approval, Certificate, DnsSolver, Issued, Pem, State
from tests.fakes.ca import FakeCa
from tests.fakes.world import FakeWorld, ThreadLocks

NAME = Domain("status.example.com")
ZONE = Domain("*.hyperping.io")
PLUGIN = DnsSolver("rfc2136")


@dataclass
class Watched(ThreadLocks):
    """Looks, at the moment a name is let go, at what the store says of it."""

    def __init__(self, fake: FakeWorld) -> None:
        super().__init__()
        self.fake = fake
        self.seen: list[str | None] = []

    @contextmanager
    def domain(self, domain: Domain) -> Iterator[None]:
        with super().domain(domain):
            yield
            row = self.fake.store.domain(domain)
            self.seen.append(row.last_error if row else None)


def refuse_renewal(fake: FakeWorld, world: World) -> Journey:
    issue(fake.journeys(fake.customer(NAME.name)), fake.world)
    fake.days_pass(61)
    fake.ca.broken.add(NAME.name)
    journey = fake.journey(NAME)
    renew([journey], world)
    return journey


def refuse_issue(fake: FakeWorld, world: World) -> Journey:
    fake.ca.broken.add(fake.customer(NAME.name).name)
    journey = fake.journey(NAME)
    issue([journey], world)
    return journey


def refuse_removal(fake: FakeWorld, world: World) -> Journey:
    issue(fake.journeys(fake.customer(NAME.name)), fake.world)
    fake.web.is_running = False
    journey = fake.journey(NAME)
    remove(journey, world)
    return journey


def refuse_wildcard(fake: FakeWorld, world: World) -> Journey:
    fake.ca.broken.add(ZONE.name)
    journey = fake.journey(ZONE)
    wildcard(journey, PLUGIN, world)
    return journey


def refuse_begin(fake: FakeWorld, world: World) -> Journey:
    fake.ca.outage = True
    journey = fake.journey(ZONE)
    begin(journey, world)
    return journey


@pytest.mark.parametrize(
    "refuse",
    [refuse_issue, refuse_renewal, refuse_removal, refuse_wildcard, refuse_begin],
    ids=lambda refuse: str(refuse.__name__),
)
def test_a_failure_is_in_the_store_before_the_name_is_let_go(
    fake: FakeWorld, refuse: Callable[[FakeWorld, World], Journey]
) -> None:
    watched = Watched(fake)
    journey = refuse(fake, replace(fake.world, locks=watched))
    assert journey.error
    assert watched.seen == [journey.error.slug]


class Eager(ThreadLocks):
    """Whoever lets a name go does nothing more until one that waited for it has had it, too."""

    def __init__(self) -> None:
        super().__init__()
        self._ended = threading.Condition()
        self._waiting = self._holds = 0

    @contextmanager
    def domain(self, domain: Domain) -> Iterator[None]:
        with self._ended:
            self._waiting += 1
        with super().domain(domain):
            with self._ended:
                self._waiting -= 1
            yield
        with self._ended:
            self._holds += 1
            mine = self._holds
            self._ended.notify_all()
            self._ended.wait_for(lambda: self._holds > mine or not self._waiting, 10)


def test_of_eight_who_want_a_name_that_fails_one_orders_and_the_others_rest(fake: FakeWorld) -> None:
    fake.ca.broken.add(fake.customer(NAME.name).name)
    journeys, world = fake.journeys(*[NAME] * 8), replace(fake.world, locks=Eager())
    threads = [threading.Thread(target=obtain, args=(journey, world)) for journey in journeys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(journey.error.slug for journey in journeys if journey.error) == [
        *["backing-off"] * 7,
        "ca-unauthorized",
    ]
    assert fake.ca.orders == 1
    assert fake.listening.arrivals == [NAME.name] * 8


def test_of_several_processes_that_want_a_name_that_fails_one_orders(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Pool(3) as pool:
        slugs = pool.map(fail_elsewhere, [tmp_path] * 6, chunksize=1)
    assert sorted(slugs) == [*["backing-off"] * 5, "ca-unauthorized"]
    assert (tmp_path / "orders").read_text(encoding="utf-8") == "one order\n"


def fail_elsewhere(directory: Path) -> str:
    fake = FakeWorld(directory)
    fake.customer(NAME.name)
    (journey,) = fake.journeys(NAME)
    locks = HostLocks(directory / "locks", timedelta(minutes=1))
    obtain(journey, replace(fake.world, locks=locks, ca=Counted(directory / "orders")))
    fake.store.close()
    return journey.error.slug if journey.error else ""


class Counted(FakeCa):
    """Refuses, and leaves a line for each order where every process can count them."""

    def __init__(self, orders: Path) -> None:
        super().__init__()
        self._file = orders

    def obtain(self, approval: Approval, solver: DnsSolver | None = None, *, replaces: Pem | None = None) -> Issued:
        assert (solver, replaces) == (None, None)
        with self._file.open("a", encoding="utf-8") as file:
            file.write("one order\n")
        raise Refused(Slug.CA_UNAUTHORIZED, f"{approval.domain} shows something else", quota_used=True)


@pytest.mark.parametrize("story", [obtain, remove, renew_one, begin])
def test_who_waits_in_vain_for_a_name_fails_as_busy_and_has_arrived_once(
    fake: FakeWorld, tmp_path: Path, story: Callable[[Journey, World], None]
) -> None:
    fake.customer(NAME.name)
    locks = HostLocks(tmp_path / "locks", timedelta(0))
    (journey,) = fake.journeys(NAME)
    with locks.domain(NAME):
        story(journey, replace(fake.world, locks=locks))
    assert isinstance(journey.error, Busy)
    assert (fake.ca.orders, fake.listening.arrivals) == (0, [NAME.name])


def copies(fake: FakeWorld) -> list[Domain]:
    """Return the names whose certificate still lies where it was made."""
    return sorted(fake.ca.left)


def test_the_copy_of_a_new_certificate_stays_until_nginx_has_it(fake: FakeWorld) -> None:
    journey = fake.journey(fake.customer(NAME.name))
    obtain(journey, fake.world)
    assert copies(fake) == [NAME]
    obtain(again := fake.journey(NAME), fake.world)
    assert (again.ok, fake.ca.orders, copies(fake)) == (True, 1, [NAME])
    deploy([journey], fake.world)
    assert copies(fake) == []


def test_while_nginx_refuses_a_certificate_its_copy_stays(fake: FakeWorld) -> None:
    fake.web.refused.add(fake.customer(NAME.name))
    issue(fake.journeys(NAME), fake.world)
    assert copies(fake) == [NAME]
    fake.web.refused.clear()
    renew(fake.journeys(NAME), fake.world)
    assert (fake.ca.orders, copies(fake)) == (1, [])


def test_a_renewed_certificate_has_its_copy_until_it_is_served(fake: FakeWorld) -> None:
    issue(fake.journeys(fake.customer(NAME.name)), fake.world)
    fake.web.refused.add(NAME)
    renew(fake.journeys(NAME, insists=True), fake.world)
    assert (fake.ca.orders, copies(fake)) == (2, [NAME])
    fake.web.refused.clear()
    reconcile(fake.world, fake.journey)
    assert copies(fake) == []


@pytest.mark.parametrize("end", [remove, lambda journey, world: reconcile(world, lambda _: journey)])
def test_a_copy_of_what_was_only_obtained_goes_with_a_removal_or_with_reconcile(
    fake: FakeWorld, end: Callable[[Journey, World], object]
) -> None:
    obtain(fake.journey(fake.customer(NAME.name)), fake.world)
    end(fake.journey(NAME), fake.world)
    assert copies(fake) == []


def test_a_copy_that_a_kill_left_goes_once_its_certificate_is_in_the_mirror_and_no_sooner(fake: FakeWorld) -> None:
    issue(fake.journeys(fake.customer(NAME.name)), fake.world)
    issued = fake.world.store.pem(certificate_of(fake))
    fake.ca.left[NAME] = Issued(certificate_of(fake), issued)
    other = fake.customer("obtained.example.com")
    obtain(fake.journey(other), fake.world)
    remove_working_directories(fake.world)
    assert copies(fake) == [other]


def test_an_order_that_was_begun_is_no_copy_of_a_certificate(fake: FakeWorld) -> None:
    begin(fake.journey(ZONE), fake.world)
    fake.store.failed(ZONE, Slug.WILDCARD_MANUAL, None)
    remove_working_directories(fake.world)
    begin(again := fake.journey(ZONE), fake.world)
    assert again.demand
    assert (again.demand.opened, fake.ca.orders) == (OrderOrigin.SAME, 1)


def test_a_copy_that_cannot_go_keeps_no_other_one(fake: FakeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [fake.customer(f"{letter}.example.com") for letter in "abc"]
    settled = fake.ca.acknowledge_stored
    monkeypatch.setattr(fake.ca, "acknowledge_stored", lambda _: None)
    issue(fake.journeys(*names), fake.world)
    assert copies(fake) == names

    def busy(certificate: Certificate) -> None:
        if certificate.domain == names[1]:
            raise Busy(Slug.BUSY, "the certificate is in the hands of another run")
        settled(certificate)

    monkeypatch.setattr(fake.ca, "acknowledge_stored", busy)
    remove_working_directories(fake.world)
    assert copies(fake) == [names[1]]


def certificate_of(fake: FakeWorld) -> Certificate:
    row = fake.store.domain(NAME)
    assert row
    assert row.certificate
    return row.certificate


def test_a_removal_takes_away_what_was_made_and_never_stored(fake: FakeWorld) -> None:
    issue(fake.journeys(fake.customer(NAME.name)), fake.world)
    issued = fake.world.store.pem(certificate_of(fake))
    fake.ca.left[NAME] = Issued(replace(certificate_of(fake), fingerprint="0" * 64), issued)
    remove(fake.journey(NAME), fake.world)
    assert copies(fake) == []


def test_a_copy_that_stayed_is_never_taken_for_the_next_certificate(fake: FakeWorld) -> None:
    fake.customer(NAME.name)
    for orders in (1, 2, 3):
        journey = fake.journey(NAME, insists=True)
        obtain(journey, fake.world)
        assert journey.certificate
        assert (journey.certificate.version, fake.ca.orders) == (orders, orders)


def test_a_copy_that_stayed_is_not_the_wildcard_that_a_person_begins(fake: FakeWorld) -> None:
    fake.web.refused.add(ZONE)
    wildcard(fake.journey(ZONE), BY_HAND, fake.world)
    assert copies(fake) == [ZONE]
    begin(begun := fake.journey(ZONE, insists=True), fake.world)
    assert begun.demand
    assert begun.demand.opened is OrderOrigin.NEW
    wildcard(fake.journey(ZONE, insists=True), BY_HAND, fake.world)
    row = fake.store.domain(ZONE)
    assert row
    assert row.certificate
    assert (row.certificate.version, fake.ca.orders) == (2, 2)


def test_a_copy_that_cannot_be_taken_away_is_a_warning_and_the_name_is_live(
    fake: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(_: object) -> None:
        raise Busy(Slug.BUSY, "the certificate is in the hands of another run")

    monkeypatch.setattr(fake.ca, "acknowledge_stored", busy)
    (journey,) = journeys = fake.journeys(fake.customer(NAME.name))
    issue(journeys, fake.world)
    assert (journey.ok, journey.state) == (True, State.ACTIVE)
    assert [warning.slug for warning in journey.warnings] == ["busy"]
