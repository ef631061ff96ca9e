"""The settings of DNS (party 1): our target, our addresses, the resolvers, and our CA's names."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

DNS_PORT = 53


@dataclass(frozen=True, slots=True)
class DnsSettings:
    """Where customers must point, which servers are queried, and how CAA names our CA.

    Attributes:
        target: The name customers' CNAMEs must end at.
        addresses: Further A and AAAA addresses that are ours, for apex names.
        resolvers: ``ip``, ``ip:port`` or ``[ip]:port``; empty takes those of ``resolv_conf``.
        authoritative_port: The port of the customers' nameservers. 0 means 53, and no query to them at all when
            ``resolvers`` are given. Any other value says that this is a DNS of its own, such as the sandbox's: only
            there may a nameserver have a private address.
        ca_identities: Issuer domains by which CAA records name our CA; empty leaves CAA to the CA.
        deadline: The limit of all queries of one verification together.
        patience: The limit of one query to one server over one transport.
    """

    target: str
    addresses: tuple[str, ...] = ()
    resolvers: tuple[str, ...] = ()
    authoritative_port: int = 0
    ca_identities: tuple[str, ...] = ()
    deadline: timedelta = timedelta(seconds=10)
    patience: timedelta = timedelta(seconds=1.5)
    resolv_conf: Path = Path("/etc/resolv.conf")

    @property
    def asks_nameservers(self) -> bool:
        """Tell whether the customers' nameservers are queried, so that a stale cache does not decide."""
        return self.authoritative_port != 0 or not self.resolvers

    @property
    def nameserver_port(self) -> int:
        """Return the port of the customers' nameservers."""
        return self.authoritative_port or DNS_PORT

    @property
    def admits_private_nameservers(self) -> bool:
        """Tell whether nameservers on private addresses may be queried.

        A customer chooses these addresses; by default none of them directs queries into our own network.
        """
        return self.authoritative_port != 0
