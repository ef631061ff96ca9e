"""What goes wrong around nginx, on a real one, while a canary site is asked all the time."""

import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from certctl.domain import Domain
from certctl.errors import Busy, ConfigInvalid, WebServerFailed
from certctl.io.locks import lock
from certctl.nginx.master import workers
from certctl.nginx.server import Nginx
from certctl.values import Level, Pem, Site
from tests.real_nginx import RealNginx, canary, need, put_live, real_nginx, wait_for

pytestmark = pytest.mark.e2e


@pytest.fixture
def host(tmp_path: Path) -> Iterator[RealNginx]:
    """A running nginx with a live canary whose handshakes must never fail."""
    with real_nginx(tmp_path) as nginx:
        put_live(nginx, nginx.site("canary.test"))
        with canary(nginx, nginx.site("canary.test")) as failures:
            yield nginx
        assert failures == []


def refusal(host: RealNginx, *sites: Site) -> WebServerFailed:
    with pytest.raises(WebServerFailed) as caught:
        put_live(host, *sites)
    return caught.value


def test_a_refused_block_leaves_every_byte_as_it_was(host: RealNginx, tmp_path: Path) -> None:
    template = tmp_path / "broken.j2"
    template.write_text("server { this_is_no_directive; }\n")
    broken = replace(host, settings=replace(host.settings, template=template))
    before = host.snapshot()
    error = refusal(broken, host.site("canary.test", 2), host.site("new.test"))
    assert error.slug == "nginx-test-failed"
    assert "this_is_no_directive" in error.seen[0]
    assert host.snapshot() == before
    assert host.cold_start_works()


def test_a_key_that_does_not_fit_never_comes_near_nginx(host: RealNginx) -> None:
    one, other = host.site("one.test"), host.site("other.test")
    before, tests = host.snapshot(), host.tests_run()
    error = refusal(host, Site(one.certificate, Pem(one.pem.fullchain, other.pem.private_key)))
    assert error.slug == "nginx-test-failed"
    assert (host.snapshot(), host.tests_run()) == (before, tests)
    for text in ("", "\0\0\0", "-----BEGIN CERTIFICATE-----\n"):
        refusal(host, Site(one.certificate, Pem(text, one.pem.private_key)))
        assert host.snapshot() == before


def test_a_name_in_a_foreign_file_is_a_conflict_that_names_the_file(host: RealNginx) -> None:
    port = host.settings.http_port
    theirs = host.foreign(f"# not ours\nserver {{ listen 127.0.0.1:{port}; server_name x.test taken.test; }}\n")
    before = host.snapshot()
    error = refusal(host, host.site("taken.test"), host.site("fine.test"))
    assert error.slug == "nginx-conflict"
    assert f"server_name taken.test in {theirs}:2" in error.seen
    assert host.snapshot() == before


def test_a_foreign_file_that_was_broken_before_us_is_named_and_nothing_is_written(host: RealNginx) -> None:
    theirs = host.foreign("# fine\n# fine\nbogus_directive on;\n")
    before = host.snapshot()
    error = refusal(host, host.site("new.test"))
    assert error.slug == "nginx-already-broken"
    assert f"{theirs}:3" in error.message
    assert host.snapshot() == before
    theirs.unlink()
    put_live(host, host.site("new.test"))


def test_a_file_that_is_not_ours_is_never_touched(host: RealNginx) -> None:
    theirs = host.settings.conf_dir / "mine.test.conf"
    theirs.write_text("# the operator's own\n")
    assert refusal(host, host.site("mine.test")).slug == "nginx-conflict"
    with host.web.change([], gone=[Domain("mine.test")]) as change:
        assert not change.publish().changed
    assert theirs.read_text() == "# the operator's own\n"
    assert list(host.web.names()) == [Domain("canary.test")]


def test_a_reload_that_a_taken_port_prevents_is_reported_with_nginxs_own_line(host: RealNginx) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        host.foreign(f"server {{ listen 127.0.0.1:{port}; }}\n")
        before = host.snapshot()
        error = refusal(host, host.site("new.test"))
    assert error.slug == "nginx-reload-failed"
    assert f"bind() to 127.0.0.1:{port} failed" in error.seen[0]
    assert host.snapshot() == before


def test_a_master_without_descriptors_for_a_reload_is_not_asked_to(host: RealNginx) -> None:
    pid = host.web._master.pid()
    assert pid
    before = host.snapshot()
    used = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    # Without our check nginx retires its workers, cannot start new ones, and the canary dies (measured).
    subprocess.run([need("prlimit"), f"--pid={pid}", f"--nofile={used}:4096"], check=True)
    error = refusal(host, host.site("new.test"))
    subprocess.run([need("prlimit"), f"--pid={pid}", "--nofile=1024:4096"], check=True)
    assert error.slug == "nginx-reload-failed"
    assert f"{used} open" in error.seen[0]
    assert host.snapshot() == before
    put_live(host, host.site("new.test"))


def test_a_changed_zone_key_is_refused_at_the_reload_and_the_next_change_waits_for_nothing(host: RealNginx) -> None:
    before = host.snapshot()
    host.refuse_reloads()
    error = refusal(host, host.site("new.test"))
    assert error.slug == "nginx-reload-failed"
    assert "while previously it used" in error.seen[0]
    assert host.snapshot() == before


def test_a_directory_nginx_does_not_include_is_said_so(host: RealNginx, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.d").mkdir()
    settings = replace(host.settings, conf_dir=tmp_path / "elsewhere.d", confirm_deadline=timedelta(seconds=0.3))
    error = refusal(replace(host, settings=settings), host.site("new.test"))
    assert error.slug == "nginx-not-included"
    assert list((tmp_path / "elsewhere.d").iterdir()) == []


def test_another_leaf_on_the_wire_is_not_served_and_rolls_back(host: RealNginx) -> None:
    right, wrong = host.site("new.test"), host.site("new.test", 2)
    host.settings = replace(host.settings, confirm_deadline=timedelta(seconds=0.3))
    before = host.snapshot()
    error = refusal(host, Site(wrong.certificate, right.pem))
    assert error.slug == "nginx-not-served"
    assert right.certificate.fingerprint in error.seen[0]
    assert host.snapshot() == before
    assert host.look("new.test") is None


def test_a_pid_file_that_names_a_stranger_gets_no_signal(host: RealNginx) -> None:
    stranger = subprocess.Popen([need("sleep"), "60"])
    pid_file = host.root / "nginx.pid"
    right = pid_file.read_text()
    for text in (f"{stranger.pid}\n", "", "garbage", "1\n", "999999999\n"):
        pid_file.write_text(text)
        error = refusal(host, host.site("new.test"))
        assert (error.slug, str(pid_file) in error.seen[0]) == ("nginx-reload-failed", True)
        assert stranger.poll() is None
    pid_file.write_text(right)
    stranger.kill()
    stranger.wait()
    put_live(host, host.site("new.test"))


def test_a_test_that_hangs_is_ended_and_taken_back(host: RealNginx) -> None:
    slow = host.root / "slow-nginx"
    slow.write_text('#!/bin/sh\n[ "$1" = -t ] && exec sleep 60\nexec /usr/sbin/nginx "$@"\n')
    slow.chmod(0o755)
    before = host.snapshot()
    settings = replace(host.settings, binary=str(slow), test_deadline=timedelta(seconds=0.5))
    assert refusal(replace(host, settings=settings), host.site("new.test")).slug == "nginx-timeout"
    assert host.snapshot() == before


def test_a_missing_binary_is_said_so_before_anything_is_written(host: RealNginx) -> None:
    before = host.snapshot()
    settings = replace(host.settings, binary="no-such-nginx")
    assert refusal(replace(host, settings=settings), host.site("new.test")).slug == "nginx-missing"
    assert host.snapshot() == before


def test_a_reload_command_runs_in_place_of_the_signal(host: RealNginx) -> None:
    pid_file = host.root / "nginx.pid"
    script = host.root / "reload.sh"
    script.write_text(f"#!/bin/sh\ntouch {host.root}/ran\nkill -HUP $(cat {pid_file})\n")
    script.chmod(0o755)
    settings = replace(host.settings, reload_command=(str(script),))
    put_live(replace(host, settings=settings), host.site("new.test"))
    assert (host.root / "ran").exists()
    failing = replace(host.settings, reload_command=("false",))
    assert refusal(replace(host, settings=failing), host.site("more.test")).slug == "nginx-reload-failed"


def test_names_of_47_200_and_253_characters_go_live_together(host: RealNginx) -> None:
    names = [
        "a" * 42 + ".test",
        ".".join(["b" * 48] * 4)[:195] + ".test",
        ".".join([*["c" * 61] * 3, "c" * 62, "test"]),
    ]
    assert [len(name) for name in names] == [47, 200, 253]
    sites = [host.site(name) for name in names]
    put_live(host, *sites)
    assert [host.look(name) for name in names] == [site.certificate.fingerprint for site in sites]


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_modes_are_right_whatever_the_umask(host: RealNginx, umask: int) -> None:
    before = os.umask(umask)
    try:
        put_live(host, host.site("new.test"))
    finally:
        os.umask(before)
    sites = host.settings.sites
    modes = {
        str(path.relative_to(sites)): stat.S_IMODE(path.lstat().st_mode)
        for path in (sites / "new.test").rglob("*")
        if not path.is_symlink()
    }
    assert modes == {"new.test/1": 0o700, "new.test/1/fullchain.pem": 0o644, "new.test/1/privkey.pem": 0o600}
    assert stat.S_IMODE((sites / "new.test").stat().st_mode) == stat.S_IMODE(sites.stat().st_mode) == 0o700
    assert stat.S_IMODE((host.settings.conf_dir / "new.test.conf").stat().st_mode) == 0o644


def test_a_damaged_mirror_is_repaired_without_a_moment_of_mismatch(host: RealNginx) -> None:
    """What is in force is not written to: its twin is made, and made again in the first one's place."""
    site = host.site("new.test")
    put_live(host, site)
    home = host.settings.sites / "new.test"
    for name, repaired in (("privkey.pem", "1.1"), ("fullchain.pem", "1")):
        (home / "current" / name).write_bytes(b"")
        put_live(host, site)
        assert (home / "current" / "privkey.pem").read_text() == site.pem.private_key
        assert (home / "current" / "fullchain.pem").read_text() == site.pem.fullchain
        assert {path.name for path in home.iterdir()} == {repaired, "current"}
        assert str((home / "current").readlink()) == repaired
        assert host.web.is_published(site.certificate, None)
        assert host.web.holds(site)
    put_live(host, host.site("new.test", 2))
    assert {path.name for path in home.iterdir()} == {"1", "2", "current"}


def test_two_versions_are_kept_and_no_more(host: RealNginx) -> None:
    for version in (1, 2, 3, 10):
        put_live(host, host.site("new.test", version))
    home = host.settings.sites / "new.test"
    assert {p.name for p in home.iterdir()} == {"3", "10", "current"}
    assert str((home / "current").readlink()) == "10"


def test_an_edit_by_hand_is_noticed_and_written_anew(host: RealNginx) -> None:
    block = host.settings.conf_dir / "canary.test.conf"
    block.write_text(block.read_text().replace("index index.html;", "index other.html;"))
    findings = [f for f in host.web.examine() if "edited by hand" in f.text]
    assert [f.fix for f in findings] == ["certctl publish canary.test"]
    assert "index other.html" in host.web.preview(host.site("canary.test")).diff()
    with host.web.change([host.site("canary.test")]) as change:
        assert "edited by hand" in change.publish().summary
        assert change.reload().changed
    assert host.web.preview(host.site("canary.test")).diff() == ""


def test_a_change_that_was_published_only_is_reloaded_by_the_next_one(host: RealNginx) -> None:
    with host.web.change([host.site("new.test")]) as change:
        change.publish()
    assert host.look("new.test") is None
    with host.web.change([host.site("canary.test")]) as change:
        assert not change.publish().changed
        assert change.reload().changed
    assert host.look("new.test") == host.site("new.test").certificate.fingerprint


def test_a_pending_reload_that_a_foreign_file_stops_is_that_files_fault(host: RealNginx) -> None:
    with host.web.change([host.site("new.test")]) as change:
        change.publish()
    theirs = host.foreign("server { listen 127.0.0.1:1;\n")
    assert refusal(host, host.site("canary.test")).slug == "nginx-already-broken"
    theirs.unlink()
    put_live(host, host.site("canary.test"))
    assert host.look("new.test") == host.site("new.test").certificate.fingerprint


def test_an_old_worker_that_lingers_with_its_connection_does_not_spoil_the_proof(host: RealNginx) -> None:
    with socket.create_connection(("127.0.0.1", host.settings.http_port)) as held:
        held.sendall(b"GET / HTTP/1.1\r\nHost: canary.test\r\n")
        put_live(host, host.site("new.test"))
        pid = host.web._master.pid()
        assert pid
        assert workers(pid).retiring
    wait_for(lambda: not workers(pid).retiring)


def as_another_user() -> None:
    """Skip, loudly: a green run of anybody but root has proved less, also where CERTCTL_E2E=required."""
    if os.geteuid() != 0:
        pytest.skip(
            "NOT PROVED: who may read keys and run nginx's test; only root can become another user: run as root"
        )


def test_workers_cannot_read_keys_but_can_read_challenges(host: RealNginx) -> None:
    as_another_user()
    (host.settings.challenges / ("t" * 20)).write_text("x")
    www = [need("setpriv"), "--reuid=33", "--regid=33", "--clear-groups", "cat"]
    key = host.settings.sites / "canary.test" / "current" / "privkey.pem"
    assert subprocess.run([*www, str(key)], capture_output=True, check=False).returncode != 0
    token = str(host.settings.challenges / ("t" * 20))
    assert subprocess.run([*www, token], capture_output=True, check=False).stdout == b"x"


def test_a_user_who_may_not_test_is_told_so_and_not_blamed(host: RealNginx) -> None:
    as_another_user()
    script = host.root / "as-www-data"
    script.write_text('#!/bin/sh\nexec setpriv --reuid=33 --regid=33 --clear-groups /usr/sbin/nginx "$@"\n')
    script.chmod(0o755)
    host.settings.live.chmod(0o755)
    before = host.snapshot()
    settings = replace(host.settings, binary=str(script))
    error = refusal(replace(host, settings=settings), host.site("new.test"))
    assert error.slug == "nginx-cannot-test"
    assert "Permission denied" in error.seen[0]
    assert host.snapshot() == before


def test_a_directory_that_cannot_be_written_is_said_so_and_nothing_is_lost(host: RealNginx) -> None:
    before = host.snapshot()
    plain_file = host.root / "a-file"
    plain_file.touch()
    settings = replace(host.settings, live=plain_file / "live")
    with pytest.raises(ConfigInvalid) as caught:
        put_live(replace(host, settings=settings), host.site("new.test"))
    assert caught.value.slug == "state-unwritable"
    assert host.snapshot() == before


def test_two_changes_at_once_wait_for_each_other(host: RealNginx) -> None:
    sites = [host.site(f"s{number}.test") for number in range(4)]
    threads = [threading.Thread(target=put_live, args=(host, site)) for site in sites]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [host.look(str(s.domain)) for s in sites] == [s.certificate.fingerprint for s in sites]


def test_a_lock_in_other_hands_is_busy_and_not_a_failure(host: RealNginx) -> None:
    settings = replace(host.settings, lock_wait=timedelta(seconds=0.2))
    with lock(settings.lock_file, timedelta(seconds=1), "nginx"), pytest.raises(Busy):
        put_live(replace(host, settings=settings), host.site("new.test"))


def test_no_number_of_ctrl_c_breaks_the_way_back(host: RealNginx) -> None:
    """The first comes while nginx tests, many more while everything is put back, which strace slows down."""
    slow, testing = host.root / "slow-nginx", host.root / "testing"
    slow.write_text(f'#!/bin/sh\n[ "$1" = -t ] && touch {testing} && sleep 9\nexec /usr/sbin/nginx "$@"\n')
    slow.chmod(0o755)
    before = host.snapshot()
    argv = replace(host, settings=replace(host.settings, binary=str(slow))).save_for_script(host.site("new.test"))
    strace = [need("strace"), "-D", "-o", os.devnull, "-e", "trace=rename", "-e", "inject=rename:delay_enter=200ms"]
    with subprocess.Popen([*strace, *argv], env=_environment(), stderr=subprocess.DEVNULL) as run:
        wait_for(testing.exists)
        run.send_signal(signal.SIGINT)
        wait_for(lambda: not (host.settings.conf_dir / "new.test.conf").exists())  # it is on the way back
        while run.poll() is None:
            run.send_signal(signal.SIGINT)
            threading.Event().wait(0.02)
    assert run.returncode == -signal.SIGINT
    assert host.snapshot() == before


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONDONTWRITEBYTECODE": "1"}


_CALLS = ("rename", "linkat", "symlink", "unlink", "fsync", "fchmod", "mkdir")


def _calls_made(host: RealNginx, call: str) -> int:
    """Publish two sites once undisturbed and count the calls."""
    log = host.root / "strace.log"
    argv = host.save_for_script(host.site("canary.test", 2), host.site("first.test"))
    subprocess.run([need("strace"), "-o", str(log), "-e", f"trace={call}", *argv], check=True, env=_environment())
    return len(re.findall(rf"^{call}\(", log.read_text(), re.MULTILINE))


@pytest.mark.parametrize("call", _CALLS)
def test_a_kill_at_a_change_leaves_old_or_new_and_the_next_run_ends_well(tmp_path: Path, call: str) -> None:
    with real_nginx(tmp_path) as host:
        put_live(host, host.site("canary.test"), host.site("steady.test"))
        with canary(host, host.site("steady.test")) as failures:
            made = _calls_made(host, call)
            points = sorted({1, made // 2, made - 1, made} - {0})
            assert made >= len(points)
            killed = [_kill_and_run_again(host, number, call, nth) for number, nth in enumerate(points)]
        assert failures == []
        assert any(killed)


def _kill_and_run_again(host: RealNginx, number: int, call: str, nth: int) -> bool:
    old = host.look("canary.test")
    new, fresh = host.site("canary.test", 10 + number), host.site(f"fresh{number}.test")
    argv = host.save_for_script(new, fresh)
    inject = ["-e", f"inject={call}:signal=SIGKILL:when={nth}"]
    run = subprocess.run(
        [need("strace"), "-o", os.devnull, "-e", f"trace={call}", *inject, *argv],
        check=False,
        env=_environment(),
        capture_output=True,
    )
    assert host.cold_start_works(), (call, nth)
    assert host.look("canary.test") in {old, new.certificate.fingerprint}
    subprocess.run(argv, check=True, env=_environment())
    assert host.look("canary.test") == new.certificate.fingerprint
    assert host.look(str(fresh.domain)) == fresh.certificate.fingerprint
    assert _strays(host) == [], (call, nth)
    return run.returncode in {-signal.SIGKILL, 128 + signal.SIGKILL}


def _strays(host: RealNginx) -> list[str]:
    places = (host.settings.conf_dir, host.settings.live, host.settings.sites)
    return [str(p) for place in places for p in place.rglob(".*") if p.name != ".last-reload"]


def test_a_bad_block_that_a_killed_run_left_does_not_stop_the_next_run(host: RealNginx, tmp_path: Path) -> None:
    """Killed between the swap and the verdict: the journal takes the block back before anything else."""
    template = tmp_path / "broken.j2"
    template.write_text("server { this_is_no_directive; }\n")
    killer = tmp_path / "killer-nginx"
    killer.write_text('#!/bin/sh\n[ "$1" = -t ] && kill -9 $PPID\nexec /usr/sbin/nginx "$@"\n')
    killer.chmod(0o755)
    settings = replace(host.settings, template=template, binary=str(killer))
    argv = replace(host, settings=settings).save_for_script(host.site("bad.test"))
    assert subprocess.run(argv, check=False, env=_environment()).returncode == -signal.SIGKILL
    assert not host.cold_start_works()
    put_live(host, host.site("good.test"))
    assert host.cold_start_works()
    assert not (host.settings.conf_dir / "bad.test.conf").exists()


def test_an_untested_block_is_not_left_by_a_full_disk(host: RealNginx) -> None:
    """Every write fails once with ENOSPC, in turn."""
    before = host.snapshot()
    argv = host.save_for_script(host.site("canary.test", 2), host.site("new.test"))
    for call, nth in (("fsync", 1), ("fsync", 3), ("fsync", 9), ("rename", 1), ("rename", 4), ("symlink", 2)):
        inject = f"inject={call}:error=ENOSPC:when={nth}"
        strace = [need("strace"), "-o", os.devnull, "-e", f"trace={call}", "-e", inject]
        run = subprocess.run([*strace, *argv], check=False, env=_environment(), capture_output=True, text=True)
        assert run.returncode == 1, (call, nth)
        assert "ConfigInvalid: cannot write" in run.stderr
        assert "No space left" in run.stderr
        assert host.snapshot() == before, (call, nth)


@pytest.mark.parametrize("when", ["from the beginning", "once nginx is asked"])
def test_a_disk_without_a_byte_of_room_does_not_keep_a_refused_block(host: RealNginx, when: str) -> None:
    template = host.root / "broken.j2"
    template.write_text("server { this_is_no_directive; }\n")
    full = host.root / "full-nginx"
    full.write_text(
        '#!/bin/sh\n[ "$1" = -t ] && prlimit --pid=$PPID --fsize=16:unlimited\n'
        'ulimit -S -f unlimited; exec /usr/sbin/nginx "$@"\n'
    )
    full.chmod(0o755)
    before = host.snapshot()
    settings = replace(host.settings, template=template, binary=str(full))
    argv = replace(host, settings=settings).save_for_script(host.site("canary.test", 2), host.site("new.test"))
    limit = [need("prlimit"), "--fsize=16:unlimited"] if when == "from the beginning" else []
    run = subprocess.run([*limit, *argv], check=False, env=_environment(), capture_output=True, text=True)
    expected = "cannot write" if limit else "nginx refused our server block; the previous configuration is back"
    assert expected in run.stderr.splitlines()[-1]
    assert host.snapshot() == before
    assert host.cold_start_works()


def test_the_base_file_goes_in_only_if_nginx_takes_it(tmp_path: Path) -> None:
    with real_nginx(tmp_path, base=False, start=False) as host:
        theirs = host.foreign(f"server {{ listen 127.0.0.1:{host.settings.http_port} default_server; }}\n")
        assert any(str(theirs) in finding.text for finding in host.web.examine())
        with pytest.raises(WebServerFailed) as caught:
            host.web.install_base()
        assert "duplicate default server" in caught.value.seen[0]
        assert caught.value.slug == "nginx-conflict"
        assert str(theirs) in caught.value.next[0]
        assert list(host.settings.conf_dir.iterdir()) == []
        theirs.unlink()
        assert host.web.install_base().changed
        assert not host.web.install_base().changed


def test_force_reload_tests_reloads_and_proves(host: RealNginx) -> None:
    tests, reloads = host.tests_run(), host.reloads()
    done = host.web.force_reload()
    assert (done.changed, done.summary[:34]) == (False, "nothing of certctl's had changed; ")
    assert (host.tests_run(), host.reloads()) == (tests + 1, reloads + 1)
    with host.web.change([host.site("new.test")]) as change:
        change.publish()
    assert host.web.force_reload().changed
    theirs = host.foreign("bogus;\n")
    with pytest.raises(WebServerFailed) as caught:
        host.web.force_reload()
    assert caught.value.slug == "nginx-already-broken"
    theirs.unlink()


def test_the_facade_loads_no_template_engine_until_it_renders() -> None:
    code = "import sys, certctl.nginx.server; print('jinja2' in sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=_environment()
    )
    assert run.stdout.strip() == "False"


def test_served_tells_the_leaf_or_nothing(host: RealNginx) -> None:
    web = Nginx(host.settings)
    assert web.served(Domain("canary.test")) == host.site("canary.test").certificate.fingerprint
    assert web.served(Domain("stranger.test")) is None


def test_doctor_finds_a_healthy_nginx_healthy_and_names_what_is_not(host: RealNginx) -> None:
    assert {finding.level for finding in host.web.examine()} == {Level.OK}
    (host.root / "certctl.d" / "00-certctl-base.conf").unlink()
    host.root.joinpath("challenges").chmod(0o700)
    host.settings.site_root.joinpath("index.html").unlink()
    theirs = host.foreign("bogus;\n")
    texts = [finding.text for finding in host.web.examine() if finding.level is not Level.OK]
    assert any("does not pass its test" in text and str(theirs) in text for text in texts)
    assert any("nothing answers the CA" in text for text in texts)
    assert any("may not get through to the challenges" in text for text in texts)
    assert any("customers' domains show an error: there is no" in text for text in texts)
    theirs.unlink()
    settings = replace(host.settings, config=host.root / "no-such.conf", binary="no-such-nginx")
    assert [finding.level for finding in Nginx(settings).examine()] == [Level.PROBLEM]
