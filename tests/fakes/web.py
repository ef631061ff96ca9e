"""A web server that holds state: what is published, what it runs, and faults a test may set."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from threading import Event

from certctl.domain import Domain
from certctl.errors import ConfigInvalid, Unreachable, WebServerFailed
from certctl.slugs import Slug
from certctl.values import Done, Site


@dataclass
class FakeWeb:
    """Fits ``ports.parties.WebServer``.

    Attributes:
        files: What is published, whether or not it is loaded.
        serving: What handshakes would show.
        refused: Domains whose server block does not pass the test.
        shut: Domains whose pair goes where nothing can be written.
        is_full: Nothing more fits where server blocks and pairs go.
        keeps_old: The test passes, the reload does not take.
        not_served: Domains that another file serves although the reload took.
        is_running: Whether there is a master to reload.
        intercepted: Domains whose challenge another server block answers.
        probed: Domains that were asked for as the CA would.
        tests: How often the whole was tested.
        reloads: How often it was reloaded; a failed one counts.
        may_reload: Cleared, it keeps a reload from ending.
        damaged: Domains whose pair in force is none.
        aside: What was taken out and is kept.
    """

    files: dict[Domain, Site] = field(default_factory=dict)
    serving: dict[Domain, Site] = field(default_factory=dict)
    refused: set[Domain] = field(default_factory=set)
    shut: set[Domain] = field(default_factory=set)
    is_full: bool = False
    keeps_old: bool = False
    not_served: set[Domain] = field(default_factory=set)
    is_running: bool = True
    intercepted: set[Domain] = field(default_factory=set)
    probed: list[Domain] = field(default_factory=list)
    tests: int = 0
    reloads: int = 0
    may_reload: Event = field(default_factory=Event, repr=False, compare=False)
    damaged: set[Domain] = field(default_factory=set)
    aside: list[Domain] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.may_reload.set()

    @contextmanager
    def change(self, sites: Sequence[Site], *, gone: Sequence[Domain] = ()) -> Iterator["FakeChange"]:
        files, reloads = dict(self.files), self.reloads
        try:
            yield FakeChange(self, {site.domain: site for site in sites}, list(gone))
            self.aside += [domain for domain in gone if domain in files and domain not in self.files]
        except WebServerFailed as error:
            self._put_back(files, reloads, keep=error.slug == Slug.NGINX_NOT_RUNNING)
            raise
        except BaseException:
            self._put_back(files, reloads, keep=False)
            raise

    def require_room(self, domain: Domain) -> None:
        if self.is_full:
            raise ConfigInvalid(Slug.STATE_UNWRITABLE, f"there is too little room for {domain}")

    def require_challenge(self, domain: Domain) -> Done:
        self.probed.append(domain)
        self.require_room(domain)
        self.require_tls()
        if domain in self.intercepted:
            raise WebServerFailed(Slug.NGINX_CHALLENGE_INTERCEPTED, f"another server block answers for {domain}")
        return Done("port 80 answers the challenge", changed=False)

    def require_tls(self) -> Done:
        if not self.is_running:
            raise WebServerFailed(Slug.NGINX_NOT_RUNNING, "nginx is not running")
        return Done("port 443 answers TLS", changed=False)

    def names(self) -> Sequence[Domain]:
        return sorted(set(self.files))

    def leaf(self, domain: Domain) -> str | None:
        site = self.files.get(domain)
        return site.certificate.fingerprint if site else None

    def in_force(self, domain: Domain, now: datetime) -> Site:
        site = self.files.get(domain)
        if site is None or domain in self.damaged or now >= site.certificate.not_after:
            raise Unreachable(
                Slug.STORE_KNOWS_LESS, f"the pair of {domain} is none", next=[f"certctl remove {domain}"]
            )
        return site

    def require_shown(self, site: Site) -> None:
        if self.served(site.domain) != site.certificate.fingerprint:
            raise Unreachable(Slug.STORE_KNOWS_LESS, f"nginx does not show the pair of {site.domain}")

    def discard(self, domain: Domain) -> None:
        self.aside = [each for each in self.aside if each != domain]

    def served(self, domain: Domain) -> str | None:
        """Return the fingerprint a handshake would show."""
        site = self.serving.get(domain)
        return site.certificate.fingerprint if site and domain not in self.not_served else None

    def _put_back(self, files: dict[Domain, Site], reloads: int, *, keep: bool) -> None:
        if keep:
            return
        self.files = files
        if self.reloads > reloads and self.serving != files and not self.keeps_old:
            self.reloads += 1
            self.serving = dict(files)


@dataclass
class FakeChange:
    """Fits ``ports.parties.Change``."""

    web: FakeWeb
    sites: dict[Domain, Site]
    gone: Sequence[Domain]

    def publish(self) -> Done:
        wanted = {**self.web.files, **self.sites}
        wanted = {domain: site for domain, site in wanted.items() if domain not in self.gone}
        if wanted == self.web.files:
            return Done("already in place", changed=False)
        if self.web.shut & set(self.sites):
            raise ConfigInvalid(Slug.STATE_UNWRITABLE, "cannot write /var/lib/certctl-sites: Read-only file system")
        self.web.tests += 1
        if bad := self.web.refused & set(self.sites):
            raise WebServerFailed(Slug.NGINX_TEST_FAILED, f"nginx refused the server block of {min(bad)}")
        self.web.files = wanted
        return Done(f"{len(self.sites)} server blocks")

    def reload(self) -> Done:
        if self.web.is_running and self.web.files == self.web.serving:
            return Done("already in force", changed=False)
        if not self.web.is_running:
            raise WebServerFailed(Slug.NGINX_NOT_RUNNING, "nginx is not running")
        self.web.reloads += 1
        self.web.may_reload.wait()
        if self.web.keeps_old:
            raise WebServerFailed(Slug.NGINX_RELOAD_FAILED, "nginx kept its old configuration")
        self.web.serving = dict(self.web.files)
        return Done("nginx took it over")

    def confirm(self, domain: Domain) -> Done:
        expected = None if domain in self.gone else self.sites[domain].certificate.fingerprint
        if self.web.served(domain) != expected:
            raise WebServerFailed(Slug.NGINX_NOT_SERVED, f"{domain} is not served with its certificate")
        return Done("seen on the wire", changed=False)
