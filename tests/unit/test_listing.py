"""``certctl status``: why names fail, in JSON too; how many fail alike; and a list that is read piece by piece."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from certctl.cli import run as certctl
from certctl.cli.framework import Invocation
from certctl.domain import Domain
from certctl.errors import ExitCode
from certctl.slugs import Slug
from certctl.stories.issue import issue
from certctl.values import State
from tests.fakes.world import FakeWorld


@pytest.fixture(autouse=True)
def many(fake: FakeWorld, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeWorld:
    """Five customers: two fail for one reason, one for another, one has moved, and one is well."""
    (tmp_path / "var/lib/certctl").mkdir(parents=True, exist_ok=True)
    for name in ("a.example.com", "b.example.com", "c.example.com", "d.example.com", "e.example.com"):
        issue(fake.journeys(fake.customer(name)), fake.world)
    for name, slug in (("c", Slug.CA_CONNECTION), ("a", Slug.CA_CONNECTION), ("b", Slug.CA_RATE_LIMITED)):
        fake.days_pass(1)
        fake.store.failed(Domain(f"{name}.example.com"), slug, fake.clock.now() + timedelta(hours=1))
    fake.store.set_state(Domain("d.example.com"), State.MOVED)
    fake.store.failed(Domain("d.example.com"), Slug.DNS_CNAME_MISMATCH, None)
    monkeypatch.setattr("certctl.app.context.Context.world", fake.world)
    monkeypatch.setattr("certctl.app.context.Context.store", fake.store)
    monkeypatch.setattr("certctl.app.context.Context.clock", fake.clock)
    return fake


def said(capsys: pytest.CaptureFixture[str], root: Path, *words: str) -> str:
    capsys.readouterr()
    assert certctl(["--root", str(root), "status", *words], Invocation()) == ExitCode.DONE
    return capsys.readouterr().out


def document(capsys: pytest.CaptureFixture[str], root: Path, *words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(said(capsys, root, *words, "--json"))
    return found


def names(capsys: pytest.CaptureFixture[str], root: Path, *words: str) -> list[str]:
    return [result["domain"].partition(".")[0] for result in document(capsys, root, *words)["results"]]


def test_json_says_why_a_name_fails_how_often_and_what_is_next(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shown = document(capsys, tmp_path)
    result = {each["domain"]: each for each in shown["results"]}
    failing, well = result["a.example.com"], result["e.example.com"]
    error = failing["error"]
    assert (error["code"], error["who"], failing["attempts"]) == ("ca-connection", "operator", 1)
    assert result["b.example.com"]["error"]["retry_after"] == 3600
    assert error["next"][:2] == ["certctl log a.example.com", "certctl issue a.example.com"]
    assert (failing["ok"], well["ok"], well["error"], well["attempts"]) == (False, True, None, 0)
    assert (shown["ok"], shown["summary"]["failed"]) == (True, 4)


def test_json_of_one_name_says_the_same(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (result,) = document(capsys, tmp_path, "d.example.com")["results"]
    assert (result["state"], result["error"]["code"], result["since"][-1]) == ("moved", "dns-cname-mismatch", "Z")


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ((), "abcde"),
        (("--failing",), "abc"),
        (("--state", "moved"), "d"),
        (("--state", "ok"), "e"),
        (("--code", "ca-connection"), "ac"),
        (("--limit", "2"), "ab"),
        (("--after", "b.example.com"), "cde"),
        (("--after", "B.Example.COM"), "cde"),
        (("--after", "b.example.com", "--limit", "1"), "c"),
        (("--code", "ca-connection", "--after", "a.example.com"), "c"),
    ],
)
def test_a_list_is_narrowed_and_read_piece_by_piece(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: tuple[str, ...], found: str
) -> None:
    assert names(capsys, tmp_path, *words) == list(found)


@pytest.mark.parametrize(
    ("by", "found"),
    [
        (
            "code",
            [("ca-connection", 2, "operator"), ("ca-rate-limited", 1, "ca"), ("dns-cname-mismatch", 1, "customer")],
        ),
        ("who", [("operator", 2, "operator"), ("ca", 1, "ca"), ("customer", 1, "customer")]),
        ("state", [("failing", 3, None), ("moved", 1, "customer")]),
    ],
)
def test_what_fails_alike_is_counted_most_first_with_whose_turn_it_is(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, by: str, found: list[tuple[str, int, str | None]]
) -> None:
    shown = document(capsys, tmp_path, "--by", by)
    assert [(group["key"], group["count"], group["who"]) for group in shown["groups"]] == found
    assert (shown["by"], shown["results"]) == (by, [])


def test_a_limit_leaves_groups_out_and_counts_each_in_full(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (group,) = document(capsys, tmp_path, "--by", "code", "--limit", "1")["groups"]
    assert (group["key"], group["count"]) == ("ca-connection", 2)


def test_a_group_names_who_is_so_for_the_longest_time(
    many: FakeWorld, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    many.store.set_state(Domain("a.example.com"), State.PENDING)  # since now
    group = document(capsys, tmp_path, "--by", "code")["groups"][0]
    assert (group["key"], group["example"]) == ("ca-connection", "c.example.com")
    table = said(capsys, tmp_path, "--by", "code").splitlines()
    assert (table[0].split()[:2], table[1].split()[0]) == (["CODE", "NAMES"], "ca-connection")
    assert "moved" not in said(capsys, tmp_path, "--by", "state", "--failing")


@pytest.mark.parametrize(("days", "words"), [(89.5, "in 0 d"), (90.5, "0 d ago"), (92.5, "2 d ago")])
def test_a_certificate_that_has_expired_is_no_negative_number_of_days_away(
    many: FakeWorld, capsys: pytest.CaptureFixture[str], tmp_path: Path, days: float, words: str
) -> None:
    many.days_pass(days - 3)  # three have passed
    assert words in said(capsys, tmp_path, "--all")


@pytest.mark.parametrize(
    ("code", "hint"), [("ca-conection", "Did you mean ca-connection"), ("xyz", "'certctl explain' lists them all.")]
)
def test_an_error_that_there_is_not_is_refused_with_the_one_that_was_meant(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, code: str, hint: str
) -> None:
    assert certctl(["--root", str(tmp_path), "status", "--code", code], Invocation()) == ExitCode.USAGE
    assert hint in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ((), "… 1 more not shown (--all)"),
        (("--all",), ""),
        (("--state", "moved"), ""),
        (("--all", "--limit", "5"), ""),
        (("--all", "--limit", "2"), "… 3 more: --after b.example.com"),
    ],
)
def test_the_line_below_the_table_leads_to_what_is_not_listed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: tuple[str, ...], line: str
) -> None:
    shown = said(capsys, tmp_path, *words)
    assert [each for each in shown.splitlines() if each.startswith("…")] == ([line] if line else [])


def test_what_is_merely_due_is_no_failure_that_is_counted(
    many: FakeWorld, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    many.days_pass(60)  # all are due now
    assert sum(group["count"] for group in document(capsys, tmp_path, "--by", "state")["groups"]) == 4
