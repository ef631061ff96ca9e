"""The base file that is installed says whether a name needs its server block, whatever the configuration says."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from certctl.domain import Domain
from certctl.errors import WebServerFailed
from certctl.io.locks import lock
from certctl.nginx.base import base_files, serves_the_mirror
from certctl.nginx.block_change import in_force
from certctl.nginx.transaction import PENDING
from certctl.values import Mode, Site
from tests.real_nginx import RealNginx, canary, put_live, real_nginx

pytestmark = pytest.mark.e2e


@pytest.fixture
def blocks(tmp_path: Path) -> Iterator[RealNginx]:
    """A host with a server block for a customer, whose configuration says another mode since."""
    with real_nginx(tmp_path) as host:
        put_live(host, host.site("live.test"))
        host.settings = replace(host.settings, mode=Mode.SHARED)
        with canary(host, host.site("live.test")) as failures:
            yield host
        assert failures == []


@pytest.fixture
def shared(tmp_path: Path) -> Iterator[RealNginx]:
    """A host whose catch-all serves a customer."""
    with real_nginx(tmp_path, mode=Mode.SHARED) as host:
        put_live(host, host.site("live.test"))
        with canary(host, host.site("live.test")) as failures:
            yield host
        assert failures == []


def as_blocks(host: RealNginx) -> RealNginx:
    """Return the host as a command sees it whose configuration says mode blocks."""
    return replace(host, settings=replace(host.settings, mode=Mode.BLOCKS))


def test_no_server_block_leaves_while_the_installed_base_file_would_not_serve_the_name(blocks: RealNginx) -> None:
    site = blocks.site("live.test")
    put_live(blocks, site)
    assert blocks.settings.block_path(site.domain).exists()
    assert blocks.web.holds(site)
    assert blocks.web.is_published(site.certificate, None)


def test_a_renewal_and_a_new_name_get_the_server_block_they_need(blocks: RealNginx) -> None:
    put_live(blocks, blocks.site("new.test"), blocks.site("renewed.test", 1))
    put_live(blocks, blocks.site("renewed.test", 2))
    for site in (blocks.site("new.test"), blocks.site("renewed.test", 2)):
        assert blocks.look(str(site.domain)) == site.certificate.fingerprint
        assert blocks.settings.block_path(site.domain).exists()


def test_who_is_removed_goes_all_the_same(blocks: RealNginx) -> None:
    put_live(blocks, blocks.site("leaves.test"))
    with blocks.web.change([], gone=[Domain("leaves.test")]) as change:
        change.publish()
        change.reload()
        change.confirm(Domain("leaves.test"))
    assert not blocks.settings.block_path(Domain("leaves.test")).exists()
    assert list(blocks.web.names()) == [Domain("live.test")]


def test_a_base_file_that_a_killed_run_never_had_tested_counts_for_nothing(blocks: RealNginx) -> None:
    base = blocks.settings.base_path
    saved = base.with_name(".0123456789abcdef.old")
    saved.hardlink_to(base)
    journal = {"saved": [[str(base), str(saved)]], "created": []}
    base.with_name(".undo.json").write_text(json.dumps(journal))
    catch_all = base_files(blocks.settings, blocks.web._command)[base]
    fresh = base.with_name("fresh")
    fresh.write_text(catch_all or "")
    fresh.rename(base)
    assert in_force(blocks.settings).mode is Mode.SHARED, "as it lies there"
    put_live(blocks, blocks.site("live.test"))
    assert in_force(blocks.settings).mode is Mode.BLOCKS
    assert blocks.settings.block_path(Domain("live.test")).exists()


def test_a_base_file_that_would_leave_a_name_unserved_does_not_come(shared: RealNginx) -> None:
    before = shared.snapshot()
    with pytest.raises(WebServerFailed, match=r"mode blocks would not serve live\.test") as caught:
        as_blocks(shared).web.install_base()
    assert caught.value.slug == "nginx-not-served"
    assert shared.snapshot() == before
    put_live(as_blocks(shared), shared.site("live.test"))
    as_blocks(shared).web.install_base()
    assert in_force(shared.settings).mode is Mode.BLOCKS


def test_no_name_gets_behind_the_catch_all_while_it_is_taken_away(shared: RealNginx) -> None:
    """As by a daemon that still runs: whoever is first, the other one waits for it or is told."""
    put_live(as_blocks(shared), shared.site("live.test"))
    one_site = shared.settings.lock_file.parent / "sites" / "7f.lock"
    hasty = replace(shared.settings, mode=Mode.BLOCKS, lock_wait=shared.settings.lock_wait * 0)
    with lock(one_site, shared.settings.lock_wait, "a site"), pytest.raises(Exception, match="one of these sites"):
        replace(shared, settings=hasty).web.install_base()
    assert in_force(shared.settings).mode is Mode.SHARED


@pytest.mark.parametrize("mode", list(Mode))
def test_a_base_file_is_known_by_what_nginx_does_by_it(blocks: RealNginx, mode: Mode) -> None:
    settings = replace(blocks.settings, mode=mode)
    text = base_files(settings, blocks.web._command)[settings.base_path] or ""
    assert serves_the_mirror(settings, text) is (mode is not Mode.BLOCKS)
    assert not serves_the_mirror(replace(settings, live=Path("/elsewhere")), text)
    assert not serves_the_mirror(settings, text.replace("    ssl_certificate ", "    # ssl_certificate "))
    assert not serves_the_mirror(settings, None)


def test_a_site_is_published_as_before_where_file_and_configuration_agree(shared: RealNginx) -> None:
    site = Site(shared.site("two.test").certificate, shared.site("two.test").pem)
    put_live(shared, site)
    assert not shared.settings.block_path(site.domain).exists()
    assert in_force(shared.settings) is shared.settings


@pytest.mark.parametrize("mode", [Mode.BLOCKS, Mode.SHARED])
def test_a_base_file_that_a_killed_run_did_not_see_read_is_reloaded_by_the_next(tmp_path: Path, mode: Mode) -> None:
    with real_nginx(tmp_path, mode=mode) as host:
        before = host.reloads()
        (host.settings.conf_dir / PENDING).touch()
        assert not host.web.install_base().changed
        assert not host.web.is_reload_pending
        assert not host.web.install_base().changed
        assert host.reloads() == before + 1
