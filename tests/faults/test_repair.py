"""A live pair that somebody changed is made right without ever being at risk, on a real nginx."""

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from certctl.domain import Domain
from certctl.errors import WebServerFailed
from certctl.values import Mode, Site
from tests.real_nginx import RealNginx, canary, environment, make_site, need, put_live, real_nginx

pytestmark = pytest.mark.e2e

_CALLS = ("mkdir", "rename", "symlink", "linkat", "unlink", "rmdir", "fsync")


@pytest.fixture(params=[Mode.BLOCKS, Mode.SHARED])
def host(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[RealNginx]:
    """A site whose key somebody opened, and that must be served all the time."""
    with real_nginx(tmp_path, mode=request.param) as nginx:
        site = nginx.site("live.test")
        put_live(nginx, site)
        key_of(nginx, site).chmod(0o644)
        with canary(nginx, site) as failures:
            yield nginx
        assert failures == []


def key_of(host: RealNginx, site: Site) -> Path:
    return host.settings.place_of(site).link(site.domain) / "privkey.pem"


def pairs(host: RealNginx, site: Site) -> dict[str, object]:
    """Return what the mirror has of a site."""
    home = str(key_of(host, site).parents[1])
    return {path: kept for path, kept in host.snapshot().items() if path.startswith(home)}


def other_mode(host: RealNginx, site: Site) -> Site:
    """Return the site as one with a server block, which nginx has to test in every mode."""
    return replace(site, mode=Mode.BLOCKS) if host.settings.mode is not Mode.BLOCKS else site


def test_a_repair_that_nginx_does_not_take_leaves_the_pair_as_it_was(host: RealNginx) -> None:
    site = other_mode(host, host.site("live.test"))
    before = pairs(host, host.site("live.test"))
    theirs = host.foreign("bogus_directive on;\n")
    with pytest.raises(WebServerFailed) as caught:
        put_live(host, site)
    assert caught.value.slug == "nginx-already-broken"
    assert pairs(host, host.site("live.test")) == before
    theirs.unlink()
    put_live(host, site)
    assert key_of(host, site).stat().st_mode & 0o777 == 0o600


def test_a_repair_that_does_not_show_on_the_wire_leaves_the_pair_as_it_was(host: RealNginx) -> None:
    site = host.site("live.test")
    before = pairs(host, site)
    more = host.site("more.test")
    unlike = replace(more, certificate=replace(more.certificate, fingerprint="0" * 64))
    hasty = replace(host, settings=replace(host.settings, confirm_deadline=timedelta(seconds=0.3)))
    with pytest.raises(WebServerFailed):
        put_live(hasty, site, unlike)
    assert pairs(host, site) == before
    assert not host.settings.place_of(site).has(Domain("more.test"))


@pytest.mark.parametrize("call", _CALLS)
def test_a_kill_at_a_repair_leaves_a_whole_pair_in_force_and_the_next_run_ends_it(
    host: RealNginx, call: str
) -> None:
    site, other = host.site("live.test"), make_site(host.ca, "other.test", 1)
    for nth in range(1, 60):
        key_of(host, site).chmod(0o644)
        strace = [need("strace"), "-D", "-o", "/dev/null", "-e", f"trace={call}"]
        argv = host.save_for_script(site)
        killed = subprocess.run(
            [*strace, "-e", f"inject={call}:signal=SIGKILL:when={nth}", *argv],
            env=environment(),
            check=False,
            capture_output=True,
        )
        assert host.cold_start_works(), nth
        assert key_of(host, site).read_text() == site.pem.private_key, nth
        put_live(host, other if nth % 2 else site)
        put_live(host, site)
        assert host.web.holds(site), nth
        strays = [path for path in pairs(host, site) if Path(path).name.startswith(".")]
        assert strays == [], nth
        if killed.returncode == 0:
            break
    assert nth > 1
