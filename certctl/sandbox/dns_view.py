"""The sandbox's DNS world as one server address sees it."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import dns.name
import dns.rdatatype
from dns.name import Name
from dns.rdatatype import RdataType

from certctl.sandbox.zone_file import DnsWorld, FaultRule, Record


@dataclass(frozen=True, slots=True)
class Index:
    """A world as an index for look-ups, with the SOA and NS records of each declared zone.

    Attributes:
        names: Per address a record may be limited to, the names that exist there, ancestors included.
    """

    zones: Mapping[Name, Mapping[str, str]]
    records: Mapping[Name, Sequence[Record]]
    names: Mapping[str, AbstractSet[Name]]
    faults: Sequence[tuple[Name, FaultRule]]


def index(world: DnsWorld) -> Index:
    """Return the index of a world."""
    records: defaultdict[Name, list[Record]] = defaultdict(list)
    names: defaultdict[str, set[Name]] = defaultdict(set)
    for record in (*world.records, *_by_declaration(world)):
        name = as_name(record.name)
        records[name].append(record)
        while name not in names[record.only] and name != dns.name.root:
            names[record.only].add(name)
            name = name.parent()
    zones = {as_name(zone): nameservers for zone, nameservers in world.zones.items()}
    return Index(zones, records, names, [(as_name(rule.name), rule) for rule in reversed(world.faults)])


def _by_declaration(world: DnsWorld) -> Iterator[Record]:
    written = {(record.name, record.type) for record in world.records}
    for zone, nameservers in world.zones.items():
        first = next(iter(nameservers), "ns.invalid")
        made = [Record(zone, "SOA", f"{first}. hostmaster.{zone}. 1 3600 600 86400 60")]
        made += [Record(zone, "NS", name + ".") for name in nameservers]
        made += [Record(name, "A", address) for name, address in nameservers.items()]
        yield from (record for record in made if (record.name, record.type) not in written)


@dataclass(frozen=True, slots=True)
class Viewpoint:
    """The world as one server address sees it: the resolver all zones, a nameserver its own."""

    index: Index
    address: str
    is_resolver: bool

    def zone(self, name: Name) -> Name | None:
        """Return the deepest declared zone that holds a name."""
        while name not in self.index.zones:
            if name == dns.name.root:
                return None
            name = name.parent()
        return name

    def serves(self, zone: Name | None) -> bool:
        """Tell whether this address answers for a zone."""
        return self.is_resolver or (zone is not None and self.address in self.index.zones[zone].values())

    def records(self, name: Name) -> list[Record]:
        """Return a name's records as this address sees them."""
        here = self.index.records.get(name, ())
        limited = [record for record in here if record.only == self.address]
        return limited or [record for record in here if not record.only]

    def exists(self, name: Name) -> bool:
        """Tell whether a name has records or lies above one that has (an empty non-terminal)."""
        return any(name in self.index.names.get(only, ()) for only in ("", self.address))

    def at(self, name: Name) -> list[Record]:
        """Return the records that answer for a name, a wildcard's included."""
        zone = self.zone(name)
        if self.exists(name) or zone is None:
            return self.records(name)
        encloser = name.parent()
        while encloser != zone and not self.exists(encloser):
            encloser = encloser.parent()
        return self.records(Name((b"*", *encloser.labels)))

    def fault(self, name: Name, kind: RdataType) -> FaultRule | None:
        """Return the newest fault rule for a query at this address; None when there is none."""
        for above, rule in self.index.faults:
            here = rule.only in {"", self.address} and rule.type in {"", dns.rdatatype.to_text(kind)}
            if here and name.is_subdomain(above):
                return rule
        return None


def as_name(text: str) -> Name:
    """Return a name of the file in the form in which DNS compares names (lower case, absolute)."""
    return dns.name.from_text(text)
