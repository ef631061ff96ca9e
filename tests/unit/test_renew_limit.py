"""What ``certctl renew --limit`` counts."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from certctl.cli import run as certctl
from certctl.cli.framework import Invocation
from certctl.domain import Domain
from certctl.errors import ExitCode
from certctl.stories.issue import issue
from certctl.values import State
from tests.fakes.world import FakeWorld

DUE = ("a.example.com", "b.example.com", "c.example.com")
GONE = ("moved.example.com", "unwanted.example.com")


@pytest.fixture(autouse=True)
def many(fake: FakeWorld, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeWorld:
    """Three customers that are due, the first the soonest to expire, and two that are parked and expire before."""
    (tmp_path / "var/lib/certctl").mkdir(parents=True, exist_ok=True)
    for name in (*GONE, *DUE):
        issue(fake.journeys(fake.customer(name)), fake.world)
        fake.clock.pause(timedelta(hours=1))
        fake.days_pass(0)
    for name, state in zip(GONE, (State.MOVED, State.UNWANTED), strict=True):
        fake.store.set_state(Domain(name), state)
        fake.dns.cnames[name] = "elsewhere.example.net"
    fake.days_pass(80)
    monkeypatch.setattr("certctl.app.context.Context.world", fake.world)
    monkeypatch.setattr("certctl.app.context.Context.store", fake.store)
    return fake


def taken(capsys: pytest.CaptureFixture[str], root: Path, *words: str) -> list[str]:
    capsys.readouterr()
    assert certctl(["--root", str(root), "renew", *words, "--json"], Invocation()) == ExitCode.DONE
    return [result["domain"] for result in json.loads(capsys.readouterr().out)["results"]]


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_parked_names_take_no_place_of_those_that_are_due(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, dry: tuple[str, ...]
) -> None:
    assert sorted(taken(capsys, tmp_path, "--limit", "1", *dry)) == sorted([*GONE, DUE[0]])


def test_who_waits_behind_the_limit_has_its_turn_in_the_next_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    renewed = [set(taken(capsys, tmp_path, "--limit", "1")) - set(GONE) for _ in DUE]
    assert renewed == [{name} for name in DUE]


def test_a_limit_counts_each_of_the_names_that_a_person_gives(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert taken(capsys, tmp_path, "--limit", "2", *reversed(DUE)) == [DUE[2], DUE[1]]
