"""Due is a share of the certificate's own lifetime, whatever that is."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from certctl.domain import Domain
from certctl.due import due_at, is_due
from certctl.values import Certificate, DomainRow, State

BORN = datetime(2026, 11, 23, tzinfo=UTC)


def living(lifetime: timedelta) -> Certificate:
    return Certificate(
        Domain("a.example.com"), ("a.example.com",), "01", "CA", BORN, BORN + lifetime, "ecdsa-p256", "00"
    )


@pytest.mark.parametrize(
    ("lifetime", "left"),
    [
        (timedelta(days=90), timedelta(days=30)),
        (timedelta(days=64), timedelta(days=64) / 3),
        (timedelta(days=45), timedelta(days=15)),
        (timedelta(hours=160), timedelta(hours=80)),
        (timedelta(seconds=90), timedelta(seconds=45)),
    ],
    ids=["classic", "classic from 2027", "tlsserver", "shortlived", "a test's ninety seconds"],
)
def test_a_third_is_left_or_half_of_a_short_life(lifetime: timedelta, left: timedelta) -> None:
    certificate = living(lifetime)
    moment = BORN + lifetime - left
    assert abs(due_at(certificate, 1 / 3) - moment) < timedelta(seconds=1)


def test_a_certificate_is_due_from_that_very_moment_and_a_name_without_one_is_not() -> None:
    row = DomainRow(Domain("a.example.com"), State.ACTIVE, BORN, living(timedelta(days=90)), 0, None, None)
    moment = BORN + timedelta(days=60)
    assert is_due(row, moment, 1 / 3)
    assert not is_due(row, moment - timedelta(seconds=1), 1 / 3)
    assert not is_due(replace(row, certificate=None), moment, 1 / 3)


def test_an_operators_larger_share_also_holds_for_short_lives() -> None:
    assert due_at(living(timedelta(hours=100)), 0.8) == BORN + timedelta(hours=20)


def test_the_cas_suggestion_goes_before_the_share() -> None:
    certificate = living(timedelta(days=90))
    for day in (1, 50, 70):
        assert due_at(certificate, 1 / 3, BORN + timedelta(days=day)) == BORN + timedelta(days=day)


def test_a_suggestion_in_the_past_means_now() -> None:
    assert due_at(living(timedelta(days=90)), 1 / 3, BORN - timedelta(days=400)) < BORN


def test_a_suggestion_that_comes_too_late_never_lets_a_certificate_lapse() -> None:
    for day in (80, 90, 4000):
        assert due_at(living(timedelta(days=90)), 1 / 3, BORN + timedelta(days=day)) == BORN + timedelta(days=75)
