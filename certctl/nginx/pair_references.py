"""Pairs of ours that a server block of the operator's names: without them nginx could not start."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress

from certctl.domain import Domain
from certctl.errors import WebServerFailed
from certctl.nginx import mirror
from certctl.nginx.command import NginxCommand
from certctl.nginx.footprint import DUMPED
from certctl.nginx.mainconf import ConfigLine, pieces
from certctl.nginx.settings import NginxSettings


def pairs_named_elsewhere(
    settings: NginxSettings, command: NginxCommand, domains: Collection[Domain]
) -> Mapping[Domain, ConfigLine]:
    """Return (domain → line) for each domain whose pair a file other than its own server block names.

    It is empty when ``nginx -T`` fails, as for an invalid configuration: then it cannot be known.
    """
    with suppress(WebServerFailed):
        dump = command.dump() if domains else ""
        if DUMPED in dump:
            return dict(_named(settings, pieces(dump), domains))
    return {}


def _named(
    settings: NginxSettings, files: Collection[tuple[str, str]], domains: Collection[Domain]
) -> Iterator[tuple[Domain, ConfigLine]]:
    for domain in domains:
        homes = [f"{mirror.domain_path(place, domain)}/" for place in (settings.sites, settings.live)]
        own = str(settings.block_path(domain))
        for file, text in files:
            if file != own and any(home in text for home in homes):
                number = next(n for n, line in enumerate(text.split("\n")) if any(home in line for home in homes))
                yield domain, ConfigLine(file, number)
                break
