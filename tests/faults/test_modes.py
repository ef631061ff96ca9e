"""Modes shared and lua on a real nginx: names come, are renewed and go without a reload, in every worker."""

import os
import re
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from certctl.domain import Domain
from certctl.errors import WebServerFailed
from certctl.nginx import mirror
from certctl.nginx.master import workers
from certctl.nginx.server import Nginx
from certctl.values import Level, Mode, Pem, Site
from tests.real_nginx import RealNginx, canary, environment, need, put_live, real_nginx, wait_for

pytestmark = pytest.mark.e2e

CATCH_ALLS = (Mode.SHARED, Mode.LUA)


@pytest.fixture(params=CATCH_ALLS)
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RealNginx]:
    """Two workers, and a customer whose handshakes must never fail."""
    with real_nginx(tmp_path, mode=request.param, workers=2) as nginx:
        put_live(nginx, nginx.site("canary.test"))
        with canary(nginx, nginx.site("canary.test")) as failures:
            yield nginx
        assert failures == []


def everywhere(host: RealNginx, name: str) -> set[str | None]:
    """Look often enough that both workers answer."""
    return {host.look(name) for _ in range(40)}


def test_new_renewed_and_removed_names_are_live_in_every_worker_without_test_or_reload(host: RealNginx) -> None:
    before = host.tests_run(), host.reloads()
    for version in (1, 2, 3):
        site = host.site("new.test", version)
        put_live(host, site)
        assert everywhere(host, "new.test") == {site.certificate.fingerprint}
    with host.web.change([], gone=[Domain("new.test")]) as change:
        change.publish()
        change.reload()
        change.confirm(Domain("new.test"))
    assert everywhere(host, "new.test") == {None}
    assert (host.tests_run(), host.reloads()) == before
    assert not (host.settings.live / "new.test").exists()


def test_a_version_number_that_comes_again_with_another_certificate_is_seen(host: RealNginx) -> None:
    """As after a restored backup: the store counts from an older version, and workers know the number already."""
    first, other = host.site("new.test", 4), host.site("other.test", 4)
    put_live(host, first)
    assert everywhere(host, "new.test") == {first.certificate.fingerprint}
    put_live(host, host.site("new.test", 3))
    again = Site(replace(other.certificate, domain=Domain("new.test")), other.pem)
    put_live(host, again)
    assert everywhere(host, "new.test") == {again.certificate.fingerprint}


def test_a_site_that_went_and_came_back_is_served_with_its_new_certificate(host: RealNginx) -> None:
    put_live(host, host.site("new.test", 1))
    with host.web.change([], gone=[Domain("new.test")]) as change:
        change.publish()
        change.reload()
    put_live(host, host.site("new.test", 2))
    assert everywhere(host, "new.test") == {host.site("new.test", 2).certificate.fingerprint}


def test_wildcards_and_names_with_a_block_of_their_own_win_and_nobody_else_notices(host: RealNginx) -> None:
    wild, own = host.site("*.zone.test"), replace(host.site("own.test"), mode=Mode.BLOCKS)
    shared = host.site("shared.test")
    put_live(host, shared)
    before = host.reloads()
    put_live(host, wild, own, host.site("more.test"))
    assert host.reloads() == before + 1
    names = {path.name for path in host.settings.conf_dir.glob("*.test.conf")}
    assert names == {"_wildcard.zone.test.conf", "own.test.conf"}
    assert host.look("a.zone.test") == host.look("zone.test") == wild.certificate.fingerprint
    assert host.look("own.test") == own.certificate.fingerprint
    assert host.look("shared.test") == shared.certificate.fingerprint
    assert host.look("more.test") == host.site("more.test").certificate.fingerprint


def test_a_name_moves_to_a_block_and_back_while_it_is_served(host: RealNginx) -> None:
    site = host.site("new.test")
    put_live(host, site)
    with canary(host, site) as failures:
        for mode in (Mode.BLOCKS, None, Mode.BLOCKS, host.settings.mode):
            before = host.reloads()
            put_live(host, replace(site, mode=mode))
            assert host.reloads() == before + 1
            assert host.settings.block_path(site.domain).exists() is (mode is Mode.BLOCKS)
            assert host.web.preview(replace(site, mode=mode)).diff() == ""
    assert failures == []


def test_who_had_connected_before_a_name_got_a_block_still_finds_its_pair(host: RealNginx) -> None:
    """The old worker took the connection, and opens the pair when it hears the name: the change waits for that."""
    site = host.site("new.test")
    put_live(host, site)
    held = [held_connection(host) for _ in range(8)]  # so that both workers have some
    with ThreadPoolExecutor() as pool:
        before = host.reloads()
        moving = pool.submit(put_live, host, replace(site, mode=Mode.BLOCKS))
        wait_for(lambda: host.reloads() == before + 1)
        for _ in range(300):  # by when the change would be over that waits for nobody
            assert host.look("new.test") == site.certificate.fingerprint
        is_waiting = not moving.done()
        shown = [leaf_shown(connection, "new.test") for connection in held]
        moving.result()
    assert is_waiting
    assert shown == [site.certificate.fingerprint] * len(held)
    assert not (host.settings.live / "new.test").exists()


def held_connection(host: RealNginx) -> socket.socket:
    """Connect, and wait until a worker has the connection."""
    master = Nginx(host.settings)._master.pid()
    assert master
    before = held_by_workers(master)
    connection = socket.create_connection(("127.0.0.1", host.settings.https_port))
    wait_for(lambda: held_by_workers(master) > before)
    return connection


def held_by_workers(master: int) -> int:
    """Count what the workers have open; the canary's own connections come and go."""
    return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid, _ in workers(master).accepting)


def leaf_shown(connection: socket.socket, name: str) -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with connection, context.wrap_socket(connection, server_hostname=name) as wrapped:
        leaf = wrapped.getpeercert(binary_form=True)
    assert leaf
    return sha256(leaf).hexdigest()


def test_a_name_with_a_block_goes_from_nginx_and_from_the_catch_all(host: RealNginx) -> None:
    site = replace(host.site("own.test"), mode=Mode.BLOCKS)
    put_live(host, site)
    with host.web.change([], gone=[site.domain]) as change:
        change.publish()
        change.reload()
        change.confirm(site.domain)
    assert everywhere(host, "own.test") == {None}
    assert list(host.web.names()) == [Domain("canary.test")]


def test_what_fails_after_the_links_are_swapped_is_taken_back(host: RealNginx) -> None:
    old = host.site("old.test", 1)
    put_live(host, old)
    before = host.snapshot()
    with pytest.raises(KeyboardInterrupt):
        interrupt(host, host.site("old.test", 2), host.site("new.test"))
    assert (host.look("old.test"), host.look("new.test")) == (old.certificate.fingerprint, None)
    assert host.snapshot() == before


def interrupt(host: RealNginx, *sites: Site) -> None:
    """Publish, see it on the wire, and be interrupted."""
    with host.web.change(sites) as change:
        change.publish()
        assert [host.look(str(s.domain)) for s in sites] == [s.certificate.fingerprint for s in sites]
        raise KeyboardInterrupt


def test_another_leaf_than_the_stores_is_not_served_and_taken_back(host: RealNginx) -> None:
    right, wrong = host.site("new.test"), host.site("new.test", 2)
    before = host.snapshot()
    host.settings = replace(host.settings, confirm_deadline=host.settings.confirm_deadline / 10)
    with pytest.raises(WebServerFailed) as caught:
        put_live(host, Site(wrong.certificate, right.pem))
    assert caught.value.slug == "nginx-not-served"
    assert right.certificate.fingerprint in caught.value.seen[0]
    assert host.snapshot() == before


def test_the_preview_says_where_the_link_would_point(host: RealNginx) -> None:
    site = host.site("new.test")
    link = mirror.current_path(host.settings.live, site.domain)
    assert host.web.preview(site).text == f"{link} -> 1\n"
    assert host.web.preview(site).diff()
    put_live(host, site)
    assert host.web.preview(site).diff() == ""
    assert f"-{link} -> 1\n+{link} -> 2\n" in host.web.preview(host.site("new.test", 2)).diff()


def test_sixteen_changes_at_once_do_not_wait_for_each_other_for_ever(host: RealNginx) -> None:
    sites = [host.site(f"s{number}.test") for number in range(16)]
    batches = [sites[number:] + sites[:number] for number in range(16)]
    threads = [threading.Thread(target=put_live, args=(host, *batch)) for batch in batches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert not any(thread.is_alive() for thread in threads)
    assert [host.look(str(s.domain)) for s in sites] == [s.certificate.fingerprint for s in sites]


def test_a_damaged_mirror_is_repaired_and_seen(host: RealNginx) -> None:
    site = host.site("new.test")
    put_live(host, site)
    for name in ("privkey.pem", "fullchain.pem"):
        (host.settings.live / "new.test" / "current" / name).write_bytes(b"")
        put_live(host, site)
        assert everywhere(host, "new.test") == {site.certificate.fingerprint}


_CALLS = ("rename", "symlink", "unlink", "fsync", "mkdir", "linkat")


@pytest.mark.parametrize("call", _CALLS)
def test_a_kill_in_the_middle_leaves_old_or_new_and_the_next_run_ends_well(host: RealNginx, call: str) -> None:
    put_live(host, host.site("old.test", 1))
    for nth in (1, 2, 3, 5, 8):
        before = host.look("old.test")
        new, fresh = host.site("old.test", 10 + nth), host.site(f"fresh{nth}.test")
        argv = host.save_for_script(new, fresh)
        inject = ["-e", f"trace={call}", "-e", f"inject={call}:signal=SIGKILL:when={nth}"]
        run = subprocess.run([need("strace"), "-o", os.devnull, *inject, *argv], check=False, env=environment())
        assert run.returncode in {0, -signal.SIGKILL, 128 + signal.SIGKILL}
        assert host.look("old.test") in {before, new.certificate.fingerprint}, (call, nth)
        assert host.look(str(fresh.domain)) in {None, fresh.certificate.fingerprint}
        subprocess.run(argv, check=True, env=environment())
        assert host.look("old.test") == new.certificate.fingerprint
        assert host.look(str(fresh.domain)) == fresh.certificate.fingerprint
        assert [p for p in host.settings.live.rglob(".*") if p.name != ".last-reload"] == [], (call, nth)


def test_a_full_disk_leaves_every_byte_as_it_was(host: RealNginx) -> None:
    put_live(host, host.site("old.test", 1))
    before = host.snapshot()
    argv = host.save_for_script(host.site("old.test", 2), host.site("new.test"))
    for call, nth in (("fsync", 1), ("fsync", 2), ("fsync", 4), ("fsync", 7), ("rename", 1), ("rename", 3),
                      ("symlink", 1), ("symlink", 2), ("mkdir", 3)):  # fmt: skip
        inject = ["-e", f"trace={call}", "-e", f"inject={call}:error=ENOSPC:when={nth}"]
        run = subprocess.run(
            [need("strace"), "-o", os.devnull, *inject, *argv],
            check=False, env=environment(), capture_output=True, text=True,
        )  # fmt: skip
        assert run.returncode == 1, (call, nth)
        assert "ConfigInvalid: cannot write" in run.stderr, (call, nth, run.stderr)
        assert host.snapshot() == before, (call, nth)


def test_memory_does_not_grow_with_the_number_of_names(tmp_path: Path) -> None:
    with real_nginx(tmp_path, mode=Mode.SHARED) as host:
        some = host.site("s0.test")
        put_live(host, some)
        for number in range(1, 1000):
            (host.settings.live / f"s{number}.test").symlink_to("s0.test")
        look_at_all(host, 10)
        few = memory(host)
        look_at_all(host, 1000)
        assert (memory(host) - few) / 990 < 3, "kB a name, of TLS sessions; a server block took 60 (nginx 1.22.1)"


def look_at_all(host: RealNginx, names: int) -> None:
    expected = host.site("s0.test").certificate.fingerprint
    assert {host.look(f"s{number % names}.test") for number in range(1000)} == {expected}


def memory(host: RealNginx) -> int:
    """Return the proportional set size of master and workers, in kB (proc_pid_smaps(5))."""
    pid = host.web._master.pid()
    assert pid
    pids = [pid, *(worker for worker, _ in workers(pid).accepting)]
    texts = [Path(f"/proc/{each}/smaps_rollup").read_text() for each in pids]
    return sum(int(size) for text in texts for size in re.findall(r"^Pss: +(\d+)", text, re.MULTILINE))


def test_while_nobody_can_load_the_pair_the_old_one_stays(host: RealNginx) -> None:
    one, other = host.site("one.test"), host.site("other.test")
    put_live(host, one)
    before = host.snapshot()
    with pytest.raises(WebServerFailed, match="nginx was not touched"):
        put_live(host, Site(replace(one.certificate, version=2), Pem(one.pem.fullchain, other.pem.private_key)))
    assert host.snapshot() == before


def test_the_doctor_finds_a_healthy_catch_all_healthy(host: RealNginx) -> None:
    assert {finding.level for finding in host.web.examine()} == {Level.OK}
    texts = [finding.text for finding in host.web.examine()]
    assert any(f"mode {host.settings.mode}: " in text for text in texts)
    assert any("workers may read keys" in text for text in texts)


def test_the_doctor_says_which_file_is_not_what_we_write(host: RealNginx) -> None:
    path = host.settings.lua_path if host.settings.mode is Mode.LUA else host.settings.base_path
    path.write_text(path.read_text() + "\n")
    (finding,) = [finding for finding in host.web.examine() if finding.level is not Level.OK]
    assert (finding.fix, str(path) in finding.text) == ("certctl init", True)
    assert host.web.install_base().changed
    assert {finding.level for finding in host.web.examine()} == {Level.OK}


def test_the_doctor_names_the_line_that_lets_workers_read_keys(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("NOT PROVED: only root's nginx can have workers of another user: run as root")
    with real_nginx(tmp_path, mode=Mode.SHARED, user="www-data") as host:
        settings = replace(host.settings, user="root", group="games")
        found = [f for f in Nginx(settings).examine() if f.level is Level.PROBLEM]
        assert [finding.fix[:24] for finding in found] == ["user www-data games; in "]
    (tmp_path / "second").mkdir()
    with real_nginx(tmp_path / "second", mode=Mode.SHARED, user="www-data www-data") as host:
        settings = replace(host.settings, user="root", group="www-data")
        found = [f for f in Nginx(settings).examine() if f.level is Level.WARNING]
        assert [finding.fix for finding in found] == ["gpasswd --delete www-data www-data"]
