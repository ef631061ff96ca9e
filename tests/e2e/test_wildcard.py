"""The wildcard by hand, in a sandbox of its own: the test is the person who reads the records and adds them."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pytest

from certctl.sandbox.zone_file import NAMESERVERS, RESOLVER
from tests.e2e.real_sandbox import Ran, Sandbox, own_host

pytestmark = pytest.mark.e2e

ZONE, STAR = "hyperping.io", "*.hyperping.io"
CHALLENGE = f"_acme-challenge.{ZONE}"
NS1, NS2 = NAMESERVERS
_PATIENCE = 240


@pytest.fixture(scope="module")
def sandbox(real_parts: None) -> Iterator[Sandbox]:  # noqa: ARG001
    with own_host() as sandbox:
        yield sandbox


@pytest.fixture(autouse=True)
def clean(sandbox: Sandbox) -> Iterator[None]:
    """Leave each test a zone without old records."""
    yield
    for name in (CHALLENGE, STAR, "challenges.example.net"):
        sandbox.must("sandbox", "dns", "remove", name)


@dataclass
class Typed:
    """A certctl that somebody typed and that still runs; what it says is read as it is said."""

    sandbox: Sandbox
    arguments: tuple[str, ...]
    directory: Path
    env: Mapping[str, str] = field(default_factory=dict)

    def __enter__(self) -> Self:
        self.out, self.err = self.directory / "out", self.directory / "err"
        env = {
            "CERTCTL_CONFIG": str(self.sandbox.addresses["config"]),
            "PATH": "/usr/sbin:/usr/bin:/bin",
            **self.env,
        }
        with self.out.open("wb") as out, self.err.open("wb") as err:
            command = [sys.executable, "-m", "certctl", *self.arguments]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=env)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    @property
    def said(self) -> str:
        return self.err.read_text()

    def wait_for(self, pattern: str) -> str:
        give_up = time.monotonic() + _PATIENCE
        while not re.search(pattern, self.said):
            assert time.monotonic() < give_up, f"never said {pattern}: {self.said}"
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.said}"
            time.sleep(0.05)
        return self.said

    def records(self) -> list[str]:
        """Read the values as they are shown."""
        return re.findall(r"^ +(?:value +)?[12]\)  (\S{43})", self.wait_for("Watching "), re.MULTILINE)

    def end(self) -> Ran:
        code = self.process.wait(_PATIENCE)
        return Ran(code, self.out.read_text(), self.said)


def add(sandbox: Sandbox, values: list[str], *, name: str = CHALLENGE, only: str = "") -> None:
    for value in values:
        sandbox.must("sandbox", "dns", "add", name, "TXT", f'"{value}"', *(["--only", only] if only else []))


def looks(sandbox: Sandbox) -> int:
    """Count how often the CA was told to look."""
    log = (sandbox.layout.logs / "pebble.log").read_text(errors="replace")
    return log.count("Pulled a task from the Tasks queue") + log.count("Attempting to validate")


def failures(sandbox: Sandbox) -> int:
    return (sandbox.layout.logs / "pebble.log").read_text(errors="replace").count("set INVALID")


def test_the_ca_looks_only_when_every_nameserver_shows_both_values(sandbox: Sandbox, tmp_path: Path) -> None:
    looked = looks(sandbox)
    with Typed(sandbox, ("wildcard", "--force", "--json"), tmp_path) as typed:
        values = typed.records()
        assert len(set(values)) == 2
        assert f"name    {CHALLENGE} " in typed.said
        assert 'only "_acme-challenge"' in typed.said
        assert re.search(r"keeps the order open until \d{4}-\d\d-\d\d \d\d:\d\d UTC", typed.said)
        add(sandbox, values[:1], only=NS1)
        add(sandbox, values, only=NS2)
        time.sleep(4)  # what must not happen needs time to not happen
        assert typed.process.poll() is None
        assert looks(sandbox) == looked, "one nameserver still lacks a value"
        add(sandbox, values, only=RESOLVER)  # whom the CA asks
        add(sandbox, values[1:], only=NS1)
        ran = typed.end()
    assert ran.code == 0, ran.err
    (result,) = ran.json["results"]
    assert result["certificate"]["names"] == [STAR, ZONE]
    obtained = next(step for step in result["steps"] if step["name"] == "obtain")
    assert all(value in obtained["detail"] for value in values)
    assert failures(sandbox) == 0


@pytest.fixture
def live(sandbox: Sandbox, tmp_path: Path) -> Sandbox:
    """Have a wildcard that is live, made by hand unless an earlier test has done so."""
    if STAR not in sandbox.must("status", "--all").out:
        (home := tmp_path / "live").mkdir()
        with Typed(sandbox, ("wildcard",), home) as typed:
            add(sandbox, typed.records())
            assert typed.end().code == 0, typed.said
    return sandbox


def test_every_name_of_the_zone_is_served_by_the_wildcard(live: Sandbox) -> None:
    for name in ("quickmetrics.hyperping.io", ZONE):
        assert name_in(live, name) == [STAR, ZONE]


def name_in(sandbox: Sandbox, name: str) -> list[str]:
    """Return the names in the certificate that is served, its chain verified, for one name."""
    from cryptography.x509 import DNSName, SubjectAlternativeName

    leaf = sandbox.served_leaf(name)
    return sorted(
        leaf.extensions.get_extension_for_class(SubjectAlternativeName).value.get_values_for_type(DNSName)
    )


def test_a_second_run_is_done_before_it_begins(live: Sandbox) -> None:
    orders = live.orders()
    assert live.must("wildcard", "--json").json["results"][0]["changed"] is False
    assert live.orders() == orders


def test_http_is_redirected_for_every_name_of_the_zone(live: Sandbox) -> None:
    for name in ("quickmetrics.hyperping.io", ZONE):
        answer = curl(live, "http", name)
        assert answer.startswith("HTTP/1.1 301"), answer
        assert re.search(rf"(?i)^location: https://{name}(:\d+)?/metrics\?x=1\r?$", answer, re.MULTILINE)
        assert "200" in curl(live, "https", name, path="/").splitlines()[0]


def curl(sandbox: Sandbox, scheme: str, name: str, path: str = "/metrics?x=1") -> str:
    host, _, port = str(sandbox.addresses[scheme]).rpartition(":")
    url = f"{scheme}://{name}:{port}{path}"
    trust = str(sandbox.addresses["issuer_root_file"])
    argv = ["curl", "-sSi", "--cacert", trust, "--resolve", f"{name}:{port}:{host}", url]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_name_with_its_own_certificate_keeps_it(live: Sandbox) -> None:
    customer = live.customer("status.example.com")
    live.must("issue", customer)
    assert name_in(live, customer) == [customer]
    assert name_in(live, "any.hyperping.io") == [STAR, ZONE]


def test_ctrl_c_costs_no_failed_validation_and_a_rerun_ends_well(live: Sandbox, tmp_path: Path) -> None:
    looked, orders, before = looks(live), live.orders(), live.served_leaf(ZONE)
    (first := tmp_path / "first").mkdir()
    with Typed(live, ("wildcard", "--force", "--json"), first) as typed:
        old = typed.records()
        add(live, old[:1])
        typed.wait_for("name ")
        typed.process.send_signal(signal.SIGINT)
        ran = typed.end()
    assert (ran.code, ran.error["code"], ran.error["quota_used"]) == (130, "interrupted", True), ran.err
    assert "no validation failed" in ran.error["message"]
    assert ran.error["next"][0] == f"certctl wildcard {ZONE}"
    assert (looks(live), failures(live), live.orders()) == (looked, 0, orders + 1)
    assert live.served_leaf(ZONE) == before

    (second := tmp_path / "second").mkdir()
    with Typed(live, ("wildcard", "--force"), second) as typed:
        values = typed.records()
        assert f"{old[0]} stands there from an earlier run: harmless" in typed.said
        add(live, values)
        ran = typed.end()
    assert ran.code == 0, ran.err
    assert "You can delete the TXT records now" in ran.out
    assert live.served_leaf(ZONE) != before
    assert failures(live) == 0


def test_a_nameserver_that_never_agrees_is_named(sandbox: Sandbox, tmp_path: Path) -> None:
    looked = looks(sandbox)
    with Typed(sandbox, ("wildcard", "--force", "--json", "--wait", "6s"), tmp_path) as typed:
        values = typed.records()
        add(sandbox, values, only=NS1)
        ran = typed.end()
    assert (ran.code, ran.error["code"]) == (5, "ca-challenge-aborted"), ran.err
    assert "missing: ns2.hyperping.io." in ran.error["message"]
    assert {"ns1.hyperping.io: shows 2 of 2", "ns2.hyperping.io: shows 0 of 2"} <= set(ran.error["seen"])
    assert [line.split()[-1].strip('"') for line in ran.error["expected"]] == values
    assert (looks(sandbox), failures(sandbox)) == (looked, 0)


def test_a_challenge_delegated_by_cname_is_watched_where_it_leads(sandbox: Sandbox, tmp_path: Path) -> None:
    elsewhere = "challenges.example.net"
    sandbox.must("sandbox", "dns", "add", CHALLENGE, "CNAME", f"{elsewhere}.")
    with Typed(sandbox, ("wildcard", "--force"), tmp_path) as typed:
        values = typed.records()
        assert f"name    {elsewhere} " in typed.said
        assert f"{CHALLENGE} is a CNAME" in typed.said
        typed.wait_for("ns1.example.net: shows 0 of 2")
        add(sandbox, values, name=elsewhere)
        ran = typed.end()
    assert ran.code == 0, ran.err


def test_a_wildcard_cname_is_named_and_not_followed(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.must("sandbox", "dns", "add", STAR, "CNAME", "pages.example.net.")
    with Typed(sandbox, ("wildcard", "--force"), tmp_path) as typed:
        values = typed.records()
        assert f"name    {CHALLENGE} " in typed.said
        assert f"{STAR} is a CNAME to pages.example.net" in typed.said
        add(sandbox, values)
        ran = typed.end()
    assert ran.code == 0, ran.err


def test_renew_leaves_a_wildcard_by_hand_to_the_person(live: Sandbox) -> None:
    orders = live.orders()
    line = next(text for text in live.must("status", "--all").out.splitlines() if text.startswith(STAR))
    assert "manual" in line
    assert f"certctl wildcard {ZONE}" in line
    ran = live.certctl("renew", STAR, "--force", "--json")
    assert (ran.code, ran.error["code"]) == (10, "wildcard-manual")
    assert live.orders() == orders


def test_doctor_says_who_renews_it_and_where_the_ca_looks(live: Sandbox) -> None:
    live.must("sandbox", "dns", "add", CHALLENGE, "CNAME", "challenges.example.net.")
    said = [
        finding["text"] for finding in live.must("doctor", "--json").json["data"] if finding["area"] == "wildcard"
    ]
    assert f"{CHALLENGE} is a CNAME: the CA looks at challenges.example.net, in the zone example.net" in said
    assert f"{STAR} is renewed by hand: only you can do it" in said


def test_a_zone_that_is_not_ours_is_refused_before_any_order(sandbox: Sandbox) -> None:
    orders = sandbox.orders()
    ran = sandbox.certctl("wildcard", "example.com", "--json")
    assert (ran.code, ran.error["code"]) == (4, "approval-refused")
    assert sandbox.orders() == orders


def test_the_wildcard_is_kept_under_its_name_by_every_command(live: Sandbox) -> None:
    live.must("confirm", STAR)
    live.must("publish", STAR)
    live.must("obtain", STAR)
    assert "dns" in live.must("status", STAR).out
    assert STAR in live.must("log", STAR).out
    assert live.certctl("issue", STAR).code == 2
    live.must("remove", STAR)
    assert live.certctl("status", STAR, "--json").json["results"][0]["state"] == "removed"
