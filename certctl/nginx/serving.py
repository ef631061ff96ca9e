"""What nginx serves of a domain according to our files, independent of the store."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from certctl.domain import Domain
from certctl.errors import Unreachable
from certctl.io.files import read_regular
from certctl.nginx import handshake, mirror
from certctl.nginx.place import Place
from certctl.nginx.serverblock import is_our_block, read
from certctl.nginx.settings import NginxSettings
from certctl.slugs import Slug
from certctl.values import Mode, Site

_MOST = 64 * 1024 + 1


def leaf(settings: NginxSettings, domain: Domain) -> str | None:
    """Return the SHA-256 of the leaf that ``current`` leads to; None when there is none to read."""
    place = _place(settings, domain)
    return place.leaf(domain) if place else None


def site(settings: NginxSettings, domain: Domain, now: datetime) -> Site:
    """Return a domain as nginx serves it now: its mode, where it has its own, its certificate and its pair.

    The pair is checked like one that the CA issued.

    Raises:
        Unreachable: ``store-knows-less``, with what is wrong with the pair.
    """
    from certctl.certificates import NotUsable, checked

    place = _place(settings, domain)
    if place is None:
        raise _not_taken(domain, "it is not there")
    try:
        pair = _pair(place, domain)
        issued = checked(domain, domain.names, *pair, now)
    except OSError as fault:
        raise _not_taken(domain, f"it cannot be read ({fault.strerror})") from fault
    except NotUsable as fault:
        raise _not_taken(domain, fault.why, fault.seen, fault.expected) from fault
    certificate = replace(issued.certificate, version=mirror.number(place.target(domain) or ""))
    return Site(certificate, issued.pem, _mode(settings, domain))


def require_shown(settings: NginxSettings, site: Site) -> None:
    """Require that nginx shows a site's pair in a handshake; another server block may have the name.

    Raises:
        Unreachable: ``store-knows-less``.
    """
    seen = handshake.look(settings, handshake.names_to_ask(site.domain.names)[0])
    if seen.fingerprint != site.certificate.fingerprint:
        raise _not_taken(site.domain, "nginx does not show it", [seen.text], [site.certificate.fingerprint])


def _place(settings: NginxSettings, domain: Domain) -> Place | None:
    """Return the place of the pair in force: the one its server block names, else one that has a pair."""
    blocks, catch_all = settings.block_pairs, settings.catch_all_pairs
    path = settings.block_path(domain)
    text = (read(path) or "") if is_our_block(path) else ""
    named = [place for place in (blocks, catch_all) if f" {place.link(domain)}/" in text]
    usual = (blocks, catch_all) if settings.mode is Mode.BLOCKS else (catch_all, blocks)
    return next((place for place in (*named, *(() if named else usual)) if place.target(domain)), None)


def _pair(place: Place, domain: Domain) -> tuple[bytes, bytes]:
    home = mirror.domain_path(place.path, domain) / (place.target(domain) or mirror.CURRENT)
    with place.reached():
        return read_regular(home / mirror.CHAIN, _MOST), read_regular(home / mirror.KEY, _MOST)


def _mode(settings: NginxSettings, domain: Domain) -> Mode | None:
    """Return the mode the operator chose for a domain, which its server block shows where others have none."""
    is_apart = settings.mode is not Mode.BLOCKS and not domain.is_wildcard
    return Mode.BLOCKS if is_apart and is_our_block(settings.block_path(domain)) else None


def _not_taken(domain: Domain, why: str, seen: Sequence[str] = (), expected: Sequence[str] = ()) -> Unreachable:
    return Unreachable(
        Slug.STORE_KNOWS_LESS,
        f"the store does not take in the pair of {domain} that nginx's files name: {why}",
        seen=seen,
        expected=expected,
        next=["certctl doctor", f"certctl remove {domain}"],
    )
