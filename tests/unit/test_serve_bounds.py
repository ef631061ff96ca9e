"""What a flood of names can make the daemon keep: nothing that grows."""

import re
import tracemalloc
from datetime import timedelta
from html import escape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certctl.domain import Domain
from certctl.errors import CATALOGUE
from certctl.serve.answers import READY, Answer, Kind, WireResult, of_error
from certctl.serve.memory import RecentAnswers
from certctl.serve.metrics import Metrics
from certctl.serve.miss_socket import missed_name
from certctl.serve.ondemand import FlightResult
from certctl.serve.pages import page
from certctl.serve.rate_limit import RateLimiter
from certctl.serve.settings import Rate, ServeSettings
from certctl.slugs import Slug
from certctl.values import Mode
from tests.fakes.serving import Time
from tests.fakes.world import FakeClock

LINE = (
    '<187>Nov 26 23:13:00 certctl: 2026/11/26 23:13:00 [error] 12298#12298: *4 cannot load certificate "{path}": '
    "BIO_new_file() failed (SSL: error:80000002:system library::No such file or directory:calling fopen({path}, r) "
    "error:10000080:BIO routines::no such file) while SSL handshaking, client: 192.0.2.1, server: 0.0.0.0:443"
)


def test_an_answer_is_forgotten_after_its_time() -> None:
    memory, now = RecentAnswers[str, str](10, time := Time()), time
    memory.put("a", "no", 5)
    now.moment = 4.5
    assert memory.get("a") == ("no", 0.5)
    now.moment = 5
    assert memory.get("a") is None
    assert len(memory) == 0


def test_what_was_asked_for_last_stays_longest() -> None:
    memory = RecentAnswers[str, int](2, Time())
    for number, key in enumerate("ab"):
        memory.put(key, number, 5)
    memory.get("a")
    memory.put("c", 2, 5)
    assert [memory.get(key) is not None for key in "abc"] == [True, False, True]


def test_what_was_learnt_anew_stays_longest_too() -> None:
    memory = RecentAnswers[str, int](2, Time())
    for number, key in enumerate("abac"):
        memory.put(key, number, 5)
    assert [memory.get(key) is not None for key in "abc"] == [True, False, True]


def test_a_hundred_thousand_names_leave_no_more_than_the_memory_holds() -> None:
    settings, now = ServeSettings(), Time()
    memory = RecentAnswers[Domain, str](settings.memory, now)
    limiter = RateLimiter(settings.per_registered_domain, Rate(burst=10**6, refill=timedelta(seconds=1)), now)
    sizes = []
    tracemalloc.start()
    for number in range(100_000):
        domain = Domain(f"www.name{number}.com")
        limiter.take(domain)
        memory.put(domain, "no", 300)
        if number in {50_000, 99_999}:
            sizes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert len(memory) == settings.memory
    assert sizes[1] < 1.02 * sizes[0] < 40_000_000


def test_a_share_comes_back_with_time_and_never_grows_beyond_its_burst() -> None:
    now = Time()
    limiter = RateLimiter(
        Rate(burst=2, refill=timedelta(seconds=6)), Rate(burst=100, refill=timedelta(seconds=1)), now
    )
    ours = [Domain(f"{label}.attacker.co.uk") for label in "abcdefgh"]
    assert [limiter.take(domain) for domain in ours[:3]] == [0, 0, 6]
    assert limiter.take(Domain("www.other.co.uk")) == 0
    now.moment = 6
    assert [limiter.take(domain) for domain in ours[3:5]] == [0, 6]
    now.moment = 10_000
    assert [limiter.take(domain) for domain in ours[5:]] == [0, 0, 6]


def test_a_question_that_is_refused_for_its_share_costs_the_others_nothing() -> None:
    limiter = RateLimiter(
        Rate(burst=1, refill=timedelta(hours=1)), Rate(burst=3, refill=timedelta(hours=1)), Time()
    )
    for label in "abcdefgh":
        limiter.take(Domain(f"{label}.attacker.com"))
    assert limiter.take(Domain("www.first.com")) == limiter.take(Domain("www.second.com")) == 0
    assert limiter.take(Domain("www.third.com")) > 0


@pytest.mark.parametrize("slug", CATALOGUE)
def test_every_error_is_told_to_a_visitor_and_remembered_for_a_time_that_ends(slug: Slug) -> None:
    error = CATALOGUE[slug].family(slug, "x", retry_after=10**7)
    answer = of_error(error, ServeSettings(), timedelta(days=1))
    assert timedelta(seconds=1) <= answer.lasts <= timedelta(hours=1)
    assert answer.kind is not Kind.READY
    assert answer.slug == slug


@pytest.mark.parametrize(
    ("kind", "asks_to_come_back", "comes_by_itself"),
    [
        (Kind.REFUSED, False, False),
        (Kind.RESTING, True, False),
        (Kind.PREPARING, True, True),
        (Kind.UNSURE, True, True),
        (Kind.BUSY, True, True),
    ],
)
@pytest.mark.parametrize("host", ["status.example.com", "<b>", ""])
def test_a_page_comes_back_by_itself_where_waiting_helps_and_is_kept_by_nobody(
    kind: Kind, host: str, *, asks_to_come_back: bool, comes_by_itself: bool
) -> None:
    text, headers = page(Answer(kind, timedelta(seconds=7)), host)
    assert headers.get("Retry-After") == ("7" if asks_to_come_back else None)
    assert headers.get("Refresh") == ("7" if comes_by_itself else None)
    assert headers["Cache-Control"] == "no-store"
    assert (escape(host or "this address") in text, "<b>" in text) == (True, False)
    title = re.search("<title>(.+)</title>", text)
    assert title
    assert f"<h1>{title[1]}</h1>" in text


@pytest.mark.parametrize(
    ("kind", "is_trouble"),
    [
        (Kind.READY, False), (Kind.REFUSED, False), (Kind.PREPARING, False),
        (Kind.RESTING, True), (Kind.UNSURE, True), (Kind.BUSY, True),
    ],
)  # fmt: skip
def test_what_is_trouble_is_the_last_error_and_only_what_is_served_a_first_visit(
    kind: Kind, *, is_trouble: bool
) -> None:
    metrics = Metrics(FakeClock(), lambda: True, Mode.LUA)
    metrics.flight_ended(
        FlightResult(Domain("status.example.com"), WireResult(Answer(kind, slug=Slug.INTERNAL), orders=1), 0.5)
    )
    summary = metrics.summary()
    assert summary["last_error"] == ({"code": "internal", "at": "2026-11-23T12:00:00Z"} if is_trouble else None)
    is_first = kind is Kind.READY
    quantile = 500 if is_first else None
    assert summary["first_hit"] == {"count": int(is_first), "p50_ms": quantile, "p95_ms": quantile}
    assert summary["orders"] == 1


def test_half_of_the_first_visits_were_as_fast_as_the_median() -> None:
    metrics = Metrics(FakeClock(), lambda: False, Mode.LUA)
    for tenth in range(20, 0, -1):
        metrics.flight_ended(FlightResult(Domain("status.example.com"), WireResult(READY), tenth / 10))
    assert metrics.summary()["first_hit"] == {"count": 20, "p50_ms": 1000, "p95_ms": 1900}
    assert metrics.summary()["store_up"] is False


@pytest.mark.parametrize(
    "name", ["status.example.com", "Status.Example.COM", "xn--bcher-kva.example", "a" * 63 + ".de"]
)
def test_a_missed_name_is_read_from_nginxs_line(name: str) -> None:
    line = LINE.format(path=f"/var/lib/certctl/live/{name}/current/fullchain.pem")
    assert missed_name(line.encode()) == name


@pytest.mark.parametrize(
    "path",
    [
        "/var/lib/certctl/live/_default/current/fullchain.pem",
        "/var/lib/certctl/live/certctl-check.invalid/current/fullchain.pem",  # our own look at TLS
        "/var/lib/certctl/live/../current/fullchain.pem",
        "/var/lib/certctl/live/a/b.example.com/current/fullchain.pem",
        "/var/lib/certctl/live/status.example.com/current/privkey.pem",
        "/var/lib/certctl/live/status.example.com/fullchain.pem",
        "/var/lib/certctl/live/" + "a." * 130 + "com/current/fullchain.pem",
        "/var/lib/certctl/live/stätus.example.com/current/fullchain.pem",
        "/var/lib/certctl/live/sta\x1b[2Jtus.example.com/current/fullchain.pem",
    ],
)
def test_any_other_line_is_no_name(path: str) -> None:
    assert missed_name(LINE.format(path=path).encode()) is None


@given(st.binary(max_size=5000))
def test_no_datagram_is_too_strange(datagram: bytes) -> None:
    assert missed_name(datagram) is None
