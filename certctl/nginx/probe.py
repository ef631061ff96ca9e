"""Prove that the catch-all serves pairs of the mirror, by a handshake for a name of our own."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import islice
from pathlib import Path

from certctl.domain import CHECK_DOMAIN, Domain
from certctl.io.clock import Deadline
from certctl.io.files import PUBLIC, make_directory, remove_tree, write_new
from certctl.nginx import handshake, mirror
from certctl.nginx.errors import not_served
from certctl.nginx.handshake import HandshakeResult
from certctl.nginx.mirror import Rights
from certctl.nginx.place import Place
from certctl.nginx.settings import NginxSettings
from certctl.values import Mode

_PATIENCE = timedelta(seconds=2)
_ASKED = 3


def prove_catch_all(settings: NginxSettings) -> None:
    """Shake hands for the check's own name, which for a moment has a copy of some site's certificate.

    Nothing is proven in mode ``blocks``, or while this host has no certificate. Up to three sites are tried, as the
    pair of one may be broken.

    Raises:
        WebServerFailed: ``nginx-not-served``.
    """
    pairs = islice(_pairs(settings), _ASKED) if settings.mode is not Mode.BLOCKS else ()
    seen = [_look(settings, place, domain) for place, domain in pairs]
    if seen and all(seen):
        raise not_served("the catch-all does not serve what is in the mirror", seen[0], "the certificate", settings)


def sweep(settings: NginxSettings) -> None:
    """Remove what a killed proof left, maybe a copy of a customer's key; no proof may run meanwhile."""
    check_path = mirror.domain_path(settings.live, CHECK_DOMAIN)
    if os.path.lexists(check_path):
        remove_tree(check_path)


def _pairs(settings: NginxSettings) -> Iterator[tuple[Place, Domain]]:
    """Yield (place, domain) of pairs; during a move from mode ``blocks`` only server blocks have any."""
    for place in (settings.catch_all_pairs, settings.block_pairs):
        with place.reached():
            found = [home.name for home in place.path.iterdir() if (home / mirror.CURRENT).exists()]
        yield from ((place, Domain(n)) for n in found if not n.startswith((".", "_")) and n != CHECK_DOMAIN.name)


def _look(settings: NginxSettings, place: Place, domain: Domain) -> HandshakeResult | None:
    """Return the handshake that showed another certificate than the site's; None when the site's was shown."""
    expected = place.fingerprints(domain)
    with _borrowed(settings, place, domain):
        return handshake.wait_until(
            settings, [CHECK_DOMAIN.name], lambda seen: seen.fingerprint in expected, Deadline.after(_PATIENCE)
        )


@contextmanager
def _borrowed(settings: NginxSettings, place: Place, domain: Domain) -> Iterator[None]:
    """Give the check's own name a site's pair for the block; a key is copied only where workers cannot read it."""
    check_path = mirror.domain_path(settings.live, CHECK_DOMAIN)
    sweep(settings)
    try:
        make_directory(check_path, settings.rights.directory)
        if place.is_roots:
            _copy(place, domain, check_path / mirror.CURRENT, settings.rights)
        else:
            (check_path / mirror.CURRENT).symlink_to(Path("..", place.link(domain).parent.name, mirror.CURRENT))
        yield
    finally:
        remove_tree(check_path)


def _copy(place: Place, domain: Domain, to: Path, rights: Rights) -> None:
    with place.reached():
        pair = {name: (place.link(domain) / name).read_bytes() for name in (mirror.CHAIN, mirror.KEY)}
    make_directory(to, rights.directory)
    for name, content in pair.items():
        write_new(to / name, content, rights.key if name == mirror.KEY else PUBLIC, durable=False)
