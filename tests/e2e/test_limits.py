"""A CA that says wait, nonsense or nothing, and our own ledger: by the command line, across processes."""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from tests.e2e.real_sandbox import Ran, Sandbox, certctl, own_host
from tests.faults.fake_acme import Answer, FakeAcme, Faults, fake_acme, page, problem

pytestmark = pytest.mark.e2e

EVIL = "\x1b[2J\x1b]0;owned\x07 \u202egnihton [red]x[/] [/]\r\nCongratulations! https://x\x1b[8m" + "A" * 5000
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class Elsewhere:
    """The sandbox with another CA: one that misbehaves and counts what it is asked."""

    sandbox: Sandbox
    ca: FakeAcme

    def certctl(self, *arguments: str, **settings: str) -> Ran:
        """Run certctl there; ``settings`` are keys of ``[ca]``."""
        chosen = {"directory": f"{self.ca.base}/dir", "ca_file": str(self.ca.ca_file), "profile": ""} | settings
        env = {f"CERTCTL_CA__{key.upper()}": value for key, value in chosen.items()}
        return certctl(*arguments, env=env | {"CERTCTL_CONFIG": self.sandbox.addresses["config"]})

    @property
    def orders(self) -> int:
        return self.ca.asked["order"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeAcme]:
    with fake_acme(tmp_path_factory.mktemp("fake-acme")) as server:
        yield server


@pytest.fixture(scope="module")
def sandbox(real_parts: None) -> Iterator[Sandbox]:  # noqa: ARG001
    """Bring up a sandbox of our own: this CA's word about renewals holds for every certificate in it."""
    with own_host() as sandbox:
        yield sandbox


@pytest.fixture
def there(sandbox: Sandbox, server: FakeAcme) -> Elsewhere:
    server.faults = Faults()
    server.asked.clear()
    return Elsewhere(sandbox, server)


def in_an_hour() -> Answer:
    return problem(
        "rateLimited",
        "too many",
        429,
        Retry_After=format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True),
    )


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_ca_that_says_wait_is_obeyed_by_the_next_process_until_the_operator_insists(
    there: Elsewhere, form: str
) -> None:
    name = there.sandbox.customer(f"limited-{form}.example.com")
    said = problem("rateLimited", "too many", 429, Retry_After="3600") if form == "seconds" else in_an_hour()
    there.ca.faults.answers["order"] = said
    first = there.certctl("issue", name, "--json")
    assert (first.code, first.error["code"]) == (6, "ca-rate-limited"), first.err
    assert 3500 < first.error["retry_after"] <= 3600
    asked = there.orders
    for command in ("issue", "obtain"):
        again = there.certctl(command, name, "--json")
        assert (again.code, again.error["code"]) == (6, "backing-off")
        assert 3400 < again.error["retry_after"] <= first.error["retry_after"]
    assert there.orders == asked, "the CA was asked although it said wait"
    there.ca.faults.answers.clear()
    assert there.certctl("issue", name, "--force", "--json").json["results"][0]["changed"]


def test_without_a_word_from_the_ca_the_ladder_says_when(there: Elsewhere) -> None:
    name = there.sandbox.customer("ladder.example.com")
    there.ca.faults.answers["order"] = problem("rateLimited", "too many", 429)
    rests = []
    for _ in range(3):
        there.certctl("issue", name, "--force")
        rests.append(there.certctl("issue", name, "--json").error["retry_after"])
    for rest, step in zip(rests, (60, 600, 6000), strict=True):
        assert step - 30 < rest <= step


@pytest.mark.parametrize(
    ("answer", "code", "slug", "wait"),
    [
        (page(503, Retry_After="120"), 9, "ca-unreachable", 120),
        (page(200), 9, "ca-unreachable", None),
        (problem("serverInternal", "oops", 500), 9, "ca-unreachable", None),
    ],
    ids=["a busy CA", "a captive portal", "a broken CA"],
)
def test_a_ca_that_cannot_answer_is_unreachable_and_is_given_a_rest(
    there: Elsewhere, answer: Answer, code: int, slug: str, wait: int | None
) -> None:
    name = there.sandbox.customer(f"http{answer.status}.example.com")
    there.ca.faults.answers["order"] = answer
    ran = there.certctl("issue", name, "--json")
    assert (ran.code, ran.error["code"], ran.error["retry_after"]) == (code, slug, wait), ran.err
    assert not ran.error["quota_used"]
    asked = there.orders
    again = there.certctl("issue", name, "--json")
    assert (again.code, again.error["code"], there.orders) == (6, "backing-off", asked)


def test_a_ca_that_hangs_costs_one_deadline(there: Elsewhere) -> None:
    name = there.sandbox.customer("hanging.example.com")
    there.ca.faults.hang.add("order")
    began = time.monotonic()
    ran = there.certctl("issue", name, "--json", timeout_seconds="10")
    assert (ran.code, ran.error["code"]) == (9, "ca-timeout"), ran.err
    assert time.monotonic() - began < 55, "the CA itself gives up after a minute"


def test_the_cas_text_never_reaches_a_terminal_as_it_is(there: Elsewhere) -> None:
    name = there.sandbox.customer("hostile.example.com")
    there.ca.faults.answers["order"] = problem("rejectedIdentifier", EVIL, 400)
    said = [
        there.certctl("issue", name, "--color", "never"),
        there.certctl("issue", name, "--force", "-vv", "--color", "never"),
        there.certctl("issue", name, "--force", "--json"),
        there.certctl("log", name, "--color", "never"),
        there.certctl("log", name, "--json"),
        there.certctl("status", "--failing", "--color", "never"),
        there.certctl("status", name, "--color", "never"),
    ]
    assert "gnihton" in said[0].err + said[0].out, "the CA's words are shown"
    for ran in said:
        assert not CONTROL.search(ran.out + ran.err)
        assert "Congratulations!" not in {line[:16] for line in (ran.out + ran.err).splitlines()}


def test_what_the_ca_would_refuse_is_not_asked_and_the_gauge_says_why(there: Elsewhere) -> None:
    name = there.sandbox.customer("unlucky-five.example.com")
    there.ca.faults.validation = "unauthorized"
    for _ in range(5):
        ran = there.certctl("issue", name, "--force", "--json", limits="letsencrypt")
        assert (ran.code, ran.error["code"], ran.error["quota_used"]) == (5, "ca-unauthorized", True), ran.err
    asked = there.ca.asked.total()
    sixth = there.certctl("issue", name, "--force", "--json", limits="letsencrypt")
    assert (sixth.code, sixth.error["code"], sixth.error["quota_used"]) == (6, "budget-exhausted", False), sixth.err
    assert 0 < sixth.error["retry_after"] <= 12 * 60
    assert there.ca.asked.total() == asked, "the CA was asked"
    shown = there.certctl("budget", name, "--json", limits="letsencrypt").json["data"]
    (gauge,) = [gauge for gauge in shown if gauge["bucket"] == "failed-authorizations"]
    assert (gauge["key"], gauge["capacity"], int(gauge["left"])) == (name, 5, 0)
    assert 0 < gauge["retry_after"] <= 12 * 60
    text = there.certctl("budget", limits="letsencrypt").out
    assert any(name in line and "0 of 5" in line for line in text.splitlines())
    there.ca.faults.validation = ""
    assert there.certctl("issue", name, "--force", "--json", limits="none").json["results"][0]["changed"]


def test_a_renewal_the_ca_puts_off_wakes_nobody_and_the_site_stays(there: Elsewhere) -> None:
    name = there.sandbox.customer("put-off.example.com")
    there.sandbox.must("issue", name)
    before = there.sandbox.served_leaf(name)
    yesterday, now = (datetime.now(UTC) - timedelta(days=1)).isoformat(), datetime.now(UTC).isoformat()
    there.ca.faults.answers["ari"] = Answer(200, {"suggestedWindow": {"start": yesterday, "end": now}})
    there.ca.faults.answers["order"] = problem("rateLimited", "too many", 429, Retry_After="3600")
    ran = there.certctl("renew", "--json")
    (result,) = [result for result in ran.json["results"] if result["domain"] == name]
    assert (ran.code, result["error"]["code"]) == (0, "ca-rate-limited"), ran.err
    asked = there.orders
    again = there.certctl("renew", "--json")
    assert (again.code, there.orders) == (0, asked)
    assert there.sandbox.served_leaf(name) == before
    there.sandbox.must("remove", name)
