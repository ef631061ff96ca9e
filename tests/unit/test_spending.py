"""The CA's limits, kept by ourselves: what would be refused is not asked for; what was taken is written down."""

import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from certctl.budget import BULK, FIRST_VISITS, LETS_ENCRYPT, Bucket, Limit, Spend, leaving
from certctl.cli import run as certctl
from certctl.cli.framework import Invocation
from certctl.errors import CATALOGUE, Internal, Refused
from certctl.slugs import Slug
from certctl.stories.issue import issue, obtain
from certctl.stories.journey import Journey
from certctl.stories.renew import renew
from certctl.stories.result import Step
from tests.fakes.world import FakeWorld

ORDERS = Spend(Bucket.ORDERS, "")


@pytest.fixture
def fake(root: Path) -> Iterator[FakeWorld]:
    fake = FakeWorld(root / "var/lib/certctl")
    yield fake
    fake.store.close()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "var/lib/certctl").mkdir(parents=True)
    monkeypatch.delenv("CERTCTL_CONFIG", raising=False)
    return tmp_path


def taken(fake: FakeWorld, spend: Spend = ORDERS) -> int:
    return len(fake.store.spent(spend, Limit(1000, timedelta(days=1), "test"), fake.clock.now()))


def go(fake: FakeWorld, *names: str, jobs: int = 1, insists: bool = False) -> list[Journey]:
    journeys = [fake.journey(fake.customer(name), insists=insists) for name in names]
    issue(journeys, fake.world, jobs=jobs)
    return journeys


def slugs(journeys: list[Journey]) -> list[str]:
    return [journey.error.slug for journey in journeys if journey.error]


def test_the_last_token_is_not_taken_twice_however_many_ask_at_once(fake: FakeWorld) -> None:
    fake.world = replace(fake.world, limits={Bucket.ORDERS: Limit(3, timedelta(minutes=1), "account")})
    journeys = go(fake, *(f"c{n}.example.com" for n in range(12)), jobs=12)
    assert slugs(journeys) == ["budget-exhausted"] * 9
    assert (fake.ca.orders, taken(fake)) == (3, 3)
    refused = next(journey.error for journey in journeys if journey.error)
    assert (refused.exit_code, refused.retry_after) == (6, 60)


def test_many_names_leave_a_reserve_that_a_single_one_may_use(fake: FakeWorld) -> None:
    everything = {Bucket.ORDERS: Limit(10, timedelta(minutes=1), "account")}
    fake.world = replace(fake.world, limits=leaving(everything, BULK))
    journeys = go(fake, *(f"c{n}.example.com" for n in range(12)), jobs=12)
    assert (slugs(journeys), taken(fake)) == (["budget-exhausted"] * 4, 8)
    refused = next(journey.error for journey in journeys if journey.error)
    assert "(2 of 10) is kept for first visitors, renewals and names issued one at a time" in refused.message
    assert (refused.exit_code, refused.retry_after) == (6, 60)
    fake.world = replace(fake.world, limits=leaving(everything, FIRST_VISITS))
    assert slugs(go(fake, "first.example.com", "second.example.com", "third.example.com")) == ["budget-exhausted"]
    fake.world = replace(fake.world, limits=everything)
    assert slugs(go(fake, "typed.example.com")) == ["budget-exhausted"]


def test_a_run_that_may_wait_takes_orders_as_they_come_and_refuses_nobody(fake: FakeWorld) -> None:
    limits = {Bucket.ORDERS: Limit(3, timedelta(minutes=1), "account")}
    fake.world = replace(fake.world, limits=limits, waits_for_orders=True)
    began = fake.clock.now()
    assert slugs(go(fake, *(f"c{n}.example.com" for n in range(8)))) == []
    assert fake.clock.now() - began == timedelta(minutes=5)
    assert taken(fake) == 8


def test_a_name_that_waits_for_an_order_is_not_held_and_nobody_is_asked_twice_about_it(fake: FakeWorld) -> None:
    limits = {Bucket.ORDERS: Limit(1, timedelta(minutes=1), "account")}
    visits: list[Journey] = []

    class Clock:
        """While the run waits, a first visitor comes for the very name that waits."""

        now = fake.clock.now

        def pause(self, duration: timedelta) -> None:
            fake.clock.pause(duration)
            journey = fake.journey(fake.customer("b.example.com"))
            visitor = threading.Thread(target=obtain, args=(journey, replace(fake.world, limits={})))
            visitor.start()
            visitor.join(5)
            assert journey.certificate, "the visitor had to wait too"
            visits.append(journey)

    fake.world = replace(fake.world, limits=limits, waits_for_orders=True, clock=Clock())
    journeys = go(fake, "a.example.com", "b.example.com")
    assert slugs(journeys) == []
    assert (len(visits), fake.ca.orders) == (1, 2)
    assert [step.name for step in journeys[1].steps][:3] == [Step.VERIFY, Step.APPROVE, Step.PUBLISH]


def test_nobody_waits_for_a_limit_that_is_one_names_own(fake: FakeWorld) -> None:
    limits = {Bucket.CERTIFICATES: Limit(1, timedelta(hours=3), "registered domain")}
    fake.world = replace(fake.world, limits=limits, waits_for_orders=True)
    assert slugs(go(fake, "a.example.com", "b.example.com", "c.example.net")) == ["budget-exhausted"]


def test_an_order_the_ca_never_took_costs_nothing(fake: FakeWorld) -> None:
    fake.ca.outage = True
    assert slugs(go(fake, "a.example.com")) == ["ca-unreachable"]
    assert taken(fake) == taken(fake, Spend(Bucket.CERTIFICATES, "example.com")) == 0


def test_a_failed_validation_costs_the_order_and_two_failures_but_no_certificate(fake: FakeWorld) -> None:
    fake.ca.broken.add("a.example.com")
    assert slugs(go(fake, "a.example.com")) == ["ca-unauthorized"]
    costs = {
        bucket: taken(fake, Spend(bucket, key))
        for bucket, key in (
            (Bucket.ORDERS, ""),
            (Bucket.CERTIFICATES, "example.com"),
            (Bucket.DUPLICATES, "a.example.com"),
            (Bucket.FAILURES, "a.example.com"),
            (Bucket.CONSECUTIVE, "a.example.com"),
        )
    }
    assert list(costs.values()) == [1, 0, 0, 1, 1]
    fake.ca.broken.clear()
    fake.days_pass(1)
    assert slugs(go(fake, "a.example.com")) == []
    assert taken(fake, Spend(Bucket.CONSECUTIVE, "a.example.com")) == 0
    assert taken(fake, Spend(Bucket.FAILURES, "a.example.com")) == 1


@pytest.mark.parametrize("slug", [slug for slug in CATALOGUE if slug.startswith("ca-")])
@pytest.mark.parametrize("was_ordered", [True, False])
def test_each_way_to_fail_at_the_ca_costs_what_the_ca_counts(
    fake: FakeWorld, slug: Slug, *, was_ordered: bool
) -> None:
    fake.ca.failures["a.example.com"] = CATALOGUE[slug].family(slug, "no", quota_used=was_ordered)
    assert slugs(go(fake, "a.example.com")) == [slug]
    may_be_signed = slug in {"ca-timeout", "ca-bad-certificate", "ca-unrecognised"}
    was_looked_at = slug in {"ca-dns", "ca-connection", "ca-unauthorized", "ca-caa"}
    costs = {
        ORDERS: was_ordered,
        Spend(Bucket.CERTIFICATES, "example.com"): may_be_signed,
        Spend(Bucket.DUPLICATES, "a.example.com"): may_be_signed,
        Spend(Bucket.FAILURES, "a.example.com"): was_looked_at,
        Spend(Bucket.CONSECUTIVE, "a.example.com"): was_looked_at,
    }
    assert {spend: taken(fake, spend) for spend in costs} == costs


def test_a_renewal_takes_no_order_and_no_certificate_of_the_registered_domain(fake: FakeWorld) -> None:
    (journey,) = go(fake, "a.example.com")
    fake.days_pass(61)
    renew([fake.journey(journey.domain)], fake.world)
    assert fake.ca.orders == 2
    assert taken(fake) == taken(fake, Spend(Bucket.CERTIFICATES, "example.com")) == 1
    assert taken(fake, Spend(Bucket.DUPLICATES, "a.example.com")) == 2


def test_a_failed_customer_rests_and_the_operator_may_insist(fake: FakeWorld) -> None:
    fake.ca.broken.add("a.example.com")
    go(fake, "a.example.com")
    assert slugs(go(fake, "a.example.com")) == ["backing-off"]
    assert fake.ca.orders == 1
    assert slugs(go(fake, "a.example.com", insists=True)) == ["ca-unauthorized"]
    assert fake.ca.orders == 2


def test_a_wait_the_ca_named_is_kept_to_the_second(fake: FakeWorld) -> None:
    fake.ca.failures["a.example.com"] = Refused(Slug.CA_REFUSED, "come back later", retry_after=7200)
    go(fake, "a.example.com")
    (journey,) = go(fake, "a.example.com")
    assert journey.error
    assert journey.error.retry_after == 7200


def test_a_failed_customer_rests_a_minute_then_ten_and_may_try_again_at_the_very_second(fake: FakeWorld) -> None:
    fake.ca.broken.add("a.example.com")
    for minutes in (1, 10, 100, 24 * 60, 24 * 60):
        assert slugs(go(fake, "a.example.com")) == ["ca-unauthorized"]
        fake.clock.pause(timedelta(minutes=minutes, seconds=-1))
        (journey,) = go(fake, "a.example.com")
        assert journey.error
        assert (journey.error.slug, journey.error.retry_after) == ("backing-off", 1)
        fake.clock.pause(timedelta(seconds=1))
    assert fake.ca.orders == 5


def test_the_last_order_that_is_kept_for_others_is_not_called_used_up(fake: FakeWorld) -> None:
    limits = {Bucket.ORDERS: Limit(3, timedelta(minutes=1), "account", reserve=1, others="renewals")}
    fake.world = replace(fake.world, limits=limits)
    *_, refused = go(fake, "a.example.com", "b.example.com", "c.example.com")
    assert refused.error
    assert "(1 of 3) is kept for renewals" in refused.error.message


def test_budget_draws_what_is_left(root: Path, fake: FakeWorld, capsys: pytest.CaptureFixture[str]) -> None:
    spends = [ORDERS] * 150 + [Spend(Bucket.CERTIFICATES, "example.com")] * 50
    fake.store.spend(spends, datetime.now(UTC))
    assert certctl(["--root", str(root), "budget"], Invocation()) == 0
    orders, certificates, *kept = capsys.readouterr().out.splitlines()[1:]
    assert [re.findall(r"\d+", line) for line in kept] == [["60"], ["15"]]
    assert re.fullmatch(r"orders +this account +█{10}░{10} +150 of 300 +now", orders)
    assert re.fullmatch(r"certificates +example\.com +░{20} +0 of 50 +in 3:2[12]:\d\d", certificates)


@pytest.mark.parametrize("domain", ["status.example.com", "*.hyperping.io"])
def test_budget_shows_all_that_counts_for_a_name(
    root: Path, capsys: pytest.CaptureFixture[str], domain: str
) -> None:
    assert certctl(["--root", str(root), "budget", domain], Invocation()) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["LIMIT", "FOR", "LEFT", "NEXT"]
    assert [line.split()[0] for line in lines] == [
        "orders", "duplicates", "certificates", "failed-authorizations", "consecutive-failures",
    ]  # fmt: skip
    assert all("█" * 20 in line and line.endswith("now") for line in lines)
    assert "300 of 300" in lines[0]
    if domain.startswith("*"):
        assert "*.hyperping.io,hyperping.io" in lines[1]


def test_a_capacity_the_ca_granted_comes_back_in_the_same_time(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = root / "config.toml"
    file.write_text("[ca]\nlimit_overrides = { orders = 1500 }\n", encoding="utf-8")
    assert certctl(["--root", str(root), "--config", str(file), "budget", "a.example.com"], Invocation()) == 0
    assert "1500 of 1500" in capsys.readouterr().out
    granted = Limit(300, timedelta(seconds=36), "account").raised(1500)
    assert (granted.refill, granted.memory) == (timedelta(seconds=7.2), timedelta(hours=3))


@pytest.mark.parametrize(
    ("ca", "orders"),
    [
        ('directory = "https://acme-staging-v02.api.letsencrypt.org/directory"', "1500 of 1500"),
        ('directory = "https://acme.example.net/directory"\nlimits = "letsencrypt"', "300 of 300"),
        ('directory = "https://acme.example.net/directory"', "no limits are known"),
        ('limits = "none"', "no limits are known"),
    ],
)
def test_each_ca_has_its_own_limits(root: Path, capsys: pytest.CaptureFixture[str], ca: str, orders: str) -> None:
    file = root / "config.toml"
    file.write_text(f"[ca]\n{ca}\n", encoding="utf-8")
    assert certctl(["--root", str(root), "--config", str(file), "budget", "a.example.com"], Invocation()) == 0
    assert orders in capsys.readouterr().out


def test_a_limit_that_no_ca_raises_is_a_fault_of_the_configuration(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = root / "config.toml"
    file.write_text("[ca]\nlimit_overrides = { duplicates = 50, orders = 0 }\n", encoding="utf-8")
    assert certctl(["--config", str(file), "status"], Invocation()) == 10
    said = capsys.readouterr().err
    assert "ca.limit_overrides.duplicates" in said
    assert "ca.limit_overrides.orders" in said


@pytest.mark.parametrize(("spent", "rests", "left"), [(False, 0, 0), (True, 1, 1)])
def test_a_killed_certbot_counts_as_an_attempt_only_where_an_order_was_made(
    fake: FakeWorld,
    spent: bool,  # noqa: FBT001
    rests: int,
    left: int,
) -> None:
    domain = fake.customer("status.example.com")
    fake.ca.failures[domain.name] = Internal(Slug.CERTBOT_KILLED, "certbot was killed", quota_used=spent)
    issue(fake.journeys(domain), fake.world)
    row = fake.store.domain(domain)
    assert row
    assert (row.last_error, row.attempts, row.retry_at is not None) == ("certbot-killed", rests, bool(rests))
    for bucket, key in ((Bucket.ORDERS, ""), (Bucket.CERTIFICATES, "example.com")):
        assert len(fake.store.spent(Spend(bucket, key), LETS_ENCRYPT[bucket], fake.clock.now())) == left
