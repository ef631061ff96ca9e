"""The store looks through the rows, ``due.py`` and the stories judge: nobody they would pick may be left out."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certctl.domain import Domain
from certctl.due import due_at, is_due
from certctl.ports.world import World
from certctl.slugs import Slug
from certctl.stories.renew import is_waiting
from certctl.stories.wildcard import needs_person
from certctl.values import Certificate, DomainRow, Issued, Pem, State, Suggestion
from tests.fakes.world import FakeWorld

BORN = datetime(2026, 11, 23, 12, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Past:
    """What happened to one domain, and the moment somebody looks at it."""

    certificate: Certificate
    suggested: datetime | None
    state: State
    versions: int
    failure: Slug | None
    fraction: float
    now: datetime


@st.composite
def pasts(draw: st.DrawFn) -> Past:
    """Draw any past, mostly with nothing or one thing wrong; many looks are at the moment of a change."""
    around_short = st.timedeltas(timedelta(days=10, seconds=-2), timedelta(days=10, seconds=2))
    lifetime = draw(st.timedeltas(timedelta(seconds=1), timedelta(days=4000)) | around_short)
    born = BORN + draw(st.timedeltas(timedelta(days=-20_000), timedelta(days=20_000)))
    domain = Domain(draw(st.sampled_from(["a.example.com"] * 5 + ["*.example.com"])))
    certificate = Certificate(domain, (domain.name,), "01", "CA", born, born + lifetime, "ecdsa-p256", "00" * 32)
    fraction = draw(st.sampled_from([0.1, 1 / 3, 0.5, 0.9]))
    suggested = draw(st.none() | st.floats(-0.5, 1.5).map(lambda share: born + lifetime * share))
    second = st.timedeltas(timedelta(seconds=-1), timedelta(seconds=1))
    turn = second.map(lambda near: due_at(certificate, fraction, suggested) + near)
    return Past(
        certificate,
        suggested,
        draw(st.sampled_from([State.ACTIVE] * 8 + list(State))),
        draw(st.sampled_from([1, 1, 1, 1, 0, 2, 3])),
        draw(st.sampled_from([None] * 5 + [Slug.NGINX_MISSING, Slug.CA_DNS, Slug.DNS_NO_DATA])),
        fraction,
        draw(st.sampled_from([born, born + lifetime / 3]) | turn),
    )


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeWorld]:
    fake = FakeWorld(tmp_path_factory.mktemp("store"))
    yield fake
    fake.store.close()


def settle(fake: FakeWorld, past: Past) -> World:
    """Let it happen: versions are kept, the first is seen on the wire, then something may have gone wrong."""
    store, domain = fake.store, past.certificate.domain
    for other in store.domains():
        store.forget(other.domain, keep_certificate=False)
    store.set_state(domain, State.PENDING)
    for number in range(past.versions):
        kept = store.keep(Issued(past.certificate, Pem("chain", "key")))
        if number == 0:
            store.served(kept)
        if past.suggested:
            store.suggest([(kept, Suggestion(past.suggested, past.now))])
    store.set_state(domain, past.state)
    if past.failure:
        store.failed(domain, past.failure, None)
    fake.clock.moment = past.now
    return replace(fake.world, fallback_fraction=past.fraction)


def is_picked(row: DomainRow, world: World) -> bool:
    """Tell whether any command has something to do or to say about a domain."""
    troubled = row.state is not State.ACTIVE or row.certificate is None or row.last_error is not None
    due = is_due(row, world.clock.now(), world.fallback_fraction)
    return troubled or due or needs_person(row) or is_waiting(row, world)


@given(past=pasts())
@settings(max_examples=400)
def test_whoever_the_rules_pick_is_a_candidate(fake: FakeWorld, past: Past) -> None:
    world = settle(fake, past)
    picked = {row.domain for row in fake.store.domains() if is_picked(row, world)}
    assert picked <= {row.domain for row in world.candidates()}


def test_whoever_is_well_is_no_candidate_until_a_minute_before_it_is_due(fake: FakeWorld) -> None:
    domain = Domain("a.example.com")
    born = Certificate(domain, (domain.name,), "01", "CA", BORN, BORN + timedelta(days=90), "ecdsa-p256", "00" * 32)
    due = due_at(born, 1 / 3)
    for now, found in ((BORN, 0), (due - timedelta(minutes=2), 0), (due - timedelta(seconds=30), 1), (due, 1)):
        assert len(settle(fake, Past(born, None, State.ACTIVE, 1, None, 1 / 3, now)).candidates()) == found, now
