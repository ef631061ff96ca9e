"""What certbot's log says of an order that DNS-01 solves: until when it lives, and why the CA was not convinced."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from certctl.ca.directory import patient_profile
from certctl.ca.engines.certbot.log import read_result
from certctl.ca.errors import classify
from certctl.ca.settings import CaSettings
from certctl.errors import Unreachable

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def log(*bodies: object, status: int = 200) -> str:
    """Write the CA's answers as certbot 5.8 logs them."""
    head = "2026-11-23 12:00:00,123:DEBUG:acme.client:Received response:\nHTTP"
    return "".join(
        f"{head} {status}\nContent-Type: application/json\n\n{json.dumps(body, indent=2)}\n" for body in bodies
    )


def authorization(status: str, **challenge: object) -> dict[str, object]:
    return {
        "status": status,
        "expires": "2026-11-30T12:00:00Z",
        "identifier": {"type": "dns", "value": "hyperping.io"},
        "challenges": [{"type": "dns-01", "status": status, **challenge}],
    }


def test_the_first_thing_that_expires_ends_the_order() -> None:
    order = {"status": "pending", "expires": "2026-11-24T12:00:00Z", "finalize": "https://ca.test/f"}
    assert read_result(None, "", log(order, authorization("pending"))).order_ends == datetime(
        2026, 11, 24, 12, tzinfo=UTC
    )
    assert read_result(None, "", log(authorization("valid"))).order_ends is None


@pytest.mark.parametrize("expires", ["", "soon", 7, None, "2026-11-24", "0000-00-00T00:00:00Z"])
def test_a_ca_that_says_nonsense_about_expiry_says_nothing(expires: object) -> None:
    assert read_result(None, "", log({"status": "pending", "expires": expires})).order_ends is None


def test_a_plugins_failed_validation_is_read_from_the_cas_own_answer() -> None:
    error = {"type": "urn:ietf:params:acme:error:dns", "detail": "no TXT record found", "status": 400}
    found = read_result(1, "Some challenges have failed.", log(authorization("invalid", error=error)))
    failure = classify(found, "*.hyperping.io", NOW)
    assert (failure.slug, failure.quota_used) == ("ca-dns", True)
    assert any("no TXT record found" in line for line in failure.seen)


@pytest.mark.parametrize("tried", [None, 7, [7], [{"error": "text"}], [{"error": {}}]])
def test_an_invalid_authorization_without_a_reason_is_no_reason(tried: object) -> None:
    assert read_result(1, "", log({"status": "invalid", "challenges": tried})).refuted == ()


def test_a_plugin_that_could_not_write_is_told_from_a_ca_that_refused() -> None:
    text = "2026-11-23 12:00:00,123:ERROR:certbot._internal.log:x\ncertbot.errors.PluginError: Received REFUSED\n"
    order = {"status": "pending", "finalize": "https://ca.test/f"}
    failure = classify(read_result(1, "Received REFUSED", log(order, status=201) + text), "*.hyperping.io", NOW)
    assert (failure.slug, failure.quota_used) == ("ca-challenge-aborted", True)


def test_an_option_that_a_plugin_does_not_have_is_a_mistake_in_the_configuration() -> None:
    said = "certbot: error: unrecognized arguments: --dns-rfc2136-flavour=vanilla"
    assert classify(read_result(2, said, ""), "*.hyperping.io", NOW).slug == "config-invalid"


@contextmanager
def directory(meta: object) -> Iterator[str]:
    """Serve an ACME directory with this ``meta``."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"newNonce": "x", "newAccount": "x", "newOrder": "x", "meta": meta}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Keep the test's output quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/dir"
        finally:
            server.shutdown()


@pytest.mark.parametrize(
    ("meta", "profile"),
    [
        ({"profiles": {"classic": "https://ca.test/classic", "shortlived": "https://ca.test/s"}}, "classic"),
        ({"profiles": {"shortlived": "https://ca.test/s"}}, ""),
        ({"profiles": {}}, ""),
        ({}, ""),
    ],
)
def test_a_person_gets_the_profile_whose_orders_live_for_days(meta: object, profile: str, tmp_path: Path) -> None:
    with directory(meta) as url:
        assert patient_profile(CaSettings(url, tmp_path, tmp_path)) == profile


@pytest.mark.parametrize("meta", [{"profiles": 7}, {"profiles": ["classic"]}])
def test_a_directory_that_is_not_one_offers_nothing_that_is_not_asked_for(meta: object, tmp_path: Path) -> None:
    with directory(meta) as url:
        assert patient_profile(CaSettings(url, tmp_path, tmp_path)) in {"", "classic"}


def test_a_ca_that_does_not_answer_is_no_ca_without_profiles(tmp_path: Path) -> None:
    with directory(7) as strange:
        for url in ("http://127.0.0.1:1/dir", strange):
            with pytest.raises(Unreachable) as caught:
                patient_profile(CaSettings(url, tmp_path, tmp_path))
            assert caught.value.slug == "ca-unreachable"
