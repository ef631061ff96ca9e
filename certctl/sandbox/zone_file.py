"""The world the sandbox's DNS server serves: a JSON file that people and tests change by atomic writes.

The world is split as the real one is. ``RESOLVER`` answers everything and follows CNAMEs; each zone is also
served by nameservers of its own, which answer for that zone only. A record or fault limited to one of these
addresses makes a stale cache (``only=RESOLVER``) or nameservers that disagree (``only=NAMESERVERS[0]``).
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import dns.exception
import dns.name
import dns.rdata
import dns.rdataclass
import dns.rdatatype

from certctl.domain import Domain, registered_domain
from certctl.errors import ConfigInvalid
from certctl.io.files import PUBLIC, write_atomic, writing
from certctl.slugs import Slug

RESOLVER = "127.0.0.1"
NAMESERVERS = ("127.0.0.2", "127.0.0.3")
_TTL = 300


class Fault(StrEnum):
    """The faults that can be set for a query."""

    SERVFAIL = "servfail"
    REFUSED = "refused"
    NXDOMAIN = "nxdomain"
    DROP = "drop"
    TRUNCATE = "truncate"
    DELAY = "delay"


@dataclass(frozen=True, slots=True)
class Record:
    """One record; when any record of a name is limited to an address, that address serves only those."""

    name: str
    type: str
    value: str
    ttl: int = _TTL
    only: str = ""


@dataclass(frozen=True, slots=True)
class FaultRule:
    """A fault for a name and everything below it; ``.`` is everything.

    Attributes:
        type: The record type it is limited to; empty for all.
        only: The server address it is limited to; empty for all.
        seconds: For ``delay``.
    """

    name: str
    fault: Fault
    type: str = ""
    only: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class DnsWorld:
    """The records and faults of all servers. ``zones`` maps a zone to its nameservers: name to address."""

    zones: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    records: tuple[Record, ...] = ()
    faults: tuple[FaultRule, ...] = ()


def load(path: Path) -> DnsWorld:
    """Read the world; a file that is not there is an empty one.

    Raises:
        ConfigInvalid: the file is not one of ours.
    """
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return DnsWorld(
            zones=dict(data["zones"]),
            records=tuple(_checked(Record(**row)) for row in data["records"]),
            faults=tuple(FaultRule(**(row | {"fault": Fault(row["fault"])})) for row in data["faults"]),
        )
    except FileNotFoundError:
        return DnsWorld()
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigInvalid(
            Slug.CONFIG_INVALID, f"{path} does not hold the sandbox's DNS world: {error}"
        ) from error


def save(path: Path, world: DnsWorld) -> None:
    """Write the world so that the running server sees the old one or the new, never a mix."""
    with writing(path):
        write_atomic(path, json.dumps(asdict(world), indent=1) + "\n", PUBLIC)


def add(world: DnsWorld, record: Record) -> DnsWorld:
    """Return the world with one more record; a CNAME replaces the CNAME that was there.

    Raises:
        ConfigInvalid: no such record type, or a value that type cannot hold.
    """
    new = _checked(replace(record, name=_plain(record.name), type=record.type.upper()))
    kept = tuple(old for old in world.records if not _gives_way(old, new))
    return declare(replace(world, records=(*kept, new)), zone_for(world, new.name))


def remove(world: DnsWorld, name: str, kind: str = "") -> DnsWorld:
    """Return the world without a name's records, or without those of one type."""
    plain, upper = _plain(name), kind.upper()
    kept = tuple(r for r in world.records if r.name != plain or (upper and r.type != upper))
    return replace(world, records=kept)


def set_fault(world: DnsWorld, rule: FaultRule) -> DnsWorld:
    """Return the world with one more fault."""
    return replace(world, faults=(*world.faults, replace(rule, name=_plain(rule.name), type=rule.type.upper())))


def clear_faults(world: DnsWorld, name: str = "") -> DnsWorld:
    """Return the world without the faults of a name, or without any."""
    kept = tuple(rule for rule in world.faults if name and rule.name != _plain(name))
    return replace(world, faults=kept)


def declare(world: DnsWorld, zone: str, nameservers: Mapping[str, str] | None = None) -> DnsWorld:
    """Return the world with a zone, served by ns1 and ns2 of that zone unless told otherwise."""
    plain = _plain(zone)
    if plain in world.zones and nameservers is None:
        return world
    own = {f"ns{number}.{plain}": address for number, address in enumerate(NAMESERVERS, 1)}
    return replace(world, zones={**world.zones, plain: dict(nameservers or own)})


def zone_for(world: DnsWorld, name: str) -> str:
    """Return the deepest declared zone that holds a name, else the registered domain it would be in."""
    labels = _plain(name).split(".")
    ancestors = [".".join(labels[start:]) for start in range(len(labels))]
    declared = next((ancestor for ancestor in ancestors if ancestor in world.zones), None)
    return declared or registered_domain(Domain(_plain(name)))


def _plain(name: str) -> str:
    return name.lower().removesuffix(".") or "."


def _gives_way(old: Record, new: Record) -> bool:
    same_place = (old.name, old.type, old.only) == (new.name, new.type, new.only)
    return same_place and (new.type == "CNAME" or old.value == new.value)


def _checked(record: Record) -> Record:
    try:
        dns.name.from_text(record.name)
        kind = dns.rdatatype.from_text(record.type)
        dns.rdata.from_text(dns.rdataclass.IN, kind, record.value, origin=dns.name.root, relativize=False)
    except (dns.exception.DNSException, ValueError) as error:
        raise ConfigInvalid(
            Slug.CONFIG_INVALID, f"{record.name} {record.type} {record.value!r} is not a DNS record: {error}"
        ) from error
    return record
