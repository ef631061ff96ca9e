"""The straight path on real parts: real Pebble, real certbot, real nginx, real DNS packets."""

import json
import ssl
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes

from tests.e2e.real_sandbox import Sandbox, certctl

pytestmark = pytest.mark.e2e


def state(sandbox: Sandbox) -> Path:
    """Return certctl's state directory."""
    return sandbox.layout.root / "var/lib/certctl"


def leftovers(sandbox: Sandbox, name: str) -> list[Path]:
    """Return every file or directory under the sandbox whose path names the domain."""
    return [path for path in sandbox.layout.root.rglob(f"*{name}*") if "locks" not in path.parts]


def test_a_bare_name_becomes_a_page_over_https(sandbox: Sandbox) -> None:
    name = sandbox.customer("happy.example.com")
    (result,) = sandbox.must("issue", name, "--json").json["results"]
    assert (result["ok"], result["changed"], result["state"]) == (True, True, "active")
    assert [step["name"] for step in result["steps"]] == [
        "verify", "approve", "obtain", "publish", "reload", "confirm",
    ]  # fmt: skip
    leaf = sandbox.served_leaf(name)
    assert leaf.fingerprint(hashes.SHA256()).hex() == result["certificate"]["fingerprint_sha256"]
    assert result["certificate"]["names"] == [name]
    (shown,) = sandbox.must("status", name, "--json").json["results"]
    assert shown["certificate"] == result["certificate"]


def test_a_second_run_orders_nothing(sandbox: Sandbox) -> None:
    name = sandbox.customer("again.example.com")
    sandbox.must("issue", name)
    orders = sandbox.orders()
    (result,) = sandbox.must("issue", name, "--json").json["results"]
    assert (result["ok"], result["changed"]) == (True, False)
    assert sandbox.orders() == orders


def test_a_wrong_cname_is_the_customers_to_fix(sandbox: Sandbox) -> None:
    orders = sandbox.orders()
    sandbox.must("sandbox", "dns", "add", "wrong.example.com", "CNAME", "statuspage.example.net")
    ran = sandbox.certctl("issue", "wrong.example.com", "--json")
    assert (ran.code, ran.error["code"], ran.error["who"]) == (3, "dns-cname-mismatch", "customer")
    assert sandbox.orders() == orders


def test_a_caa_record_for_another_account_is_seen_before_the_ca_sees_it(sandbox: Sandbox) -> None:
    sandbox.must("issue", sandbox.customer("first.account.test"))  # or there is no account of ours yet
    (file,) = (state(sandbox) / "acme/accounts").rglob("regr.json")
    ours = json.loads(file.read_text())["uri"]
    name, orders = sandbox.customer("status.account.test"), sandbox.orders()
    sandbox.must("sandbox", "dns", "add", "account.test", "CAA", f'0 issue "letsencrypt.org; accounturi={ours}x"')
    for command in ("verify", "issue"):
        ran = sandbox.certctl(command, name, "--json")
        assert (ran.code, ran.error["code"]) == (3, "caa-forbids")
        assert f"{ours}x" in str(ran.error)
    assert sandbox.orders() == orders
    sandbox.must("sandbox", "dns", "remove", "account.test", "CAA")
    sandbox.must("sandbox", "dns", "add", "account.test", "CAA", f'0 issue "letsencrypt.org; accounturi={ours}"')
    sandbox.must("verify", name)


def test_a_domain_that_is_not_approved_costs_no_order(sandbox: Sandbox) -> None:
    orders = sandbox.orders()
    sandbox.must("sandbox", "dns", "add", "stranger.example.com", "CNAME", "status.hyperping.io")
    ran = sandbox.certctl("issue", "stranger.example.com", "--json")
    assert (ran.code, ran.error["code"]) == (4, "approval-refused")
    assert sandbox.orders() == orders


def test_a_ca_that_refuses_is_exit_5(sandbox: Sandbox) -> None:
    name = sandbox.customer("status.blocked.example.org")  # world.NEVER_SIGNED
    ran = sandbox.certctl("issue", name, "--json")
    assert (ran.code, ran.error["code"]) == (5, "ca-rejected-identifier"), ran.err


@contextmanager
def in_front(sandbox: Sandbox, text: str) -> Iterator[Path]:
    """Put a server block of the operator's on port 80."""
    block = sandbox.layout.conf_dir / "operator.conf"
    port = str(sandbox.addresses["http"]).rpartition(":")[2]
    block.write_text(f"server {{ listen 127.0.0.1:{port}; {text} }}\n")
    try:
        sandbox.must("reload")
        yield block
    finally:
        block.unlink()
        sandbox.must("reload")


def test_a_foreign_block_that_redirects_everyone_costs_nothing_and_is_named(sandbox: Sandbox) -> None:
    name = sandbox.customer("redirected.example.com")
    orders = sandbox.orders()
    with in_front(sandbox, "server_name ~^(.+)$; return 301 https://$host$request_uri;") as block:
        ran, dry = sandbox.certctl("issue", name, "--json"), sandbox.certctl("issue", "--dry-run", name, "--json")
        doctor = sandbox.certctl("doctor", "--json")
    assert sandbox.orders() == orders
    for each in (ran, dry):
        assert (each.code, each.error["code"]) == (7, "nginx-challenge-intercepted"), each.err
        assert any(str(block) in line for line in each.error["seen"])
        assert each.error["quota_used"] is False
    assert doctor.code == 1
    assert any(str(block) in each["text"] for each in doctor.json["data"] if each["level"] == "problem")
    sandbox.must("issue", name)
    assert not list((state(sandbox) / "challenges").iterdir())


def test_a_dry_run_and_doctor_try_both_ports_and_the_ca(sandbox: Sandbox) -> None:
    name = sandbox.customer("dry.example.com")
    (result,) = sandbox.must("issue", "--dry-run", name, "--json").json["results"]
    (probe,) = [step for step in result["steps"] if step["name"] == "probe"]
    for said in ("answers the challenge", "answers TLS", "the CA's directory answers"):
        assert said in probe["detail"]
        assert any(said in each["text"] for each in sandbox.certctl("doctor", "--json").json["data"])


def test_a_ca_that_cannot_be_reached_is_exit_9_before_anything_is_ordered(sandbox: Sandbox) -> None:
    name = sandbox.customer("away.example.com")
    env = {"CERTCTL_CONFIG": str(sandbox.addresses["config"]), "CERTCTL_CA__DIRECTORY": "https://127.0.0.1:1/dir"}
    for command in (("issue",), ("issue", "--dry-run")):
        ran = certctl(*command, name, "--json", env=env)
        assert (ran.code, ran.error["code"], ran.error["quota_used"]) == (9, "ca-unreachable", False), ran.err
    doctor = certctl("doctor", "--json", env=env)
    assert doctor.code == 1
    assert any("no usable answer" in each["text"] for each in doctor.json["data"])


def test_a_challenge_that_fails_is_exit_5_and_says_that_quota_was_spent(sandbox: Sandbox) -> None:
    name = sandbox.customer("hijacked.example.com")
    tokens = f"alias {state(sandbox)}/challenges/;"
    mine = "if ($http_user_agent !~ certctl) { return 200 'mine'; }"  # as a balancer, which only strangers meet
    with in_front(sandbox, f"server_name {name}; location ^~ /.well-known/acme-challenge/ {{ {mine} {tokens} }}"):
        ran = sandbox.certctl("issue", name, "--json")
    assert (ran.code, ran.error["code"], ran.error["quota_used"]) == (5, "ca-unauthorized", True), ran.err
    assert not list((state(sandbox) / "challenges").iterdir())


def test_a_foreign_file_that_is_broken_is_named_and_nothing_is_left_behind(sandbox: Sandbox) -> None:
    name = sandbox.customer("unlucky.example.com")
    live = sandbox.customer("lucky.example.com")
    sandbox.must("issue", live)
    before = sandbox.served_leaf(live)
    broken = sandbox.layout.conf_dir / "broken.conf"
    broken.write_text("server { this is not nginx; }\n")
    try:
        ran = sandbox.certctl("issue", name, "--json")
    finally:
        broken.unlink()
    assert (ran.code, ran.error["code"]) == (7, "nginx-already-broken"), ran.err
    assert any("broken.conf:1" in line for line in ran.error["seen"])
    assert not (sandbox.layout.conf_dir / f"{name}.conf").exists()
    assert sandbox.served_leaf(live) == before
    orders = sandbox.orders()
    sandbox.must("issue", name)
    assert sandbox.orders() == orders, "the certificate of the first run is published, not ordered again"


def test_a_name_another_file_serves_is_a_conflict_and_rolled_back(sandbox: Sandbox) -> None:
    name = sandbox.customer("taken.example.com")
    port = str(sandbox.addresses["http"]).rpartition(":")[2]
    other = sandbox.layout.conf_dir / "01-operator.conf"
    snippet = f"location ^~ /.well-known/acme-challenge/ {{ alias {state(sandbox)}/challenges/; }}"
    other.write_text(f"server {{ listen 127.0.0.1:{port}; server_name {name}; {snippet} }}\n")
    try:
        sandbox.must("reload")
        ran = sandbox.certctl("issue", name, "--json")
        assert (ran.code, ran.error["code"]) == (7, "nginx-conflict"), ran.err
        assert any("01-operator.conf" in line for line in ran.error["seen"])
        assert not (sandbox.layout.conf_dir / f"{name}.conf").exists()
    finally:
        other.unlink()
        sandbox.must("reload")


@pytest.mark.parametrize("mode", ["500", "hang", "redirect"])
def test_an_approval_endpoint_that_does_not_answer_is_not_a_no(sandbox: Sandbox, mode: str) -> None:
    name = sandbox.customer(f"silent-{mode}.example.com")
    sandbox.must("sandbox", "approve", "--mode", mode)
    try:
        ran = sandbox.certctl("issue", name, "--json")
    finally:
        sandbox.must("sandbox", "approve", "--mode", "list")
    assert (ran.code, ran.error["code"], ran.error["retryable"]) == (9, "approval-unreachable", True)


def test_a_wrong_configuration_is_exit_10_with_every_fault(sandbox: Sandbox, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[dns]\ntraget = "x"\n[nginx]\nhttp_port = "eighty"\n')
    ran = sandbox.certctl("issue", "any.example.com", "--json", "--config", str(config))
    assert (ran.code, ran.error["code"], len(ran.error["seen"])) == (10, "config-invalid", 2)


def test_remove_leaves_no_trace_in_nginx(sandbox: Sandbox) -> None:
    name = sandbox.customer("leaver.example.com")
    sandbox.must("issue", name)
    assert leftovers(sandbox, name)
    sandbox.must("remove", name, "--revoke")
    with pytest.raises(ssl.SSLError):
        sandbox.served_leaf(name)
    assert not leftovers(sandbox, name)
    assert name not in (sandbox.layout.conf_dir / "00-certctl-base.conf").read_text()
    assert sandbox.must("remove", name, "--json").json["results"][0]["changed"] is False


def test_a_removed_domain_is_not_published_again_by_hand(sandbox: Sandbox) -> None:
    name = sandbox.customer("kept.example.com")
    sandbox.must("issue", name)
    sandbox.must("remove", name, "--keep-certificate")
    orders = sandbox.orders()
    assert sandbox.certctl("publish", name).code == 10
    sandbox.must("issue", name)
    assert sandbox.orders() == orders, "the certificate that was kept is used"


def test_a_renewal_serves_a_new_leaf_and_nothing_due_is_silent_success(sandbox: Sandbox) -> None:
    name = sandbox.customer("renewed.example.com")
    sandbox.must("issue", name)
    before = sandbox.served_leaf(name)
    quiet = sandbox.must("renew", name, "-q")
    assert (quiet.out, quiet.err) == ("", "")
    sandbox.must("renew", name, "--force")
    assert sandbox.served_leaf(name).serial_number != before.serial_number


def test_many_names_from_stdin_go_side_by_side_and_bad_ones_stop_nobody(sandbox: Sandbox) -> None:
    names = [sandbox.customer(f"many{number}.example.com") for number in range(4)]
    text = "\n".join(["# customers", *names, "", "not a name", names[0].upper()]) + "\n"
    ran = sandbox.certctl("issue", "-", "--jobs", "4", "--json", stdin=text)
    assert ran.code == 2
    results = {result["domain"]: result["ok"] for result in ran.json["results"]}
    assert results == {"not a name": False} | dict.fromkeys(names, True)
    assert len({sandbox.served_leaf(name).serial_number for name in names}) == len(names)


def test_waiting_ends_when_the_customer_has_changed_the_dns(sandbox: Sandbox) -> None:
    sandbox.must("sandbox", "approve", "late.example.com")
    short = sandbox.certctl("issue", "late.example.com", "--wait", "1s", "--json")
    assert (short.code, short.error["code"]) == (3, "dns-no-such-name")
    sandbox.customer("late.example.com")
    sandbox.must("issue", "late.example.com", "--wait", "30s")


def test_a_dry_run_asks_and_changes_nothing(sandbox: Sandbox) -> None:
    name = sandbox.customer("rehearsal.example.com")
    orders = sandbox.orders()
    sandbox.must("issue", "--dry-run", name)
    assert sandbox.orders() == orders
    assert sandbox.certctl("status", name).code == 10


def test_keys_are_private_and_never_in_sight(sandbox: Sandbox) -> None:
    name = sandbox.customer("private.example.com")
    said = sandbox.must("issue", name, "-v")
    for path in state(sandbox).rglob("*"):
        if path.is_file() and b"PRIVATE KEY" in path.read_bytes():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    logs = "".join(path.read_text(errors="replace") for path in sandbox.layout.logs.iterdir())
    assert "PRIVATE KEY" not in said.out + said.err + logs


def test_the_story_can_be_told_step_by_step(sandbox: Sandbox) -> None:
    name = sandbox.customer("steps.example.com")
    sandbox.must("verify", name)
    sandbox.must("approval", name)
    sandbox.must("obtain", name)
    with pytest.raises(ssl.SSLError):
        sandbox.served_leaf(name)
    assert name in sandbox.must("publish", name, "--diff").out
    sandbox.must("publish", name)
    sandbox.must("reload")
    sandbox.must("confirm", name)
    sandbox.served_leaf(name)


def test_reconcile_mends_what_a_hand_broke(sandbox: Sandbox) -> None:
    name = sandbox.customer("mended.example.com")
    sandbox.must("issue", name)
    key = state(sandbox).with_name("certctl-sites") / name / "current" / "privkey.pem"
    for breakage in (
        (sandbox.layout.conf_dir / f"{name}.conf").unlink,
        key.unlink,
        lambda: key.write_text("no key"),
    ):
        breakage()
        assert name in sandbox.must("reconcile", "--dry-run").out
        if not key.exists() or key.read_text() != "no key":
            ran = sandbox.certctl("doctor")
            assert (ran.code, f"files of theirs are gone: {name}" in ran.out) == (1, True)
        sandbox.must("reconcile")
        sandbox.served_leaf(name)
    assert "Nothing differs" in sandbox.must("reconcile", "--dry-run").out
    sandbox.must("obtain", name, "--force")
    ran = sandbox.certctl("doctor")
    assert (ran.code, f"nginx does not have their newest certificate: {name}" in ran.out) == (1, True)
    sandbox.must("reconcile")


def test_doctor_finds_nothing_to_complain_about_in_a_fresh_sandbox(sandbox: Sandbox) -> None:
    findings = sandbox.must("doctor", "--json").json["data"]
    assert {finding["area"] for finding in findings} >= {
        "config",
        "state",
        "store",
        "dns",
        "approval",
        "ca",
        "nginx",
    }
