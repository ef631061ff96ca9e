"""The run's voice under systemd: one line a domain, a priority each, and nothing that could be forged."""

import os
import re
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certctl.app.batch import Batch, finish
from certctl.app.result import fails_timer_run
from certctl.cli.framework import Invocation
from certctl.cli.output.journal import JournalReport, Priority, is_journal, line
from certctl.cli.output.text import TextReport
from certctl.domain import Domain
from certctl.errors import NameRejected, Refused, Unreachable
from certctl.slugs import Slug
from certctl.stories.issue import issue
from certctl.stories.journey import Journey
from certctl.stories.renew import renew, waiting
from certctl.stories.result import JourneyResult
from tests.fakes.world import FakeWorld, live

_FIELD = re.compile(r' ([a-z_]+)=("(?:[^"\\]|\\.)*"|[A-Za-z0-9._:/@+*,-]+)')


def reporter(**asked: bool | int) -> JournalReport:
    invocation = Invocation(command="renew", quiet=bool(asked.get("quiet")), verbose=int(asked.get("verbose", 0)))
    return JournalReport(invocation, TextReport(invocation), shows_results=bool(asked.get("shows_results")))


def run(fake: FakeWorld, report: JournalReport) -> int:
    journeys = [Journey(row.domain, report) for row in waiting(fake.world)]
    renew(journeys, fake.world)
    return finish(Batch(journeys, []), report, lambda o: f"{o.domain}: renewed", fails_timer_run)


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [re.sub(r"(took|duration)=[0-9.]+s", r"\1=Ts", text) for text in capsys.readouterr().err.splitlines()]


def parsed(text: str) -> dict[str, str]:
    """Read a line back as a log collector would."""
    head = re.match(r"<[0-9]>[a-z]+", text)
    assert head
    fields = _FIELD.findall(text, head.end())
    assert "".join(f" {name}={value}" for name, value in fields) == text[head.end() :]
    assert len({name for name, _ in fields}) == len(fields)
    return dict(fields)


def test_a_run_says_one_line_a_domain_then_nginx_then_the_sum(
    fake: FakeWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    _, asked, moved, broken, down = live(
        fake, "a.example.com", "b.example.com", "moved.example.com", "broken.example.com", "down.example.com"
    )
    fake.days_pass(61)
    fake.ca.suggested[asked] = fake.clock.now()
    fake.dns.cnames[moved.name] = "elsewhere.example.net"
    fake.ca.broken.add(broken.name)
    fake.ca.failures[down.name] = Unreachable(Slug.CA_UNREACHABLE, "the CA said: over=capacity")
    assert run(fake, reporter()) == 5
    lines = said(capsys)
    assert sorted(lines[:-2]) == sorted(
        [
            "<6>renewed domain=a.example.com days_left=28 reason=share took=Ts expires=2027-04-23T11:59:00Z",
            "<6>renewed domain=b.example.com days_left=28 reason=ari took=Ts expires=2027-04-23T11:59:00Z",
            (
                "<5>parked domain=moved.example.com code=dns-cname-mismatch who=customer state=moved"
                f' since=2027-01-23T12:00:00Z days_left=28 message="{message(fake, moved)}"'
            ),
            (
                "<3>failed domain=broken.example.com code=ca-unauthorized who=operator attempt=1"
                " retry=2027-01-23T12:01:00Z days_left=28"
                ' message="the CA was shown something else by broken.example.com"'
            ),
            (
                "<4>failed domain=down.example.com code=ca-unreachable who=ca attempt=1"
                ' retry=2027-01-23T12:01:00Z days_left=28 message="the CA said: over=capacity"'
            ),
        ]
    )
    assert lines[-2:] == [
        "<6>nginx: 2 certificates changed, test passed, 1 reload",
        "<6>summary issued=0 renewed=2 returned=0 parked=1 resting=0 failed=2 duration=Ts",
    ]


def message(fake: FakeWorld, domain: Domain) -> str:
    return next(event.detail for event in fake.store.events(domain.name, 9) if not event.ok)


def test_a_quiet_day_is_one_line_and_under_q_none(fake: FakeWorld, capsys: pytest.CaptureFixture[str]) -> None:
    (moved,) = live(fake, "moved.example.com")
    fake.days_pass(61)
    fake.dns.cnames[moved.name] = "elsewhere.example.net"
    run(fake, reporter())
    capsys.readouterr()
    assert run(fake, reporter()) == 0
    assert said(capsys) == ["<6>summary issued=0 renewed=0 returned=0 parked=1 resting=0 failed=0 duration=Ts"]
    assert run(fake, reporter(quiet=True)) == 0
    assert said(capsys) == []
    assert run(fake, reporter(verbose=1)) == 0
    assert [text[:10] for text in said(capsys)] == ["<7>step do", "<7>parked ", "<6>summary"]


def test_issue_speaks_the_same_language(fake: FakeWorld, capsys: pytest.CaptureFixture[str]) -> None:
    report = reporter(shows_results=True)
    journey = Journey(fake.customer("a.example.com"), report)
    issue([journey], fake.world)
    refused = JourneyResult(domain="no such\nname", error=NameRejected(Slug.NAME_SPACE, "white space"))
    assert finish(Batch([journey], [refused]), report, lambda o: f"{o.domain}: live") == 2
    out = capsys.readouterr()
    assert out.out == "a.example.com: live\n"
    lines = [
        re.sub(r"=[0-9.]+s$", "=Ts", re.sub(r"took=[0-9.]+s", "took=Ts", each)) for each in out.err.splitlines()
    ]
    assert lines == [
        "<6>issued domain=a.example.com took=Ts expires=2027-02-21T11:59:00Z",
        '<3>failed domain="no such\\\\nname" code=name-space who=operator message="white space"',
        "<6>nginx: 1 certificate changed, test passed, 1 reload",
        "<6>summary issued=1 renewed=0 returned=0 parked=0 resting=0 failed=1 duration=Ts",
    ]


def test_a_returned_domain_is_said_once(fake: FakeWorld, capsys: pytest.CaptureFixture[str]) -> None:
    (moved,) = live(fake, "moved.example.com")
    fake.days_pass(1)
    fake.dns.cnames[moved.name] = "elsewhere.example.net"
    renew(fake.journeys(moved, insists=True), fake.world)
    fake.dns.cnames[moved.name] = fake.dns.target
    run(fake, reporter())
    assert said(capsys)[0] == "<5>returned domain=moved.example.com days_left=88"


@given(st.text(max_size=60), st.text(max_size=60))
def test_no_value_forges_a_field_a_line_or_a_priority(first: str, second: str) -> None:
    text = str(line(Priority.ACT, "failed", domain=first, message=second))
    assert len(text.splitlines()) == 1
    assert set(parsed(text)) == {"domain", "message"}


@pytest.mark.parametrize(
    "hostile",
    [
        "x who=nobody",
        'x" who="nobody',
        "x\n<6>renewed domain=y",
        "x\\",
        '\\" who=nobody',
        "",
        "\x1b[31m",
        "a\u2028b",
    ],
)
def test_text_of_an_attacker_stays_one_value(hostile: str) -> None:
    text = str(line(Priority.ACT, "failed", code="ca-refused", message=hostile))
    assert parsed(text).keys() == {"code", "message"}
    assert text.isprintable()


def test_the_end_of_a_whole_run_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    reporter().failure(Refused(Slug.CA_REFUSED, "no\nway", next=["certctl doctor"]))
    assert said(capsys) == [
        '<3>failed code=ca-refused who=operator message="no\\\\nway" next="certctl doctor"',
    ]


def test_only_the_stream_that_systemd_named_is_the_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, other = socket.socketpair()
    with ours, other:
        facts = os.fstat(ours.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{facts.st_dev}:{facts.st_ino}")
        assert is_journal(ours.fileno())
        assert not is_journal(other.fileno())
        assert not is_journal(99999)
        monkeypatch.setenv("JOURNAL_STREAM", "nonsense")
        assert not is_journal(ours.fileno())
        monkeypatch.delenv("JOURNAL_STREAM")
        assert not is_journal(ours.fileno())


def journalled(root: Path, *arguments: str) -> tuple[int, str, str]:
    """Run certctl as systemd does, with stderr on a socket that JOURNAL_STREAM names."""
    journal, theirs = socket.socketpair()
    with journal, theirs:
        facts = os.fstat(theirs.fileno())
        stream = {"JOURNAL_STREAM": f"{facts.st_dev}:{facts.st_ino}"}
        ended = subprocess.run(
            [sys.executable, "-m", "certctl", "--root", str(root), *arguments],
            env={**os.environ, **stream}, stdout=subprocess.PIPE, stderr=theirs.fileno(), timeout=240, check=False,
        )  # fmt: skip
        theirs.close()
        journal.settimeout(timedelta(seconds=10).total_seconds())
        heard = b"".join(iter(lambda: journal.recv(65536), b""))
    return ended.returncode, ended.stdout.decode(), heard.decode()


def test_under_systemd_the_program_itself_speaks_that_way(tmp_path: Path) -> None:
    code, out, err = journalled(tmp_path, "renew")
    assert (code, out) == (0, "")
    assert re.fullmatch(r"<6>summary issued=0 .* duration=[0-9.]+s\n", err)
    code, out, err = journalled(tmp_path, "status")
    assert (code, err) == (0, "")
    assert "No domains yet" in out
    code, out, err = journalled(tmp_path, "renew", "status.example.com", "--color", "always", "--config", "/absent")
    assert (code, out) == (10, "")
    assert re.fullmatch(r"<3>failed code=config-unreadable who=operator message=.*\n", err)
