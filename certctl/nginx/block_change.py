"""One change of server blocks for any number of sites: publish, reload nginx, confirm by handshakes."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from certctl.domain import Domain
from certctl.errors import WebServerFailed
from certctl.io.clock import Deadline
from certctl.io.files import writing
from certctl.nginx import aside, handshake, mainconf, mirror
from certctl.nginx.base import serves_the_mirror
from certctl.nginx.broken import BrokenBlocks
from certctl.nginx.command import NginxCommand
from certctl.nginx.errors import not_included, not_ours, not_served, pair_gone, pair_in_use
from certctl.nginx.footprint import DUMPED
from certctl.nginx.handshake import HandshakeResult
from certctl.nginx.mainconf import ConfigLine
from certctl.nginx.master import Master
from certctl.nginx.pair_references import pairs_named_elsewhere
from certctl.nginx.serverblock import is_edited, is_foreign, is_our_block, read, server_block
from certctl.nginx.settings import NginxSettings
from certctl.nginx.transaction import Swap, Transaction
from certctl.values import Done, Mode, Site


@dataclass(frozen=True, slots=True)
class Work:
    """The work of one change: sites to publish, domains to remove from nginx."""

    sites: list[Site]
    gone: list[Domain]

    def __bool__(self) -> bool:
        return bool(self.sites or self.gone)


class BlockChange:
    """Implements ``parties.Change`` for sites that have, or had, a server block; see ``change.open_change``."""

    def __init__(
        self,
        settings: NginxSettings,
        command: NginxCommand,
        transaction: Transaction,
        broken_blocks: BrokenBlocks,
        work: Work,
    ) -> None:
        self._settings = settings
        self._command = command
        self._transaction = transaction
        self._broken_blocks = broken_blocks
        self._sites = {site.domain: site for site in work.sites}
        self._names = {name for site in work.sites for name in site.certificate.names}
        self._places = (settings.block_pairs, settings.catch_all_pairs)
        self._gone = {domain: self._leaves(domain) for domain in work.gone if domain not in self._sites}
        self._repaired: list[Domain] = []
        self._blocks_before: dict[Domain, str | None] = {}
        self._named: Mapping[Domain, ConfigLine] = {}
        self._published = False
        self._changed = False
        self._agrees = False

    def publish(self) -> Done:
        """Write the mirror and the server blocks of all sites, then let nginx test the configuration once.

        Server blocks of other sites whose pair is gone are repaired with it: nginx refuses the configuration
        otherwise.

        Raises:
            WebServerFailed: ``nginx-test-failed``, ``nginx-conflict``, ``nginx-already-broken``,
                ``nginx-cannot-test``, ``nginx-timeout``, ``nginx-missing``. Nothing of ours remains.
            ConfigInvalid: ``state-unwritable``, ``config-invalid``; likewise.
        """
        self._plan_repairs(thoroughly=False)
        try:
            return self._publish()
        except WebServerFailed as error:
            if not error.kind.predates_change or not self._plan_repairs(thoroughly=True):
                raise
            return self._publish()

    def _publish(self) -> Done:
        wanted = {**self._wanted_blocks(), **self._unwanted_blocks()}
        current = {path: read(path) for path in wanted}
        files = {path: text for path, text in wanted.items() if text != current[path]}
        stale = [site for site in self._sites.values() if not self._settings.place_of(site).holds(site)]
        leftovers = [d for d in self._gone if any(place.has(d) for place in self._places)]
        self._named = pairs_named_elsewhere(self._settings, self._command, leftovers)
        self._published = True
        self._blocks_before = {d: current.get(self._settings.block_path(d)) for d in self._gone}
        if files or stale or self._dropped_links():
            with writing(self._settings.live):
                swap = self._swap(files, stale)
            self._transaction.swap(swap)
            self._changed = True
        elif not leftovers:
            return Done("already in place", changed=False)
        edited = sum(1 for path in files if is_edited(current[path] or "") and current[path])
        return Done(self._summary() + (f", {edited} edited by hand and written anew" if edited else ""))

    def reload(self) -> Done:
        """Reload nginx if a file differs from what it runs, and wait for the proof: new workers took over.

        Raises:
            WebServerFailed: ``nginx-not-running`` (the tested files stay), ``nginx-reload-failed``.
        """
        self._agrees = not self._changed and not self._transaction.is_reload_pending and self._wire_agrees()
        if self._agrees:
            return Done("already in force", changed=False)
        seconds = self._transaction.reload()
        for domain in self._gone:
            self.confirm(domain)
        return Done(f"nginx took it over in {seconds:.2f} s")

    def confirm(self, domain: Domain) -> Done:
        """Prove by handshakes that the site's own leaf is served, or a removed domain's is no longer.

        Raises:
            WebServerFailed: ``nginx-not-served``; ``nginx-not-included`` when that is why; ``nginx-conflict`` when
                behind a catch-all a server block that is not ours needs the pair.
        """
        deadline = Deadline.after(self._settings.confirm_deadline)
        if domain in self._named and self._settings.mode is not Mode.BLOCKS:
            raise pair_in_use(domain, self._named[domain])
        if domain in self._gone:
            old = self._gone[domain]
            names = handshake.names_to_ask(domain.names)
            seen = handshake.wait_until(self._settings, names, lambda s: _is_gone(s, old), deadline)
            if seen:
                raise self._not_served(f"{domain} is still served", seen, "no certificate, or another one")
            return Done(f"{domain} is not served any more")
        certificate = self._sites[domain].certificate
        names = handshake.names_to_ask(certificate.names)
        if self._agrees:  # the first name showed it when the reload was found needless, and nothing has changed
            del names[0]
        seen = handshake.wait_until(
            self._settings, names, lambda s: s.fingerprint == certificate.fingerprint, deadline
        )
        if seen:
            raise self._not_served(f"{domain} is not served with its certificate", seen, certificate.fingerprint)
        return Done(f"leaf {certificate.fingerprint[:16]}… seen on the wire", changed=False)

    def is_about(self, domain: Domain) -> bool:
        """Tell whether this change publishes or removes the domain."""
        return domain in self._sites or domain in self._gone

    def settle(self) -> None:
        """Keep the change, remove old versions, and move the files of removed domains aside.

        Raises:
            ConfigInvalid: ``state-unwritable``: a key that should be gone is still there.
        """
        self._transaction.settle()
        if not self._published:
            return
        with suppress(OSError):  # it is served already; what is left is swept up next time
            for site in self._sites.values():
                self._settings.place_of(site).prune(site.certificate)
            if not self._transaction.is_reload_pending:  # or nginx, as it runs, may still go there
                leave_other_places(self._settings, self._command, self._sites.values())
        for domain in sorted(self._gone.keys() - self._named.keys()):
            aside.put(self._settings, domain, self._blocks_before.get(domain))

    def _wanted_blocks(self) -> dict[Path, str | None]:
        blocks = dict[Path, str | None]()
        for site in filter(self._settings.has_block, self._sites.values()):
            path = self._settings.block_path(site.domain)
            if is_foreign(path):
                raise not_ours(path)
            blocks[path] = server_block(self._settings, site.certificate, self._command.version)
        return blocks

    def _swap(self, files: dict[Path, str | None], stale: Sequence[Site]) -> Swap:
        placed = [(self._settings.place_of(site), site) for site in stale]
        staged = [(place, place.slot(site), site) for place, site in placed]

        def stage() -> None:
            for place, slot, site in staged:
                place.stage(slot, site)

        links: dict[Path, str | None] = {
            place.link(site.domain): slot.directory.name for place, slot, site in staged
        }
        created = [slot.created for _, slot, _ in staged if slot.created]
        return Swap(files, {**links, **self._dropped_links()}, created, stage, self._names)

    def _dropped_links(self) -> dict[Path, str | None]:
        """Return the links of removed domains, each to None: behind a catch-all a link that stays is served."""
        if self._settings.mode is Mode.BLOCKS:
            return {}
        live = self._settings.catch_all_pairs
        leaving = [domain for domain in self._gone if domain not in self._named]
        return {live.link(domain): None for domain in leaving if live.target(domain)}

    def _unwanted_blocks(self) -> dict[Path, str | None]:
        shared = [site.domain for site in self._sites.values() if not self._settings.has_block(site)]
        paths = [self._settings.block_path(domain) for domain in (*shared, *self._gone)]
        return {path: None for path in paths if is_our_block(path)}

    def _plan_repairs(self, *, thoroughly: bool) -> bool:
        """Add the repair of broken server blocks to this change; return whether there is any.

        Raises:
            WebServerFailed: ``nginx-already-broken``: the operator must decide about a block nginx still serves.
        """
        found = self._broken_blocks.find({*self._sites, *self._gone}, thoroughly=thoroughly)
        self._sites |= {site.domain: site for site in found.sites}
        self._gone |= {domain: self._leaves(domain) for domain in found.gone}
        self._repaired += [*(site.domain for site in found.sites), *found.gone]
        if thoroughly and found.kept:
            raise pair_gone(found.kept)
        return bool(found.sites or found.gone)

    def _leaves(self, domain: Domain) -> frozenset[str]:
        return frozenset[str]().union(*(place.fingerprints(domain) for place in self._places))

    def _summary(self) -> str:
        sites = [domain for domain in self._sites if domain not in self._repaired]
        gone = [domain for domain in self._gone if domain not in self._repaired]
        parts = (
            [f"server block of {sites[0]}" if len(sites) == 1 else f"{len(sites)} server blocks"] if sites else []
        )
        parts += [f"{len(gone)} taken out"] if gone else []
        for domain in self._repaired:
            what = "published again" if domain in self._sites else "put aside"
            parts.append(f"{domain} {what}, for its pair was gone")
        return ", ".join(parts)

    def _wire_agrees(self) -> bool:
        for site in self._sites.values():
            name = handshake.names_to_ask(site.certificate.names)[0]
            if handshake.look(self._settings, name).fingerprint != site.certificate.fingerprint:
                return False
        return all(
            _is_gone(handshake.look(self._settings, handshake.names_to_ask(domain.names)[0]), old)
            for domain, old in self._gone.items()
        )

    def _not_served(self, message: str, seen: HandshakeResult, expected: str) -> WebServerFailed:
        settings = self._settings
        if not mainconf.includes(self._command.dump(), settings.config, settings.conf_dir):
            return not_included(settings)
        return not_served(message, seen, expected, settings)


def leave_other_places(settings: NginxSettings, command: NginxCommand, sites: Iterable[Site]) -> None:
    """Remove pairs from a site's former directory, unless a server block that is not ours names them there."""
    before = [(settings.other_place(site), site.domain) for site in sites]
    before = [(place, domain) for place, domain in before if place.has(domain)]
    if not before:
        return
    with suppress(WebServerFailed):
        if any(place == settings.catch_all_pairs for place, _ in before):
            Master(settings, command).wait_for_handshakes()
        dump = command.dump()
        for place, domain in before if DUMPED in dump else ():  # else it is unknown what is named
            if f"{mirror.domain_path(place.path, domain)}/" not in dump:
                place.remove(domain)


def in_force(settings: NginxSettings) -> NginxSettings:
    """Return the settings by which nginx serves sites now, whatever mode the configuration has.

    Mode ``blocks`` is in force while the installed base file serves no name without a server block, as after an
    interrupted change of the mode, or an edit of the configuration alone. Then no server block is removed.
    """
    if settings.mode is Mode.BLOCKS or serves_the_mirror(settings, read(settings.base_path)):
        return settings
    return replace(settings, mode=Mode.BLOCKS)


def _is_gone(seen: HandshakeResult, old: frozenset[str]) -> bool:
    """Tell whether a handshake showed none of the old leaves; a wildcard of ours may cover the name now."""
    return seen.fingerprint not in old
