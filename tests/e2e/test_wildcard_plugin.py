"""The wildcard by certbot's own DNS plugin for RFC 2136: real BIND, real Pebble, real certbot, real nginx."""

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from certctl.io.process import Missing, find
from certctl.sandbox import daemons, pebble
from certctl.sandbox.layout import free_ports
from tests.e2e.real_sandbox import Ran, Sandbox, certctl, own_host
from tests.fakes.bind import NAMESERVER, Bind, bind

pytestmark = pytest.mark.e2e

ALWAYS_DUE = {"CERTCTL_RENEWAL__FALLBACK_FRACTION": "0.99999999"}
OWN, DELEGATED, ALIASED = "hyperping.io", "delegated.hyperping.io", "aliased.hyperping.io"


@dataclass(frozen=True)
class Lab:
    """A sandbox whose CA and certctl ask BIND instead of the sandbox's own DNS."""

    sandbox: Sandbox
    bind: Bind
    ca: pebble.Pebble
    log: Path

    def certctl(self, *arguments: str, **more: str) -> Ran:
        env = {
            "CERTCTL_CONFIG": str(self.sandbox.addresses["config"]),
            "CERTCTL_DNS__RESOLVERS": f'["127.0.0.1:{self.bind.port}"]',
            "CERTCTL_DNS__AUTHORITATIVE_PORT": str(self.bind.port),
            "CERTCTL_CA__DIRECTORY": self.ca.directory_url,
            "CERTCTL_CA__CA_FILE": str(self.ca.ca_file),
        }
        return certctl(*arguments, env=env | more)

    def must(self, *arguments: str, **more: str) -> Ran:
        ran = self.certctl(*arguments, **more)
        assert ran.code == 0, f"{arguments}: {ran.code}\n{ran.err}{ran.out}"
        return ran

    @property
    def orders(self) -> int:
        return self.log.read_text().count("Added order")

    def wants_renewal(self, name: str) -> None:
        """Have the CA ask for a renewal now, where it can ask at all (ARI)."""
        if b"renewalInfo" in pebble.fetch(self.ca, self.ca.acme_port, "/dir"):
            live = self.sandbox.layout.root / "var/lib/certctl-sites" / name.replace("*", "_wildcard")
            window = {"start": "2026-01-01T00:00:00Z", "end": "2026-01-02T00:00:00Z"}
            leaf = (live / "current/fullchain.pem").read_text()
            pebble.set_renewal_info(self.ca, leaf, json.dumps({"suggestedWindow": window}))

    def by_rfc2136(self, *more: str) -> list[str]:
        return [
            *("--dns", "rfc2136", "--dns-option", f"credentials={self.bind.credentials}"),
            *("--dns-option", "propagation-seconds=1", *more),
        ]


@pytest.fixture(scope="module")
def lab(real_parts: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:  # noqa: ARG001
    try:
        find("named")
    except Missing:
        if os.environ.get("CERTCTL_E2E") == "required":
            pytest.fail("BIND is missing")
        pytest.skip("BIND is not installed")
    root = tmp_path_factory.mktemp("plugin")
    child = f"_acme-challenge.{DELEGATED}"
    zones = {
        OWN: [
            f"{child}. NS {NAMESERVER}",
            f"_acme-challenge.{ALIASED}. CNAME elsewhere.{OWN}.",
            f'elsewhere.{OWN}. TXT "an older record"',
        ],
        child: [],
    }
    writable = {OWN: f"_acme-challenge.{OWN} TXT; grant certctl-test name elsewhere.{OWN}", child: child}
    with own_host() as sandbox, bind(root / "bind", zones, writable) as server:
        acme, management, http, tls = free_ports(4)
        ca = pebble.Pebble(root / "ca", acme, management, http, tls, f"127.0.0.1:{server.port}")
        pebble.write_files(ca)
        log = root / "pebble.log"
        daemon = daemons.start("pebble", pebble.argv(ca, pebble.find_pebble()), log, pebble.environment(ca))
        try:
            pebble.wait_ready(ca)
            yield Lab(sandbox, server, ca, log)
        finally:
            daemons.stop(daemon)


@pytest.mark.parametrize("engine", ["certbot", "acme"])
def test_a_plugin_is_remembered_and_renews_unattended(lab: Lab, engine: str) -> None:
    chosen = {"CERTCTL_CA__ENGINE": engine}  # acme writes by itself what certbot has a plugin for
    written = lab.bind.log.count("adding an RR at '_acme-challenge.hyperping.io' TXT")
    (first,) = lab.must("wildcard", *lab.by_rfc2136(), "--force", "--json", **chosen).json["results"]
    assert first["certificate"]["names"] == [f"*.{OWN}", OWN]
    assert [step["name"] for step in first["steps"]] == [
        "verify", "approve", "obtain", "publish", "reload", "confirm",
    ]  # fmt: skip
    assert lab.bind.log.count("adding an RR at '_acme-challenge.hyperping.io' TXT") == written + 2
    assert lab.bind.texts(f"_acme-challenge.{OWN}") == [], "the plugin takes its records away"
    assert "manual" not in lab.must("status", "--all").out

    orders = lab.orders
    assert lab.must("wildcard", "--json").json["results"][0]["changed"] is False, "remembered: nothing to prove"
    assert "not due" in lab.must("renew", f"*.{OWN}").out
    assert lab.orders == orders
    lab.wants_renewal(f"*.{OWN}")
    (renewed,) = lab.must("renew", "--json", **ALWAYS_DUE, **chosen).json["results"]
    assert (renewed["domain"], renewed["changed"]) == (f"*.{OWN}", True)
    assert renewed["certificate"]["serial"] != first["certificate"]["serial"]
    assert lab.orders == orders + 1
    served = lab.must("confirm", f"*.{OWN}", "--json").json["results"][0]["certificate"]
    assert served == renewed["certificate"]


def test_a_challenge_delegated_by_ns_is_written_where_it_was_delegated_to(lab: Lab) -> None:
    (result,) = lab.must("wildcard", DELEGATED, *lab.by_rfc2136(), "--json").json["results"]
    assert result["certificate"]["names"] == [f"*.{DELEGATED}", DELEGATED]
    assert f"updating zone '_acme-challenge.{DELEGATED}/IN': adding an RR" in lab.bind.log


def test_a_challenge_delegated_by_cname_is_written_at_its_end(lab: Lab) -> None:
    """certbot's plugin would write to the name of the CNAME itself, where no record may stand."""
    (result,) = lab.must("wildcard", ALIASED, *lab.by_rfc2136(), "--json").json["results"]
    assert result["certificate"]["names"] == [f"*.{ALIASED}", ALIASED]
    assert f"adding an RR at 'elsewhere.{OWN}' TXT" in lab.bind.log
    assert lab.bind.texts(f"elsewhere.{OWN}") == ['"an older record"'], "our records go, others stay"

    orders = lab.orders
    lab.wants_renewal(f"*.{ALIASED}")
    (renewed,) = lab.must("renew", f"*.{ALIASED}", "--json", **ALWAYS_DUE).json["results"]
    assert renewed["changed"] is True, "and it renews unattended"
    assert lab.orders == orders + 1


def test_a_cname_with_a_plugin_that_cannot_follow_it_is_explained_and_costs_nothing(lab: Lab) -> None:
    orders = lab.orders
    ran = lab.certctl("wildcard", ALIASED, "--dns", "cloudflare", "--json", "--force")
    assert (ran.code, ran.error["code"], ran.error["quota_used"]) == (3, "dns-delegation", False), ran.err
    assert any("by NS records" in line for line in ran.error["expected"])
    assert lab.orders == orders


@pytest.mark.parametrize(
    ("engine", "ending"), [("certbot", (5, "ca-challenge-aborted")), ("acme", (10, "config-invalid"))]
)
def test_who_may_not_write_fails_before_the_ca_looks(
    lab: Lab, tmp_path: Path, engine: str, ending: tuple[int, str]
) -> None:
    wrong = tmp_path / "wrong.ini"
    wrong.write_text(lab.bind.credentials.read_text().replace("dns_rfc2136_secret = ", "dns_rfc2136_secret = AAAA"))
    wrong.chmod(0o600)
    options = ["--dns", "rfc2136", "--dns-option", f"credentials={wrong}", "--dns-option", "propagation-seconds=1"]
    ran = lab.certctl("wildcard", f"{engine}.{OWN}", *options, "--json", CERTCTL_CA__ENGINE=engine)
    assert (ran.code, ran.error["code"]) == ending, ran.err + ran.out
    assert ran.error["quota_used"] is True, "an order was made"
    assert f"{engine}.{OWN}" not in "".join(line for line in lab.log.read_text().splitlines() if "INVALID" in line)


def test_a_record_the_ca_does_not_see_is_a_failed_validation(lab: Lab) -> None:
    blind = {  # the sandbox's own CA asks the sandbox's own DNS, where no plugin writes
        "CERTCTL_CA__DIRECTORY": str(lab.sandbox.addresses["acme_directory"]),
        "CERTCTL_CA__CA_FILE": str(lab.sandbox.addresses["acme_ca_file"]),
    }
    ran = lab.certctl("wildcard", *lab.by_rfc2136(), "--force", "--json", **blind)
    assert (ran.code, ran.error["quota_used"]) == (5, True), ran.err + ran.out
    assert ran.error["code"] in {"ca-unauthorized", "ca-dns"}
    assert any("TXT" in line for line in ran.error["seen"])


def test_credentials_that_others_can_read_are_refused(lab: Lab, tmp_path: Path) -> None:
    orders = lab.orders
    loose = tmp_path / "loose.ini"
    loose.write_bytes(lab.bind.credentials.read_bytes())
    loose.chmod(0o644)
    ran = lab.certctl("wildcard", "--force", "--dns", "rfc2136", "--dns-option", f"credentials={loose}", "--json")
    assert (ran.code, ran.error["code"], ran.error["next"][0]) == (10, "config-invalid", f"chmod 0600 {loose}")
    assert lab.orders == orders


def test_an_option_the_plugin_does_not_have_is_named_before_any_order(lab: Lab) -> None:
    orders = lab.orders
    ran = lab.certctl("wildcard", "--force", *lab.by_rfc2136("--dns-option", "flavour=vanilla"), "--json")
    assert (ran.code, ran.error["code"]) == (10, "config-invalid"), ran.err + ran.out
    assert any("--dns-rfc2136-flavour=vanilla" in line for line in ran.error["seen"])
    assert lab.orders == orders


def test_a_plugin_that_only_certbot_has_is_left_to_certbot_whatever_the_engine(lab: Lab, tmp_path: Path) -> None:
    token = tmp_path / "token.ini"
    token.write_text("dns_cloudflare_api_token = none\n")
    token.chmod(0o600)
    options = ["--dns", "cloudflare", "--dns-option", f"credentials={token}"]
    ran = lab.certctl("wildcard", "--force", *options, "--json", CERTCTL_CA__ENGINE="acme")
    assert (ran.code, ran.error["code"]) == (10, "missing-program")
    assert "certbot-dns-cloudflare" in ran.error["next"][0]


def test_a_plugin_that_is_not_installed_comes_with_the_line_that_installs_it(lab: Lab) -> None:
    ran = lab.certctl("wildcard", "--dns", "nosuchprovider", "--force", "--json")
    assert (ran.code, ran.error["code"]) == (10, "missing-program")
    assert ran.error["next"][0] == f"{sys.executable} -m pip install certbot-dns-nosuchprovider"
