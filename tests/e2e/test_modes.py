"""A host moves between modes with live customers: nobody notices, and only those may read keys who must."""

import grp
import os
import pwd
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from certctl.sandbox.layout import Layout
from tests.e2e.real_sandbox import DAEMON, GROUP, Sandbox, certctl, own_host, rewrite
from tests.real_nginx import need, wait_for

pytestmark = pytest.mark.e2e


@pytest.fixture
def host(real_parts: None) -> Iterator[Sandbox]:  # noqa: ARG001
    with own_host() as sandbox:
        yield sandbox


def as_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("NOT PROVED: who may read keys; only root can become another user: run as root")


@contextmanager
def watched(host: Sandbox, names: list[str]) -> Iterator[list[str]]:
    """Shake hands with each name all the time; yield what went wrong."""
    expected = {name: host.served_leaf(name) for name in names}
    failures: list[str] = []
    over = threading.Event()

    def probe(name: str) -> None:
        while not over.wait(0.01):
            try:
                if host.served_leaf(name) != expected[name]:
                    failures.append(f"{name}: another certificate")
            except OSError as error:
                failures.append(f"{name}: {error}")

    threads = [threading.Thread(target=probe, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    try:
        yield failures
    finally:
        over.set()
        for thread in threads:
            thread.join()


def modes(layout: Layout, place: str = "certctl/live") -> set[str]:
    """Return the mode and the owner of everything in a place of the mirror."""
    paths = [layout.root / "var/lib" / place, *(layout.root / "var/lib" / place).rglob("*")]
    facts = [(path, path.lstat()) for path in paths if not path.is_symlink() and not path.name.startswith(".")]
    return {
        f"{'directory' if path.is_dir() else path.name} {stat.st_mode & 0o7777:o}"
        f" {pwd.getpwuid(stat.st_uid).pw_name}:{grp.getgrgid(stat.st_gid).gr_name}"
        for path, stat in facts
    }


def test_a_host_moves_through_all_modes_and_back_and_nobody_notices(host: Sandbox) -> None:
    names = [host.customer(f"{name}.moves.test") for name in ("a", "b", "own")]
    host.must("issue", *names)
    before = host.layout.config.read_text()
    host.must("issue", names[2], "--mode", "blocks")
    with watched(host, names) as failures:
        for mode in ("shared", "lua", "blocks", "lua", "shared", "blocks"):
            ran = host.must("init", "--mode", mode)
            assert f"3 served in mode {mode}" in ran.out
            assert "units differ by mode: certctl timer install" in ran.out
            assert blocks(host) == {"a", "b", "own"} if mode == "blocks" else {"own"}
            assert f'mode = "{mode}"' in host.layout.config.read_text()
            assert host.must("init", "--mode", mode, "--dry-run").out == "Nothing would change.\n"
            assert host.must("reconcile", "--dry-run").out == "Nothing differs.\n"
            fresh = host.customer(f"{mode}.moves.test")
            host.must("issue", fresh)
            host.must("remove", fresh)
    assert failures == []
    assert host.layout.config.read_text() == before
    assert not (host.layout.conf_dir / "certctl.lua").exists()


def blocks(host: Sandbox) -> set[str]:
    return {path.name.partition(".")[0] for path in host.layout.conf_dir.glob("*.moves.test.conf")}


def test_workers_read_keys_and_no_other_process_of_their_user_does(host: Sandbox) -> None:
    as_root()
    name = host.customer("rights.test")
    host.must("issue", name)
    key = host.layout.root / f"var/lib/certctl/live/{name}/current/privkey.pem"
    closed = {"directory 700 root:root", "privkey.pem 600 root:root", "fullchain.pem 644 root:root"}
    for mode in ("shared", "lua"):
        host.must("init", "--mode", mode)
        host.must("issue", "--force", name)  # root's commands work beside the daemon's user, and for it
        owner = f"{DAEMON}:{GROUP}"
        assert modes(host.layout) == {
            f"directory 750 {owner}", f"privkey.pem 640 {owner}", f"fullchain.pem 644 {owner}"
        }  # fmt: skip
        assert host.served_leaf(name) is not None  # by a worker of www-data, which opened the key itself
        assert reads("www-data", "www-data", key) is False
        assert reads("www-data", GROUP, key) is True
        assert reads(DAEMON, GROUP, key) is True
        host.must("init", "--mode", "blocks")
        assert modes(host.layout) == {"directory 700 root:root"}, "no pair is left where workers look"
        assert modes(host.layout, "certctl-sites") == closed
        key_of_block = host.layout.root / f"var/lib/certctl-sites/{name}/current/privkey.pem"
        assert reads("www-data", GROUP, key_of_block) is False


def reads(user: str, group: str, path: Path) -> bool:
    """Tell whether a process of this user with this group, and no other, can read a file."""
    argv = [need("setpriv"), f"--reuid={user}", f"--regid={group}", "--clear-groups", "cat", str(path)]
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0


def everything(host: Sandbox) -> dict[str, object]:
    state = host.layout.root / "var/lib"
    places = (host.layout.config, host.layout.conf_dir, state / "certctl/live", state / "certctl-sites")
    paths = [path for place in places for path in (place, *place.rglob("*")) if path.name != ".last-reload"]
    return {
        str(path): (path.lstat().st_mode, path.lstat().st_uid, path.read_bytes() if path.is_file() else None)
        for path in paths
    }


def test_workers_that_could_not_read_keys_are_an_error_before_anything_is_changed(host: Sandbox) -> None:
    as_root()
    name = host.customer("reach.test")
    host.must("issue", name)
    rewrite(host.layout.nginx_conf, f"user www-data {GROUP};", "user www-data;")
    before = everything(host)
    ran = host.certctl("init", "--mode", "shared", "--json")
    assert (ran.code, ran.error["code"]) == (10, "keys-out-of-reach")
    assert ran.error["expected"] == [f"user www-data {GROUP};"]
    assert everything(host) == before


def test_a_move_that_nginx_does_not_take_leaves_everything_as_it_was(host: Sandbox) -> None:
    name = host.customer("refused.test")
    host.must("issue", name)
    text = host.layout.nginx_conf.read_text()
    host.layout.nginx_conf.write_text(
        "".join(line for line in text.splitlines(keepends=True) if "load_module" not in line)
    )
    before = everything(host)
    with watched(host, [name]) as failures:
        ran = host.certctl("init", "--mode", "lua", "--json")
    assert (ran.code, ran.error["code"]) == (7, "nginx-test-failed")
    assert "apt-get install libnginx-mod-http-lua" in ran.error["next"]
    assert everything(host) == before
    assert failures == []


@pytest.mark.parametrize("mode", ["shared", "lua"])
def test_who_cannot_see_nginxs_master_issues_all_the_same(host: Sandbox, mode: str) -> None:
    """As the daemon's user in a unit with ProtectProc=invisible, who may not look at pairs of server blocks."""
    as_root()
    host.must("init", "--mode", mode)
    host.must("issue", host.customer("own.test"), "--mode", "blocks")
    name = host.customer("unseen.test")
    hidden = 'mount -t proc -o hidepid=2 proc /proc && exec "$@"'
    become = (need("setpriv"), f"--reuid={DAEMON}", f"--regid={GROUP}", "--clear-groups")
    prefix = (need("unshare"), "--mount", "sh", "-c", hidden, "sh", *become)
    env = {"CERTCTL_CONFIG": str(host.addresses["config"])}
    ran = certctl("issue", name, "--json", env=env, prefix=prefix)
    assert ran.code == 0, ran.out + ran.err
    assert host.served_leaf(name) is not None


def is_open(address: str, port: int) -> bool:
    with socket.socket() as knocking:
        return knocking.connect_ex((address, port)) == 0


def test_a_move_while_nginx_is_down_is_refused_before_it_begins(host: Sandbox) -> None:
    host.must("issue", host.customer("down.test"))
    before = everything(host)
    os.kill(int(next(host.layout.root.rglob("nginx.pid")).read_text()), signal.SIGTERM)
    address, _, port = str(host.addresses["http"]).rpartition(":")
    wait_for(lambda: not is_open(address, int(port)))
    ran = host.certctl("init", "--mode", "shared", "--json")
    assert (ran.code, ran.error["code"]) == (7, "nginx-not-running")
    assert everything(host) == before


def test_a_catch_all_that_cannot_serve_what_is_in_the_mirror_is_taken_back(host: Sandbox) -> None:
    """Such as Lua that loads and fails: nginx's own test knows nothing of it."""
    name = host.customer("broken.test")
    host.must("issue", name)
    broken = host.layout.root / "lua/ngx/ssl.lua"
    broken.parent.mkdir(parents=True)
    broken.write_text("error('broken')\n")
    rewrite(host.layout.nginx_conf, "http {", f"http {{\n    lua_package_path '{host.layout.root}/lua/?.lua;;';")
    host.must("reload")
    before = everything(host)
    with watched(host, [name]) as failures:
        ran = host.certctl("init", "--mode", "lua", "--json")
    assert (ran.code, ran.error["code"]) == (7, "nginx-not-served")
    assert everything(host) == before
    assert failures == []


def test_one_name_cannot_have_another_mode_than_the_host_but_a_block(host: Sandbox) -> None:
    name = host.customer("own.test")
    ran = host.certctl("issue", name, "--mode", "lua", "--json")
    assert (ran.code, ran.error["code"]) == (10, "config-invalid")
    assert ran.error["next"][0] == "certctl init --mode lua"
    host.must("init", "--mode", "shared")
    block = host.layout.conf_dir / f"{name}.conf"
    host.must("issue", name, "--mode", "blocks")
    assert block.exists()
    host.must("issue", name)
    assert block.exists(), "what was chosen before stays"
    host.must("issue", name, "--mode", "shared")
    assert not block.exists()
    assert host.served_leaf(name) is not None
