"""On the fly: a customer points a CNAME here and does nothing else; the first visitor gets the page."""

import json
import re
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from certctl.sandbox import daemons
from tests.e2e.browser import open_browser
from tests.e2e.real_sandbox import Sandbox, own_host

pytestmark = pytest.mark.e2e

PAGE = "<!doctype html><title>page</title><p>All systems operational.<script>document.title=location.href</script>"


@pytest.fixture(scope="module", params=["lua", "shared", "blocks"])
def sandbox(
    real_parts: None,  # noqa: ARG001
    request: pytest.FixtureRequest,
) -> Iterator[Sandbox]:
    with own_host("--mode", request.param, "--serve") as sandbox:
        (sandbox.layout.page / "page.html").write_text(PAGE)
        yield sandbox


def mode(sandbox: Sandbox) -> str:
    return str(sandbox.must("config", "show", "--json").json["data"]["nginx"]["mode"])


def port(sandbox: Sandbox, scheme: str) -> str:
    return str(sandbox.addresses[scheme]).rpartition(":")[2]


def url(sandbox: Sandbox, scheme: str, name: str) -> str:
    return f"{scheme}://{name}:{port(sandbox, scheme)}/page.html?x=1"


def curl(sandbox: Sandbox, scheme: str, name: str) -> tuple[int, int, str, str]:
    """Visit with curl, trusting the sandbox's CA alone; return its exit code, status, final URL and the body."""
    places = [f"{name}:{port(sandbox, each)}:127.0.0.1" for each in ("http", "https")]
    resolve = [word for place in places for word in ("--resolve", place)]
    done = subprocess.run(
        [
            "curl", "--silent", "--location", "--noproxy", "*", "--max-time", "120", *resolve,
            "--cacert", str(sandbox.addresses["issuer_root_file"]),
            "--write-out", "\n%{http_code} %{url_effective}", url(sandbox, scheme, name),
        ],
        capture_output=True, text=True, check=False, timeout=150,
    )  # fmt: skip
    body, _, last = done.stdout.rpartition("\n")
    status, _, ended_on = last.partition(" ")
    return done.returncode, int(status), ended_on, body


def until(condition: Callable[[], bool], seconds: float = 120) -> None:
    give_up = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < give_up, "it did not happen in time"
        time.sleep(0.05)


def reloads(sandbox: Sandbox) -> int:
    return (sandbox.layout.logs / "nginx.error.log").read_text(errors="replace").count(", reconfiguring")


def test_a_browser_that_comes_by_http_first_ends_on_the_page_over_https(sandbox: Sandbox, tmp_path: Path) -> None:
    name = sandbox.customer("browser-http.customer.test")
    seen = open_browser(tmp_path, sandbox).see(url(sandbox, "http", name), name)
    assert "All systems operational." in seen
    assert f"<title>{url(sandbox, 'https', name)}</title>" in seen


def test_curl_that_comes_by_http_first_ends_on_the_same_url_over_https(sandbox: Sandbox) -> None:
    name = sandbox.customer("curl-http.customer.test")
    assert curl(sandbox, "http", name) == (0, 200, url(sandbox, "https", name), PAGE)


def test_a_first_visit_by_https_gets_the_page(sandbox: Sandbox, tmp_path: Path) -> None:
    if mode(sandbox) == "blocks":
        pytest.skip("a server block per name has no door for a handshake; by HTTP first it has")
    name = sandbox.customer("curl-https.customer.test")
    if mode(sandbox) == "shared":  # the failed SNI wakes the daemon; a second later the name works
        assert curl(sandbox, "https", name)[0] == 35, "the first handshake is refused"
        until(lambda: curl(sandbox, "https", name)[0] == 0, 5)
    assert curl(sandbox, "https", name) == (0, 200, url(sandbox, "https", name), PAGE)
    if mode(sandbox) == "lua":
        other = sandbox.customer("browser-https.customer.test")
        seen = open_browser(tmp_path, sandbox).see(url(sandbox, "https", other), other)
        assert f"<title>{url(sandbox, 'https', other)}</title>" in seen


def test_a_wrong_cname_a_stranger_and_a_ca_that_refuses_are_turned_away_and_cost_no_order(sandbox: Sandbox) -> None:
    orders = sandbox.orders()
    sandbox.must("sandbox", "dns", "add", "wrong.customer.test", "CNAME", "statuspage.example.net")
    sandbox.must("sandbox", "approve", "wrong.customer.test")
    sandbox.must("sandbox", "dns", "add", "stranger.customer.test", "CNAME", "status.hyperping.io")
    refused = sandbox.customer("visit.blocked.example.org")
    for name in ("wrong.customer.test", "stranger.customer.test", refused):
        code, status, ended_on, body = curl(sandbox, "http", name)
        assert (code, ended_on) == (0, url(sandbox, "http", name))
        assert status in {404, 503}, body
        with pytest.raises(ssl.SSLError):
            sandbox.served_leaf(name)
    assert sandbox.orders() == orders


def test_a_name_that_is_live_is_redirected_and_renewed_without_the_daemon(sandbox: Sandbox) -> None:
    name = sandbox.customer("alone.customer.test")
    assert curl(sandbox, "http", name)[0] == 0
    before = sandbox.served_leaf(name)
    state = json.loads(sandbox.layout.state.read_text())
    (serve,) = (daemons.Daemon(**known) for known in state["daemons"] if known["name"] == "serve")
    with stopped(serve):
        sandbox.must("sandbox", "approve", "--mode", "hang")
        try:
            assert curl(sandbox, "http", name)[:3] == (0, 200, url(sandbox, "https", name))
            sandbox.must("reload")
            assert sandbox.served_leaf(name) == before
            told = reloads(sandbox)
            sandbox.must("renew", name, "--force")  # a yes of the last 30 days still counts
        finally:
            sandbox.must("sandbox", "approve", "--mode", "list")
    assert sandbox.served_leaf(name) != before
    assert mode(sandbox) == "blocks" or reloads(sandbox) == told


class stopped:  # noqa: N801 - reads like a statement
    """A daemon that is frozen for a while: worse than dead, because its socket still takes connections."""

    def __init__(self, daemon: daemons.Daemon) -> None:
        self._daemon = daemon

    def __enter__(self) -> None:
        subprocess.run(["kill", "-STOP", str(self._daemon.pid)], check=True)

    def __exit__(self, *_: object) -> None:
        subprocess.run(["kill", "-CONT", str(self._daemon.pid)], check=True)


def test_a_removed_name_is_refused_at_once(sandbox: Sandbox) -> None:
    name = sandbox.customer("leaver.customer.test")
    assert curl(sandbox, "http", name)[1] == 200
    sandbox.must("sandbox", "approve", name, "--revoke")
    sandbox.must("remove", name)
    with pytest.raises(ssl.SSLError):
        sandbox.served_leaf(name)
    assert curl(sandbox, "http", name)[1] in {404, 503}


def test_a_removed_name_that_is_still_approved_stays_away_until_the_operator_issues_it(sandbox: Sandbox) -> None:
    name = sandbox.customer("still-approved.customer.test")
    assert curl(sandbox, "http", name)[1] == 200
    orders = sandbox.orders()
    removed = sandbox.must("remove", name, "--json")
    [result] = removed.json["results"]
    assert (result["state"], result["still_approved"]) == ("removed", True)
    assert f"warning: still approved: {name}. " in removed.err
    assert curl(sandbox, "https", name)[0] != 0
    assert curl(sandbox, "http", name)[1] == 404
    until(lambda: daemon(sandbox)["reasons"].get("removed-lately", 0) > 0)
    until(lambda: daemon(sandbox)["flights"] == 0)
    assert sandbox.orders() == orders
    assert [event["step"] for event in sandbox.must("log", name, "--json").json["data"]] == ["remove", "issue"]
    sandbox.must("issue", name)
    assert curl(sandbox, "https", name)[1] == 200
    assert sandbox.orders() == orders + 1


def daemon(sandbox: Sandbox) -> dict[str, Any]:
    """Return what the daemon says of itself."""
    return dict(sandbox.must("status", "--json").json["serve"])


def test_what_the_daemon_did_can_be_seen_from_outside(sandbox: Sandbox) -> None:
    name = sandbox.customer("counted.customer.test")
    assert curl(sandbox, "http", name)[1] == 200
    socket = next(sandbox.layout.root.rglob("serve.sock"))
    done = subprocess.run(
        ["curl", "--silent", "--unix-socket", str(socket), "http://certctl/metrics"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "certctl_first_hit_seconds_bucket" in done.stdout
    assert re.search(r"first visits? .*p50 \d+ ms", sandbox.must("status").out)
