"""What a story may expect of party 4, on the fake and on a real nginx."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from certctl.certificates import facts
from certctl.domain import Domain
from certctl.errors import Unreachable, WebServerFailed
from certctl.ports.parties import WebServer
from certctl.values import Mode, Pem, Site
from tests.fakes.web import FakeWeb
from tests.real_nginx import RealNginx, make_site, real_nginx

# With nginx's default hash bucket of 64 it refuses names of 47 characters and more (measured, nginx 1.22.1).
NOW = datetime.now(UTC)
REFUSED = f"{'a' * 60}.example.com"


@dataclass
class Host:
    """One web server under test, and what can be seen and done from outside."""

    web: WebServer
    served: Callable[[str], str | None]
    tests: Callable[[], int]
    reloads: Callable[[], int]
    refuse_reloads: Callable[[], None]
    stop: Callable[[], None]
    intercept: Callable[[str], None]
    is_aside: Callable[[str], bool]
    ca: trustme.CA
    mode: Mode = Mode.BLOCKS

    @property
    def cost(self) -> int:
        """How many tests, and how many reloads, a change costs."""
        return 1 if self.mode is Mode.BLOCKS else 0

    def refused(self) -> Site:
        """A site that cannot be published: by its name where it gets a server block, else by its key."""
        if self.mode is Mode.BLOCKS:
            return self.site(REFUSED)
        one, other = self.site(REFUSED), self.site("other.example.com")
        return Site(one.certificate, Pem(one.pem.fullchain, other.pem.private_key))

    def site(self, name: str, version: int = 1) -> Site:
        return make_site(self.ca, name, version)

    def pair(self, name: str, version: int = 1) -> Site:
        """A pair as a CA makes it, signed by an intermediate."""
        made = make_site(self.ca.create_child_ca(), name, version)
        certificate = facts(made.pem.fullchain.encode(), made.domain)
        return replace(made, certificate=replace(certificate, version=version))

    def put_live(self, *sites: Site, then: BaseException | None = None) -> None:
        with self.web.change(sites) as change:
            change.publish()
            change.reload()
            for site in sites:
                change.confirm(site.domain)
            if then:
                raise then


@pytest.fixture(params=["fake", *(pytest.param(mode, marks=pytest.mark.e2e) for mode in Mode)])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Host]:
    ca = trustme.CA()
    if request.param == "fake":
        fake = FakeWeb(refused={Domain(REFUSED)})

        yield Host(
            web=fake,
            served=lambda name: fake.served(Domain(name)),
            tests=lambda: fake.tests,
            reloads=lambda: fake.reloads,
            refuse_reloads=lambda: setattr(fake, "keeps_old", True),
            stop=lambda: setattr(fake, "is_running", False),
            intercept=lambda name: fake.intercepted.add(Domain(name)),
            is_aside=lambda name: Domain(name) in fake.aside,
            ca=ca,
        )
        return
    mode = Mode(request.param)
    with real_nginx(tmp_path, extra="server_names_hash_bucket_size 64;", mode=mode) as real:
        yield Host(
            real.web, real.look, real.tests_run, real.reloads, real.refuse_reloads, real.stop,
            lambda name: intercept(real, name),
            lambda name: any((real.root / "aside").glob(f"*-{name}/*/*/privkey.pem")), ca, mode,
        )  # fmt: skip


def intercept(real: RealNginx, name: str) -> None:
    """Let a server block of the operator's answer for a name on port 80."""
    listen = f"listen 127.0.0.1:{real.settings.http_port};"
    real.foreign(f"server {{ {listen} server_name {name}; return 301 https://$host$request_uri; }}\n")
    real.web.force_reload()


def test_a_challenge_is_answered_for_whoever_may_become_a_customer_and_tls_too(host: Host) -> None:
    host.web.require_challenge(Domain("new.example.com"))
    host.web.require_tls()
    host.put_live(host.site("live.example.com"))
    host.web.require_challenge(Domain("live.example.com"))


def test_a_challenge_that_something_else_answers_is_told_from_a_server_that_is_not_there(host: Host) -> None:
    host.intercept("theirs.example.com")
    with pytest.raises(WebServerFailed) as caught:
        host.web.require_challenge(Domain("theirs.example.com"))
    assert caught.value.slug == "nginx-challenge-intercepted"
    host.web.require_challenge(Domain("other.example.com"))
    host.stop()
    with pytest.raises(WebServerFailed) as caught:
        host.web.require_challenge(Domain("other.example.com"))
    assert caught.value.slug == "nginx-not-running"
    with pytest.raises(WebServerFailed) as caught:
        host.web.require_tls()
    assert caught.value.slug == "nginx-not-running"


def test_a_published_site_is_served_with_its_own_leaf(host: Host) -> None:
    site = host.site("status.example.com")
    with host.web.change([site]) as change:
        assert change.publish().changed
        assert change.reload().changed is (host.mode is Mode.BLOCKS)
        change.confirm(site.domain)
    assert host.served("status.example.com") == site.certificate.fingerprint


def test_a_newer_version_replaces_the_older_one(host: Host) -> None:
    old, new = host.site("status.example.com", 1), host.site("status.example.com", 2)
    host.put_live(old)
    host.put_live(new)
    assert host.served("status.example.com") == new.certificate.fingerprint


def test_publishing_what_is_there_changes_tests_and_reloads_nothing(host: Host) -> None:
    site = host.site("status.example.com")
    host.put_live(site)
    before = host.tests(), host.reloads()
    with host.web.change([site]) as change:
        assert not change.publish().changed
        assert not change.reload().changed
        change.confirm(site.domain)
    assert (host.tests(), host.reloads()) == before


def test_a_batch_costs_one_test_and_one_reload_or_behind_a_catch_all_none(host: Host) -> None:
    host.put_live(host.site("canary.example.com"))
    before = host.tests(), host.reloads()
    sites = [host.site(f"s{number}.example.com") for number in range(5)]
    host.put_live(*sites)
    assert (host.tests(), host.reloads()) == (before[0] + host.cost, before[1] + host.cost)
    assert [host.served(str(s.domain)) for s in sites] == [s.certificate.fingerprint for s in sites]


def test_a_refused_site_leaves_the_others_as_they_were(host: Host) -> None:
    canary = host.site("canary.example.com")
    host.put_live(canary)
    reloads = host.reloads()
    newer = host.site("canary.example.com", 2)
    with pytest.raises(WebServerFailed) as caught:
        host.put_live(newer, host.refused())
    assert caught.value.slug == "nginx-test-failed"
    assert host.served("canary.example.com") == canary.certificate.fingerprint
    assert host.reloads() == reloads
    assert list(host.web.names()) == [Domain("canary.example.com")]


@pytest.mark.parametrize("host", ["fake", pytest.param("blocks", marks=pytest.mark.e2e)], indirect=True)
def test_a_reload_that_nginx_does_not_follow_is_noticed_and_taken_back(host: Host) -> None:
    canary = host.site("canary.example.com")
    host.put_live(canary)
    host.refuse_reloads()
    with pytest.raises(WebServerFailed) as caught:
        host.put_live(host.site("new.example.com"))
    assert caught.value.slug == "nginx-reload-failed"
    assert host.served("canary.example.com") == canary.certificate.fingerprint
    assert host.served("new.example.com") is None
    assert list(host.web.names()) == [Domain("canary.example.com")]


def test_an_exception_after_the_reload_brings_the_previous_site_back(host: Host) -> None:
    old, new = host.site("status.example.com", 1), host.site("status.example.com", 2)
    host.put_live(old)
    with pytest.raises(KeyboardInterrupt):
        host.put_live(new, then=KeyboardInterrupt())
    assert host.served("status.example.com") == old.certificate.fingerprint


def test_a_domain_taken_out_is_not_served_and_leaves_nothing(host: Host) -> None:
    canary, site = host.site("canary.example.com"), host.site("status.example.com")
    host.put_live(canary, site)
    with host.web.change([], gone=[site.domain]) as change:
        assert change.publish().changed
        assert change.reload().changed is (host.mode is Mode.BLOCKS)
        change.confirm(site.domain)
    assert host.served("status.example.com") is None
    assert host.served("canary.example.com") == canary.certificate.fingerprint
    assert list(host.web.names()) == [canary.domain]


def test_taking_out_what_is_not_there_changes_nothing(host: Host) -> None:
    host.put_live(host.site("canary.example.com"))
    reloads = host.reloads()
    with host.web.change([], gone=[Domain("never.example.com")]) as change:
        assert not change.publish().changed
        assert not change.reload().changed
    assert host.reloads() == reloads


def test_while_nginx_is_not_running_tested_files_stay_for_its_start(host: Host) -> None:
    host.stop()
    site = host.site("status.example.com")
    with pytest.raises(WebServerFailed) as caught:
        host.put_live(site)
    assert caught.value.slug == "nginx-not-running"
    assert list(host.web.names()) == [site.domain]


def test_a_wildcard_site_serves_its_zone_and_one_label_below(host: Host) -> None:
    site = host.site("*.example.com")
    host.put_live(site)
    assert list(host.web.names()) == [site.domain]


def test_what_is_in_force_is_told_with_its_pair_and_its_version(host: Host) -> None:
    site, newer = host.pair("status.example.com"), host.pair("status.example.com", 7)
    for each in (site, newer):
        host.put_live(each)
        assert host.web.leaf(site.domain) == each.certificate.fingerprint
        assert host.web.in_force(site.domain, NOW) == each
        host.web.require_shown(each)
    assert host.web.leaf(Domain("never.example.com")) is None
    for site_not_shown in (site, host.pair("never.example.com")):
        with pytest.raises(Unreachable) as caught:
            host.web.require_shown(site_not_shown)
        assert caught.value.slug == "store-knows-less"


def test_a_pair_that_has_expired_or_is_not_there_is_none_to_take_in(host: Host) -> None:
    site = host.pair("status.example.com")
    host.put_live(site)
    expired = site.certificate.not_after + timedelta(seconds=1)
    for domain, moment in ((site.domain, expired), (Domain("never.example.com"), NOW)):
        with pytest.raises(Unreachable) as caught:
            host.web.in_force(domain, moment)
        assert caught.value.slug == "store-knows-less"


def test_what_is_taken_out_is_aside_until_it_is_discarded(host: Host) -> None:
    canary, site = host.site("canary.example.com"), host.site("status.example.com")
    host.put_live(canary, site)
    with host.web.change([], gone=[site.domain]) as change:
        change.publish()
        change.reload()
    assert host.is_aside("status.example.com")
    assert not host.is_aside("canary.example.com")
    host.web.discard(canary.domain)
    assert host.is_aside("status.example.com")
    host.web.discard(site.domain)
    assert not host.is_aside("status.example.com")
