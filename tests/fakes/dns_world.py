"""A DNS world with real packets: the sandbox's server on loopback, and party 1 looking at it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from certctl.dns import CustomerDns, DnsSettings
from certctl.dns.resolver import Resolver
from certctl.dns.zone import Zones
from certctl.sandbox import zone_file
from certctl.sandbox.dns_server import DnsServer
from certctl.sandbox.zone_file import NAMESERVERS, RESOLVER, DnsWorld, Fault, FaultRule, Record

TARGET = "status.hyperping.test"
OURS_4, OURS_6 = "198.51.100.7", "2001:db8::7"
NS1, NS2 = NAMESERVERS

__all__ = ["NS1", "NS2", "OURS_4", "OURS_6", "RESOLVER", "TARGET", "DnsTown", "Fault", "town"]


class DnsTown:
    """Change the world, look at it as certctl does, and read what was asked."""

    def __init__(self, server: DnsServer, file: Path) -> None:
        self.server = server
        self._file = file
        self._world = DnsWorld()
        self.add(TARGET, "A", OURS_4)
        self.add(TARGET, "AAAA", OURS_6)
        self.settings = DnsSettings(
            TARGET,
            resolvers=(f"{RESOLVER}:{server.port}",),
            authoritative_port=server.port,
            ca_identities=("letsencrypt.org",),
            patience=timedelta(seconds=1),
        )

    def add(self, name: str, kind: str, value: str, *, only: str = "", ttl: int = 300) -> None:
        self._change(zone_file.add(self._world, Record(name, kind, value, ttl, only)))

    def remove(self, name: str, kind: str = "") -> None:
        self._change(zone_file.remove(self._world, name, kind))

    def declare(self, zone: str, nameservers: dict[str, str]) -> None:
        self._change(zone_file.declare(self._world, zone, nameservers))

    def fault(self, name: str, fault: Fault, *, kind: str = "", only: str = "", seconds: float = 0) -> None:
        self._change(zone_file.set_fault(self._world, FaultRule(name, fault, kind, only, seconds)))

    def heal(self) -> None:
        self._change(zone_file.clear_faults(self._world))

    def hurry(self) -> None:
        """Wait less for silent servers, in tests that have some."""
        self.settings = replace(self.settings, patience=timedelta(seconds=0.15))

    def resolver_only(self) -> None:
        """Do not ask nameservers, as with ``resolvers`` alone in the configuration."""
        self.settings = replace(self.settings, authoritative_port=0)

    @property
    def party(self) -> CustomerDns:
        return CustomerDns(self.settings)

    @property
    def zones(self) -> Zones:
        return Zones(Resolver(self.settings), self.settings)

    def _change(self, world: DnsWorld) -> None:
        self._world = world
        zone_file.save(self._file, world)


@contextmanager
def town(directory: Path) -> Iterator[DnsTown]:
    """Start a world of its own, on a free port."""
    file = directory / "zones.json"
    with DnsServer(file) as server:
        yield DnsTown(server, file)
