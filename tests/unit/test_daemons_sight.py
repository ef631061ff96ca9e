"""What nginx's facade answers a process that may see neither server blocks' pairs nor what root put aside."""

import multiprocessing
import os
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme

from certctl.errors import CertctlError
from certctl.nginx.base import base_files
from certctl.nginx.command import NginxCommand
from certctl.nginx.server import Nginx
from certctl.nginx.settings import NginxSettings
from certctl.values import Mode, Site
from tests.real_nginx import make_site

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not look")
NOBODY = 65534
Ask = Callable[[Nginx, Site], object]


@pytest.fixture
def settings() -> Iterator[NginxSettings]:
    """Lay a host in mode shared out as ``init`` does: the state is the daemon's, the pairs of blocks are root's."""
    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        top.chmod(0o755)
        for path in ("conf", "live", "run", "sites"):
            (top / path).mkdir()
        for path in ("live", "run"):
            os.chown(top / path, NOBODY, NOBODY)
        (top / "sites").chmod(0o700)
        (top / "nginx.conf").write_text(f"events {{}}\nhttp {{ include {top}/conf/*.conf; }}\n")
        settings = NginxSettings(
            config=top / "nginx.conf", conf_dir=top / "conf", live=top / "live", sites=top / "sites",
            challenges=top / "challenges", site_root=top, lock_file=top / "run/nginx.lock", mode=Mode.SHARED,
        )  # fmt: skip
        for file, text in base_files(settings, NginxCommand(settings)).items():
            file.write_text(text or "")
        yield settings


def ask_as_nobody(settings: NginxSettings, site: Site, ask: Ask) -> object:
    """Ask in a process that has given root's rights up for good; an error is its slug."""
    ours, theirs = multiprocessing.Pipe()

    def answer() -> None:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        try:
            theirs.send(ask(Nginx(settings), site))
        except Exception as error:  # noqa: BLE001 - whatever it is, the test is to see it
            theirs.send(error.slug if isinstance(error, CertctlError) else repr(error))

    child = multiprocessing.get_context("fork").Process(target=answer)
    child.start()
    said: object = ours.recv()
    child.join()
    return said


def published(web: Nginx, site: Site) -> bool:
    with web.change([site]) as change:
        return change.publish().changed


def taken_out(web: Nginx, site: Site) -> bool:
    with web.change([site]) as change:
        change.publish()
    with web.change([], gone=[site.domain]) as change:
        return change.publish().changed


@pytest.mark.parametrize(
    ("ask", "answer"),
    [
        (lambda web, site: web.leaf(site.domain), None),
        (lambda web, _: list(web.names()), []),
        (lambda web, site: web.holds(site), False),
        (lambda web, site: web.is_published(site.certificate, None), False),
        (lambda web, site: web.discard(site.domain), None),
        (published, True),
        (taken_out, True),
    ],
    ids=["leaf", "names", "holds", "is published", "discard", "published", "taken out"],
)
def test_the_daemon_of_a_catch_all_is_not_stopped_by_what_it_may_not_see(
    settings: NginxSettings, ask: Ask, answer: object
) -> None:
    said = ask_as_nobody(settings, make_site(trustme.CA(), "new.test", 1), ask)
    assert said == answer


def test_of_what_the_daemon_may_not_see_there_is_no_pair(settings: NginxSettings) -> None:
    site = make_site(trustme.CA(), "new.test", 1)
    said = ask_as_nobody(settings, site, lambda web, site: web.in_force(site.domain, datetime.now(UTC)))
    assert said == "store-knows-less"
