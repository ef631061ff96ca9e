"""The sandbox comes up, answers, changes and goes away without a trace of a process."""

import http.client
import json
import os
import pwd
import shutil
import signal
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype
import pytest

import certctl as package
from tests.e2e.real_sandbox import DAEMON, WORKERS, Sandbox, bring_up, certctl, open_place, own_host, take_down

pytestmark = pytest.mark.e2e
AS_ROOT = pytest.mark.skipif(
    os.geteuid() != 0, reason="NOT PROVED: whose each part is; only root can tell users apart"
)

KEYS = {
    "acme_directory", "acme_ca_file", "issuer_root_file", "pebble_management",
    "dns", "approval", "http", "https", "config", "running", "parts",
}  # fmt: skip


@pytest.fixture
def root(real_parts: None) -> Iterator[Path]:  # noqa: ARG001
    """A place for a sandbox of the test's own."""
    with open_place() as place:
        root = place / "sandbox"
        yield root
        if (root / "sandbox.json").exists():
            take_down(root)


def daemons(root: Path) -> dict[str, int]:
    """Return the session of each part; every process of a part is in it."""
    return {row["name"]: row["pid"] for row in json.loads((root / "sandbox.json").read_text())["daemons"]}


def who(pid: int) -> tuple[str, frozenset[int]]:
    """Return a process's user and groups (proc_pid_status(5))."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    groups = {int(fields["Gid"].split()[1]), *map(int, fields["Groups"].split())}
    return pwd.getpwuid(int(fields["Uid"].split()[1])).pw_name, frozenset(groups)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def living(sessions: set[int]) -> list[str]:
    """Return the processes that live in these sessions (proc(5): field 3 is the state, field 6 the session)."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text(errors="replace")
        except OSError:
            continue
        fields = text.rpartition(")")[2].split()
        if fields[0] not in {"Z", "X"} and int(fields[3]) in sessions:
            found.append(text)
    return found


def query(sandbox: Sandbox, name: str, kind: str) -> dns.message.Message:
    host, _, port = sandbox.addresses["dns"].rpartition(":")
    return dns.query.udp(dns.message.make_query(name, kind), host, port=int(port), timeout=60)


def approval(sandbox: Sandbox, name: str, timeout: float = 60) -> int:
    host = sandbox.addresses["approval"].removeprefix("http://").partition("/")[0]
    connection = http.client.HTTPConnection(host, timeout=timeout)
    try:
        connection.request("GET", f"/approvalendpoint/{name}")
        return connection.getresponse().status
    finally:
        connection.close()


def test_every_part_answers_at_the_address_that_status_tells(sandbox: Sandbox) -> None:
    shown = sandbox.must("sandbox", "status", "--json").json
    assert shown["schema"] == "certctl.sandbox-status/1"
    assert shown["data"].keys() == KEYS
    assert shown["data"]["running"] is True
    answer = query(sandbox, "status.hyperping.io", "A").answer
    assert [str(rdata) for rrset in answer for rdata in rrset] == ["127.0.0.1"]
    assert approval(sandbox, "status.example.com") == 200
    assert approval(sandbox, "status.not-a-customer.test") == 404
    assert acme_directory(sandbox)["newOrder"].startswith("https://")
    connection = http.client.HTTPConnection(sandbox.addresses["http"], timeout=60)
    connection.request("GET", "/", headers={"Host": "unknown.example.com"})
    assert connection.getresponse().status == 404
    connection.close()


def acme_directory(sandbox: Sandbox) -> dict[str, str]:
    trust = ssl.create_default_context(cafile=sandbox.addresses["acme_ca_file"])
    host, _, path = sandbox.addresses["acme_directory"].removeprefix("https://").partition("/")
    connection = http.client.HTTPSConnection(host, timeout=60, context=trust)
    connection.request("GET", "/" + path, headers={"User-Agent": "certctl tests"})
    directory: dict[str, str] = json.loads(connection.getresponse().read())
    connection.close()
    return directory


def test_a_name_without_a_certificate_is_refused_on_https(sandbox: Sandbox) -> None:
    with pytest.raises(ssl.SSLError, match="unrecognized name"):
        sandbox.served_leaf("nobody.example.com")


def test_up_twice_says_it_is_up_and_changes_nothing(root: Path) -> None:
    first = bring_up(root)
    before = daemons(root)
    again = certctl("sandbox", "up", "--root", str(root))
    assert again.code == 0
    assert "already" in again.out
    assert daemons(root) == before
    assert bring_up(root).addresses == first.addresses


def test_down_leaves_nothing_running_and_twice_is_fine(root: Path) -> None:
    sandbox = bring_up(root)
    sessions = set(daemons(root).values())
    assert len(living(sessions)) >= 5  # dns, approval, nginx and its worker, pebble
    take_down(root)
    assert living(sessions) == []
    assert certctl("sandbox", "down", "--root", str(root)).code == 0
    shown = certctl("sandbox", "status", "--root", str(root), "--json").json["data"]
    assert shown.keys() == KEYS
    assert shown["running"] is False
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(tuple(sandbox.addresses["http"].split(":")), timeout=1)


def test_two_stand_side_by_side(root: Path, sandbox: Sandbox) -> None:
    other = bring_up(root)
    assert not {value for key, value in other.addresses.items() if isinstance(value, str)} & {
        value for value in sandbox.addresses.values() if isinstance(value, str)
    }
    other.must("sandbox", "dns", "add", "only-there.example.com", "A", "127.0.0.1")
    assert query(other, "only-there.example.com", "A").answer
    assert query(sandbox, "only-there.example.com", "A").rcode() == dns.rcode.NXDOMAIN
    take_down(root)
    assert sandbox.must("sandbox", "status", "--json").json["data"]["running"] is True


def test_what_a_killed_part_leaves_behind_is_found(root: Path) -> None:
    bring_up(root)
    sessions = daemons(root)
    os.kill(sessions["nginx"], signal.SIGKILL)
    assert not certctl("sandbox", "status", "--root", str(root), "--json").json["data"]["running"]
    bring_up(root)  # a new one; the workers of the killed nginx are gone
    assert living(set(sessions.values())) == []


def test_a_process_that_merely_has_the_pid_is_left_alone(root: Path) -> None:
    bring_up(root)
    state = root / "sandbox.json"
    content = json.loads(state.read_text())
    stranger = content["daemons"][0]
    pid = stranger["pid"]
    state.write_text(json.dumps({**content, "daemons": [{**stranger, "started": stranger["started"] - 1}]}))
    take_down(root)
    assert living({pid}) != []
    state.write_text(json.dumps(content))
    take_down(root)
    assert living({pid}) == []


def test_a_part_that_cannot_start_takes_the_others_down_with_it(root: Path) -> None:
    """Go cannot reserve its memory under this limit; Python and nginx can."""
    ran = certctl("sandbox", "up", "--root", str(root), "--json", prefix=("prlimit", "--as=400000000"))
    assert ran.code == 10
    error = ran.error
    assert error["code"] == "sandbox-failed"
    assert "pebble" in error["message"]
    assert error["seen"]
    assert daemons(root).keys() == {"dns", "approval", "pebble"}  # in the order they need each other
    assert living(set(daemons(root).values())) == []


def test_a_directory_of_somebody_else_is_not_touched(root: Path) -> None:
    root.mkdir()
    (root / "var").mkdir()
    (root / "var/precious").write_text("mine")
    ran = certctl("sandbox", "up", "--root", str(root), "--json")
    assert ran.code == 10
    assert ran.error["code"] == "sandbox-failed"
    assert (root / "var/precious").read_text() == "mine"


@pytest.mark.parametrize("place", ["/", "/tmp/a b", "/tmp/x;y", "/tmp/../etc"])
def test_a_root_that_cannot_hold_a_sandbox_is_refused(place: str) -> None:
    ran = certctl("sandbox", "up", "--root", place, "--json")
    assert ran.code == 10
    assert ran.error["code"] == "sandbox-failed"


def test_a_sandbox_must_be_named() -> None:
    assert certctl("sandbox", "status").code == 2
    assert certctl("sandbox", "status", "--root", "/nonexistent/sandbox", "--json").code == 10


def test_dns_changes_hold_at_once(sandbox: Sandbox) -> None:
    name = "changes.example.com"
    sandbox.must("sandbox", "dns", "add", name, "A", "127.0.0.9")
    assert query(sandbox, name, "A").answer
    sandbox.must("sandbox", "dns", "fail", name, "servfail")
    assert query(sandbox, name, "A").rcode() == dns.rcode.SERVFAIL
    sandbox.must("sandbox", "dns", "fail", name, "timeout")
    with pytest.raises(dns.exception.Timeout):
        query(sandbox, name, "A")
    sandbox.must("sandbox", "dns", "heal", name)
    assert query(sandbox, name, "A").answer
    sandbox.must("sandbox", "dns", "remove", name)
    assert query(sandbox, name, "A").rcode() == dns.rcode.NXDOMAIN
    assert name not in sandbox.must("sandbox", "dns", "list").out


def test_a_record_that_is_none_is_refused(sandbox: Sandbox) -> None:
    assert sandbox.certctl("sandbox", "dns", "add", "a.example.com", "A", "not-an-address").code == 10


def test_the_approval_endpoint_changes_its_mind_and_its_manners(root: Path) -> None:
    sandbox = bring_up(root)
    sandbox.must("sandbox", "approve", "new.example.com")
    assert approval(sandbox, "new.example.com") == 200
    sandbox.must("sandbox", "approve", "--revoke", "new.example.com")
    assert approval(sandbox, "new.example.com") == 404
    for mode, status in (("yes", 200), ("no", 404), ("500", 500), ("redirect", 302)):
        sandbox.must("sandbox", "approve", "--mode", mode)
        assert approval(sandbox, "new.example.com") == status
    sandbox.must("sandbox", "approve", "--mode", "hang")
    with pytest.raises(TimeoutError):
        approval(sandbox, "new.example.com", timeout=0.5)


@AS_ROOT
@pytest.mark.parametrize("mode", ["lua", "blocks"])
def test_each_part_of_roots_sandbox_is_whose_it_is_on_a_real_host(real_parts: None, mode: str) -> None:  # noqa: ARG001
    group = pwd.getpwnam(DAEMON).pw_gid
    with own_host("--mode", mode, "--serve") as sandbox:
        parts = daemons(sandbox.layout.root)
        for outsider in ("dns", "approval", "pebble"):
            nobody = pwd.getpwnam("nobody")
            assert who(parts[outsider]) == ("nobody", frozenset({nobody.pw_gid}))
        assert who(parts["nginx"])[0] == "root"
        (worker,) = children(parts["nginx"])
        user, groups = who(worker)
        assert user == WORKERS
        assert group in groups
        hears = children(parts["serve"])[0] if mode == "blocks" else parts["serve"]
        assert who(hears)[0] == DAEMON
        sandbox.must("issue", "status.example.com")  # root's command, in that user's state
        owner = "root" if mode == "blocks" else DAEMON
        assert {path.owner() for path in (sandbox.layout.root / "var/lib/certctl").rglob("*")} == {owner}
        assert {path.owner() for path in (sandbox.layout.root / "etc").rglob("*")} == {"root"}
        assert sandbox.served_leaf("status.example.com") is not None


def test_a_sandbox_of_an_ordinary_user_is_all_their_own(real_parts: None) -> None:  # noqa: ARG001
    is_root = os.geteuid() == 0
    to_them = ("setpriv", f"--reuid={WORKERS}", f"--regid={WORKERS}", "--clear-groups") if is_root else ()
    user = WORKERS if is_root else pwd.getpwuid(os.geteuid()).pw_name
    with open_place() as place:
        root = place / "sandbox"
        if is_root:
            shutil.chown(place, user)
        try:
            ran = certctl(
                "sandbox", "up", "--root", str(root), "--mode", "lua", "--serve", "--json", prefix=to_them
            )
            assert ran.code == 0, ran.out + ran.err
            env = {"CERTCTL_CONFIG": ran.json["data"]["config"]}
            assert certctl("issue", "status.example.com", env=env, prefix=to_them).code == 0
            assert {who(pid)[0] for pid in daemons(root).values()} == {user}
            assert {path.owner() for path in (root, *root.rglob("*"))} == {user}
        finally:
            certctl("sandbox", "down", "--root", str(root), prefix=to_them)


@AS_ROOT
def test_a_place_that_its_users_cannot_enter_is_an_error_before_anything_is_made(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    ran = certctl("sandbox", "up", "--root", str(closed / "below/sandbox"), "--json")
    assert (ran.code, ran.error["code"]) == (10, "sandbox-failed")
    assert f"cannot enter {closed}" in ran.error["message"]
    assert list(closed.iterdir()) == []


@AS_ROOT
def test_a_certctl_that_only_root_can_read_is_an_error_before_anything_is_made() -> None:
    with open_place() as place:
        private = place / "home"
        shutil.copytree(Path(package.__file__).parent, private / "certctl")
        private.chmod(0o700)
        from_there = ("env", "-C", str(private), f"PYTHONPATH={private}")
        ran = certctl("sandbox", "up", "--root", str(place / "sandbox"), "--json", prefix=from_there)
        assert (ran.code, ran.error["code"]) == (10, "missing-program")
        assert str(private) in ran.error["message"]
        assert not (place / "sandbox").exists()
