"""Pairs of server blocks lie where root alone writes; what was elsewhere comes over, being served."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from certctl.domain import CHECK_DOMAIN, Domain
from certctl.errors import ConfigInvalid, WebServerFailed
from certctl.io.locks import lock
from certctl.nginx import mirror
from certctl.nginx.server import Nginx
from certctl.values import Mode, Site
from tests.e2e.real_sandbox import open_place
from tests.real_nginx import RealNginx, canary, put_live, real_nginx

pytestmark = pytest.mark.e2e

WWW_DATA = 33  # Debian base-passwd


@pytest.fixture
def host(tmp_path: Path) -> Iterator[RealNginx]:
    with real_nginx(tmp_path) as nginx:
        yield nginx


def as_before(host: RealNginx, *sites: Site) -> None:
    """Publish as a certctl did that had one place for all pairs."""
    one = replace(host, settings=replace(host.settings, sites=host.settings.live))
    one.made = host.made
    for site in sites:
        host.settings.catch_all_pairs.put(site)
        text = one.web.preview(site).text
        host.settings.block_path(site.domain).write_text(text)
    host.web.force_reload()


def test_pairs_come_over_while_their_sites_are_served_one_change_at_a_time(host: RealNginx) -> None:
    first, second = host.site("first.test"), host.site("second.test")
    as_before(host, first, second)
    for site in (first, second):
        assert host.web.is_published(site.certificate, None)
        assert host.web.is_in_old_place(site.certificate, None)
        assert not host.web.holds(site)
    with canary(host, first) as failures, canary(host, second) as others:
        put_live(host, first)
        assert host.cold_start_works()
        assert not (host.settings.live / "first.test").exists()
        assert (host.settings.live / "second.test").exists()
        put_live(host, first, second)
    assert failures == others == []
    assert [path.name for path in host.settings.live.glob("[!.]*")] == []
    assert sorted(path.name for path in host.settings.sites.iterdir()) == ["first.test", "second.test"]
    assert host.settings.sites.stat().st_mode & 0o777 == 0o700
    assert host.web.holds(first)
    assert not host.web.is_in_old_place(first.certificate, None)
    assert host.cold_start_works()


def test_a_refused_change_leaves_pairs_where_they_were(host: RealNginx) -> None:
    site = host.site("first.test")
    as_before(host, site)
    before = host.snapshot()
    host.refuse_reloads()
    with pytest.raises(WebServerFailed):
        put_live(host, site)
    assert {path: kept for path, kept in host.snapshot().items() if ".reload-pending" not in path} == before
    assert host.look("first.test") == site.certificate.fingerprint


def test_a_pair_that_somebody_elses_block_names_stays_for_it(host: RealNginx) -> None:
    site = host.site("first.test")
    as_before(host, site)
    pair = mirror.current_path(host.settings.live, site.domain)
    host.foreign(
        f"server {{ listen 127.0.0.1:{host.settings.https_port} ssl; server_name theirs.test;\n"
        f"ssl_certificate {pair}/fullchain.pem; ssl_certificate_key {pair}/privkey.pem; }}\n"
    )
    put_live(host, site)
    assert (pair / "privkey.pem").exists()
    assert host.cold_start_works()


def test_a_name_taken_out_leaves_neither_place(host: RealNginx) -> None:
    site, old = host.site("new.test"), host.site("old.test")
    as_before(host, old)
    put_live(host, site)
    with host.web.change([], gone=[site.domain, old.domain]) as change:
        change.publish()
        change.reload()
        for domain in (site.domain, old.domain):
            change.confirm(domain)
    assert list(host.web.names()) == []


def test_a_row_that_takes_another_customers_name_is_written_into_no_block(host: RealNginx) -> None:
    site = host.site("mine.test")
    planted = replace(site, certificate=replace(site.certificate, names=("mine.test", "theirs.test")))
    before = host.snapshot()
    with pytest.raises(WebServerFailed) as caught:
        put_live(host, planted)
    assert caught.value.slug == "nginx-test-failed"
    assert caught.value.next[0] == "certctl issue --force mine.test"
    assert host.snapshot() == before


@pytest.mark.timeout(60)  # who reads a FIFO waits for ever
@pytest.mark.parametrize("name", [mirror.CHAIN, mirror.KEY])
@pytest.mark.parametrize("plant", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["fifo", "device"])
def test_nobody_waits_for_what_was_put_in_a_pairs_place(tmp_path: Path, name: str, plant: object) -> None:
    with real_nginx(tmp_path, mode=Mode.SHARED) as host:
        site = host.site("new.test")
        put_live(host, site)
        planted = host.settings.live / "new.test" / "1" / name
        planted.unlink()
        assert callable(plant)
        plant(planted)
        assert not host.web.holds(site)
        mirror.fingerprints(host.settings.live, site.domain)
        mirror.set_rights(host.settings.live, host.settings.rights)
        put_live(host, site)
        assert host.web.holds(site)


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT PROVED: a unit of root's; run as root")
@pytest.mark.parametrize("place", ["sites", "conf_dir"])
def test_a_unit_that_may_not_write_there_is_said_before_anything_is_ordered(host: RealNginx, place: str) -> None:
    nowhere = Path("/proc/nobody-writes-here/pairs")
    settings = host.settings
    shut = Nginx(replace(settings, sites=nowhere) if place == "sites" else replace(settings, conf_dir=nowhere))
    for refuse in (shut.require_challenge, shut.require_room):
        with pytest.raises(ConfigInvalid) as caught:
            refuse(Domain("new.test"))
        assert caught.value.slug == "state-unwritable"
    shutil.rmtree(host.settings.sites)
    host.web.require_challenge(Domain("new.test"))
    host.web.require_room(Domain("new.test"))


def full(paths: Sequence[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a disk under these paths say that it has no byte left."""
    statvfs = os.statvfs

    def ask(path: Path) -> os.statvfs_result:
        seen = statvfs(path)
        return os.statvfs_result((*seen[:4], 0, *seen[5:])) if path in paths else seen

    monkeypatch.setattr(os, "statvfs", ask)


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT PROVED: what only root publishes; run as root")
@pytest.mark.parametrize(
    ("mode", "name", "places"),
    [
        (Mode.BLOCKS, "new.test", {"sites", "conf_dir"}),
        (Mode.SHARED, "new.test", {"live"}),
        (Mode.SHARED, "*.zone.test", {"sites", "conf_dir", "live"}),
    ],
)
def test_a_full_disk_under_a_place_that_the_site_needs_is_said_before_anything_is_ordered(
    host: RealNginx, monkeypatch: pytest.MonkeyPatch, mode: Mode, name: str, places: set[str]
) -> None:
    put_live(host, host.site("first.test"))
    settings = replace(host.settings, mode=mode)
    for place in ("sites", "conf_dir", "live"):
        with monkeypatch.context() as patch:
            full([getattr(settings, place)], patch)
            with pytest.raises(ConfigInvalid) if place in places else nullcontext():
                Nginx(settings).require_room(Domain(name))


@pytest.mark.parametrize("mode", [Mode.BLOCKS, Mode.SHARED])
def test_a_key_that_a_killed_proof_left_is_taken_away_by_the_next_change(tmp_path: Path, mode: Mode) -> None:
    with real_nginx(tmp_path, mode=mode) as host:
        left = mirror.current_path(host.settings.live, CHECK_DOMAIN)
        left.mkdir(parents=True)
        (left / mirror.KEY).write_text("a customer's")
        with host.web.change([host.site("new.test")]) as change:
            assert not left.parent.exists()
            change.publish()


def test_what_somebody_proves_now_is_not_taken_from_them(tmp_path: Path) -> None:
    with real_nginx(tmp_path, mode=Mode.SHARED) as host:
        left = mirror.current_path(host.settings.live, CHECK_DOMAIN)
        left.mkdir(parents=True)
        with lock(host.settings.lock_file, timedelta(seconds=1), "nginx"):
            put_live(host, host.site("new.test"))
            assert left.exists()


def named_by_somebody_else(host: RealNginx, pair: Path) -> Path:
    return host.foreign(
        f"server {{ listen 127.0.0.1:{host.settings.https_port} ssl; server_name theirs.test;\n"
        f"ssl_certificate {pair}/fullchain.pem; ssl_certificate_key {pair}/privkey.pem; }}\n"
    )


def take_out(host: RealNginx, *names: str) -> None:
    gone = [Domain(name) for name in names]
    with host.web.change([], gone=gone) as change:
        change.publish()
        change.reload()
        for domain in gone:
            change.confirm(domain)


def test_a_pair_of_a_name_taken_out_stays_for_somebody_elses_block_that_names_it(host: RealNginx) -> None:
    first, second = host.site("first.test"), host.site("second.test")
    put_live(host, first, second)
    pair = mirror.current_path(host.settings.sites, first.domain)
    theirs = named_by_somebody_else(host, pair)
    take_out(host, "first.test", "second.test")
    assert host.cold_start_works()
    assert host.look("first.test") is None
    assert (pair / "privkey.pem").exists()
    assert not host.settings.block_pairs.has(second.domain)
    put_live(host, host.site("new.test"))
    theirs.unlink()
    take_out(host, "first.test")
    assert not host.settings.block_pairs.has(first.domain)


def test_behind_a_catch_all_a_name_whose_pair_somebody_else_needs_is_not_called_taken_out(tmp_path: Path) -> None:
    with real_nginx(tmp_path, mode=Mode.SHARED) as host:
        site = host.site("first.test")
        put_live(host, site, host.site("second.test"))
        theirs = named_by_somebody_else(host, mirror.current_path(host.settings.live, site.domain))
        with canary(host, site) as failures, pytest.raises(WebServerFailed) as caught:
            take_out(host, "first.test")
        assert failures == []
        assert (caught.value.slug, caught.value.next[0]) == ("nginx-conflict", f"take it out of {theirs}")
        assert f"{theirs}:2" in caught.value.seen[0]
        assert host.cold_start_works()
        take_out(host, "second.test")
        theirs.unlink()
        take_out(host, "first.test")
        assert list(host.web.names()) == []


def test_a_name_with_a_block_before_the_catch_all_is_treated_alike(tmp_path: Path) -> None:
    with real_nginx(tmp_path, mode=Mode.SHARED) as host:
        site = host.site("first.test")
        put_live(host, replace(site, mode=Mode.BLOCKS))
        host.settings.catch_all_pairs.put(site)
        theirs = named_by_somebody_else(host, mirror.current_path(host.settings.live, site.domain))
        before = host.snapshot()
        with pytest.raises(WebServerFailed) as caught:
            take_out(host, "first.test")
        assert caught.value.slug == "nginx-conflict"
        assert host.snapshot() == before
        theirs.unlink()
        take_out(host, "first.test")
        assert list(host.web.names()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT PROVED: workers that cannot read keys; run as root")
def test_a_catch_all_is_proven_by_the_pairs_of_blocks_before_it_takes_over() -> None:
    """Else every block would go first, and be missed."""
    with open_place() as root, real_nginx(root, user="www-data") as host:
        site = host.site("new.test")
        put_live(host, site)
        shared = Nginx(replace(host.settings, mode=Mode.SHARED))
        with canary(host, site) as failures, pytest.raises(WebServerFailed) as caught:
            shared.install_base()  # the mirror is root's alone still
        assert caught.value.slug == "nginx-not-served"
        os.chown(host.settings.live, 0, WWW_DATA)
        host.settings.live.chmod(0o750)
        os.setegid(WWW_DATA)  # whose group what is made has, as that of the mirror's owner
        try:
            shared.install_base()
        finally:
            os.setegid(0)
        assert failures == []
        assert mirror.target(host.settings.live, Domain("certctl-check.invalid")) is None


def test_a_pair_stays_while_nginx_may_still_go_there(tmp_path: Path) -> None:
    """Behind the catch-all workers open it at each handshake, until a reload makes the new block known."""
    with real_nginx(tmp_path, mode=Mode.SHARED) as host:
        site = host.site("moving.test")
        put_live(host, site)
        own = replace(site, mode=Mode.BLOCKS)
        with canary(host, site) as failures:
            with host.web.change([own]) as change:
                change.publish()
            assert (host.settings.live / "moving.test").exists()
            put_live(host, own)
        assert failures == []
        assert not (host.settings.live / "moving.test").exists()


def test_a_pair_of_blocks_that_somebody_else_names_stays_behind_a_catch_all_too(host: RealNginx) -> None:
    """Else the next renewal would keep nginx from starting, for everybody."""
    put_live(host, host.site("first.test"))
    pair = mirror.current_path(host.settings.sites, Domain("first.test"))
    host.foreign(
        f"server {{ listen 127.0.0.1:{host.settings.https_port} ssl; server_name theirs.test;\n"
        f"ssl_certificate {pair}/fullchain.pem; ssl_certificate_key {pair}/privkey.pem; }}\n"
    )
    shared = replace(host, settings=replace(host.settings, mode=Mode.SHARED))
    shared.made = host.made
    shared.web.install_base()
    for version in (1, 2):
        put_live(shared, shared.site("first.test", version))
        assert (pair / "privkey.pem").exists()
        assert host.cold_start_works()
