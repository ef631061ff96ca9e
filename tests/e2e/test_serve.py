"""The daemon with real parts: a first visit, twenty at once, quick refusals, and what goes on without it."""

import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from certctl.io import unix_http
from certctl.sandbox import state
from tests.e2e.real_sandbox import Sandbox, own_host

pytestmark = pytest.mark.e2e

SECONDS = 30


@pytest.fixture(scope="module")
def sandbox(real_parts: None) -> Iterator[Sandbox]:  # noqa: ARG001
    """Bring up a sandbox of our own, with the daemon in it."""
    with own_host("--serve") as sandbox:
        yield sandbox


def handshake(sandbox: Sandbox, name: str) -> str:
    """Ask as a handshake would; return ``ready``, or how it was refused."""
    try:
        return unix_http.get(sandbox.layout.serve_socket, f"/certificate/{name}", SECONDS).decode().strip()
    except unix_http.Unanswered as error:
        return str(error)


def test_a_first_visitor_gets_a_certificate_that_nginx_serves(sandbox: Sandbox) -> None:
    name = sandbox.customer("first.example.com")
    assert handshake(sandbox, name) == "ready"
    assert name in str(sandbox.served_leaf(name).extensions)
    status = sandbox.must("status", "--json").json
    assert status["serve"]["first_hit"]["count"] >= 1
    assert [entry["state"] for entry in status["results"] if entry["domain"] == name] == ["ok"]
    [event] = sandbox.must("log", name, "--json").json["data"]
    assert event["detail"].startswith("verify: CNAME → status.hyperping.io, 2 of 2 nameservers agree")


def test_twenty_visitors_at_once_are_one_order(sandbox: Sandbox) -> None:
    name, before = sandbox.customer("twenty.example.com"), sandbox.orders()
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: handshake(sandbox, name), range(20)))
    assert answers == ["ready"] * 20
    assert sandbox.orders() == before + 1


@pytest.mark.usefixtures("real_parts")
def test_a_daemon_that_was_there_before_the_account_sees_a_record_for_another_one() -> None:
    with own_host("--mode", "shared", "--serve") as host:
        assert handshake(host, host.customer("first.account.test")) == "ready"  # the account is made now
        others = '0 issue "letsencrypt.org; accounturi=https://ca.test/acct/1"'
        host.must("sandbox", "dns", "add", "account.test", "CAA", others)
        name, before = host.customer("status.account.test"), host.orders()
        assert handshake(host, name) == "it answered 404"
        assert host.orders() == before


@pytest.mark.parametrize("name", ["status.not-a-customer.test", "status.wrong-cname.test", "nowhere.example.com"])
def test_whoever_is_no_customer_is_refused_and_the_ca_never_hears_of_it(sandbox: Sandbox, name: str) -> None:
    before = sandbox.orders()
    assert handshake(sandbox, name) == "it answered 404"
    assert sandbox.orders() == before
    assert sandbox.certctl("log", name, "--json").json["data"] == []


def test_a_name_the_ca_refuses_rests(sandbox: Sandbox) -> None:
    name, before = sandbox.customer("a.blocked.example.org"), sandbox.orders()
    assert handshake(sandbox, name) == handshake(sandbox, name) == "it answered 404"
    assert sandbox.orders() <= before + 1
    [entry] = sandbox.must("status", name, "--json").json["results"]
    assert entry["state"] == "failing"


def test_a_locked_store_makes_visitors_wait_and_nobody_else(sandbox: Sandbox) -> None:
    served, name = sandbox.customer("served.example.com"), sandbox.customer("locked.example.com")
    assert handshake(sandbox, served) == "ready"
    other = sqlite3.connect(sandbox.layout.root / "var/lib/certctl/certctl.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    began = time.monotonic()
    assert handshake(sandbox, name) == "it answered 503"
    assert time.monotonic() - began < 25, "SQLite itself waits half a minute"
    assert served in str(sandbox.served_leaf(served).extensions)
    other.execute("ROLLBACK")
    other.close()
    assert handshake(sandbox, name) == "ready"


def test_an_endpoint_that_approves_everything_stops_the_daemon_before_it_starts(sandbox: Sandbox) -> None:
    sandbox.must("sandbox", "approve", "--mode", "yes")
    try:
        ran = sandbox.certctl("--json", "serve", "--socket", str(sandbox.layout.root / "run/other.sock"))
        finding = [f for f in sandbox.certctl("doctor", "--json").json["data"] if f["area"] == "approval"]
    finally:
        sandbox.must("sandbox", "approve", "--mode", "list")
    assert (ran.code, ran.error["code"]) == (10, "approval-approves-everything")
    assert finding[0]["level"] == "problem"


def test_a_killed_daemon_is_missed_by_new_names_only(sandbox: Sandbox) -> None:
    name = sandbox.customer("before.example.com")
    assert handshake(sandbox, name) == "ready"
    [daemon] = [each for each in state.read(sandbox.layout).daemons if each.name == "serve"]
    os.kill(daemon.pid, signal.SIGKILL)
    while daemon.running:
        time.sleep(0.01)
    before = sandbox.served_leaf(name)
    sandbox.must("renew", name, "--force")
    assert sandbox.served_leaf(name) != before
    assert "the daemon does not answer (connection refused)" in sandbox.must("status").out
    assert sandbox.certctl("doctor").code == 1
