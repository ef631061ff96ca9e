"""The TXT record of a DNS-01 challenge (RFC 8555 §8.4): where it must stand, and which nameservers have it.

The CA may ask any nameserver, from several places, so all of them must have it. A resolver's cache does not matter.
"""

from collections.abc import Sequence
from secrets import token_hex

import dns.name
import dns.rdtypes.ANY.TXT
from dns.name import Name
from dns.rdata import Rdata
from dns.rdatatype import CNAME, TXT

from certctl.dns.ask import MAX_LINKS, Outcome, Reply
from certctl.dns.resolver import Resolver
from certctl.dns.settings import DnsSettings
from certctl.dns.zone import Zone, Zones, plain
from certctl.domain import Domain
from certctl.errors import CertctlError, NotReady
from certctl.slugs import Slug
from certctl.txt_records import TxtAnswer, TxtSight
from certctl.values import CHALLENGE_LABEL, DnsSolver

# The plugins of certbot's own house write to the literal name (read in 5.8: none looks for a CNAME); for rfc2136 we
# write at the CNAME's end by ourselves (dns/update.py). Others, such as acme-dns', live on following it.
_LITERAL = frozenset({
    "cloudflare", "digitalocean", "dnsimple", "dnsmadeeasy", "gehirn", "google", "linode", "luadns", "nsone",
    "ovh", "route53", "sakuracloud",
})  # fmt: skip


class TxtWatch:
    """Queries the nameservers for a challenge's TXT record, uncached, within ``settings.deadline`` each time."""

    def __init__(self, settings: DnsSettings) -> None:
        self._settings = settings

    def look(self, zone: str, label: str = CHALLENGE_LABEL) -> TxtSight:
        """Return what each nameserver has for a zone's challenge; an error is in its notes, never raised."""
        asked = challenge_name(zone, label)
        try:
            resolver = Resolver(self._settings)
            zones = Zones(resolver, self._settings)
            owner, notes = follow(zones, asked)
            holding = zones.zone_of(owner)
            answers = _answers(resolver, holding, owner, self._settings)
            return TxtSight(plain(asked), plain(owner), plain(holding.name), answers, (*notes, *holding.unusable))
        except CertctlError as error:
            return TxtSight(plain(asked), plain(asked), notes=(error.message,))


def challenge_name(zone: str, label: str = CHALLENGE_LABEL) -> Name:
    """Return the challenge's name, such as ``_acme-challenge.example.com``, for a zone and its wildcard alike."""
    return dns.name.from_text(f"{label}.{zone}")


def follow(zones: Zones, name: Name) -> tuple[Name, Sequence[str]]:
    """Return the name at which the challenge's CNAMEs end, and remarks about wildcards on the way.

    A wildcard's CNAME is not followed: it counts only until the name has a record of its own (RFC 4592 §2.2).

    Raises:
        NotReady: the CNAMEs do not end, or the nameservers fail.
        Unreachable: no resolver answered.
    """
    shadow, notes = _covering_wildcard(zones, name)
    end = name
    for _ in range(MAX_LINKS + 1):
        alias = _alias(zones, end)
        if alias is None or (end == name and alias == shadow):
            return end, notes
        end = alias
    raise NotReady(Slug.DNS_CNAME_LOOP, f"{plain(name)} is an alias that never ends", seen=[f"… {plain(end)}"])


def require_writable(zones: Zones, domain: Domain, solver: DnsSolver) -> str:
    """Return "name → CNAME's end" for the challenge's record, empty without a CNAME.

    Raises:
        NotReady: ``dns-delegation``.
    """
    name = challenge_name(domain.zone, solver.label)
    owner, _ = follow(zones, name)
    if owner == name:
        return ""
    if solver.plugin in _LITERAL:
        raise NotReady(
            Slug.DNS_DELEGATION,
            f"{plain(name)} is a CNAME, and certbot's plugin dns-{solver.plugin} writes to that very name",
            seen=[f"{plain(name)}. CNAME {plain(owner)}."],
            expected=[f"no CNAME there, or {plain(name)} delegated by NS records as a zone of its own"],
            next=[f"certctl wildcard {domain.zone} --dns manual"],
        )
    return f"{plain(name)} → {plain(owner)}"


def _covering_wildcard(zones: Zones, name: Name) -> tuple[Name | None, Sequence[str]]:
    """Return the CNAME target of a wildcard that covers the challenge's name, or None, and remarks about it.

    It is found by querying a random name beside the challenge's.
    """
    sibling = Name((f"certctl-probe-{token_hex(8)}".encode(), *name.parent().labels))
    above = f"*.{plain(name.parent())}"
    if alias := _alias(zones, sibling):
        until = f"it answers for {plain(name)} until a record of its own stands there"
        return alias, [f"{above} is a CNAME to {plain(alias)}: {until}"]
    if any(reply.values for reply in zones.ask_nameservers(sibling, TXT).replies):
        return None, [f"{above} has a TXT record: it does not count once {plain(name)} has one of its own"]
    return None, []


def _alias(zones: Zones, name: Name) -> Name | None:
    return next((reply.alias for reply in zones.ask_nameservers(name, CNAME).replies if reply.alias), None)


def _answers(resolver: Resolver, zone: Zone, owner: Name, settings: DnsSettings) -> tuple[TxtAnswer, ...]:
    if not settings.asks_nameservers or not zone.servers:
        return (_answer(resolver.resolve(owner, TXT), owner),)
    replies = resolver.in_parallel(lambda server: resolver.ask(server, owner, TXT), zone.servers)
    return tuple(_answer(reply, owner) for reply in replies)


def _answer(reply: Reply, owner: Name) -> TxtAnswer:
    if not reply.usable:
        return TxtAnswer(reply.server.name, problem=reply.detail)
    if reply.outcome is not Outcome.RECORDS or reply.owner != owner:
        return TxtAnswer(reply.server.name)
    return TxtAnswer(reply.server.name, tuple(_text(value) for value in reply.values))


def _text(value: Rdata) -> str:
    """Return the joined strings of one TXT record, as the CA reads it (RFC 8555 §8.4 through RFC 7208 §3.3)."""
    if not isinstance(value, dns.rdtypes.ANY.TXT.TXT):
        return ""
    return b"".join(value.strings).decode("ascii", "backslashreplace")
