"""Hints about common mistakes in DNS forms."""

from contextlib import suppress

import dns.name
from dns.name import Name
from dns.rdatatype import CNAME, A

from certctl.dns.chain import Chain
from certctl.dns.zone import Zones, plain
from certctl.errors import NotReady, Unreachable

_TYPO = 2


def record_under_doubled_zone(zones: Zones, name: Name) -> tuple[str, tuple[str, ...]]:
    """Return the hint for a record at ``name.zone.zone``, made where a form appends the zone to a full name.

    Returns:
        (clause for the message, records found there); both empty when there are none.
    """
    with suppress(NotReady, Unreachable, dns.name.NameTooLong):
        zone = zones.cut(name)
        doubled = Name((*name.labels[:-1], *zone.labels))
        lines = zones.ask_nameservers(doubled, CNAME).lines or zones.ask_nameservers(doubled, A).lines
        if lines and doubled != name:
            entered = plain(name.relativize(zone)) if name != zone else "@"
            hint = f"the record was created as {plain(doubled)}: the DNS form adds {plain(zone)} by itself"
            return f"{hint}, so enter only {entered} there", lines
    return "", ()


def near_miss(zones: Zones, chain: Chain, target: Name) -> str:
    """Return the hint for a CNAME that misses our target by a typo or a missing dot; empty for any other target."""
    alias = chain.names[1]
    if len(alias) > len(target) and alias.labels[: len(target) - 1] == target.labels[:-1]:
        with suppress(NotReady, Unreachable):
            if alias.is_subdomain(zones.cut(chain.names[0])):
                return f"the final dot after {plain(target)} is missing, so the zone's own name was appended"
    if 0 < edit_distance(plain(alias).lower(), plain(target).lower(), _TYPO) <= _TYPO:
        return f"did you mean {plain(target)}?"
    return ""


def edit_distance(one: str, other: str, limit: int) -> int:
    """Return the number of single-character changes between two texts, ``limit + 1`` when it is greater."""
    if abs(len(one) - len(other)) > limit:
        return limit + 1
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        previous, row = row, [i]
        for j, b in enumerate(other, 1):
            row.append(min(previous[j] + 1, row[-1] + 1, previous[j - 1] + (a != b)))
    return row[-1]
