"""Many names at once: what they leave to others, when the rest is done, and how a run goes on."""

from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from certctl.app.bulk import bulk
from certctl.app.context import Context
from certctl.app.progress import OrderForecast, RunProgress
from certctl.budget import Limit
from certctl.cli.framework import Invocation
from certctl.cli.opening import open_context
from certctl.cli.output.text import TextReport
from certctl.domain import Domain
from certctl.errors import Interrupted, RateLimited
from certctl.slugs import Slug
from certctl.stories.journey import Journey
from tests.fakes.world import FakeClock

LETS_ENCRYPT = Limit(300, timedelta(seconds=36), "account")


def pace(clock: FakeClock, spent: list[datetime], total: int, orders: int) -> RunProgress:
    return RunProgress(total, orders, clock, OrderForecast(LETS_ENCRYPT, lambda _: spent, clock))


def test_the_rest_is_told_by_the_pace_so_far_while_no_limit_is_near() -> None:
    clock = FakeClock()
    run = pace(clock, [], total=200, orders=200)
    assert run.rest == ""
    clock.pause(timedelta(seconds=50))
    for _ in range(20):
        run.arrived(ok=True)
    assert run.rest == "about 8 min left"


def test_the_rest_is_told_by_the_cas_limit_where_that_is_later() -> None:
    clock = FakeClock()
    run = pace(clock, [], total=1000, orders=1000)
    assert run.rest == "at the CA's limit of 300 per 3 h the rest takes until 2026-11-23 19:00 UTC"
    spent = [clock.now()] * 300
    run = pace(clock, spent, total=1000, orders=100)
    assert run.rest.endswith("the rest takes until 2026-11-23 13:00 UTC"), "nine hundred are live already"


def test_nothing_is_told_of_a_rest_that_is_not_there() -> None:
    run = pace(FakeClock(), [], total=1, orders=1)
    run.arrived(ok=False)
    assert run.rest == ""


def test_without_a_bar_a_line_comes_every_half_minute() -> None:
    clock = FakeClock()
    run = pace(clock, [], total=4, orders=4)
    run.arrived(ok=True)
    assert run.line() == ""
    clock.pause(timedelta(seconds=40))
    run.arrived(ok=False)
    assert run.line() == "2 of 4 done, 1 failed; about 1 min left"
    assert run.line() == ""


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    file = tmp_path / "config.toml"
    file.write_text("# the defaults\n", encoding="utf-8")
    with closing(open_context(Invocation(config=file, root=tmp_path))) as context:
        yield context


def start(report: TextReport, *names: str) -> list[Journey]:
    return [Journey(Domain(name), report) for name in names]


def test_one_name_may_use_all_that_many_must_leave(context: Context) -> None:
    report = TextReport(Invocation())
    for names, kept in ((["a.example.com"], 0), (["a.example.com", "b.example.com"], 60)):
        with bulk(start(report, *names), context, report) as limits:
            assert sum(limit.reserve for limit in limits.values()) == kept


def test_an_interrupted_run_says_how_far_it_came_and_what_to_type(context: Context) -> None:
    report = TextReport(Invocation())
    journeys = start(report, "a.example.com", "b.example.com", "c.example.com")
    with pytest.raises(Interrupted) as caught, bulk(journeys, context, report):
        stop_after(journeys[0], context)
    assert "1 of 3 names done" in caught.value.message
    assert caught.value.exit_code == 130
    assert caught.value.next[0].startswith("certctl issue")


def stop_after(journey: Journey, context: Context) -> None:
    journey.succeed("issue", context.world)
    raise KeyboardInterrupt


def test_names_the_limits_leave_behind_are_told_when_their_time_comes(
    context: Context, capsys: pytest.CaptureFixture[str]
) -> None:
    report = TextReport(Invocation())
    journeys = start(report, *(f"c{number}.example.com" for number in range(300)))
    with bulk(journeys, context, report):
        for journey in journeys:
            journey.fail(RateLimited(Slug.BUDGET_EXHAUSTED, "later"))
    note = capsys.readouterr().err.splitlines()[-1]
    assert note.startswith("300 had to stay behind: at the CA's limit of 300 per 3 h the rest takes until")
    assert note.endswith("--wait-for-limits.")
