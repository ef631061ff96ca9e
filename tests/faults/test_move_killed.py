"""A move between modes is killed at any step: whatever command comes next finishes it, and nobody is dark."""

import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.hashes import SHA256

from tests.e2e.real_sandbox import GROUP, Ran, Sandbox, own_host, rewrite
from tests.e2e.test_modes import modes, watched
from tests.faults.killing import is_this_commits
from tests.faults.whole import KILLED, ended, slowed, start, until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(os.geteuid() != 0, reason="NOT PROVED: what a killed move leaves; only root hands over"),
]

STATE, SITES, CONF_DIR = "var/lib/certctl", "var/lib/certctl-sites", "etc/nginx/certctl.d"
JOURNAL = f"{SITES}/.moving"
BASE = f"{CONF_DIR}/00-certctl-base.conf"
NAMES = ("a.moves.test", "b.moves.test", "own.moves.test")


@dataclass(frozen=True)
class At:
    """A step of certctl's own: what Python is about to do, the n-th time to a path below the root."""

    event: str
    path: str
    number: int = 1

    def kill(self, host: Sandbox, *arguments: str) -> "subprocess.Popen[str]":
        """Begin a run that dies here (sys.audit; a descriptor counts as what it is open on)."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("CERTCTL_")}
        path = str(host.layout.root / self.path)
        return subprocess.Popen(
            [sys.executable, "-c", _DIE, self.event, path, str(self.number), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=clean | {"CERTCTL_CONFIG": host.addresses["config"]},
            start_new_session=True,
        )


_DIE = """
import os, runpy, signal, sys
event, path, left = sys.argv[1], sys.argv[2], int(sys.argv[3])
def die(name, arguments):
    global left
    if name != event:
        return
    named = arguments[:2 if event == "os.rename" else 1]
    if path in (os.readlink(f"/proc/self/fd/{n}") if isinstance(n, int) else os.fspath(n) for n in named):
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
sys.argv[:] = ["certctl", *sys.argv[4:]]
sys.addaudithook(die)
runpy.run_module("certctl", run_name="__main__", alter_sys=True)
"""
BASE_SWAPPED = At("os.rename", BASE)
UNTESTED = At("os.rename", f"{CONF_DIR}/.undo.json", 2)  # the first writes it, before each swap
SAID = At("os.rename", "etc/certctl/config.toml")
TO_BLOCKS = {
    "it is to be written down": At("os.rename", JOURNAL),
    "no server block is there yet": At("os.rename", f"{CONF_DIR}/{NAMES[0]}.conf"),
    "all blocks are there, their nginx is to be proven": At("os.remove", f"{CONF_DIR}/.reload-pending"),
    "the base file is to be swapped": BASE_SWAPPED,
    "the base file is swapped, nginx has not tested it": replace(UNTESTED, number=4),
    "the state is to be root's": At("os.chown", STATE),
    "the state is root's, what is in it is not": At("os.chown", f"{STATE}/certctl.db"),
    "the accounts are to be made anew": At("os.rename", f"{STATE}/acme"),
    "the mirror is to be made anew": At("os.rename", f"{STATE}/live"),
    "locks are to be root's": At("os.chown", "run/certctl/locks/nginx.lock"),
    "everything is done, the configuration is to say it": SAID,
    "the journal is to be removed": At("os.remove", JOURNAL),
}
TO_SHARED = {
    "it is to be written down": At("os.rename", JOURNAL),
    "the lock of nginx is to be given away": At("os.chown", "run/certctl/locks/nginx.lock"),
    "the locks are the daemon's, not the run directory": At("os.chown", "run/certctl"),
    "the accounts are to be given away": At("os.chown", f"{STATE}/acme/accounts"),
    "the store is to be given away": At("os.chown", f"{STATE}/certctl.db"),
    "the mirror is to be given away": At("os.chown", f"{STATE}/live"),
    "the top is to be given away": At("os.chown", STATE),
    "the base file is to be swapped": BASE_SWAPPED,
    "the base file is swapped, nginx has not tested it": UNTESTED,
    "the server blocks are to be taken out": At("os.remove", f"{CONF_DIR}/{NAMES[0]}.conf"),
    "everything is done, the configuration is to say it": SAID,
    "the journal is to be removed": At("os.remove", JOURNAL),
}
NEXT = ("reconcile", "issue", "renew", "again", "doctor")
_SHARES = 4  # test_killed.py kills moves as well, so a check tries some of these and './check --faults' all
CASES = [  # the two ways in turn, so that each finds the host where it begins
    (target, *step, NEXT[number % len(NEXT)])
    for number, both in enumerate(zip(TO_SHARED.items(), TO_BLOCKS.items(), strict=True))
    for target, step in zip(("shared", "blocks"), both, strict=True)
    if is_this_commits(number, _SHARES)
]


@pytest.fixture(scope="module")
def host(real_parts: None) -> Iterator[Sandbox]:  # noqa: ARG001
    with own_host() as sandbox:
        sandbox.customers([*NAMES, "new.moves.test"])
        sandbox.must("issue", *NAMES)
        sandbox.must("issue", NAMES[2], "--mode", "blocks")
        yield sandbox


def leaves(host: Sandbox, when: str) -> dict[str, str]:
    """Return each customer's leaf on the wire, for its own name and from the CA."""
    found = {}
    for name in NAMES:
        try:
            found[name] = host.served_leaf(name).fingerprint(SHA256()).hex()
        except (ssl.SSLError, OSError) as error:
            pytest.fail(f"{when}: {name} is dark: {error}")
    return found


def nobody_is_dark(host: Sandbox, when: str) -> None:
    """Insist that nginx would start, that each is served its own leaf, and that no key is open too wide."""
    argv = ["nginx", "-t", "-p", str(host.layout.root), "-e", "stderr", "-c", str(host.layout.nginx_conf)]
    test = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert test.returncode == 0, f"{when}: {test.stderr}"
    leaves(host, when)
    keys = {key for place in ("certctl/live", "certctl-sites") for key in modes(host.layout, place) if "key" in key}
    assert keys <= {
        "privkey.pem 600 root:root", f"privkey.pem 600 {GROUP}:{GROUP}",
        f"privkey.pem 640 {GROUP}:{GROUP}", "privkey.pem 640 root:root",
    }, when  # fmt: skip


def is_in(host: Sandbox, mode: str, when: str) -> None:
    """Insist that the host is what a move to this mode makes of it, whole."""
    assert f'mode = "{mode}"' in host.layout.config.read_text(), when
    assert not (host.layout.root / JOURNAL).exists(), when
    owner = {"blocks": "root"}.get(mode, GROUP)
    for top in (STATE, "run/certctl"):
        paths = [path for path in (host.layout.root / top).rglob("*") if not path.is_socket()]
        assert {path.owner() for path in paths if not path.is_symlink() and "aside" not in path.parts} == {owner}, (
            when
        )
    blocks = {path.stem for path in host.layout.conf_dir.glob("*.moves.test.conf")}
    assert blocks >= set(NAMES) if mode == "blocks" else blocks == {NAMES[2]}, when
    live = modes(host.layout)
    wanted = {"directory 700 root:root"} if mode == "blocks" else {
        f"directory 750 {GROUP}:{GROUP}", f"privkey.pem 640 {GROUP}:{GROUP}", f"fullchain.pem 644 {GROUP}:{GROUP}"
    }  # fmt: skip
    assert live == wanted, when
    assert not list((host.layout.root / STATE).glob(".*")), when
    nobody_is_dark(host, when)


def begins_in(host: Sandbox, mode: str) -> None:
    if f'mode = "{mode}"' not in host.layout.config.read_text():
        host.must("init", "--mode", mode)


def killed(host: Sandbox, point: At, *arguments: str) -> None:
    ran = ended(point.kill(host, *arguments))
    assert ran.code == KILLED, f"never reached: {ran.code} {ran.err}"


def follow(host: Sandbox, command: str, target: str) -> Ran:
    """Run what comes next; whose certificate is renewed changes, the others must not notice."""
    words = {
        "reconcile": ["reconcile"], "issue": ["issue", "new.moves.test"], "again": ["init", "--mode", target],
        "renew": ["renew", "--force", NAMES[1]], "doctor": ["doctor", "--fix"],
    }[command]  # fmt: skip
    with watched(host, [name for name in NAMES if name not in words]) as failures:
        ran = host.certctl(*words)
    assert failures == []
    assert ran.code == 0 or command == "doctor", ran.out + ran.err
    return ran


@pytest.mark.parametrize(("target", "moment", "point", "then"), CASES, ids=[f"{c[0]}: {c[1]}" for c in CASES])
def test_a_killed_move_is_finished_by_whatever_comes_next(
    host: Sandbox, target: str, moment: str, point: At, then: str
) -> None:
    begins_in(host, "shared" if target == "blocks" else "blocks")
    killed(host, point, "init", "--mode", target)
    nobody_is_dark(host, f"killed when {moment}")
    was_begun = (host.layout.root / JOURNAL).exists()
    before = leaves(host, moment)
    ran = follow(host, then, target)
    after = leaves(host, f"{then} after {moment}")
    assert {name for name in NAMES if before[name] != after[name]} == ({NAMES[1]} if then == "renew" else set())
    if was_begun:
        assert f"the move to mode {target} had been cut short and was finished" in " ".join(ran.err.split())
        is_in(host, target, moment)
    if then == "issue":
        host.must("remove", "new.moves.test")


@pytest.mark.parametrize(
    ("target", "moment"),
    [
        ("shared", "the lock of nginx is to be given away"),
        ("shared", "the top is to be given away"),
        ("blocks", "all blocks are there, their nginx is to be proven"),
        ("blocks", "the state is root's, what is in it is not"),
    ],
)
def test_where_the_journal_is_lost_nobody_goes_dark_either_and_commands_go_on(
    host: Sandbox, target: str, moment: str
) -> None:
    begins_in(host, "shared" if target == "blocks" else "blocks")
    killed(host, (TO_BLOCKS if target == "blocks" else TO_SHARED)[moment], "init", "--mode", target)
    (host.layout.root / JOURNAL).unlink()
    for then in ("issue", "reconcile", "renew"):
        follow(host, then, target)
        nobody_is_dark(host, f"{then} without a journal, killed when {moment}")
    host.must("remove", "new.moves.test")
    host.must("init", "--mode", target)
    is_in(host, target, moment)


def test_looking_does_not_act_and_the_doctor_names_the_command_that_mends_it(host: Sandbox) -> None:
    begins_in(host, "blocks")
    killed(host, TO_SHARED["the lock of nginx is to be given away"], "init", "--mode", "shared")
    journal = (host.layout.root / JOURNAL).read_bytes()
    for looking in ("status", "log", "budget", "renew --dry-run", "reconcile --dry-run", "init --dry-run",
                    f"publish --diff {NAMES[0]}", f"issue --dry-run {NAMES[0]}"):  # fmt: skip
        host.must(*looking.split())
    ran = host.certctl("doctor", "--json")
    (found,) = [f for f in ran.json["data"] if "the move to mode shared is under way" in f["text"]]
    assert (found["level"], found["fix"]) == ("problem", "certctl reconcile")
    assert (host.layout.root / JOURNAL).read_bytes() == journal
    host.must(*found["fix"].split()[1:])
    is_in(host, "shared", "mended")


def test_who_is_not_root_neither_acts_nor_breaks(host: Sandbox) -> None:
    begins_in(host, "shared")
    killed(host, TO_BLOCKS["the base file is to be swapped"], "init", "--mode", "blocks")
    argv = ["setpriv", f"--reuid={GROUP}", f"--regid={GROUP}", "--clear-groups"]
    ran = ended(start(host, "issue", "new.moves.test", prefix=argv))
    assert ran.code == 0, ran.err
    assert (host.layout.root / JOURNAL).exists()
    host.must("remove", "new.moves.test")
    is_in(host, "blocks", "root came")


@pytest.mark.parametrize(("target", "points"), [("blocks", TO_BLOCKS), ("shared", TO_SHARED)])
def test_the_run_that_finishes_it_may_be_killed_too(host: Sandbox, target: str, points: dict[str, At]) -> None:
    begins_in(host, "shared" if target == "blocks" else "blocks")
    killed(host, points["the base file is swapped, nginx has not tested it"], "init", "--mode", target)
    for moment in ("the base file is to be swapped", "everything is done, the configuration is to say it"):
        killed(host, points[moment], "reconcile")
        nobody_is_dark(host, f"finishing was killed when {moment}")
    follow(host, "renew", target)
    is_in(host, target, "at last")


def test_what_nginx_does_not_take_any_more_is_taken_back(host: Sandbox) -> None:
    begins_in(host, "blocks")
    killed(host, TO_SHARED["the base file is to be swapped"], "init", "--mode", "lua")
    text = host.layout.nginx_conf.read_text()
    lines = text.splitlines(keepends=True)
    host.layout.nginx_conf.write_text("".join(line for line in lines if "load_module" not in line))
    try:
        ran = follow(host, "reconcile", "lua")
        assert "the move to mode lua had been cut short and was taken back" in " ".join(ran.err.split())
        nobody_is_dark(host, "taken back")
        is_in(host, "blocks", "taken back")
    finally:
        host.layout.nginx_conf.write_text(text)


def test_a_way_back_that_is_killed_is_gone_on_with(host: Sandbox) -> None:
    begins_in(host, "blocks")
    text = host.layout.nginx_conf.read_text()
    lines = text.splitlines(keepends=True)
    host.layout.nginx_conf.write_text("".join(line for line in lines if "load_module" not in line))
    try:
        killed(host, At("os.chown", "run/certctl", 2), "init", "--mode", "lua")
        nobody_is_dark(host, "killed on the way back")
        ran = follow(host, "issue", "lua")
        assert "the move back to mode blocks had been cut short and was finished" in " ".join(ran.err.split())
        host.must("remove", "new.moves.test")
        is_in(host, "blocks", "back")
    finally:
        host.layout.nginx_conf.write_text(text)


def test_workers_that_could_not_read_keys_any_more_are_not_given_them(host: Sandbox) -> None:
    begins_in(host, "blocks")
    killed(host, TO_SHARED["the top is to be given away"], "init", "--mode", "shared")
    rewrite(host.layout.nginx_conf, f"user www-data {GROUP};", "user www-data;")
    try:
        ran = follow(host, "reconcile", "shared")
        assert "was taken back" in " ".join(ran.err.split())
        is_in(host, "blocks", "taken back")
    finally:
        rewrite(host.layout.nginx_conf, "user www-data;", f"user www-data {GROUP};")


@pytest.mark.parametrize("second", ["reconcile", "init --mode shared", f"issue {NAMES[0]}", "init --mode blocks"])
def test_whoever_comes_while_a_move_is_under_way_waits_and_believes_its_end(host: Sandbox, second: str) -> None:
    begins_in(host, "blocks")
    undo = host.layout.root / CONF_DIR / ".undo.json"
    moving = start(host, "init", "--mode", "shared", prefix=slowed("rename", undo, 4))
    until((host.layout.root / JOURNAL).exists)
    with watched(host, list(NAMES)) as failures:
        ran = host.certctl(*second.split())
        assert ended(moving).code == 0
    assert failures == []
    assert ran.code == 0, ran.err
    assert "cut short" not in ran.err, "it was under way"
    is_in(host, "blocks" if second.endswith("blocks") else "shared", second)


def test_a_move_of_another_configuration_is_finished_there(host: Sandbox, tmp_path: Path) -> None:
    begins_in(host, "blocks")
    killed(host, TO_SHARED["the base file is to be swapped"], "init", "--mode", "shared")
    other = tmp_path / "other.toml"
    other.write_text(host.layout.config.read_text())
    ran = ended(start(host, "--config", str(other), "log"))
    assert ran.code == 0
    before = other.read_text()
    assert ended(start(host, "--config", str(other), "renew")).code == 0
    assert other.read_text() == before
    is_in(host, "shared", "by a run with another file")
