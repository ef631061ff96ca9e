"""The CA's token buckets, computed from our own ledger."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certctl.budget import (
    BULK,
    LETS_ENCRYPT,
    LETS_ENCRYPT_STAGING,
    Bucket,
    Limit,
    Request,
    Reserve,
    Spend,
    backoff,
    leaving,
)

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def test_a_fresh_bucket_allows_its_capacity_at_once_and_then_one_per_refill() -> None:
    limit = LETS_ENCRYPT[Bucket.ORDERS]
    spent = [NOON] * 299
    assert limit.wait(spent, NOON) == timedelta(0)
    assert limit.wait([NOON] * 300, NOON) == timedelta(seconds=36)
    assert limit.wait([NOON] * 300, NOON + timedelta(seconds=36)) == timedelta(0)


@pytest.mark.parametrize(
    ("bucket", "capacity", "window"),
    [
        (Bucket.ORDERS, 300, timedelta(hours=3)),
        (Bucket.CERTIFICATES, 50, timedelta(days=7)),
        (Bucket.DUPLICATES, 5, timedelta(days=7)),
        (Bucket.FAILURES, 5, timedelta(hours=1)),
    ],
)
def test_each_bucket_refills_over_the_window_the_ca_names(bucket: Bucket, capacity: int, window: timedelta) -> None:
    limit = LETS_ENCRYPT[bucket]
    assert limit.capacity == capacity
    assert abs(limit.memory - window) < timedelta(hours=3)
    assert limit.tokens([NOON] * capacity, NOON + limit.memory) == pytest.approx(capacity)


@pytest.mark.parametrize(
    ("bucket", "capacity", "window"),
    [
        (Bucket.ORDERS, 1500, timedelta(hours=3)),
        (Bucket.DUPLICATES, 30_000, timedelta(days=7)),
        (Bucket.FAILURES, 200, timedelta(hours=1)),
        (Bucket.CONSECUTIVE, 3600, 3600 * timedelta(hours=6)),
    ],
)
def test_the_staging_environment_has_the_limits_of_its_own_page(
    bucket: Bucket, capacity: int, window: timedelta
) -> None:
    limit = LETS_ENCRYPT_STAGING[bucket]
    assert (limit.capacity, limit.memory) == (capacity, window)


def test_120_failures_a_day_pause_a_name_on_the_tenth_day() -> None:
    """Let's Encrypt's own table: the ceiling of 5 an hour leads to the pause in 10 days."""
    limit = LETS_ENCRYPT[Bucket.CONSECUTIVE]
    spent = [NOON + n * timedelta(minutes=12) for n in range(120 * 10)]
    days = next(n for n in range(1, 12) if limit.tokens(spent[: 120 * n], spent[120 * n - 1]) < 1)
    assert days == 10


def test_a_bucket_never_holds_more_than_its_capacity() -> None:
    limit = Limit(2, timedelta(hours=1), "test")
    assert limit.tokens([NOON, NOON + timedelta(days=9)], NOON + timedelta(days=9)) == 1


@given(st.lists(st.integers(0, 100_000), max_size=60), st.integers(0, 200_000))
def test_after_the_wait_one_more_request_is_allowed_and_not_a_second_sooner(seconds: list[int], later: int) -> None:
    limit = Limit(5, timedelta(seconds=720), "test")
    spent = [NOON + timedelta(seconds=s) for s in seconds]
    now = max([*spent, NOON]) + timedelta(seconds=later)
    wait = limit.wait(spent, now)
    assert limit.tokens(spent, now + wait) >= 1 - 1e-6
    if wait > timedelta(seconds=1):
        assert limit.tokens(spent, now + wait - timedelta(seconds=1)) < 1


@given(st.integers(1, 5000), st.floats(0, 1), st.integers(0, 40))
def test_a_reserve_leaves_its_share_and_never_everything(capacity: int, share: float, spent: int) -> None:
    limit = Limit(capacity, timedelta(minutes=1), "account")
    kept = limit.keeping(Reserve(share, "others"))
    assert abs(kept.reserve - capacity * share) <= 1
    assert kept.wait([], NOON) == timedelta(0)
    is_allowed = limit.tokens([NOON] * spent, NOON) >= 1 + kept.reserve
    assert (kept.wait([NOON] * spent, NOON) == timedelta(0)) == is_allowed


def test_only_what_everyone_shares_has_a_reserve() -> None:
    kept = leaving(LETS_ENCRYPT, BULK)
    assert {bucket: limit.reserve for bucket, limit in kept.items() if limit.reserve} == {Bucket.ORDERS: 60}
    assert leaving({}, BULK) == {}


def test_the_wait_for_many_is_that_of_the_last() -> None:
    limit = Limit(10, timedelta(minutes=1), "account", reserve=2)
    assert limit.wait([], NOON, 8) == timedelta(0)
    assert limit.wait([NOON] * 4, NOON, 8) == timedelta(minutes=4)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=60), st.integers(1, 60), st.integers(0, 200))
def test_what_tells_all_tells_the_same_as_everything(pauses: list[int], newest: int, later: int) -> None:
    limit = Limit(5, timedelta(minutes=10), "test")
    spent = [NOON + timedelta(minutes=sum(pauses[: n + 1])) for n in range(len(pauses))]
    now = spent[-1] + timedelta(minutes=later)
    if limit.is_told_by(spent[-newest:], now):
        assert limit.tokens(spent[-newest:], now) == pytest.approx(limit.tokens(spent, now))


def test_a_bucket_that_was_never_full_since_is_not_told_by_what_came_last() -> None:
    limit = Limit(5, timedelta(minutes=10), "test")
    burst_and_then_one_for_one = [NOON] * 5 + [NOON + n * timedelta(minutes=10) for n in range(1, 20)]
    now = burst_and_then_one_for_one[-1]
    assert not limit.is_told_by(burst_and_then_one_for_one[-10:], now)
    assert limit.is_told_by(burst_and_then_one_for_one[-10:], now + limit.memory + limit.refill)


def test_what_is_older_than_the_memory_does_not_matter() -> None:
    limit = LETS_ENCRYPT[Bucket.FAILURES]
    old = [NOON - limit.memory - timedelta(seconds=n) for n in range(5)]
    assert limit.tokens(old, NOON) == limit.capacity


def test_a_renewal_is_not_counted_as_an_order_but_as_a_duplicate() -> None:
    new = Request(("a.example.com",), ("example.com",))
    renewal = Request(("a.example.com",), ("example.com",), renewal=True)
    assert new.order == [Spend(Bucket.ORDERS, "")]
    assert Spend(Bucket.CERTIFICATES, "example.com") in new.certificate
    assert not renewal.order
    assert renewal.certificate == [Spend(Bucket.DUPLICATES, "a.example.com")]


def test_apex_and_wildcard_fail_as_one_name() -> None:
    request = Request(("*.example.com", "example.com"), ("example.com",))
    assert request.failure == [Spend(Bucket.FAILURES, "example.com"), Spend(Bucket.CONSECUTIVE, "example.com")]


def test_the_ladder_is_a_minute_ten_a_hundred_then_daily() -> None:
    steps = [backoff(n).total_seconds() / 60 for n in (1, 2, 3, 4, 5, 99)]
    assert steps == [1, 10, 100, 1440, 1440, 1440]
