"""Telling people: on real sockets and real programs, none of which can hold up or fail a run."""

import itertools
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from certctl.domain import Domain
from certctl.errors import NotReady, Refused
from certctl.notify import Alert, AlertKind, Message, Notifier, NotifySettings
from certctl.notify.notifier import ping_url
from certctl.slugs import Slug
from certctl.stories.result import JourneyResult
from certctl.values import DomainRow, State
from docs.schemas import MESSAGE, schemas
from tests.fakes.ca import FakeCa
from tests.fakes.dns import FakeDns
from tests.fakes.http_server import Script, ScriptedServer, reset_after, say, serving, status
from tests.fakes.operator import FakeOperator

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
NOBODY_LISTENS = "http://127.0.0.1:9/"
SOON = timedelta(seconds=2.5)
HANGING = 60  # what is waited for to the end takes this long


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with serving(status("200 OK")) as server:
        yield server


def failed(domain: str = "a.example.com") -> Alert:
    dns, operator, ca = FakeDns(), FakeOperator(now=NOON), FakeCa(clock=NOON)
    dns.cnames["a.example.com"] = dns.target
    operator.approves(Domain("a.example.com"))
    issued = ca.obtain(operator.approve(dns.verify(Domain("a.example.com"))))
    error = Refused(Slug.CA_CONNECTION, "port 80\n<3>forged", next=["certctl doctor"])
    row = DomainRow(Domain(domain), State.ACTIVE, NOON, issued.certificate, 4, error.slug, NOON + timedelta(days=1))
    return Alert(AlertKind.LATE, JourneyResult(domain=domain, at=NOON, after=row, error=error))


def message(*alerts: Alert, exit_code: int = 5) -> Message:
    return Message(host="web-1", command="renew", at=NOON, exit_code=exit_code, alerts=alerts)


def url(server: ScriptedServer, path: str = "/hook/s3cret") -> str:
    return f"http://127.0.0.1:{server.port}{path}"


def script(tmp_path: Path, body: str) -> tuple[str, ...]:
    program = tmp_path / "notify.py"
    program.write_text(f"import os, sys, time, json, signal\n{body}\n", encoding="utf-8")
    return (sys.executable, str(program))


def test_the_message_fits_its_schema_and_has_no_undescribed_key() -> None:
    schema = json.loads(json.dumps(schemas()[MESSAGE]))
    schema["additionalProperties"] = schema["properties"]["events"]["items"]["additionalProperties"] = False
    validator = Draft202012Validator(schema, format_checker=FormatChecker())
    for sent in (
        message(failed()),
        message(exit_code=0),
        message(Alert(AlertKind.RETURNED, JourneyResult(domain="b", at=NOON))),
    ):
        validator.validate(json.loads(sent.json()))


def test_a_message_says_everything_a_person_needs() -> None:
    document = json.loads(message(failed()).json())
    assert document["ok"] is False
    assert document["text"] == (
        "certctl renew on web-1\nlate a.example.com, 89 days left: port 80\\n<3>forged [ca-connection]"
    )
    (event,) = document["events"]
    assert event == {
        "event": "late", "domain": "a.example.com", "code": "ca-connection", "who": "operator",
        "message": "port 80\\n<3>forged", "next": ["certctl doctor", "certctl explain ca-connection"],
        "not_after": "2027-02-21T11:59:00Z", "days_left": 89, "attempts": 4, "retry_at": "2026-11-24T12:00:00Z",
    }  # fmt: skip


def test_a_thousand_failures_are_one_message_of_bounded_size() -> None:
    sent = message(*(failed(f"c{n}.example.com") for n in [1, 2, 3] * 50))
    document = json.loads(sent.json())
    assert (document["total"], len(document["events"])) == (150, 100)
    assert document["text"].splitlines()[-1] == "… 140 more"


def test_the_webhook_gets_the_message_by_post(server: ScriptedServer) -> None:
    assert Notifier(NotifySettings(webhook=url(server))).tell(message(failed()), ping=False) == []
    assert server.heads[0].startswith("POST /hook/s3cret HTTP/1.1\r\n")
    assert "\nContent-Type: application/json\r\n" in server.heads[0]
    assert json.loads(server.bodies[0]) == json.loads(message(failed()).json())


def test_the_command_gets_the_message_on_stdin_and_nothing_of_it_elsewhere(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    body = f"json.dump([sys.argv[1:], sys.stdin.read(), dict(os.environ)], open({str(out)!r}, 'w'))"
    notifier = Notifier(NotifySettings(command=(*script(tmp_path, body), "--to", "ops")))
    assert notifier.tell(message(failed()), ping=False) == []
    argv, stdin, environment = json.loads(out.read_text(encoding="utf-8"))
    assert (argv, json.loads(stdin)) == (["--to", "ops"], json.loads(message(failed()).json()))
    assert not any("example.com" in value for value in environment.values())
    assert "HOME" not in environment


def test_a_command_that_never_reads_its_stdin_is_no_trouble(tmp_path: Path) -> None:
    big = message(*(failed(f"{'x' * 60}.example.com") for _ in [None] * 100))
    assert len(big.json()) > 30_000
    assert Notifier(NotifySettings(command=script(tmp_path, ""))).tell(big, ping=False) == []


def test_every_whole_run_pings_and_only_news_are_told(server: ScriptedServer, tmp_path: Path) -> None:
    touched = tmp_path / "touched"
    command = script(tmp_path, f"open({str(touched)!r}, 'w')")
    notifier = Notifier(NotifySettings(command=command, webhook=url(server), ping=url(server, "/ping/uuid")))
    assert notifier.tell(message(exit_code=0), ping=True) == []
    assert notifier.tell(message(exit_code=5), ping=True) == []
    assert notifier.tell(message(exit_code=5), ping=False) == []
    assert server.paths == ["/ping/uuid", "/ping/uuid/fail"]
    assert server.heads[0].startswith("GET ")
    assert not touched.exists()


@pytest.mark.parametrize(
    ("given", "ok", "asked"),
    [
        ("https://hc.example.net/uuid", True, "https://hc.example.net/uuid"),
        ("https://hc.example.net/uuid", False, "https://hc.example.net/uuid/fail"),
        ("https://hc.example.net/uuid/", False, "https://hc.example.net/uuid/fail"),
        ("https://up.example.net/push?status=up", True, "https://up.example.net/push?status=up"),
        ("https://up.example.net/push?status=up", False, ""),
        ("", True, ""),
        ("", False, ""),
    ],
)
def test_a_failed_run_pings_elsewhere_or_not_at_all(
    given: str,
    ok: bool,  # noqa: FBT001
    asked: str,
) -> None:
    assert ping_url(given, ok=ok) == asked


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (status("500 Oops"), "answered 500"),
        (status("404 Not Found"), "answered 404"),
        (status("302 Found", "Location: http://127.0.0.1:9/elsewhere"), "answered 302"),
        (reset_after(b""), "Connection reset by peer"),
        (say(b"SSH-2.0-OpenSSH\r\n"), "not an answer in HTTP"),
    ],
    ids=["500", "404", "redirect", "reset", "not HTTP"],
)
def test_whatever_a_webhook_answers_is_one_phrase_without_its_url(
    server: ScriptedServer, answer: Script, fault: str
) -> None:
    server.script = answer
    (said,) = Notifier(NotifySettings(webhook=url(server))).tell(message(failed()), ping=False)
    assert said.startswith("[notify] webhook: ")
    assert fault in said
    assert "s3cret" not in said
    assert len(server.paths) == 1


def test_a_webhook_that_is_not_there_is_one_phrase() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (said,) = Notifier(NotifySettings(webhook=f"http://127.0.0.1:{port}/s3cret")).tell(
        message(failed()), ping=False
    )
    assert said == "[notify] webhook: Connection refused"


def test_no_proxy_of_the_environment_gets_to_see_it(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, NOBODY_LISTENS)
    assert Notifier(NotifySettings(webhook=url(server))).tell(message(failed()), ping=False) == []


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("sys.exit('mail: no\\x1b[31m relay')", "ended with 1: mail: no\\x1b[31m relay"),
        ("os.kill(os.getpid(), 9)", "ended with -9"),
        ("print('x' * 10_000_000); sys.exit(3)", "ended with 3: xxx"),
        (f"time.sleep({HANGING})", "did not end in time"),
        (f"signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep({HANGING})", "did not end in time"),
    ],
    ids=["fails", "killed", "floods", "hangs", "hangs and ignores TERM"],
)
def test_whatever_a_command_does_is_one_phrase_in_time(tmp_path: Path, body: str, fault: str) -> None:
    notifier = Notifier(NotifySettings(command=script(tmp_path, body), deadline=SOON))
    began = time.monotonic()
    (said,) = notifier.tell(message(failed()), ping=False)
    assert time.monotonic() - began < SOON.total_seconds() + HANGING / 2
    assert fault in said
    assert len(said) < 2500


def test_a_command_that_does_not_exist_is_one_phrase() -> None:
    (said,) = Notifier(NotifySettings(command=("no-such-notifier",))).tell(message(failed()), ping=False)
    assert said == "[notify] command: no-such-notifier cannot be run"


def test_everything_hanging_at_once_costs_one_deadline_and_leaves_nothing_behind(
    server: ScriptedServer, tmp_path: Path
) -> None:
    server.script = server.drip(itertools.repeat(b"x"), 0.05)
    pid = tmp_path / "pid"
    body = f"open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep({HANGING})"
    settings = NotifySettings(script(tmp_path, body), url(server), url(server), deadline=SOON)
    began = time.monotonic()
    said = Notifier(settings).tell(message(failed()), ping=True)
    assert time.monotonic() - began < SOON.total_seconds() + HANGING / 2
    assert [text.partition(": ")[0] for text in said] == ["[notify] command", "[notify] webhook", "[notify] ping"]
    assert not is_running(int(pid.read_text(encoding="utf-8")))


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_secrets_stay_out_of_a_repr() -> None:
    settings: Any = NotifySettings(webhook="https://x.example/s3cret", ping="https://x.example/s3cret")
    assert "s3cret" not in repr(settings)


def test_a_customers_text_cannot_break_the_document() -> None:
    hostile = '"}],"ok":true\u2028\x1b[2J\ud800'
    error = NotReady(Slug.DNS_NO_DATA, hostile)
    alert = Alert(AlertKind.PARKED, JourneyResult(domain="a", at=NOON, error=error))
    (event,) = json.loads(message(alert).json())["events"]
    assert event["message"].isprintable()
