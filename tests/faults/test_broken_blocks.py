"""A server block of ours whose pair is gone, as after a restore: a change of any other name mends it."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from certctl.domain import Domain
from certctl.errors import WebServerFailed
from certctl.nginx import aside
from certctl.nginx.server import Nginx
from certctl.values import Mode, Pem, Site
from tests.real_nginx import RealNginx, canary, put_live, real_nginx, wait_for

pytestmark = pytest.mark.e2e

GONE = Domain("gone.zone.test")


@pytest.fixture
def host(tmp_path: Path) -> Iterator[RealNginx]:
    with real_nginx(tmp_path) as nginx:
        put_live(nginx, nginx.site("live.test"))
        with canary(nginx, nginx.site("live.test")) as failures:
            yield nginx
        assert failures == []


def no_key(home: Path) -> None:
    (home / "current" / "privkey.pem").unlink()


def empty_chain(home: Path) -> None:
    (home / "current" / "fullchain.pem").write_bytes(b"")


def other_key(home: Path) -> None:
    shutil.copy(home.parent / "live.test/current/privkey.pem", home / "current" / "privkey.pem")


def a_directory(home: Path) -> None:
    no_key(home)
    (home / "current" / "privkey.pem").mkdir()


def dangling(home: Path) -> None:
    (home / "current").unlink()
    (home / "current").symlink_to("7")


DAMAGES = [shutil.rmtree, no_key, empty_chain, other_key, a_directory, dangling]


def restored(host: RealNginx, damage: Callable[[Path], None]) -> None:
    """Bring a name's server block back, and its pair as it is after some damage; nginx has never read it."""
    put_live(host, host.site("gone.zone.test"))
    block = host.settings.block_path(GONE)
    text, home = block.read_text(), host.settings.sites / "gone.zone.test"
    shutil.copytree(home, host.root / "kept", symlinks=True)
    with host.web.change([], gone=[GONE]) as change:
        change.publish()
        change.reload()
        change.confirm(GONE)
    block.write_text(text)
    shutil.copytree(host.root / "kept", home, symlinks=True)
    damage(home)
    assert not host.cold_start_works()


def knowing(host: RealNginx, *sites: Site) -> Nginx:
    """Return party 4 with a store that has these sites."""
    rows = {site.domain: site for site in sites}
    return Nginx(host.settings, rows.get)


def publish(web: Nginx, *sites: Site) -> str:
    with web.change(sites) as change:
        done = change.publish()
        change.reload()
        for site in sites:
            change.confirm(site.domain)
    return done.summary


@pytest.mark.parametrize("damage", DAMAGES)
def test_one_of_which_the_store_knows_nothing_goes_aside_in_the_change_of_another_name(
    host: RealNginx, damage: Callable[[Path], None]
) -> None:
    restored(host, damage)
    text = host.settings.block_path(GONE).read_text()
    said = publish(host.web, host.site("new.test"))
    assert said == "server block of new.test, gone.zone.test put aside, for its pair was gone"
    if damage is not shutil.rmtree:
        assert text in [path.read_text() for path in (host.root / "aside").rglob("gone.zone.test.conf")]
    assert host.cold_start_works()
    assert not host.settings.block_path(GONE).exists()
    assert host.look("new.test") == host.site("new.test").certificate.fingerprint


@pytest.mark.parametrize("damage", DAMAGES)
def test_one_that_the_store_has_is_published_again_in_the_change_of_another_name(
    host: RealNginx, damage: Callable[[Path], None]
) -> None:
    restored(host, damage)
    site = host.site("gone.zone.test", 2)
    said = publish(knowing(host, site), host.site("new.test"))
    assert said == "server block of new.test, gone.zone.test published again, for its pair was gone"
    assert host.cold_start_works()
    assert host.look("gone.zone.test") == site.certificate.fingerprint
    assert host.web.holds(site)


def test_a_name_that_nginx_serves_from_its_memory_and_the_store_has_never_goes_dark(host: RealNginx) -> None:
    site = host.site("gone.zone.test")
    put_live(host, site)
    with canary(host, site) as failures:
        shutil.rmtree(host.settings.sites / "gone.zone.test")
        publish(knowing(host, site), host.site("new.test"))
    assert failures == []
    assert host.cold_start_works()


def test_a_name_that_nginx_serves_from_its_memory_alone_is_left_to_the_operator(host: RealNginx) -> None:
    site = host.site("gone.zone.test")
    put_live(host, site)
    with canary(host, site) as failures:
        shutil.rmtree(host.settings.sites / "gone.zone.test")
        before = host.snapshot()
        with pytest.raises(WebServerFailed) as caught:
            publish(host.web, host.site("new.test"))
        assert host.snapshot() == before
    assert failures == []
    assert (caught.value.slug, caught.value.next[0]) == ("nginx-already-broken", "certctl remove gone.zone.test")
    with host.web.change([], gone=[GONE]) as change:
        change.publish()
        change.reload()
        change.confirm(GONE)
    publish(host.web, host.site("new.test"))


def test_a_wildcard_that_covers_the_name_does_not_keep_its_broken_block(host: RealNginx) -> None:
    put_live(host, host.site("*.zone.test"))
    restored(host, shutil.rmtree)
    publish(host.web, host.site("new.test"))
    assert not host.settings.block_path(GONE).exists()
    assert host.look("gone.zone.test") == host.site("*.zone.test").certificate.fingerprint


def test_one_whose_pair_in_the_store_is_none_either_goes_aside(host: RealNginx) -> None:
    restored(host, shutil.rmtree)
    site, other = host.site("gone.zone.test"), host.site("live.test")
    torn = Site(site.certificate, Pem(site.pem.fullchain, other.pem.private_key))
    planted = replace(site, certificate=replace(site.certificate, names=("gone.zone.test", "live.test")))
    assert "put aside" in publish(knowing(host, torn), host.site("new.test"))
    restored_again = host.settings.block_path(GONE)
    restored_again.write_text(
        host.settings.block_path(Domain("new.test")).read_text().replace("new.test", "gone.zone.test")
    )
    assert "put aside" in publish(knowing(host, planted), host.site("more.test"))
    assert host.cold_start_works()


def test_it_is_mended_too_where_nothing_else_was_to_change(host: RealNginx) -> None:
    restored(host, shutil.rmtree)
    assert publish(host.web, host.site("live.test")).endswith("put aside, for its pair was gone")
    assert host.cold_start_works()


def test_what_is_not_ours_or_names_no_pair_of_ours_is_not_judged(host: RealNginx) -> None:
    theirs = host.settings.conf_dir / "theirs.conf"
    theirs.write_text(f"# theirs\nssl_certificate {host.settings.sites}/x.test/current/fullchain.pem;\n")
    copy = host.settings.conf_dir / "copy.conf"
    copy.write_text(host.settings.block_path(Domain("live.test")).read_text())
    before = theirs.read_bytes(), copy.read_bytes()
    with pytest.raises(WebServerFailed) as caught:
        publish(host.web, host.site("new.test"))
    assert caught.value.slug == "nginx-already-broken"
    assert (theirs.read_bytes(), copy.read_bytes()) == before
    theirs.unlink()
    copy.unlink()


def test_a_change_that_nginx_refuses_leaves_a_broken_block_as_it_was(host: RealNginx) -> None:
    restored(host, shutil.rmtree)
    host.foreign("bogus_directive on;\n")
    before = host.snapshot()
    for web in (host.web, knowing(host, host.site("gone.zone.test"))):
        with pytest.raises(WebServerFailed):
            publish(web, host.site("new.test"))
        assert host.snapshot() == before


def test_a_block_apart_from_the_catch_all_is_mended_too(tmp_path: Path) -> None:
    with real_nginx(tmp_path, mode=Mode.SHARED) as host:
        own = replace(host.site("own.test"), mode=Mode.BLOCKS)
        put_live(host, own, host.site("live.test"))
        host.stop()
        shutil.rmtree(host.settings.sites / "own.test")
        assert not host.cold_start_works()
        more = replace(host.site("more.test"), mode=Mode.BLOCKS)
        with pytest.raises(WebServerFailed) as caught:
            publish(knowing(host, own), more)
        assert caught.value.slug == "nginx-not-running"
        host.start()
        wait_for(lambda: host.look("own.test") == own.certificate.fingerprint)
        assert host.look("more.test") == more.certificate.fingerprint


def test_what_is_aside_for_two_weeks_goes_with_any_change(host: RealNginx) -> None:
    old, new = (host.root / "aside" / f"{stamp}-gone.test" for stamp in ("20200101T000000Z", aside.stamp()))
    for entry in (old, new):
        entry.mkdir(parents=True)
    put_live(host, host.site("live.test"))
    assert not old.exists()
    assert new.exists()
