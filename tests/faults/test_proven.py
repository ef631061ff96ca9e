"""What a change insists on before it is kept, and what it says where it cannot be taken back; on a real nginx."""

import errno
import os
import pickle
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from certctl.domain import Domain
from certctl.errors import Busy, ConfigInvalid, WebServerFailed
from certctl.nginx import mirror
from certctl.nginx.change import _stripe
from certctl.values import Mode, Site
from tests.real_nginx import RealNginx, canary, environment, need, put_live, real_nginx, wait_for

pytestmark = pytest.mark.e2e

_GAMES = 5, 60  # Debian base-passwd
_AS_ANOTHER = """
import pickle, sys
from pathlib import Path
from certctl.io.fsuid import Owner
from certctl.io.fsuid import work_as
from certctl.nginx.server import Nginx
settings, (apart, plain, newer, newest), owner = pickle.loads(Path(sys.argv[1]).read_bytes())
work_as(Owner(*owner))
web = Nginx(settings)

def go(sites, gone=()):
    with web.change(sites, gone=gone) as change:
        change.publish()
        change.reload()
        for domain in (*(site.domain for site in sites), *gone):
            change.confirm(domain)

with web.change([apart]) as change:
    change.publish()
assert web.is_reload_pending
go([apart, plain])
assert not web.is_reload_pending
assert web.holds(apart) and web.holds(plain) and web.is_published(apart.certificate, apart.mode)
assert not web.preview(apart).diff()
assert not web.install_base().changed
go([newer])
try:
    with web.change([newest]) as change:
        change.publish()
        raise KeyboardInterrupt
except KeyboardInterrupt:
    pass
assert web.holds(newer) and web.served(newer.domain) == newer.certificate.fingerprint
assert web.names() == sorted([apart.domain, plain.domain])
go([], [apart.domain, plain.domain])
assert not web.names()
"""


@pytest.fixture
def host(tmp_path: Path) -> Iterator[RealNginx]:
    with real_nginx(tmp_path) as nginx:
        nginx.settings = replace(nginx.settings, confirm_deadline=timedelta(seconds=0.5))
        yield nginx


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT PROVED: root that works for another user; run as root")
def test_root_reaches_its_own_places_while_it_works_as_the_owner_of_the_state(tmp_path: Path) -> None:
    """Nobody but root may look into the include directory, nor where pairs of server blocks lie."""
    with real_nginx(tmp_path, mode=Mode.SHARED) as host:
        for place in (host.settings.live, host.root / "run"):
            place.mkdir(exist_ok=True)
            for path in (place, *place.rglob("*")):
                os.chown(path, *_GAMES)
        host.settings.conf_dir.chmod(0o700)
        apart = [replace(host.site("apart.test", version), mode=Mode.BLOCKS) for version in (1, 2, 3)]
        sites = (apart[0], host.site("plain.test"), *apart[1:])
        plan = host.root / "plan"
        plan.write_bytes(pickle.dumps((host.settings, sites, _GAMES)))
        run = subprocess.run(
            [sys.executable, "-c", _AS_ANOTHER, str(plan)],
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        assert {path.name for path in host.settings.conf_dir.iterdir()} == {"00-certctl-base.conf"}


def served_by_a_copy(host: RealNginx, site: Site) -> None:
    """Let a block of the operator's serve a name with a copy of its pair."""
    copy = host.root / "copy"
    shutil.copytree(host.settings.place_of(site).link(site.domain), copy)
    host.foreign(
        f"server {{ listen 127.0.0.1:{host.settings.https_port} ssl; server_name {site.domain};\n"
        f"ssl_certificate {copy}/fullchain.pem; ssl_certificate_key {copy}/privkey.pem; }}\n"
    )


@pytest.mark.parametrize("mode", [Mode.BLOCKS, Mode.SHARED])
def test_a_name_that_is_served_on_is_not_called_taken_out(tmp_path: Path, mode: Mode) -> None:
    with real_nginx(tmp_path, mode=mode) as host:
        host.settings = replace(host.settings, confirm_deadline=timedelta(seconds=0.5))
        site = host.site("staying.test")
        put_live(host, site)
        served_by_a_copy(host, site)
        if mode is not Mode.BLOCKS:
            host.web.force_reload()
        before = host.snapshot()
        with canary(host, site) as failures, pytest.raises(WebServerFailed) as caught:
            take_out(host, site.domain)
        assert failures == []
        assert (caught.value.slug, caught.value.message[:28]) == (
            "nginx-not-served",
            "staying.test is still served",
        )
        assert host.snapshot() == before


def take_out(host: RealNginx, domain: Domain) -> None:
    with host.web.change([], gone=[domain]) as change:
        change.publish()
        change.reload()
        change.confirm(domain)


def test_behind_the_catch_all_another_leaf_on_the_wire_is_not_called_served(tmp_path: Path) -> None:
    with real_nginx(tmp_path, mode=Mode.SHARED) as host:
        host.settings = replace(host.settings, confirm_deadline=timedelta(seconds=0.5))
        old, new = host.site("new.test"), host.site("new.test", 2)
        put_live(host, old)
        served_by_a_copy(host, old)
        host.web.force_reload()
        before = host.snapshot()
        with pytest.raises(WebServerFailed) as caught:
            put_live(host, new)
        assert caught.value.slug == "nginx-not-served"
        assert old.certificate.fingerprint in caught.value.seen[0]
        assert host.snapshot() == before


def test_what_cannot_be_put_back_is_said_and_the_next_run_puts_it_back(host: RealNginx) -> None:
    put_live(host, host.site("live.test"))
    block = host.settings.conf_dir / "new.test.conf"
    hindering = host.root / "hindering-nginx"
    hindering.write_text(
        f'#!/bin/sh\n[ "$1" = -t ] && rm {block} && mkdir {block}\nexec /usr/sbin/nginx -bad "$@"\n'
    )
    hindering.chmod(0o755)
    hindered = replace(host, settings=replace(host.settings, binary=str(hindering)))
    with pytest.raises(ConfigInvalid) as caught:
        put_live(hindered, host.site("live.test", 2), host.site("new.test"))
    assert caught.value.slug == "state-unwritable"
    assert f"could not all be put back ({block}: Is a directory)" in caught.value.message
    block.rmdir()
    put_live(host, host.site("other.test"))
    assert host.look("live.test") == host.site("live.test").certificate.fingerprint
    assert host.settings.block_pairs.target(Domain("live.test")) == "1"
    assert not host.settings.block_pairs.has(Domain("new.test"))
    assert [path.name for path in host.settings.conf_dir.glob(".*")] == []


def test_a_link_that_cannot_be_put_back_is_said(tmp_path: Path) -> None:
    with real_nginx(tmp_path, mode=Mode.SHARED) as host:
        host.settings = replace(host.settings, confirm_deadline=timedelta(seconds=0.5))
        site = host.site("live.test")
        put_live(host, site)
        link = mirror.current_path(host.settings.live, site.domain)

        with pytest.raises(ConfigInvalid) as caught:
            put_live_but_for(host, link)
        assert caught.value.slug == "state-unwritable"
        assert f"could not all be put back ({link}: Is a directory)" in caught.value.message
        link.rmdir()
        put_live(host, site)


def put_live_but_for(host: RealNginx, link: Path) -> None:
    """Put a directory in a link's place between the change and its proof."""
    site = host.site("live.test", 2)
    with host.web.change([site]) as change:
        change.publish()
        link.unlink()
        link.mkdir()
        change.confirm(site.domain)


def test_a_reload_that_fails_after_nginx_was_told_is_tried_again_by_the_next_change(host: RealNginx) -> None:
    """What nginx runs is not known then: the files are the old ones, and so must be what it runs."""
    put_live(host, host.site("live.test"))
    failing = host.root / "reload"
    failing.write_text(f"#!/bin/sh\nkill -HUP $(cat {host.root}/nginx.pid)\nexit 1\n")
    failing.chmod(0o755)
    broken = replace(host, settings=replace(host.settings, reload_command=(str(failing),)))
    with pytest.raises(WebServerFailed) as caught:
        put_live(broken, host.site("new.test"))
    assert caught.value.slug == "nginx-reload-failed"
    marker, reloads = host.settings.conf_dir / ".reload-pending", host.reloads()
    assert marker.exists()
    put_live(host, host.site("live.test"))
    assert not marker.exists()
    assert host.reloads() > reloads
    assert host.look("new.test") is None


def test_a_first_change_makes_the_include_directory(tmp_path: Path) -> None:
    with real_nginx(tmp_path, base=False, start=False) as host:
        host.settings.conf_dir.rmdir()
        assert host.web.install_base().changed
        assert host.settings.conf_dir.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("mode", [Mode.BLOCKS, Mode.SHARED])
def test_what_is_in_place_is_said_to_be_and_each_part_says_what_it_did(tmp_path: Path, mode: Mode) -> None:
    with real_nginx(tmp_path, mode=mode) as host:
        plain, apart = host.site("plain.test"), replace(host.site("apart.test"), mode=Mode.BLOCKS)
        put_live(host, plain)
        with host.web.change([plain]) as change:
            done, reloaded = change.publish(), change.reload()
        assert (done.summary, done.changed, reloaded.changed) == ("already in place", False, False)
        with host.web.change([plain, apart]) as change:
            done, reloaded = change.publish(), change.reload()
            assert change.confirm(apart.domain).summary.endswith("seen on the wire")
        what = "2 server blocks" if mode is Mode.BLOCKS else "server block of apart.test"
        assert (done.summary, done.changed, reloaded.changed) == (what, True, True)


def test_any_number_of_names_takes_256_locks() -> None:
    stripes = {_stripe(Domain(f"status{number}.example.com")) for number in range(3000)}
    assert stripes == set(range(256))


def test_a_change_that_publishes_nothing_takes_nothing_out(host: RealNginx) -> None:
    """As where another run was quicker."""
    site = host.site("live.test")
    put_live(host, site)
    before = host.snapshot()
    with host.web.change([], gone=[site.domain]):
        assert host.look("live.test")
    assert host.snapshot() == before
    assert host.look("live.test") == site.certificate.fingerprint


def test_what_was_old_and_cannot_be_removed_spoils_no_change_that_is_proven(
    host: RealNginx, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("certctl.nginx.mirror.prune", refuse)
    put_live(host, host.site("live.test"))
    put_live(host, host.site("live.test", 2))
    assert host.look("live.test") == host.site("live.test", 2).certificate.fingerprint
    monkeypatch.undo()
    put_live(host, host.site("live.test", 3))
    assert {path.name for path in (host.settings.sites / "live.test").iterdir()} == {"2", "3", "current"}


def test_only_a_block_that_a_hand_has_changed_is_said_to_be_edited(host: RealNginx) -> None:
    site, edited = host.site("live.test"), host.site("edited.test")
    put_live(host, site, edited)
    other = replace(host, settings=replace(host.settings, upstream="http://127.0.0.1:9"))
    with other.web.change([site]) as change:
        assert change.publish().summary == "server block of live.test"
    block = host.settings.block_path(edited.domain)
    block.write_text(block.read_text() + "# by hand\n")
    with host.web.change([site, edited], gone=[Domain("absent.test")]) as change:
        assert change.publish().summary == "2 server blocks, 1 taken out, 1 edited by hand and written anew"


def test_the_first_failure_is_the_news_also_when_the_way_back_fails_to_reload(host: RealNginx) -> None:
    put_live(host, host.site("live.test"))
    once = host.root / "reload"
    once.write_text(f"#!/bin/sh\n[ -e {host.root}/done ] && exit 1\ntouch {host.root}/done\n")
    once.write_text(once.read_text() + f"kill -HUP $(cat {host.root}/nginx.pid)\n")
    once.chmod(0o755)
    hasty = replace(host, settings=replace(host.settings, reload_command=(str(once),)))
    site = host.site("new.test")
    unlike = replace(site, certificate=replace(site.certificate, fingerprint="0" * 64))
    with pytest.raises(WebServerFailed) as caught:
        put_live(hasty, unlike)
    assert caught.value.slug == "nginx-not-served"
    assert (host.settings.conf_dir / ".reload-pending").exists()
    put_live(host, host.site("live.test"))
    assert host.look("new.test") is None


def test_what_passed_its_test_stays_for_an_nginx_that_is_down(host: RealNginx) -> None:
    put_live(host, host.site("live.test"))
    host.stop()
    with pytest.raises(WebServerFailed) as caught:
        put_live(host, host.site("new.test"))
    assert caught.value.slug == "nginx-not-running"
    assert host.settings.block_path(Domain("new.test")).exists()
    assert [path.name for path in host.settings.conf_dir.glob(".*")] == [".reload-pending"]
    host.start()
    wait_for(lambda: host.look("new.test") == host.site("new.test").certificate.fingerprint)


def test_behind_the_catch_all_each_change_says_what_it_did_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    with real_nginx(tmp_path, mode=Mode.SHARED) as host:
        one, two = host.site("one.test"), host.site("two.test")
        with host.web.change([one]) as change:
            assert change.publish().summary == "certificate of one.test in the mirror"
        put_live(host, host.site("one.test", 2))
        assert {path.name for path in (host.settings.live / "one.test").iterdir()} == {"1", "2", "current"}
        with host.web.change([host.site("one.test", 3), two]) as change:
            assert change.publish().summary == "2 certificates in the mirror"
        with host.web.change([host.site("one.test", 4)], gone=[two.domain]) as change:
            assert change.publish().summary == "certificate of one.test in the mirror, 1 taken out"
            assert change.confirm(two.domain).summary == "two.test is not served any more"
        with host.web.change([], gone=[one.domain]) as change:
            assert change.publish().summary == "1 taken out"


def test_no_number_of_ctrl_c_breaks_the_way_back_behind_the_catch_all(tmp_path: Path) -> None:
    with real_nginx(tmp_path, mode=Mode.SHARED) as host:
        host.settings = replace(host.settings, confirm_deadline=timedelta(minutes=2))
        old, new = host.site("live.test"), host.site("live.test", 2)
        put_live(host, old)
        before, link = host.snapshot(), mirror.current_path(host.settings.live, old.domain)
        unlike = replace(new, certificate=replace(new.certificate, fingerprint="0" * 64))
        calls = "rename,unlink,rmdir,unlinkat"
        strace = [need("strace"), "-D", "-o", os.devnull, "-e", f"trace={calls}"]
        slow = ["-e", f"inject={calls}:delay_enter=50ms"]
        argv = [*strace, *slow, *host.save_for_script(unlike)]
        with subprocess.Popen(argv, env=environment(), stderr=subprocess.DEVNULL) as run:
            wait_for(lambda: str(link.readlink()) == "2")
            wait_for(lambda: host.look("live.test") == new.certificate.fingerprint)
            while run.poll() is None:
                run.send_signal(signal.SIGINT)
                threading.Event().wait(0.02)
        assert run.returncode == -signal.SIGINT
        assert host.snapshot() == before


@pytest.mark.parametrize("mode", [Mode.BLOCKS, Mode.SHARED])
def test_two_changes_of_one_name_exclude_each_other_in_every_mode(tmp_path: Path, mode: Mode) -> None:
    with real_nginx(tmp_path, mode=mode) as host:
        one, two = host.site("one.test"), host.site("two.test")
        hasty = replace(host, settings=replace(host.settings, lock_wait=timedelta(seconds=0.2)))
        with host.web.change([one]):
            for sites, gone in (([host.site("one.test", 2)], []), ([], [one.domain])):
                with pytest.raises(Busy), hasty.web.change(sites, gone=gone):
                    pass
            with nullcontext() if mode is Mode.SHARED else pytest.raises(Busy), hasty.web.change([two]):
                pass
