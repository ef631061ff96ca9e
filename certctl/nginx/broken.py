"""Server blocks of ours whose pair (fullchain and privkey) is gone: nginx could not start while they are there.

A restored backup brings such a block back, or its pair was removed by hand, or emptied by a power cut.
"""

import re
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from certctl.domain import Domain
from certctl.errors import CertctlError
from certctl.io.fsuid import as_root
from certctl.nginx import handshake, mirror
from certctl.nginx.command import NginxCommand
from certctl.nginx.serverblock import is_ours, owner_of, read, server_block
from certctl.nginx.settings import NginxSettings
from certctl.values import Site

Recall = Callable[[Domain], Site | None]
"""Returns a site as the store has it; None for a domain it has no certificate of, or that was removed."""

_NAMED = re.compile(r"^\s*ssl_certificate(?:_key)?\s+([^\s;\"'$]+)\s*;", re.MULTILINE)


@dataclass
class RepairPlan:
    """What a change does about broken server blocks.

    Attributes:
        sites: Sites that are published again, from the store.
        gone: Domains that are removed: nginx serves none of them.
        kept: Domains that are left alone: the store lacks them, and nginx still serves the pair it has loaded.
    """

    sites: list[Site] = field(default_factory=list)
    gone: list[Domain] = field(default_factory=list)
    kept: list[Domain] = field(default_factory=list)


class BrokenBlocks:
    """Finds server blocks whose pair is gone, and plans their repair; it changes nothing."""

    def __init__(self, settings: NginxSettings, command: NginxCommand, recall: Recall) -> None:
        self._settings = settings
        self._command = command
        self._recall = recall

    def find(self, others_than: Collection[Domain], *, thoroughly: bool) -> RepairPlan:
        """Return the plan for broken blocks of other domains; ``thoroughly`` has OpenSSL load each pair."""
        plan = RepairPlan()
        for domain in [domain for domain in self._broken(thoroughly=thoroughly) if domain not in others_than]:
            site = self._recall(domain)
            if site and self._can_be_published(site):
                plan.sites.append(site)
            elif self._is_served(domain):
                plan.kept.append(domain)
            else:
                plan.gone.append(domain)
        return plan

    @as_root()
    def _broken(self, *, thoroughly: bool) -> list[Domain]:
        settings = self._settings
        paths = sorted({*settings.conf_dir.glob("*.conf")} - {settings.base_path})
        texts = {path: read(path) or "" for path in paths if path.is_file() and not path.is_symlink()}
        ours = {path: Domain(owner_of(text)) for path, text in texts.items() if is_ours(text)}
        return [
            domain
            for path, domain in ours.items()
            if path == settings.block_path(domain)
            and not all(_is_there(at, thoroughly=thoroughly) for at in self._named(texts[path], domain))
        ]

    def _named(self, text: str, domain: Domain) -> set[Path]:
        """Return the directories in the mirror that a server block names for its domain."""
        homes = [mirror.domain_path(place, domain) for place in (self._settings.sites, self._settings.live)]
        named = {Path(path).parent for path in _NAMED.findall(text)}
        return {path for path in named if any(path.is_relative_to(home) for home in homes)}

    def _can_be_published(self, site: Site) -> bool:
        if not self._settings.has_block(site):
            return False
        try:
            server_block(self._settings, site.certificate, self._command.version)
            mirror.require_loadable(site)
        except CertctlError:
            return False
        return True

    def _is_served(self, domain: Domain) -> bool:
        """Tell whether nginx shows a certificate for the name that is not a covering wildcard's."""
        name = handshake.names_to_ask(domain.names)[0]
        wildcard = Domain(f"*.{name.partition('.')[2]}")
        places = (self._settings.block_pairs, self._settings.catch_all_pairs)
        covering = frozenset[str]().union(*(place.fingerprints(wildcard) for place in places if wildcard != domain))
        seen = handshake.look(self._settings, name).fingerprint
        return seen is not None and seen not in covering


def _is_there(pair: Path, *, thoroughly: bool) -> bool:
    """Tell whether a pair is there; one that cannot be read now counts as there."""
    with suppress(OSError):
        return mirror.is_pair(pair, thoroughly=thoroughly)
    return True
