"""What of a run is worth telling, and that telling it cannot hurt the run."""

import json
from datetime import timedelta
from pathlib import Path

import pytest

from certctl.app.alerts import alerts_of
from certctl.cli import run as certctl
from certctl.cli.framework import Invocation
from certctl.domain import Domain
from certctl.io.clock import SystemClock
from certctl.slugs import Slug
from certctl.stories.renew import renew, waiting
from certctl.stories.wildcard import wildcard
from certctl.values import DnsSolver, Event, Suggestion
from tests.fakes.http_server import serving, status
from tests.fakes.world import FakeWorld, live_one

CONFIG = '[notify]\nping = "http://127.0.0.1:{port}/ping"\nwebhook = "http://127.0.0.1:{port}/hook"\n'


def told(fake: FakeWorld) -> list[str]:
    """Do what the timer does; return what would be told."""
    journeys = fake.journeys(*(row.domain for row in waiting(fake.world)))
    renew(journeys, fake.world)
    results = [journey.result for journey in journeys]
    return [f"{h.what} {h.result.domain}" for h in alerts_of(results, fake.world.fallback_fraction)]


def test_a_renewal_that_works_is_not_worth_a_word(fake: FakeWorld) -> None:
    live_one(fake)
    fake.days_pass(61)
    assert told(fake) == []


def test_parked_and_returned_are_told_once_each(fake: FakeWorld) -> None:
    domain = live_one(fake)
    fake.days_pass(61)
    fake.dns.cnames[domain.name] = "elsewhere.example.net"
    assert told(fake) == ["parked a.example.com"]
    assert told(fake) == []
    fake.dns.cnames[domain.name] = fake.dns.target
    assert told(fake) == ["returned a.example.com"]
    assert told(fake) == []


def test_what_the_operator_can_mend_is_told_at_each_attempt_and_when_it_is_over(fake: FakeWorld) -> None:
    domain = live_one(fake)
    fake.days_pass(61)
    fake.ca.broken.add(domain.name)
    assert told(fake) == ["failed a.example.com"]
    assert told(fake) == []  # it rests
    fake.days_pass(15)
    assert told(fake) == ["late a.example.com"]
    fake.ca.broken.clear()
    fake.days_pass(1)
    assert told(fake) == ["recovered a.example.com"]


def test_trouble_of_the_ca_is_told_only_when_a_certificate_gets_late_over_it(fake: FakeWorld) -> None:
    live_one(fake)
    fake.days_pass(61)
    fake.ca.outage = True
    assert told(fake) == []
    fake.days_pass(15)
    assert told(fake) == ["late a.example.com"]
    fake.ca.outage = False
    fake.days_pass(1)
    assert told(fake) == ["recovered a.example.com"]


def test_trouble_of_the_ca_that_passed_in_time_is_never_told(fake: FakeWorld) -> None:
    live_one(fake)
    fake.days_pass(61)
    fake.ca.outage = True
    assert told(fake) == []
    fake.ca.outage = False
    fake.days_pass(1)
    assert told(fake) == []


def test_a_server_block_nginx_takes_again_is_told(fake: FakeWorld) -> None:
    domain = live_one(fake)
    fake.days_pass(61)
    fake.web.refused.add(domain)
    assert told(fake) == ["failed a.example.com"]
    assert told(fake) == ["failed a.example.com"]
    fake.web.refused.clear()
    assert told(fake) == ["recovered a.example.com"]


def configured(root: Path, port: int) -> None:
    file = root / "etc/certctl/config.toml"
    file.parent.mkdir(parents=True)
    file.write_text(CONFIG.format(port=port), encoding="utf-8")


def test_a_run_over_everything_pings_and_one_over_a_name_does_not(tmp_path: Path) -> None:
    with serving(status("200 OK")) as server:
        configured(tmp_path, server.port)
        assert certctl(["--root", str(tmp_path), "-q", "renew"], Invocation()) == 0
        assert certctl(["--root", str(tmp_path), "-q", "renew", "no such name"], Invocation()) == 2
        assert certctl(["--root", str(tmp_path), "-q", "renew", "--dry-run"], Invocation()) == 0
    assert server.paths == ["/ping"]


def test_a_notifier_that_fails_is_one_warning_and_not_an_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(status("503 Busy")) as server:
        configured(tmp_path, server.port)
        assert certctl(["--root", str(tmp_path), "-q", "renew"], Invocation()) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "warning: [notify] ping: answered 503\n")


def test_secrets_of_the_configuration_are_not_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    configured(tmp_path, 1)
    for arguments in (["config", "show"], ["--json", "config", "show"]):
        assert certctl(["--root", str(tmp_path), *arguments], Invocation()) == 0
    assert "127.0.0.1:1/" not in capsys.readouterr().out


def test_a_fault_in_a_secret_does_not_repeat_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[notify]\nwebhook = "http://hooks.example.com/s3cret"\ncommand = ["a\\u0000b"]\n', "utf-8")
    assert certctl(["--config", str(file), "status"], Invocation()) == 10
    said = capsys.readouterr().err
    assert "notify.webhook: must be an https:// URL" in said
    assert "notify.command" in said
    assert "s3cret" not in said


def wildcard_by_hand(root: Path, days_left: float) -> None:
    """Put a wildcard into the store that a person made, some time ago."""
    fake = FakeWorld(root / "var/lib/certctl")
    domain, now = Domain("*.hyperping.io"), SystemClock().now()
    fake.clock.moment = now
    fake.days_pass(days_left - 90)
    journey = fake.journey(domain)
    wildcard(journey, DnsSolver("manual"), fake.world)
    assert journey.certificate
    fake.store.suggest([(journey.certificate, Suggestion(None, now + timedelta(days=1)))])
    fake.store.close()


@pytest.mark.parametrize(
    ("days_left", "event", "code"), [(40, None, 0), (29, "person-needed", 0), (14, "late", 10)]
)
def test_a_wildcard_that_waits_for_a_person_is_told_ahead_of_time_and_not_at_every_run(
    tmp_path: Path, days_left: float, event: str | None, code: int
) -> None:
    (tmp_path / "var/lib/certctl").mkdir(parents=True)
    wildcard_by_hand(tmp_path, days_left)
    with serving(status("200 OK")) as server:
        configured(tmp_path, server.port)
        for _ in range(2):
            assert certctl(["--root", str(tmp_path), "-q", "renew"], Invocation()) == code
    told = [json.loads(body) for body in server.bodies if body]
    assert [(one["event"], one["domain"]) for each in told for one in each["events"]] == (
        [(event, "*.hyperping.io")] if event else []
    )
    for one in (one for each in told for one in each["events"]):
        assert "certctl wildcard hyperping.io" in one["next"]
        assert days_left - 1 <= one["days_left"] <= days_left


def test_a_reminder_by_a_clock_that_was_ahead_does_not_silence_those_to_come(tmp_path: Path) -> None:
    (tmp_path / "var/lib/certctl").mkdir(parents=True)
    wildcard_by_hand(tmp_path, 29)
    fake = FakeWorld(tmp_path / "var/lib/certctl")
    ahead = SystemClock().now() + timedelta(days=365)
    fake.store.record(Event(ahead, "*.hyperping.io", "remind", ok=True, slug=None, detail=""))
    fake.store.close()
    with serving(status("200 OK")) as server:
        configured(tmp_path, server.port)
        assert certctl(["--root", str(tmp_path), "-q", "renew"], Invocation()) == 0
    told = [event["event"] for body in server.bodies if body for event in json.loads(body)["events"]]
    assert told == ["person-needed"]


@pytest.mark.parametrize(("days_left", "code"), [(29, 0), (14, 6)])
def test_a_late_domain_that_rests_keeps_the_run_failing_and_any_other_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], days_left: float, code: int
) -> None:
    (tmp_path / "var/lib/certctl").mkdir(parents=True)
    fake, now = FakeWorld(tmp_path / "var/lib/certctl"), SystemClock().now()
    fake.clock.moment = now
    fake.days_pass(days_left - 90)
    domain = live_one(fake)
    row = fake.store.domain(domain)
    assert row
    assert row.certificate
    fake.store.suggest([(row.certificate, Suggestion(None, now + timedelta(days=1)))])
    fake.store.failed(domain, Slug.CA_CONNECTION, now + timedelta(hours=9))
    fake.store.close()
    assert certctl(["--root", str(tmp_path), "renew"], Invocation()) == code
    said = capsys.readouterr().err
    assert "1 resting after a failure at the CA" in said
    assert ("error[backing-off]" in said) == bool(code)
