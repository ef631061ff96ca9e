"""What nginx serves and the store does not know stays, is named, and can be taken in without an order."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from certctl.domain import Domain
from certctl.slugs import Slug
from certctl.store.sqlite import SqliteStore
from certctl.stories.issue import issue
from certctl.stories.journey import Journey
from certctl.stories.reconcile import reconcile
from certctl.stories.remove import remove
from certctl.stories.renew import renew, waiting
from certctl.stories.unknown import adopt, find_unknown
from certctl.stories.wildcard import needs_person, wildcard
from certctl.values import DnsSolver, Issued, Mode, Removal, State
from tests.fakes.world import FakeWorld, ThreadLocks, live

NAMES = ("a.example.com", "b.example.com", "c.example.com")


def lose_store(fake: FakeWorld, tmp_path: Path, *, but: tuple[Domain, ...] = ()) -> None:
    """Put another store in the place of the one that knows, with what is in force of these domains."""
    fake.store.close()
    fake.store = SqliteStore(tmp_path / "another.db", fake.clock)
    for domain in but:
        site = fake.web.files[domain]
        fake.store.served(fake.store.keep(Issued(replace(site.certificate, version=0), site.pem)))
    fake.world = replace(fake.world, store=fake.store)


def all_are_served(fake: FakeWorld, domains: list[Domain], before: dict[Domain, str | None]) -> bool:
    return {domain: fake.web.served(domain) for domain in domains} == before


def leaves(fake: FakeWorld, domains: list[Domain]) -> dict[Domain, str | None]:
    found = {domain: fake.web.served(domain) for domain in domains}
    assert all(found.values())
    return found


def test_an_empty_store_takes_nobody_out(fake: FakeWorld, tmp_path: Path) -> None:
    domains = live(fake, *NAMES)
    before, tests = leaves(fake, domains), fake.web.tests
    lose_store(fake, tmp_path)
    done = reconcile(fake.world, fake.journey)
    assert list(done.less) == domains
    assert not done.journeys
    assert leaves(fake, domains) == before
    assert (fake.web.tests, fake.web.aside) == (tests, [])


def test_what_the_store_knows_is_published_beside_what_it_does_not_know(fake: FakeWorld, tmp_path: Path) -> None:
    known, *others = domains = live(fake, *NAMES)
    before = leaves(fake, domains)
    lose_store(fake, tmp_path, but=(known,))
    del fake.web.files[known]
    done = reconcile(fake.world, fake.journey)
    assert [(journey.domain, journey.ok, journey.changed) for journey in done.journeys] == [(known, True, True)]
    assert [journey.result.is_news for journey in done.journeys if journey.ended_at] == [False], (
        "it was live before"
    )
    assert list(done.less) == others
    assert leaves(fake, domains) == before


def test_a_row_without_a_certificate_is_no_reason_to_take_a_live_name_out(fake: FakeWorld, tmp_path: Path) -> None:
    (domain,) = live(fake, "a.example.com")
    lose_store(fake, tmp_path)
    fake.store.failed(domain, Slug.DNS_CNAME_MISMATCH, None)
    assert list(reconcile(fake.world, fake.journey).less) == [domain]
    assert fake.web.served(domain)


def test_adopting_brings_all_back_without_an_order_a_test_or_a_reload(fake: FakeWorld, tmp_path: Path) -> None:
    domains = live(fake, *NAMES)
    fake.days_pass(61)
    renew(fake.journeys(domains[0]), fake.world)  # version 2
    before = leaves(fake, domains), fake.web.tests, fake.web.reloads, fake.ca.orders
    files = dict(fake.web.files)
    lose_store(fake, tmp_path)
    adopted = adopt(fake.world, fake.journey)
    assert all(journey.ok and journey.changed for journey in adopted)
    assert {(row.served, row.certificate.version) for row in fake.store.domains() if row.certificate} == {
        (1, 1),
        (2, 2),
    }
    done = reconcile(fake.world, fake.journey)
    assert not done.less
    assert not any(journey.changed for journey in done.journeys)
    assert (leaves(fake, domains), fake.web.tests, fake.web.reloads, fake.ca.orders) == before
    assert fake.web.files == files
    assert not adopt(fake.world, fake.journey)


def test_an_older_store_publishes_nothing_older_and_learns_the_newer_by_adopting(
    fake: FakeWorld, tmp_path: Path
) -> None:
    renewed, same = domains = live(fake, "a.example.com", "b.example.com")
    old = dict(fake.web.files)
    fake.days_pass(61)
    renew(fake.journeys(renewed), fake.world)
    before = leaves(fake, domains)
    files, fake.web.files = fake.web.files, old
    lose_store(fake, tmp_path, but=(renewed, same))
    fake.web.files = files
    done = reconcile(fake.world, fake.journey)
    assert list(done.less) == [renewed]
    assert "served until" in str(done.less[renewed])
    assert [journey.domain for journey in done.journeys] == [same]
    assert leaves(fake, domains) == before
    adopt(fake.world, fake.journey)
    assert not reconcile(fake.world, fake.journey).less
    assert leaves(fake, domains) == before
    assert fake.ca.orders == 3


def test_a_store_whose_version_numbers_repeat_with_other_certificates_is_told_by_dates(
    fake: FakeWorld, tmp_path: Path
) -> None:
    (domain,) = live(fake, "a.example.com")
    before = leaves(fake, [domain])
    served = fake.web.files[domain]
    lose_store(fake, tmp_path)
    fake.days_pass(-3)
    older = fake.ca._sign(domain)
    fake.days_pass(3)
    assert fake.store.keep(older).version == served.certificate.version
    assert list(reconcile(fake.world, fake.journey).less) == [domain]
    assert leaves(fake, [domain]) == before
    adopt(fake.world, fake.journey)
    row = fake.store.domain(domain)
    assert row
    assert row.certificate
    assert row.certificate.version == served.certificate.version + 1, "the number was taken"
    assert not reconcile(fake.world, fake.journey).less
    assert leaves(fake, [domain]) == before


def test_a_version_of_its_own_that_the_store_has_left_behind_is_not_newer_knowledge(fake: FakeWorld) -> None:
    """A CA that backdates what it signs: the certificate that was just made looks older than the one in force."""
    (domain,) = live(fake, "a.example.com")
    fake.days_pass(-1)
    backdated = fake.store.keep(fake.ca._sign(domain))
    fake.days_pass(1)
    assert not reconcile(fake.world, fake.journey).less
    assert fake.web.served(domain) == backdated.fingerprint


def test_of_two_certificates_of_the_same_moment_the_stores_own_is_served(fake: FakeWorld, tmp_path: Path) -> None:
    (domain,) = live(fake, "a.example.com")
    lose_store(fake, tmp_path)
    ours = fake.store.keep(fake.ca._sign(domain))
    assert not reconcile(fake.world, fake.journey).less
    assert fake.web.served(domain) == ours.fingerprint


def test_a_newer_pair_that_no_longer_holds_gives_way(fake: FakeWorld, tmp_path: Path) -> None:
    (domain,) = live(fake, "a.example.com")
    lose_store(fake, tmp_path)
    fake.days_pass(-3)
    older = fake.store.keep(fake.ca._sign(domain))
    fake.days_pass(3)
    fake.web.damaged.add(domain)
    assert not reconcile(fake.world, fake.journey).less
    assert fake.web.served(domain) == older.fingerprint


@pytest.mark.parametrize("insists", [False, True])
def test_no_order_is_spent_for_what_is_served_unless_the_operator_insists(
    fake: FakeWorld,
    tmp_path: Path,
    insists: bool,  # noqa: FBT001
) -> None:
    (domain,) = live(fake, "a.example.com")
    before = leaves(fake, [domain])
    lose_store(fake, tmp_path)
    (journey,) = journeys = fake.journeys(domain, insists=insists)
    issue(journeys, fake.world)
    assert fake.ca.orders == 1 + insists
    if insists:
        assert journey.ok
        return
    assert journey.error
    assert journey.error.slug == "store-knows-less"
    assert list(journey.error.next)[:2] == ["certctl reconcile --adopt", f"certctl remove {domain}"]
    assert leaves(fake, [domain]) == before


def test_a_timers_run_on_an_older_store_orders_only_for_what_is_really_due(fake: FakeWorld, tmp_path: Path) -> None:
    renewed, due = live(fake, "a.example.com", "b.example.com")
    old = dict(fake.web.files)
    fake.days_pass(61)
    renew(fake.journeys(renewed), fake.world)
    files, fake.web.files = fake.web.files, old
    lose_store(fake, tmp_path, but=(renewed, due))
    fake.web.files = files
    rows = waiting(fake.world)
    assert [row.domain for row in rows] == [renewed, due]
    journeys = fake.journeys(*(row.domain for row in rows))
    renew(journeys, fake.world)
    assert [journey.error.slug if journey.error else None for journey in journeys] == ["store-knows-less", None]
    assert fake.ca.orders == 4
    fake.days_pass(61)
    renew(fake.journeys(renewed), fake.world)
    assert fake.ca.orders == 5, "nobody came, and its certificate was due: it is renewed like any other"


def test_a_pair_that_is_none_is_one_names_trouble(fake: FakeWorld, tmp_path: Path) -> None:
    bad, good = live(fake, "a.example.com", "b.example.com")
    lose_store(fake, tmp_path)
    fake.web.damaged.add(bad)
    adopted = adopt(fake.world, fake.journey)
    told = [(journey.domain, journey.error.slug if journey.error else None) for journey in adopted]
    assert told == [(bad, "store-knows-less"), (good, None)]
    assert list(reconcile(fake.world, fake.journey).less) == [bad]
    assert fake.web.served(bad)


def test_a_name_that_another_run_takes_in_meanwhile_is_taken_in_once(fake: FakeWorld, tmp_path: Path) -> None:
    (domain,) = live(fake, "a.example.com")
    lose_store(fake, tmp_path)
    others: list[Journey] = []

    class Beaten(ThreadLocks):
        """Another run has the name first."""

        @contextmanager
        def domain(self, domain: Domain) -> Iterator[None]:
            others.extend(adopt(fake.world, fake.journey))
            with super().domain(domain):
                yield

    journeys = adopt(replace(fake.world, locks=Beaten()), fake.journey)
    row = fake.store.domain(domain)
    assert row
    assert row.certificate
    assert [journey.changed for journey in (*others, *journeys)] == [True, False]
    assert (row.certificate.version, fake.listening.arrivals) == (1, [domain.name] * 3)
    assert [event.step for event in fake.store.events(domain.name, 1)] == ["adopt"]


def test_a_kill_while_a_name_is_taken_in_leaves_nothing_of_it_and_it_can_be_taken_in_again(
    fake: FakeWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (domain,) = live(fake, "a.example.com")
    lose_store(fake, tmp_path)

    def die(_: object) -> None:
        raise KeyboardInterrupt

    served = fake.store.served
    monkeypatch.setattr(fake.store, "served", die)
    with pytest.raises(KeyboardInterrupt):
        adopt(fake.world, fake.journey)
    monkeypatch.setattr(fake.store, "served", served)
    assert fake.store.domain(domain) is None
    assert [journey.changed for journey in adopt(fake.world, fake.journey)] == [True]


def test_what_nginx_does_not_show_is_not_adopted(fake: FakeWorld, tmp_path: Path) -> None:
    (domain,) = live(fake, "a.example.com")
    lose_store(fake, tmp_path)
    fake.web.not_served.add(domain)
    (journey,) = adopt(fake.world, fake.journey)
    assert not journey.ok
    assert fake.store.domain(domain) is None


def test_how_a_name_is_served_is_taken_along(fake: FakeWorld, tmp_path: Path) -> None:
    (domain,) = live(fake, "a.example.com")
    fake.web.files[domain] = fake.web.serving[domain] = replace(fake.web.files[domain], mode=Mode.BLOCKS)
    lose_store(fake, tmp_path)
    adopt(fake.world, fake.journey)
    row = fake.store.domain(domain)
    assert row
    assert (row.mode, row.state) == (Mode.BLOCKS, State.ACTIVE)


def test_an_adopted_wildcard_says_that_a_person_renews_it_now(fake: FakeWorld, tmp_path: Path) -> None:
    domain = Domain("*.hyperping.io")
    wildcard(fake.journey(domain), DnsSolver("rfc2136"), fake.world)
    lose_store(fake, tmp_path)
    (journey,) = adopt(fake.world, fake.journey)
    assert [warning.slug for warning in journey.warnings] == ["wildcard-manual"]
    assert "certctl wildcard hyperping.io --dns PLUGIN" in journey.warnings[0].next
    row = fake.store.domain(domain)
    assert row
    assert needs_person(row)


def test_removing_an_unknown_name_takes_it_out_and_keeps_nothing(fake: FakeWorld, tmp_path: Path) -> None:
    leaves_, stays = live(fake, "a.example.com", "b.example.com")
    leaf = fake.web.served(leaves_)
    lose_store(fake, tmp_path)
    journey = fake.journey(leaves_)
    remove(journey, fake.world, Removal.REVOKE)
    assert (journey.ok, journey.changed) == (True, True)
    assert not fake.web.served(leaves_)
    assert fake.web.served(stays)
    assert fake.ca.revoked == {leaf}
    assert not fake.web.aside
    row = fake.store.domain(leaves_)
    assert row
    assert row.state is State.REMOVED
    assert list(find_unknown(fake.world)) == [stays]


def test_what_a_reconcile_takes_out_is_kept_aside_unless_it_finishes_a_removal(fake: FakeWorld) -> None:
    finished, stale = live(fake, "a.example.com", "b.example.com")
    file = fake.web.files[stale]
    remove(fake.journey(stale), fake.world)
    fake.web.files[stale] = fake.web.serving[stale] = file  # such as by a backup of nginx's files
    fake.store.set_state(finished, State.REMOVED)  # and here 'certctl remove' was killed
    done = reconcile(fake.world, fake.journey)
    assert [journey.domain for journey in done.journeys] == [finished, stale]
    assert all(journey.changed and journey.state is State.REMOVED for journey in done.journeys)
    assert not fake.web.served(finished)
    assert not fake.web.served(stale)
    assert fake.web.aside == [stale]


def test_one_refused_site_does_not_keep_in_who_was_removed(fake: FakeWorld) -> None:
    refused, known, gone = live(fake, *NAMES)
    fake.store.set_state(gone, State.REMOVED)  # and here 'certctl remove' was killed
    del fake.web.files[refused], fake.web.files[known]
    fake.web.refused.add(refused)
    done = reconcile(fake.world, fake.journey)
    told = {journey.domain: journey.error.slug if journey.error else None for journey in done.journeys}
    assert told == {refused: "nginx-test-failed", known: None, gone: None}
    assert fake.web.served(known)
    assert not fake.web.served(gone)


def test_an_older_certificate_that_the_store_has_forgotten_is_replaced(fake: FakeWorld) -> None:
    """Such as nginx's files from a backup: two versions are kept, and that one is older than both."""
    (domain,) = live(fake, "a.example.com")
    old = fake.web.files[domain]
    for _ in range(2):
        fake.days_pass(1)
        renew(fake.journeys(domain, insists=True), fake.world)
    newest = leaves(fake, [domain])
    fake.web.files[domain] = fake.web.serving[domain] = old
    assert not reconcile(fake.world, fake.journey).less
    assert leaves(fake, [domain]) == newest
