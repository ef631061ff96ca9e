"""The daemon from outside: who waits, who is told what, and what strangers cost."""

import asyncio
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from certctl.domain import Domain
from certctl.errors import Busy, CertctlError, ConfigInvalid, RateLimited, Refused, Unreachable
from certctl.io.interrupt import stopping
from certctl.serve.answers import PREPARING, Kind
from certctl.serve.daemon import Daemon
from certctl.serve.settings import Rate
from certctl.slugs import Slug
from certctl.stories.issue import issue, obtain
from certctl.stories.remove import remove
from certctl.values import Certificate, State
from tests.fakes.serving import Response, Serving, does_not_answer, nobody_approves, on_a_loop, serving, until
from tests.fakes.world import FakeWorld

NAME = "status.example.com"
SLOWLY = timedelta(milliseconds=100)
HOSTILE = (Path(__file__).parents[1] / "hostile-domains.txt").read_text(encoding="utf-8").splitlines()


@pytest.fixture
def fakes(tmp_path: Path) -> Iterator[FakeWorld]:
    fakes = FakeWorld(tmp_path)
    yield fakes
    fakes.store.close()


@pytest.fixture
def here(fakes: FakeWorld, tmp_path: Path) -> Serving:
    return Serving(fakes, tmp_path)


# What the doors say


@on_a_loop
async def test_a_first_visitor_is_sent_on_to_https_once_the_certificate_is_served(here: Serving) -> None:
    domain = here.fakes.customer(NAME)
    async with serving(here):
        answer = await here.visit(NAME)
    assert (answer.status, answer.headers["x-accel-redirect"]) == (200, "@certctl_https")
    assert here.fakes.web.served(domain) == here.fakes.store.domain(domain).certificate.fingerprint  # type: ignore[union-attr]


@on_a_loop
async def test_a_handshake_is_told_that_the_mirror_has_it_and_never_the_key(here: Serving) -> None:
    here.fakes.customer(NAME)
    async with serving(here):
        answer = await here.handshake(NAME)
    assert (answer.status, answer.body, answer.headers["cache-control"]) == (200, "ready\n", "no-store")


@on_a_loop
async def test_a_name_that_is_in_the_mirror_costs_no_question(here: Serving) -> None:
    here.mirror.add(Domain(NAME))
    async with serving(here):
        assert (await here.handshake(NAME)).status == 200
        assert (await here.visit(NAME)).headers["x-accel-redirect"]
    assert here.fakes.dns.asked == []


@on_a_loop
async def test_a_name_that_ends_elsewhere_is_refused_for_a_while_and_nobody_else_is_asked(here: Serving) -> None:
    here.fakes.dns.cnames[NAME] = "elsewhere.example.net"
    async with serving(here):
        first, second = await here.handshake(NAME), await here.visit(NAME)
    assert (first.status, first.headers["cache-control"]) == (404, "max-age=30")
    assert (second.status, "retry-after" in second.headers) == (404, False)
    assert (here.fakes.dns.asked, here.fakes.operator.asked, here.ca.orders) == ([NAME], [], 0)


@on_a_loop
async def test_the_operators_no_is_remembered_for_its_own_time(fakes: FakeWorld, tmp_path: Path) -> None:
    here = Serving(fakes, tmp_path, no_lasts=timedelta(seconds=70))
    fakes.dns.cnames[NAME] = fakes.dns.target
    async with serving(here):
        assert (await here.handshake(NAME)).headers["cache-control"] == "max-age=70"
        here.now.moment = 69
        assert (await here.handshake(NAME)).headers["cache-control"] == "max-age=1"
        assert fakes.operator.asked == [NAME]
        here.now.moment = 71
        await here.handshake(NAME)
    assert (fakes.dns.asked, fakes.operator.asked) == ([NAME, NAME], [NAME, NAME])
    assert here.ca.orders == 0


@on_a_loop
async def test_a_dead_approval_endpoint_is_no_refusal_and_is_asked_again_soon(here: Serving) -> None:
    here.fakes.customer(NAME)
    here.fakes.operator.outage = True
    async with serving(here):
        answer = await here.handshake(NAME)
        assert (answer.status, answer.headers["retry-after"]) == (503, "10")
        assert (await here.visit(NAME)).headers["refresh"] == "10"
        assert here.fakes.operator.asked == [NAME]
        here.fakes.operator.outage = False
        here.now.moment = 11
        assert (await here.handshake(NAME)).status == 200


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Refused(Slug.CA_REFUSED, "no"), 404),
        (RateLimited(Slug.CA_RATE_LIMITED, "wait", retry_after=500), 404),
        (Unreachable(Slug.CA_UNREACHABLE, "nobody answered"), 503),
    ],
)
@on_a_loop
async def test_a_failure_at_the_ca_is_remembered_as_long_as_the_store_lets_the_name_rest(
    here: Serving, error: CertctlError, status: int
) -> None:
    domain = here.fakes.customer(NAME)
    here.ca.failures[NAME] = error
    async with serving(here):
        assert (await here.handshake(NAME)).status == status
        here.now.moment = 59
        page = await here.visit(NAME)
    row = here.fakes.store.domain(domain)
    assert row
    assert row.retry_at == here.fakes.clock.now() + timedelta(seconds=error.retry_after or 60)
    assert (row.attempts, row.last_error) == (1, error.slug)
    assert page.status == 503
    assert int(page.headers["retry-after"]) == (error.retry_after or 60) - 59
    assert here.fakes.dns.asked == [NAME]


@on_a_loop
async def test_a_name_that_rests_is_not_taken_to_the_ca_by_a_new_daemon(here: Serving, tmp_path: Path) -> None:
    here.fakes.customer(NAME)
    here.ca.failures[NAME] = Refused(Slug.CA_REFUSED, "no")
    async with serving(here):
        await here.handshake(NAME)
    another = Serving(here.fakes, tmp_path)
    async with serving(another):
        answer = await another.handshake(NAME)
    assert (answer.status, answer.body) == (404, "resting backing-off\n")
    assert answer.headers["cache-control"] == "max-age=60"


@on_a_loop
async def test_a_page_says_nothing_about_other_customers_and_loads_nothing(here: Serving) -> None:
    async with serving(here):
        page = await here.visit(NAME)
    assert page.headers["content-security-policy"] == "default-src 'none'; style-src 'unsafe-inline'"
    assert NAME in page.body
    assert not {"http:", "https:", "src=", "href=", "certctl", "hyperping"} & set(page.body.split('"'))


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "DELETE", "PROPFIND"])
@on_a_loop
async def test_a_visit_with_any_method_is_a_visit(here: Serving, method: str) -> None:
    here.mirror.add(Domain(NAME))
    async with serving(here):
        assert (await here.get("/visit", NAME, method)).status == 200


@on_a_loop
async def test_no_hostile_name_is_asked_about_at_either_door_or_breaks_a_page(here: Serving) -> None:
    names = [line for line in HOSTILE if line and not line.startswith("#")]
    async with serving(here):
        for name in names:
            host = name.encode("utf-8", "surrogateescape").decode("latin-1").replace("\n", "").replace("\r", "")
            await here.raw(
                b"GET /visit HTTP/1.1\r\nHost: " + host.encode("latin-1") + b"\r\nConnection: close\r\n\r\n"
            )
        assert (await here.handshake("%00%1b%5b2J/../..%0d%0aX:%20y")).status == 404
        page = await here.visit("<script>alert(1)</script>.example.com")
        assert (page.status, "<script>" in page.body) == (404, False)
        assert (await here.get("/healthz")).status == 200
    assert all(name.isascii() and name == name.lower() for name in here.fakes.dns.asked)
    assert here.ca.orders == 0


@on_a_loop
async def test_a_head_without_end_is_cut_off(here: Serving) -> None:
    async with serving(here):
        answer = await here.raw(b"GET /visit HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 60_000)
    assert answer.status == 400


# One flight


@on_a_loop
async def test_twenty_visitors_of_one_new_name_are_one_order_and_all_are_served(here: Serving) -> None:
    here.fakes.customer(NAME)
    here.ca.gate.clear()
    async with serving(here):
        visitors = [asyncio.create_task(here.handshake(NAME)) for _ in range(20)]
        await until(lambda: here.on_demand.waiting == 20)
        here.ca.gate.set()
        answers = await asyncio.gather(*visitors)
    assert {answer.status for answer in answers} == {200}
    assert (here.ca.orders, here.fakes.dns.asked, here.fakes.operator.asked) == (1, [NAME], [NAME])
    assert here.fakes.web.reloads == 1


@on_a_loop
async def test_names_that_arrive_while_nginx_reloads_share_the_next_reload(here: Serving) -> None:
    names = [f"status.customer{number}.com" for number in range(30)]
    for name in names:
        here.fakes.customer(name)
    here.fakes.web.may_reload.clear()
    async with serving(here):
        visits = [asyncio.create_task(here.visit(name)) for name in names]
        await until(lambda: here.ca.orders > 3)
        here.fakes.web.may_reload.set()
        answers = await asyncio.gather(*visits)
    assert {answer.status for answer in answers} == {200}
    assert here.fakes.web.reloads < here.ca.orders == 30


@on_a_loop
async def test_a_visitor_is_answered_in_time_and_the_next_one_finds_the_page(
    fakes: FakeWorld, tmp_path: Path
) -> None:
    here = Serving(fakes, tmp_path, patience=SLOWLY)
    fakes.customer(NAME)
    here.ca.gate.clear()
    async with serving(here):
        first, second = await asyncio.gather(here.visit(NAME), here.handshake(NAME))
        assert (first.status, first.headers["refresh"], first.headers["retry-after"]) == (503, "2", "2")
        assert "being prepared" in first.body
        assert (second.status, second.headers["retry-after"]) == (503, "2")
        here.ca.gate.set()
        await until(lambda: here.on_demand.in_flight == 0)
        assert (await here.visit(NAME)).status == 200
    assert here.ca.orders == 1


@on_a_loop
async def test_no_more_orders_run_at_once_than_configured(fakes: FakeWorld, tmp_path: Path) -> None:
    here = Serving(fakes, tmp_path, concurrency=3, patience=SLOWLY)
    here.ca.gate.clear()
    names = [fakes.customer(f"status.customer{number}.com").name for number in range(9)]
    async with serving(here):
        await asyncio.gather(*map(here.visit, names))
        await until(lambda: here.ca.inside == 3)
        here.ca.gate.set()
        await until(lambda: here.on_demand.in_flight == 0)
    assert (here.ca.most_inside, here.ca.orders) == (3, 9)


@on_a_loop
async def test_who_waits_too_long_for_a_turn_at_the_ca_comes_back(fakes: FakeWorld, tmp_path: Path) -> None:
    here = Serving(fakes, tmp_path, concurrency=1, order_patience=SLOWLY)
    here.ca.gate.clear()
    async with serving(here):
        held = asyncio.create_task(here.handshake(fakes.customer("status.first.com").name))
        await until(lambda: here.ca.inside == 1)
        answer = await here.handshake(fakes.customer("status.second.com").name)
        here.ca.gate.set()
        await held
    assert (answer.status, answer.body) == (503, "unsure serve-busy\n")
    assert fakes.store.domain(Domain("status.second.com")).retry_at is None  # type: ignore[union-attr]


@on_a_loop
async def test_a_bug_in_one_flight_is_one_names_trouble(here: Serving) -> None:
    here.fakes.customer(NAME)
    here.fakes.dns.addresses = None  # type: ignore[assignment]
    async with serving(here):
        broken = await here.handshake("status.other.com")
        assert (await here.handshake(NAME)).status == 200
    assert (broken.status, broken.body) == (503, "unsure internal\n")


# Strangers


@on_a_loop
async def test_a_stranger_leaves_no_trace_in_the_store(here: Serving) -> None:
    here.fakes.dns.cnames["refused.example.net"] = here.fakes.dns.target
    async with serving(here):
        await here.visit("nowhere.example.com")
        await here.visit("refused.example.net")
    assert here.fakes.operator.asked == ["refused.example.net"]
    assert (here.fakes.store.domains(), here.fakes.store.events(None, 10)) == ([], [])


@on_a_loop
async def test_names_below_one_registered_domain_have_a_share_of_their_own(
    fakes: FakeWorld, tmp_path: Path
) -> None:
    here = Serving(fakes, tmp_path, per_registered_domain=Rate(burst=3, refill=timedelta(seconds=6)))
    async with serving(here):
        told = [(await here.handshake(f"x{number}.attacker.com")).status for number in range(5)]
        assert told == [404, 404, 404, 503, 503]
        assert (await here.handshake("x8.attacker.com")).body == "busy serve-busy\n"
        busy = await here.visit("x9.attacker.com")
        assert (busy.status, busy.headers["retry-after"]) == (503, "6")
        assert (await here.handshake(fakes.customer(NAME).name)).status == 200
        here.now.moment = 6.1
        assert (await here.handshake("x6.attacker.com")).status == 404
    assert len(fakes.dns.asked) == 5


@on_a_loop
async def test_all_strangers_together_have_a_share(fakes: FakeWorld, tmp_path: Path) -> None:
    here = Serving(fakes, tmp_path, overall=Rate(burst=4, refill=timedelta(seconds=1)))
    here.mirror.add(Domain(NAME))
    async with serving(here):
        told = [(await here.handshake(f"www.attacker{number}.com")).status for number in range(6)]
        assert told == [404] * 4 + [503] * 2
        assert (await here.handshake(NAME)).status == 200
    assert len(fakes.dns.asked) == 4


@on_a_loop
async def test_a_queue_that_is_full_takes_nobody_more(fakes: FakeWorld, tmp_path: Path) -> None:
    here = Serving(fakes, tmp_path, flights=2, patience=SLOWLY)
    here.ca.gate.clear()
    async with serving(here):
        names = [fakes.customer(f"status.customer{number}.com").name for number in range(3)]
        answers = [await here.handshake(name) for name in names]
    assert [answer.body for answer in answers] == ["preparing\n", "preparing\n", "busy serve-busy\n"]


@on_a_loop
async def test_more_clients_than_it_has_room_for_are_sent_away_at_once(fakes: FakeWorld, tmp_path: Path) -> None:
    here = Serving(fakes, tmp_path, connections=5)
    here.ca.gate.clear()
    async with serving(here):
        waiting = [asyncio.create_task(here.handshake(fakes.customer(NAME).name)) for _ in range(4)]
        await until(lambda: here.on_demand.waiting == 4)
        assert (await here.get("/healthz")).status == 503
        here.ca.gate.set()
        assert {answer.status for answer in await asyncio.gather(*waiting)} == {200}


# Names that were here before


@on_a_loop
async def test_a_name_whose_files_are_gone_is_published_from_the_store_without_a_question(here: Serving) -> None:
    domain = here.fakes.customer(NAME)
    async with serving(here):
        await here.visit(NAME)
        here.fakes.web.files.clear()
        here.fakes.web.serving.clear()
        here.now.moment = 60
        assert (await here.visit(NAME)).status == 200
    assert here.fakes.web.served(domain)
    assert (here.ca.orders, here.fakes.dns.asked) == (1, [NAME])


@on_a_loop
async def test_a_name_whose_certificate_is_due_is_renewed_for_its_visitor_outside_the_limits(here: Serving) -> None:
    domain = here.fakes.customer(NAME)
    async with serving(here):
        await here.visit(NAME)
        first = certificate_of(here, domain)
        later(here, timedelta(days=70))
        here.ca.clock = here.fakes.clock.now()
        assert (await here.visit(NAME)).status == 200
    assert here.ca.replaced == [first.fingerprint]
    assert certificate_of(here, domain).fingerprint != first.fingerprint


def certificate_of(here: Serving, domain: Domain) -> Certificate:
    row = here.fakes.store.domain(domain)
    assert row
    assert row.certificate
    return row.certificate


@on_a_loop
async def test_a_removed_name_comes_back_only_as_a_new_one_would(here: Serving) -> None:
    domain = here.fakes.customer(NAME)
    async with serving(here):
        await here.visit(NAME)
        here.fakes.store.forget(domain, keep_certificate=True)
        here.fakes.operator.approved.clear()
        later(here, timedelta(minutes=11))
        assert (await here.visit(NAME)).status == 404
        row = here.fakes.store.domain(domain)
        assert row
        assert row.state is State.REMOVED
        here.fakes.operator.approves(domain)
        later(here, timedelta(minutes=6))
        assert (await here.visit(NAME)).status == 200
    assert here.ca.orders == 1


def later(here: Serving, duration: timedelta) -> None:
    """Let time pass for the store and for the daemon's memory."""
    here.fakes.days_pass(duration / timedelta(days=1))
    here.now.moment += duration.total_seconds()


@on_a_loop
async def test_for_ten_minutes_after_a_removal_nobody_is_asked_then_only_a_new_yes_counts(
    here: Serving,
) -> None:
    domain = here.fakes.customer(NAME)
    async with serving(here):
        await here.visit(NAME)
        remove(here.fakes.journey(domain), here.fakes.world)
        asked = len(here.fakes.operator.asked), len(here.fakes.dns.asked)
        proof = await here.handshake(NAME)
        assert (proof.status, proof.body) == (404, "refused removed-lately\n")
        assert proof.headers["cache-control"] == "max-age=600"
        later(here, timedelta(minutes=10, seconds=-1))
        assert (await here.visit(NAME)).status == 404
        here.on_demand = Serving(here.fakes, here.home).on_demand  # another daemon, or this one after a restart
        assert isinstance(flight := here.on_demand.consider(NAME), asyncio.Future)
        assert (await flight).slug == "removed-lately"
        assert (len(here.fakes.operator.asked), len(here.fakes.dns.asked)) == asked
        assert here.ca.orders == 1
        later(here, timedelta(seconds=1))
        assert (await here.visit(NAME)).status == 200
    assert here.ca.orders == 2


@on_a_loop
async def test_the_operators_own_issue_brings_a_removed_name_back_at_once(here: Serving) -> None:
    domain = here.fakes.customer(NAME)
    async with serving(here):
        await here.visit(NAME)
        remove(here.fakes.journey(domain), here.fakes.world)
        assert (await here.visit(NAME)).status == 404
        issue(here.fakes.journeys(domain), here.fakes.world)
        here.mirror.add(domain)
        assert (await here.visit(NAME)).status == 200


@on_a_loop
async def test_a_yes_that_is_under_way_while_the_name_is_removed_does_not_bring_it_back(here: Serving) -> None:
    """Asked in time, heard before the removal; the visitor then waits for the name, which the removal holds."""
    domain = here.fakes.customer(NAME)
    approval = here.fakes.operator.approve(here.fakes.dns.verify(domain))
    issue(here.fakes.journeys(domain), here.fakes.world)
    remove(here.fakes.journey(domain), here.fakes.world)
    for minutes in (0, 30):
        here.fakes.days_pass(minutes / (24 * 60))
        late = here.fakes.journey(domain)
        obtain(late, here.fakes.world, approval)
        assert late.error
        assert late.error.slug == "removed-lately"
    assert here.fakes.ca.orders == 1


@on_a_loop
async def test_a_name_that_nginx_refuses_does_not_stop_those_beside_it(here: Serving) -> None:
    bad = here.fakes.customer("status.bad.com")
    here.fakes.web.refused.add(bad)
    async with serving(here):
        answers = await asyncio.gather(here.visit(bad.name), here.visit(here.fakes.customer(NAME).name))
    assert [answer.status for answer in answers] == [503, 200]


# The approval endpoint


@on_a_loop
async def test_it_does_not_start_when_a_name_nobody_registered_is_approved(here: Serving) -> None:
    with pytest.raises(ConfigInvalid, match="approves"):
        await here.daemon(approves_everything, SLOWLY).serve(here.listeners())


@on_a_loop
async def test_it_starts_when_the_endpoint_does_not_answer_and_says_so(here: Serving) -> None:
    async with serving(here, does_not_answer):
        assert (await here.handshake(here.fakes.customer(NAME).name)).status == 200
    assert here.heard.said[0].startswith("the approval endpoint did not say; it is asked again in")


@on_a_loop
async def test_it_takes_on_no_name_while_everything_is_approved_and_goes_on_by_itself(here: Serving) -> None:
    verdict: list[Callable[[], None]] = [does_not_answer]
    here.mirror.add(Domain("status.live.com"))
    async with serving(here, lambda: verdict[0](), SLOWLY / 5):  # noqa: PLW0108 - it changes
        await until(lambda: here.heard.said != [])
        verdict[0] = approves_everything
        await until(lambda: here.on_demand.refusing is not None)
        answer = await here.handshake(here.fakes.customer(NAME).name)
        assert (answer.status, answer.body) == (503, "unsure approval-approves-everything\n")
        assert (await here.handshake("status.live.com")).status == 200
        said = len(here.heard.said)
        verdict[0] = does_not_answer  # which is no sign that it has ended
        await until(lambda: len(here.heard.said) > said + 1)
        assert (await here.handshake(NAME)).body == "unsure approval-approves-everything\n"
        assert (await here.status())["refusing"] == "approval-approves-everything"
        assert here.fakes.dns.asked == []
        verdict[0] = lambda: None
        await until(lambda: here.on_demand.refusing is None)
        assert (await here.handshake(NAME)).status == 200


@on_a_loop
async def test_an_endpoint_that_did_not_answer_is_asked_again_sooner_than_one_that_did(here: Serving) -> None:
    asked: list[None] = []

    def silent() -> None:
        asked.append(None)
        does_not_answer()

    daemon = here.daemon(silent, SLOWLY / 20)
    daemon._probe = replace(daemon._probe, every=timedelta(hours=1))
    living = asyncio.create_task(daemon.serve(here.listeners()))
    await until(lambda: len(asked) > 2)
    daemon.stop()
    await living


@on_a_loop
async def test_an_endpoint_that_approves_everything_is_spoken_of_once(here: Serving) -> None:
    asked: list[None] = []

    def at_first_a_no() -> None:
        asked.append(None)
        if len(asked) > 1:
            approves_everything()

    async with serving(here, at_first_a_no, SLOWLY / 20):
        await until(lambda: len(asked) > 4)
        assert here.heard.said == ["http://x approves probe.example.net; no name is taken on until that ends"]


@on_a_loop
async def test_an_endpoint_that_is_as_it_should_be_is_not_spoken_of(here: Serving) -> None:
    asked: list[None] = []
    async with serving(here, lambda: asked.append(None), SLOWLY / 20):
        await until(lambda: len(asked) > 3)
        assert here.heard.said == []


@on_a_loop
async def test_while_it_stops_no_name_is_taken_on_whatever_the_endpoint_says(here: Serving) -> None:
    asked: list[None] = []
    here.ca.gate.clear()
    async with serving(here, lambda: asked.append(None), SLOWLY / 20) as daemon:
        visit = asyncio.create_task(here.visit(here.fakes.customer(NAME).name))
        await until(lambda: here.ca.inside == 1)
        daemon.stop()
        await visit
        until_now = len(asked)
        await until(lambda: len(asked) > until_now + 2)
        assert here.on_demand.consider(here.fakes.customer("status.late.com").name) == PREPARING
        here.ca.gate.set()


def approves_everything() -> None:
    raise ConfigInvalid(Slug.APPROVAL_APPROVES_EVERYTHING, "http://x approves probe.example.net")


# Numbers


@on_a_loop
async def test_status_and_metrics_tell_the_same_story(here: Serving) -> None:
    here.fakes.customer(NAME)
    here.ca.gate.clear()
    here.now.moment = 100
    async with serving(here):
        visit = asyncio.create_task(here.visit(NAME))
        await until(lambda: here.on_demand.waiting == 1)
        assert (await here.status())["waiters"] == (await here.status())["flights"] == 1
        here.now.moment = 100.25
        here.ca.gate.set()
        await visit
        await here.visit("nowhere.example.com")
        status, metrics = await here.status(), (await here.get("/metrics")).body
    assert status["first_hit"] == {"count": 1, "p50_ms": 250, "p95_ms": 250}
    assert status["orders"] == 1
    assert status["answers"] == {"ready": 1, "refused": 1}
    assert status["reasons"] == {"dns-no-such-name": 1}
    assert status["refusing"] is None
    assert (status["waiters"], status["flights"], status["store_up"], status["last_error"]) == (0, 0, True, None)
    for line in (
        "certctl_first_hit_seconds_sum 0.25",
        'certctl_serve_answers_total{answer="refused",code="dns-no-such-name"} 1.0',
        "certctl_serve_orders_total 1.0",
        "certctl_serve_remembered 1.0",
        "certctl_store_up 1.0",
    ):
        assert f"\n{line}\n" in metrics
    bounds = re.findall(r'certctl_first_hit_seconds_bucket\{le="([0-9.]+)"\}', metrics)
    assert [float(bound) for bound in bounds] == [0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 9, 15, 30, 60, 120]


@on_a_loop
async def test_trouble_that_is_nobodys_refusal_is_the_last_error(here: Serving) -> None:
    here.fakes.customer(NAME)
    here.ca.failures[NAME] = Busy(Slug.BUSY, "held")
    async with serving(here):
        await here.visit(NAME)
        status = await here.status()
    assert status["last_error"] == {"code": "busy", "at": "2026-11-23T12:00:00Z"}


# The miss socket

MISS = b'certctl: [error] 1#1: *1 cannot load certificate "/var/lib/certctl/live/%s/current/fullchain.pem": x'


@on_a_loop
async def test_a_failed_handshake_is_a_hint_and_the_next_one_succeeds(here: Serving) -> None:
    here.fakes.customer(NAME)
    async with serving(here):
        here.miss(MISS % NAME.encode())
        here.miss(MISS % NAME.encode())
        await until(lambda: len(here.heard.landings) == 1)
        assert (await here.handshake(NAME)).status == 200
    assert (here.ca.orders, here.fakes.dns.asked) == (1, [NAME])


@on_a_loop
async def test_whatever_is_sent_to_the_miss_socket_nothing_comes_of_it(here: Serving) -> None:
    async with serving(here):
        for line in HOSTILE:
            here.miss(MISS % line.encode("utf-8", "surrogateescape"))
            await asyncio.sleep(0)
            here.miss(line.encode("utf-8", "surrogateescape") or b"\0")
            await asyncio.sleep(0)
        here.miss(b"\xff" * 60_000)
        await until(lambda: here.on_demand.in_flight == 0)
        assert (await here.get("/healthz")).status == 200
    assert all(name.isascii() and name == name.lower() for name in here.fakes.dns.asked)
    assert (here.ca.orders, here.fakes.operator.asked) == (0, [])


# What does not depend on it


@on_a_loop
async def test_a_locked_store_is_not_yet_and_it_recovers_by_itself(fakes: FakeWorld, tmp_path: Path) -> None:
    here = Serving(fakes, tmp_path, patience=SLOWLY)
    fakes.customer(NAME)
    fakes.store.domains()
    other = sqlite3.connect(tmp_path / "certctl.db", isolation_level=None)
    here.mirror.add(Domain("status.live.com"))
    async with serving(here):
        other.execute("BEGIN IMMEDIATE")
        began = time.monotonic()
        assert (await here.handshake(NAME)).status == 503
        assert (await here.handshake("status.live.com")).status == 200
        assert time.monotonic() - began < 20, "SQLite itself waits half a minute"
        other.execute("ROLLBACK")
        other.close()
        await until(lambda: here.on_demand.in_flight == 0)
        assert (await here.handshake(NAME)).status == 200
    assert here.ca.orders == 1


# The end


async def stopped_with_two_waiting(
    here: Serving, daemon: Daemon, first: Domain, second: Domain
) -> list[asyncio.Task[Response]]:
    """Ask the daemon to stop while the first name is at the CA, which stays so, and the second has just come."""
    here.ca.gate.clear()
    visits = [asyncio.create_task(here.visit(first.name))]
    await until(lambda: here.ca.inside == 1)
    visits.append(asyncio.create_task(here.visit(second.name)))
    await until(lambda: here.on_demand.waiting == 2)
    daemon.stop()
    return visits


@on_a_loop
async def test_asked_to_stop_it_finishes_what_is_at_the_ca_and_orders_nothing_more(
    fakes: FakeWorld, tmp_path: Path
) -> None:
    here = Serving(fakes, tmp_path, concurrency=1)
    first, second = fakes.customer("status.first.com"), fakes.customer("status.second.com")
    async with serving(here) as daemon:
        visits = await stopped_with_two_waiting(here, daemon, first, second)
        pages = await asyncio.gather(*visits)
        here.ca.gate.set()
    assert [(page.status, "being prepared" in page.body) for page in pages] == [(503, True)] * 2
    assert fakes.web.served(first)
    assert here.ca.orders == 1
    assert fakes.store.domain(second) is None


@on_a_loop
async def test_asked_to_stop_it_lets_go_of_a_name_nobody_has_looked_into_yet(
    fakes: FakeWorld, tmp_path: Path
) -> None:
    here = Serving(fakes, tmp_path, threads=1)
    first, second = fakes.customer("status.first.com"), fakes.customer("status.second.com")
    async with serving(here) as daemon:
        visits = await stopped_with_two_waiting(here, daemon, first, second)
        await asyncio.gather(*visits)
        await until(lambda: here.on_demand.in_flight == 1)
        here.ca.gate.set()
    ended = [(result.domain, result.answer.kind) for result in here.heard.landings]
    assert ended == [(second, Kind.PREPARING), (first, Kind.READY)]
    assert fakes.dns.asked == [first.name]


@on_a_loop
async def test_an_order_that_does_not_end_is_interrupted_at_last(fakes: FakeWorld, tmp_path: Path) -> None:
    here = Serving(fakes, tmp_path, stop_patience=SLOWLY, patience=SLOWLY)
    here.ca.gate.clear()
    daemon = here.daemon(nobody_approves, timedelta(hours=1))
    living = asyncio.create_task(daemon.serve(here.listeners()))
    await here.visit(fakes.customer(NAME).name)
    await until(lambda: here.ca.inside == 1)  # on a busy machine the visitor is gone before that
    daemon.stop()
    await living
    try:
        assert stopping.is_set()
        here.ca.gate.set()
        await until(lambda: here.on_demand.in_flight == 0)
    finally:
        stopping.clear()
    assert [result.answer.slug for result in here.heard.landings] == ["interrupted"]
    assert fakes.store.domain(Domain(NAME)).certificate  # type: ignore[union-attr]
