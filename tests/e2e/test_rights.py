"""A daemon that was taken over plants links in the state it owns; root's commands work there and nowhere else."""

import json
import os
import pwd
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from certctl.ca.settings import CaSettings, order_request_for
from certctl.ca.workdir import WorkingDirectory
from certctl.domain import Domain
from tests.e2e.real_sandbox import DAEMON, GROUP, Ran, Sandbox, certctl, own_host

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(os.geteuid() != 0, reason="NOT PROVED: where root's commands go; run as root"),
]

STATE, RUN = Path("var/lib/certctl"), Path("run/certctl")
WORK = "acme/work"
ISSUING = ("issue --force planted.test", "issue fresh.test", "renew --force planted.test")
PUBLISHING = ("publish planted.test", "reconcile")
EVERYTHING = (*ISSUING, *PUBLISHING, "status", "remove planted.test")


@dataclass(frozen=True)
class Plant:
    """Where a link was put, and how commands end: those that need what was there, and the doctor, who says so."""

    at: Path
    failing: Mapping[str, str] = field(default_factory=dict)
    is_named: bool = True

    def code(self, command: str) -> int:
        slug = self.failing.get(command)
        return {None: 0, "ca-unrecognised": 5, "store-unreachable": 9, "state-unwritable": 10}[slug]


def failing(commands: tuple[str, ...], slug: str = "state-unwritable") -> dict[str, str]:
    return dict.fromkeys(commands, slug)


PLACES = {
    "acme": Plant(STATE / "acme", failing(ISSUING)),
    WORK: Plant(STATE / WORK, failing((*ISSUING, "remove planted.test"))),
    "acme/accounts": Plant(STATE / "acme/accounts", failing(ISSUING, "ca-unrecognised")),
    "live": Plant(STATE / "live", failing((*ISSUING, *PUBLISHING, "remove planted.test"))),
    "live/NAME": Plant(STATE / "live/planted.test", is_named=False),
    "live/NAME/current": Plant(STATE / "live/planted.test/current", is_named=False),
    "challenges": Plant(STATE / "challenges", failing(ISSUING)),
    "the store's log": Plant(STATE / "certctl.db-wal", failing(EVERYTHING, "store-unreachable")),
    "the store": Plant(STATE / "certctl.db", failing(EVERYTHING)),
    "locks": Plant(RUN / "locks", failing((*ISSUING, *PUBLISHING, "remove planted.test"))),
}


@pytest.fixture(scope="module")
def host(real_parts: None) -> Iterator[Sandbox]:  # noqa: ARG001
    with own_host() as sandbox:
        sandbox.must("init", "--mode", "lua")
        sandbox.customer("planted.test")
        sandbox.customer("fresh.test")
        sandbox.must("issue", sandbox.customer("known.test"))
        yield sandbox


@pytest.fixture
def outside() -> Iterator[Path]:
    """Root's own directory, which everybody may look into, with files in the places certctl would write to."""
    with tempfile.TemporaryDirectory(prefix="certctl-outside-") as place:
        outside = Path(place)
        outside.chmod(0o755)
        for name in ("privkey.pem", "planted.test/current", "fresh.test/current", "1/privkey.pem", "locks/a", "db"):
            file = outside / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("root's")
        yield outside


def everything(place: Path) -> dict[str, object]:
    paths = [place, *place.rglob("*")]
    facts = {path: path.lstat() for path in paths}
    return {
        str(path): (s.st_mode, s.st_uid, s.st_gid, s.st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path, s in facts.items()
    }


def owners(host: Sandbox) -> set[str]:
    """Return whose all is but what was put aside, which is root's."""
    places, aside = [host.layout.root / place for place in (STATE, RUN)], host.layout.root / STATE / "aside"
    paths = [path for place in places for path in (place, *place.rglob("*")) if not path.is_relative_to(aside)]
    return {pwd.getpwuid(path.lstat().st_uid).pw_name for path in paths}


def named(ran: Ran, host: Sandbox) -> list[str]:
    """What the doctor says was put there; whatever else it looked at, it says too."""
    assert {"config", "state", "store", "dns", "approval", "ca", "nginx"} <= {f["area"] for f in ran.json["data"]}
    found = [f["text"].partition(" was put there") for f in ran.json["data"] if f["level"] == "problem"]
    return [str(Path(path).relative_to(host.layout.root)) for path, said, _ in found if said]


def sites(host: Sandbox) -> Path:
    return host.layout.root / "var/lib/certctl-sites"


@contextmanager
def planted(link: Path, target: Path) -> Iterator[None]:
    """Do what the daemon's user may do in its own directories: put a link where something of certctl's was."""
    is_a_home = link.parent.name == "live"  # where any other name would be a customer's
    daemon, kept = pwd.getpwnam(DAEMON), link.with_name(f"{'.' * is_a_home}{link.name}.kept")
    was_there = os.path.lexists(link)
    if was_there:
        link.rename(kept)
    link.symlink_to(target)
    os.chown(link, daemon.pw_uid, daemon.pw_gid, follow_symlinks=False)
    try:
        yield
    finally:
        if link.is_symlink() and (was_there or link.readlink() == target):
            link.unlink()
        if kept.exists() and not os.path.lexists(link):
            kept.rename(link)
        elif is_a_home and kept.exists():
            shutil.rmtree(kept)  # it was published anew


@pytest.mark.parametrize("place", PLACES)
def test_no_command_of_roots_goes_where_a_planted_link_leads(host: Sandbox, outside: Path, place: str) -> None:
    host.must("issue", "planted.test")
    host.certctl("remove", "fresh.test")  # whichever place comes first: there it is not known yet
    target = outside / "db" if place.startswith("the store") else outside
    before, plant = everything(outside), PLACES[place]
    with planted(host.layout.root / plant.at, target):
        for command in EVERYTHING:
            ran = host.certctl(*command.split(), "--json")
            assert everything(outside) == before, command
            assert ran.code == plant.code(command), (command, ran.out, ran.err)
            assert ran.code == 0 or ran.error["code"] == plant.failing[command]
        for command in ("doctor", "doctor --fix"):
            ran = host.certctl(*command.split(), "--json")
            assert everything(outside) == before, command
            assert ran.code == (1 if plant.is_named else 0), ran.out
            assert (str(plant.at) in named(ran, host)) == plant.is_named, ran.out
    host.must("reconcile")
    host.must("issue", "--force", "planted.test", "fresh.test")  # it may rest after what was planted
    assert owners(host) == {DAEMON}


def test_what_root_makes_is_the_owners_and_what_nginx_includes_is_roots(host: Sandbox) -> None:
    name = host.customer("beside.test")
    host.must("issue", name, "--mode", "blocks")
    host.must("renew", "--force", name)
    assert {path.lstat().st_uid for path in (sites(host), *sites(host).rglob("*"))} == {0}
    assert sites(host).stat().st_mode & 0o777 == 0o700
    assert not (host.layout.root / STATE / "live" / name).exists()
    block = host.layout.conf_dir / f"{name}.conf"
    assert (block.stat().st_uid, block.stat().st_gid) == (0, 0)
    assert host.served_leaf(name) is not None
    host.must("remove", name)
    assert not block.exists()
    assert not (sites(host) / name).exists()
    assert owners(host) == {DAEMON}
    groups = {path.lstat().st_gid for path in (host.layout.root / STATE / "live").rglob("*")}
    assert groups == {pwd.getpwnam(GROUP).pw_gid}


@pytest.mark.parametrize("engine", ["certbot", "acme"])
def test_a_ca_file_that_the_owner_cannot_read_is_said_and_holds_no_name_back(host: Sandbox, engine: str) -> None:
    name = host.customer(f"trusting-{engine}.test")
    settings = {"CERTCTL_CONFIG": str(host.addresses["config"]), "CERTCTL_CA__ENGINE": engine}
    host.layout.ca.chmod(0o700)
    try:
        ran = certctl("issue", name, "--json", env=settings)
        assert (ran.code, ran.error["code"]) == (10, "config-invalid"), ran.out
        assert ran.error["expected"][0].endswith(f"who owns certctl's state, and not below {host.layout.ca}")
        host.layout.ca.chmod(0o755)
        (host.layout.ca / "https-ca.pem").chmod(0o600)
        ran = certctl("issue", name, "--json", env=settings)
        assert ran.error["next"][0] == f"chmod a+r {host.layout.ca}/https-ca.pem"
        (host.layout.ca / "https-ca.pem").chmod(0o644)
        assert certctl("issue", name, env=settings).code == 0
    finally:
        host.layout.ca.chmod(0o755)
        (host.layout.ca / "https-ca.pem").chmod(0o644)


def test_what_the_owner_puts_in_its_place_keeps_no_master_from_starting(host: Sandbox) -> None:
    """nginx's master opens pairs as root, and would wait for a FIFO for ever."""
    name = host.customer("fifo.test")
    host.must("issue", name, "--mode", "blocks")
    home = host.layout.root / STATE / "live" / name
    shutil.rmtree(home, ignore_errors=True)
    version = home / "1"
    version.mkdir(parents=True)
    for file in ("fullchain.pem", "privkey.pem"):
        os.mkfifo(version / file)
    (home / "current").symlink_to("1")
    for path in (home, *home.rglob("*")):
        os.chown(path, pwd.getpwnam(DAEMON).pw_uid, -1, follow_symlinks=False)
    test = ["/usr/sbin/nginx", "-t", "-c", str(host.layout.nginx_conf), "-e", "stderr"]
    assert subprocess.run(test, capture_output=True, timeout=30, check=False).returncode == 0
    host.must("reload")
    host.must("reconcile")
    assert not home.exists()
    assert host.served_leaf(name) is not None
    host.must("remove", name)


def test_a_row_the_owner_wrote_takes_no_other_customers_name(host: Sandbox) -> None:
    name, others = host.customer("row.test"), "known.test"
    host.must("issue", name, "--mode", "blocks")
    block = host.layout.conf_dir / f"{name}.conf"
    before = block.read_text()
    with sqlite3.connect(host.layout.root / STATE / "certctl.db") as db:
        db.execute("UPDATE certificate SET names = ? WHERE domain = ?", (json.dumps([name, others]), name))
    db.close()
    ran = host.certctl("reconcile", "--json")
    assert ran.code == 7
    failed = {result["domain"]: result["error"]["code"] for result in ran.json["results"] if not result["ok"]}
    assert failed == {name: "nginx-test-failed"}
    assert block.read_text() == before
    host.must("issue", "--force", name)
    host.must("remove", name)


def test_a_run_directory_that_is_gone_after_a_boot_is_the_owners_again(host: Sandbox) -> None:
    run = host.layout.root / RUN
    run.rename(run.with_name("before"))
    host.must("issue", host.customer("booted.test"))
    assert owners(host) == {DAEMON}


def test_the_state_becomes_roots_without_what_was_planted_and_without_a_second_order(real_parts: None) -> None:  # noqa: ARG001
    with own_host() as host, tempfile.TemporaryDirectory(prefix="certctl-outside-") as place:
        state, outside, daemon = host.layout.root / STATE, Path(place), pwd.getpwnam(DAEMON)
        host.must("init", "--mode", "lua")
        known, begun, victim = (host.customer(f"{name}.test") for name in ("known", "begun", "victim"))
        host.must("issue", known, begun)
        (outside / victim).mkdir()
        (outside / victim / "page.html").write_text("root's")
        before, orders = everything(outside), host.orders()
        leave_unstored(host, begun)
        for link in (
            f"{WORK}/victim.test",
            "acme/registration",
            "acme/planted",
            "challenges/planted",
            "live/planted",
        ):
            (state / link).symlink_to(outside / victim)
        for top in (state, host.layout.root / RUN):
            for path in (top, *top.rglob("*")):
                if not path.is_socket():
                    os.chown(path, daemon.pw_uid, daemon.pw_gid, follow_symlinks=False)
        host.must("init", "--mode", "blocks")
        assert host.served_leaf(known) is not None
        host.must("issue", begun)
        assert host.orders() == orders, "what the CA had made is taken up"
        host.must("issue", victim, "--force")
        host.must("renew", "--force", known)
        host.must("reconcile")
        assert everything(outside) == before
        ran = host.must("doctor", "--json")
        kept = [f["text"] for f in ran.json["data"] if f["level"] == "warning" and "/aside/" in f["text"]]
        assert len(kept) == 1
        paths = [
            p for top in (state, host.layout.root / RUN) for p in (top, *top.rglob("*")) if "aside" not in p.parts
        ]
        assert {path.lstat().st_uid for path in paths} == {0}


def leave_unstored(host: Sandbox, name: str) -> None:
    """Leave what a run leaves that was killed when the CA had made the certificate and the store had it not."""
    state = host.layout.root / STATE
    with sqlite3.connect(state / "certctl.db") as db:
        (chain, key) = db.execute("SELECT fullchain, private_key FROM pem WHERE domain = ?", (name,)).fetchone()
    db.close()
    host.must("remove", name)
    at = str(host.addresses["acme_directory"])
    settings = CaSettings(at, state / "acme", state / "challenges", profile="default")
    workdir = WorkingDirectory(settings.work / name)
    workdir.make(settings)
    workdir.ask(order_request_for(Domain(name), settings))
    workdir.key.write_text(key)
    workdir.keep(chain.encode())
