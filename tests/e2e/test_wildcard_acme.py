"""The wildcard in two processes, and by a record that stands for good: what only the engine ``acme`` can do."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from certctl.sandbox import pebble
from certctl.sandbox.zone_file import NAMESERVERS, RESOLVER
from tests.e2e.real_sandbox import Ran, Sandbox, certctl, own_host
from tests.e2e.test_wildcard import CHALLENGE, STAR, ZONE, Typed, add, failures, looks, name_in

pytestmark = pytest.mark.e2e

NS1, NS2 = NAMESERVERS
STANDING = f"_validation-persist.{ZONE}"
ALWAYS_DUE = {"CERTCTL_RENEWAL__FALLBACK_FRACTION": "0.99999999"}


@pytest.fixture(scope="module")
def sandbox(real_parts: None) -> Iterator[Sandbox]:  # noqa: ARG001
    with own_host() as sandbox:
        yield sandbox


@pytest.fixture(autouse=True)
def clean(sandbox: Sandbox) -> Iterator[None]:
    """Leave each test a zone without old records."""
    yield
    for name in (CHALLENGE, STANDING):
        sandbox.must("sandbox", "dns", "remove", name)


def begin(sandbox: Sandbox, *more: str) -> dict[str, object]:
    (result,) = sandbox.must("wildcard", "--begin", "--json", *more).json["results"]
    demand: dict[str, object] = result["demand"]
    return demand


def values_of(demand: dict[str, object]) -> list[str]:
    values = demand["values"]
    assert isinstance(values, list)
    return values


def with_env(sandbox: Sandbox, *arguments: str, **env: str) -> Ran:
    return certctl(*arguments, env={"CERTCTL_CONFIG": str(sandbox.addresses["config"])} | env)


def test_what_was_begun_is_finished_by_another_process_with_the_same_order(sandbox: Sandbox) -> None:
    orders, looked = sandbox.orders(), looks(sandbox)
    demand = begin(sandbox, "--force")
    assert (demand["name"], demand["type"], demand["ttl"], demand["order"]) == (CHALLENGE, "TXT", 60, "new")
    values = values_of(demand)
    assert len(set(values)) == 2
    assert sandbox.orders() == orders + 1

    again = begin(sandbox, "--force")
    assert (again["order"], again["values"], again["until"]) == ("same", values, demand["until"])

    ran = sandbox.certctl("wildcard", "--finish", "--json")
    assert (ran.code, ran.error["code"], ran.error["quota_used"]) == (5, "ca-challenge-aborted", False), ran.err
    assert {f"ns1.{ZONE}: shows 0 of 2", f"ns2.{ZONE}: shows 0 of 2"} <= set(ran.error["seen"])
    assert ran.error["next"][0] == f"certctl wildcard {ZONE} --finish"

    add(sandbox, values, only=NS1)
    add(sandbox, values[:1], only=NS2)
    add(sandbox, values, only=RESOLVER)
    ran = sandbox.certctl("wildcard", "--finish", "--json")
    assert (ran.code, ran.error["code"]) == (5, "ca-challenge-aborted"), ran.err
    assert f"missing: ns2.{ZONE}." in ran.error["message"]
    assert looks(sandbox) == looked, "nothing was answered"

    add(sandbox, values[1:], only=NS2)
    (result,) = sandbox.must("wildcard", "--finish", "--json").json["results"]
    assert result["certificate"]["names"] == [STAR, ZONE]
    (obtained,) = [step["detail"] for step in result["steps"] if step["name"] == "obtain"]
    assert f"TXT {CHALLENGE} = {', '.join(values)}" in obtained, "what proved it is in the history"
    assert name_in(sandbox, f"any.{ZONE}") == [STAR, ZONE]
    assert (sandbox.orders(), failures(sandbox)) == (orders + 1, 0)


def test_a_person_sees_what_to_do_and_when_to_come_back(sandbox: Sandbox) -> None:
    sandbox.must("wildcard", "fresh.hyperping.io", "--begin")
    shown = sandbox.must("wildcard", "fresh.hyperping.io", "--begin").out
    assert "It is the order that was begun before." in shown
    shown = sandbox.must("wildcard", "--begin", "--force").out
    assert f"name    {CHALLENGE} " in shown
    assert f"certctl wildcard {ZONE} --finish" in shown


def test_whoever_waits_may_finish_as_soon_as_the_records_stand(sandbox: Sandbox, tmp_path: Path) -> None:
    values = values_of(begin(sandbox, "--force"))
    with Typed(sandbox, ("wildcard", "--finish", "--wait", "60s", "--json"), tmp_path) as typed:
        add(sandbox, values)
        ran = typed.end()
    assert ran.code == 0, ran.err


def test_an_order_that_failed_is_said_and_begun_anew(sandbox: Sandbox) -> None:
    values = values_of(begin(sandbox, "--force"))
    for server in NAMESERVERS:  # but not at the resolver, whom the CA asks
        add(sandbox, values, only=server)
    ran = sandbox.certctl("wildcard", "--finish", "--json")
    assert (ran.code, ran.error["quota_used"]) == (5, True), ran.err
    assert ran.error["code"] in {"ca-unauthorized", "ca-dns"}
    ran = sandbox.certctl("wildcard", "--finish", "--json")
    assert (ran.code, ran.error["code"]) == (10, "wildcard-not-begun"), ran.err
    demand = begin(sandbox, "--force")
    assert set(values_of(demand)).isdisjoint(values)


def test_nothing_was_begun_so_nothing_can_be_finished(sandbox: Sandbox) -> None:
    orders = sandbox.orders()
    ran = sandbox.certctl("wildcard", "other.hyperping.io", "--finish", "--json")
    assert (ran.code, ran.error["code"]) == (10, "wildcard-not-begun"), ran.err
    assert ran.error["next"][0] == "certctl wildcard other.hyperping.io --begin"
    assert sandbox.orders() == orders


def test_to_begin_is_by_hand(sandbox: Sandbox) -> None:
    assert sandbox.certctl("wildcard", "--begin", "--dns", "rfc2136").code == 2


def test_one_standing_record_renews_the_wildcard_with_nobodys_hands(sandbox: Sandbox, tmp_path: Path) -> None:
    failed = failures(sandbox)
    with Typed(sandbox, ("wildcard", "--dns", "persist", "--force", "--json"), tmp_path) as typed:
        said = typed.wait_for("Watching ")
        assert f"name    {STANDING} " in said
        assert "keep it for good" in said
        (value,) = [line.split("value   ")[1].strip() for line in said.splitlines() if "value   " in line]
        issuer, account, policy = (part.strip() for part in value.split(";"))
        assert (issuer, policy) == ("pebble.letsencrypt.org", "policy=wildcard")
        assert account.startswith("accounturi=https://127.0.0.1:")
        sandbox.must("sandbox", "dns", "add", STANDING, "TXT", f'"{issuer};{account} ; Policy=Wildcard"')
        ran = typed.end()
    assert ran.code == 0, ran.err
    (first,) = ran.json["results"]
    assert first["certificate"]["names"] == [STAR, ZONE]
    assert "dns-persist" in sandbox.must("status", STAR).out
    assert "Nothing to do" in sandbox.must("wildcard").out

    wants_renewal(sandbox)
    (renewed,) = with_env(sandbox, "renew", STAR, "--json", **ALWAYS_DUE).json["results"]
    assert (renewed["ok"], renewed["changed"]) == (True, True), renewed
    assert renewed["certificate"]["serial"] != first["certificate"]["serial"]
    assert failures(sandbox) == failed


def wants_renewal(sandbox: Sandbox) -> None:
    """Have the CA ask for a renewal now (ARI)."""
    live = sandbox.layout.root / "var/lib/certctl-sites/_wildcard.hyperping.io/current/fullchain.pem"
    window = {"start": "2026-01-01T00:00:00Z", "end": "2026-01-02T00:00:00Z"}
    management = int(str(sandbox.addresses["pebble_management"]).rstrip("/").rpartition(":")[2])
    ca = pebble.Pebble(sandbox.layout.ca, 0, management, 0, 0, "")
    pebble.set_renewal_info(ca, live.read_text(), json.dumps({"suggestedWindow": window}))
