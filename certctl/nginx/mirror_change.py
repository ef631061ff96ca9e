"""A change of sites behind the catch-all: a link is swapped, and the next handshake shows the new pair.

nginx is neither tested nor reloaded: it opens the pair through the link when a client sends the name. A killed run
leaves each site as it was or as it should be; the next run does the rest.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress

from certctl.domain import Domain
from certctl.errors import CertctlError, ConfigInvalid
from certctl.io.clock import Deadline
from certctl.io.files import reason, swap_symlink, sync_directory, writing
from certctl.nginx import aside, handshake
from certctl.nginx.block_change import leave_other_places
from certctl.nginx.command import NginxCommand
from certctl.nginx.errors import not_served, pair_in_use
from certctl.nginx.mainconf import ConfigLine
from certctl.nginx.master import not_reached
from certctl.nginx.pair_references import pairs_named_elsewhere
from certctl.nginx.rollback import BeforeImages, undisturbed
from certctl.nginx.settings import NginxSettings
from certctl.slugs import Slug
from certctl.values import Done, Site

_ONCE = 1  # no worker holds an older configuration that knows an older certificate


class MirrorChange:
    """Implements ``parties.Change`` for sites without a server block; ``change.open_change`` holds their locks."""

    def __init__(
        self, settings: NginxSettings, command: NginxCommand, sites: Sequence[Site], gone: Sequence[Domain]
    ) -> None:
        self._settings = settings
        self._command = command
        self._sites = {site.domain: site for site in sites}
        self._live = settings.catch_all_pairs
        self._gone = {d: self._live.fingerprints(d) for d in gone if d not in self._sites}
        self._named: Mapping[Domain, ConfigLine] = {}
        self._before = BeforeImages()
        self._published = False

    def publish(self) -> Done:
        """Write new versions and swap each site's link; remove the links of removed domains.

        Raises:
            WebServerFailed: ``nginx-test-failed``: OpenSSL cannot load a pair.
            ConfigInvalid: ``state-unwritable``.
        """
        self._published = True
        stale = [site for site in self._sites.values() if not self._live.holds(site)]
        here = [domain for domain in self._gone if self._live.has(domain)]
        self._named = pairs_named_elsewhere(self._settings, self._command, here)
        leaving = [domain for domain in here if domain not in self._named]
        with writing(self._live.path):
            for site in stale:
                self._point(site)
            for domain in leaving:
                self._drop(domain)
        if not stale and not leaving:
            return Done("already in place", changed=False)
        what = f"certificate of {stale[0].domain}" if len(stale) == 1 else f"{len(stale)} certificates"
        parts = [f"{what} in the mirror"] if stale else []
        return Done(", ".join(parts + ([f"{len(leaving)} taken out"] if leaving else [])))

    def reload(self) -> Done:
        """Require that nginx is running; it needs no reload, as a swapped link is in force.

        Raises:
            WebServerFailed: ``nginx-not-running``; what was published stays.
        """
        if not handshake.is_answered(self._settings):
            raise not_reached(
                self._settings,
                "what was published stays, and nginx will serve it when it starts",
                "certctl reconcile",
            )
        return Done("no reload needed", changed=False)

    def confirm(self, domain: Domain) -> Done:
        """Prove by handshakes that the site's own leaf is served, or a removed domain's is no longer.

        Raises:
            WebServerFailed: ``nginx-not-served``; ``nginx-conflict``, a foreign server block needs the pair.
        """
        deadline = Deadline.after(self._settings.confirm_deadline)
        if domain in self._named:
            raise pair_in_use(domain, self._named[domain])
        if domain in self._gone:
            old = self._gone[domain]
            seen = handshake.wait_until(self._settings, [domain.name], lambda s: s.fingerprint not in old, deadline)
            if seen:
                raise not_served(
                    f"{domain} is still served", seen, "no certificate, or another one", self._settings
                )
            return Done(f"{domain} is not served any more")
        leaf = self._sites[domain].certificate.fingerprint
        seen = handshake.wait_until(
            self._settings, [domain.name], lambda s: s.fingerprint == leaf, deadline, in_a_row=_ONCE
        )
        if seen:
            raise not_served(f"{domain} is not served with its certificate", seen, leaf, self._settings)
        return Done(f"leaf {leaf[:16]}… seen on the wire", changed=False)

    def is_about(self, domain: Domain) -> bool:
        """Tell whether this change publishes or removes the domain."""
        return domain in self._sites or domain in self._gone

    def give_up(self, error: BaseException) -> None:
        """Restore the links after an exception; not when nginx is only down, as it reads them later.

        Raises:
            ConfigInvalid: ``state-unwritable``: not all could be put back.
        """
        if isinstance(error, CertctlError) and error.kind.keeps_change:
            self.settle()
            return
        try:
            with undisturbed():
                self._before.restore()
        except OSError as problem:
            raise ConfigInvalid(
                Slug.STATE_UNWRITABLE,
                f"the previous certificates could not all be put back ({reason(problem, self._live.path)})",
                next=["certctl reconcile", "certctl doctor"],
            ) from problem

    def settle(self) -> None:
        """Keep the change, remove old versions, and move the files of removed domains aside.

        Raises:
            ConfigInvalid: ``state-unwritable``: a key that should be gone is still there.
        """
        with suppress(OSError):  # it is served already; what is left is swept up next time
            self._before.drop()
            for site in self._sites.values() if self._published else ():
                self._live.prune(site.certificate)
            if self._published:
                leave_other_places(self._settings, self._command, self._sites.values())
        for domain in sorted(self._gone.keys() - self._named.keys()) if self._published else ():
            aside.put(self._settings, domain)

    def _point(self, site: Site) -> None:
        link, slot = self._live.link(site.domain), self._live.slot(site)
        self._before.remember([link], [slot.created] if slot.created else [])
        self._live.stage(slot, site)
        swap_symlink(link, slot.directory.name)

    def _drop(self, domain: Domain) -> None:
        link = self._live.link(domain)
        if self._live.target(domain):
            self._before.remember([link])
            link.unlink()
            sync_directory(link.parent)
