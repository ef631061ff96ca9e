"""A certificate's whole life on real parts: certificates that live 90 seconds, and what changes meanwhile.

``calm`` is a sandbox whose certificates live 90 days, so nothing is due there unless the CA says so (ARI).
"""

import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.hashes import SHA256

from certctl.domain import Domain
from certctl.io.clock import SystemClock
from certctl.sandbox import pebble
from certctl.store.sqlite import SqliteStore
from certctl.values import Certificate
from tests.e2e.real_sandbox import Sandbox, own_host
from tests.faults.whole import Watch, ended, start, until

pytestmark = pytest.mark.e2e

HANDSHAKE_PAUSE = 0.05


# What the tests know of a sandbox besides what a person sees.


@dataclass(frozen=True)
class Sites:
    """A sandbox and the names a test has in it."""

    sandbox: Sandbox
    names: list[str]

    def store(self) -> SqliteStore:
        return SqliteStore(self.sandbox.layout.root / "var/lib/certctl/certctl.db", SystemClock())

    def pull_forward(self, *names: str) -> None:
        """Let the CA say that it wants these renewed since yesterday."""
        now = datetime.now(UTC)
        window = {"start": (now - timedelta(days=2)).isoformat(), "end": (now - timedelta(days=1)).isoformat()}
        store = self.store()
        for name in names or self.names:
            pebble.set_renewal_info(
                self.pebble(), store.pem(self.stored(name)).fullchain, json.dumps({"suggestedWindow": window})
            )
        store.close()

    def pebble(self) -> pebble.Pebble:
        port = int(str(self.sandbox.addresses["pebble_management"]).rpartition(":")[2])
        return pebble.Pebble(self.sandbox.layout.ca, 0, port, 0, 0, "")

    def stored(self, name: str) -> Certificate:
        store = self.store()
        row = store.domain(Domain(name))
        store.close()
        assert row
        assert row.certificate
        return row.certificate

    def state(self, name: str) -> str:
        (shown,) = self.sandbox.must("status", name, "--json").json["results"]
        return str(shown["state"])

    def served(self) -> dict[str, str]:
        return {name: self.sandbox.served_leaf(name).fingerprint(SHA256()).hex() for name in self.names}

    def reloads(self) -> int:
        """Count the times nginx was told to read its configuration again."""
        log = (self.sandbox.layout.logs / "nginx.error.log").read_text(encoding="utf-8", errors="replace")
        return len(re.findall(r"\(SIGHUP\) received from \d+, reconfiguring", log))


@pytest.fixture(scope="module")
def calm(real_parts: None) -> Iterator[Sandbox]:  # noqa: ARG001
    with own_host() as sandbox:
        yield sandbox


@pytest.fixture
def sites(calm: Sandbox, request: pytest.FixtureRequest) -> Iterator[Sites]:
    """Three live customers, who leave again after the test."""
    stem = sha256(request.node.name.encode()).hexdigest()[:8]
    names = [calm.customer(f"{letter}-{stem}.example.com") for letter in "abc"]
    calm.must("issue", *names, "--jobs", "3")
    yield Sites(calm, names)
    calm.must("sandbox", "approve", "--mode", "list")
    calm.must("remove", *names)


# Ninety seconds.


@dataclass
class Visitor(threading.Thread):
    """Shakes hands with one site all the time; an expired or unknown certificate is a failed handshake."""

    sandbox: Sandbox
    name_: str
    over: threading.Event
    seen: set[str] = field(default_factory=set)
    failures: list[str] = field(default_factory=list)
    handshakes: int = 0

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    __hash__ = threading.Thread.__hash__

    def run(self) -> None:
        trust = ssl.create_default_context(cafile=self.sandbox.addresses["issuer_root_file"])
        host, _, port = str(self.sandbox.addresses["https"]).rpartition(":")
        while not self.over.wait(HANDSHAKE_PAUSE):
            try:
                with (
                    socket.create_connection((host, int(port)), timeout=60) as raw,
                    trust.wrap_socket(raw, server_hostname=self.name_) as connection,
                ):
                    self.seen.add(sha256(connection.getpeercert(binary_form=True) or b"").hexdigest())
            except OSError as error:  # ssl.SSLError is one
                self.failures.append(f"{datetime.now(UTC):%T} {self.name_}: {error!r}")
            self.handshakes += 1


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("real_parts")
def test_certificates_that_live_ninety_seconds_never_lapse_under_load() -> None:
    with own_host("--lifetime", "90s") as sandbox:
        nobody_lapses(sandbox)


def nobody_lapses(sandbox: Sandbox) -> None:
    over = threading.Event()
    try:
        names = [sandbox.customer(f"short{number}.example.com") for number in range(6)]
        sandbox.must("issue", *names, "--jobs", "3")
        sites = Sites(sandbox, names)
        visitors = [Visitor(sandbox, name, over) for name in names]
        for visitor in visitors:
            visitor.start()
        until(lambda: all(visitor.handshakes for visitor in visitors))
        first = [sandbox.served_leaf(name).not_valid_after_utc for name in names]
        _renew_until(lambda: datetime.now(UTC) > max(first) and _renewals(visitors) >= 10, sites)
        assert all(len(visitor.seen) > 1 for visitor in visitors), "nobody lives on the first certificate"
        assert not [failure for visitor in visitors for failure in visitor.failures]
        assert all(visitor.handshakes > 100 for visitor in visitors)
    finally:
        over.set()


def _renewals(visitors: Sequence[Visitor]) -> int:
    return sum(len(visitor.seen) - 1 for visitor in visitors)


def _renew_until(satisfied: Callable[[], object], sites: Sites) -> None:
    """Run the timer's command every few seconds; each run that renews anything reloads once."""
    deadline = time.monotonic() + 400
    while not satisfied():
        assert time.monotonic() < deadline, "there were too few renewals"
        before = sites.reloads()
        results = sites.sandbox.must("renew", "--json", "--jobs", "4").json["results"]
        renewed = [result["domain"] for result in results if result["changed"]]
        assert sites.reloads() - before == (1 if renewed else 0), results
        time.sleep(4)


# The CA says when.


def test_the_ca_pulls_renewals_forward_and_one_reload_brings_them_all(sites: Sites) -> None:
    before, reloads, orders = sites.served(), sites.reloads(), sites.sandbox.orders()
    early = sites.names[:2]
    sites.pull_forward(*early)
    results = sites.sandbox.must("renew", "--json", "--jobs", "2").json["results"]
    assert {result["domain"] for result in results if result["changed"]} == set(early)
    after = sites.served()
    assert [name for name in sites.names if after[name] != before[name]] == early
    assert (sites.reloads(), sites.sandbox.orders()) == (reloads + 1, orders + 2)
    assert not sites.sandbox.must("renew", "--json").json["results"], "the new ones are wanted later"


def test_nothing_due_is_silent_and_touches_nothing(sites: Sites) -> None:
    sites.sandbox.must("renew")  # asks the CA when it wants the new certificates renewed, and remembers
    root = sites.sandbox.layout.root

    def everything() -> dict[str, str]:
        trees = [
            root / "etc",
            root / "var/lib/certctl-sites",
            root / "var/lib/certctl/live",
            root / "var/lib/certctl/acme",
        ]
        files = [path for tree in trees for path in sorted(tree.rglob("*")) if path.is_file()]
        store = sites.store()
        rows = repr((store.domains(), store.events(None, 10_000)))
        store.close()
        database = (root / "var/lib/certctl/certctl.db").read_bytes()
        said = {str(path): f"{path.stat().st_mtime_ns} {sha256(path.read_bytes()).hexdigest()}" for path in files}
        return said | {"rows": rows, "database": sha256(database).hexdigest()}

    before, reloads, orders = everything(), sites.reloads(), sites.sandbox.orders()
    asked = _requests(sites.sandbox)
    quiet = sites.sandbox.must("renew", "-q")
    assert (quiet.out, quiet.err) == ("", "")
    assert everything() == before
    assert (sites.reloads(), sites.sandbox.orders()) == (reloads, orders)
    assert _requests(sites.sandbox) == asked, "the CA was asked something"


def _requests(sandbox: Sandbox) -> int:
    """Count what Pebble was asked, by its log."""
    log = (sandbox.layout.logs / "pebble.log").read_text(encoding="utf-8", errors="replace")
    return log.count("-> calling handler")


# The customer and the operator say whether.


def test_a_customer_who_moved_is_parked_and_served_and_comes_back(sites: Sites) -> None:
    mover, *others = sites.names
    before, orders = sites.served(), sites.sandbox.orders()
    sites.pull_forward()
    sites.sandbox.must("sandbox", "dns", "add", mover, "CNAME", "statuspage.example.net")
    sites.sandbox.must("renew", "-q", "--jobs", "3")
    after = sites.served()
    assert (sites.state(mover), after[mover]) == ("moved", before[mover])
    assert all(after[name] != before[name] for name in others)
    sites.sandbox.must("renew", "-q")  # looks again, for nothing
    assert sites.sandbox.orders() == orders + len(others), "a customer who moved costs no order"
    sites.sandbox.must("sandbox", "dns", "add", mover, "CNAME", "status.hyperping.io")
    sites.sandbox.must("renew", "-q")
    assert sites.state(mover) == "ok"
    assert sites.served()[mover] != before[mover]


def test_a_domain_the_operator_no_longer_wants_is_parked_and_served_and_comes_back(sites: Sites) -> None:
    name = sites.names[0]
    before, orders = sites.served(), sites.sandbox.orders()
    sites.pull_forward(name)
    sites.sandbox.must("sandbox", "approve", name, "--revoke")
    sites.sandbox.must("renew", "-q")
    assert (sites.state(name), sites.sandbox.orders()) == ("unwanted", orders)
    assert sites.served() == before
    sites.sandbox.must("sandbox", "approve", name)
    sites.sandbox.must("renew", "-q")
    assert sites.state(name) == "ok"
    assert sites.served()[name] != before[name]


@pytest.mark.parametrize("mode", ["500", "hang"])
def test_an_approval_outage_stops_no_renewal_and_is_said(sites: Sites, mode: str) -> None:
    before = sites.served()
    sites.pull_forward()
    sites.sandbox.must("sandbox", "approve", "--mode", mode)
    results = sites.sandbox.must("renew", "--json", "--jobs", "3").json["results"]
    assert all(before[name] != leaf for name, leaf in sites.served().items())
    for result in results:
        (approve,) = [step for step in result["steps"] if step["name"] == "approve"]
        assert "still counts" in approve["detail"]


def test_an_approval_outage_renews_nobody_who_never_had_a_yes(sites: Sites) -> None:
    name = sites.names[0]
    before, orders = sites.served(), sites.sandbox.orders()
    store = sites.store()
    store.remember_answer(Domain(name), approved=False, at=datetime.now(UTC))
    store.close()
    sites.pull_forward(name)
    sites.sandbox.must("sandbox", "approve", "--mode", "500")
    ran = sites.sandbox.certctl("renew", "--json")
    assert (ran.code, ran.error["code"], sites.sandbox.orders()) == (9, "approval-unreachable", orders)
    assert sites.served() == before


# Things go wrong.


def test_one_bad_domain_neither_delays_nor_fails_the_others(sites: Sites) -> None:
    bad, *others = sites.names
    before = sites.served()
    sites.pull_forward()
    sites.sandbox.must("sandbox", "dns", "fail", bad, "servfail", "--type", "A", "--only", "127.0.0.1")
    ran = sites.sandbox.certctl("renew", "--json", "--jobs", "3")
    sites.sandbox.must("sandbox", "dns", "heal", bad)
    results = {result["domain"]: result for result in ran.json["results"]}
    assert results[bad]["error"]["code"] == "ca-connection", ran.out
    assert all(results[name]["ok"] and results[name]["changed"] for name in others)
    after = sites.served()
    assert (after[bad] == before[bad], [after[name] != before[name] for name in others]) == (True, [True, True])
    assert bad not in {result["domain"] for result in sites.sandbox.must("renew", "--json").json["results"]}
    again = sites.sandbox.certctl("renew", bad, "--json")
    assert (again.code, again.error["code"]) == (6, "backing-off")
    assert sites.sandbox.must("renew", bad, "--force", "--json").json["results"][0]["changed"]


@pytest.mark.parametrize("step", ["an order", "a certificate", "the store"])
def test_a_run_killed_in_the_middle_is_finished_by_the_next(sites: Sites, step: str) -> None:
    watch = Watch(sites.sandbox, canary=sites.names[2])
    before, issued = sites.served(), watch.issued
    renewed = sites.names[0]
    old = sites.stored(renewed)
    sites.pull_forward(renewed)
    orders = sites.sandbox.orders()
    moments = {
        "an order": lambda: sites.sandbox.orders() > orders,
        "a certificate": lambda: watch.issued > issued,
        "the store": lambda: sites.stored(renewed) != old,
    }
    run = start(sites.sandbox, "renew")
    until(moments[step])
    run.kill()
    ended(run)
    assert sites.served().keys() == before.keys()
    sites.sandbox.must("renew")
    after = sites.served()
    assert after[renewed] == sites.stored(renewed).fingerprint != before[renewed]
    assert watch.issued - issued <= 1, "the CA made it once"
    watch.all_is_well(sites.names)
