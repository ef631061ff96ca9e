"""What party 1 has to know about this operator, and whom it may ask."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

DNS_PORT = 53


@dataclass(frozen=True, slots=True)
class DnsSettings:
    """Where customers must point, whom to ask, and who our CA is.

    Attributes:
        target: The name customers' CNAMEs must end at.
        addresses: Further A and AAAA addresses that are ours, for apex names.
        resolvers: ``ip``, ``ip:port`` or ``[ip]:port``; empty takes those of ``resolv_conf``.
        authoritative_port: The port of the customers' nameservers. 0 means 53, and not to ask them at all when
            ``resolvers`` are given. Any other value says that this is a world of one's own, such as the
            sandbox: only there may a nameserver have a private address.
        ca_identities: Issuer domains by which CAA records name our CA; empty leaves CAA to the CA.
        account_uri: Our ACME account, to judge ``accounturi`` (RFC 8657 §3); empty only reports it.
        deadline: For all questions of one verification together.
        patience: For one server to answer one question over one transport.
    """

    target: str
    addresses: tuple[str, ...] = ()
    resolvers: tuple[str, ...] = ()
    authoritative_port: int = 0
    ca_identities: tuple[str, ...] = ()
    account_uri: str = ""
    deadline: timedelta = timedelta(seconds=10)
    patience: timedelta = timedelta(seconds=1.5)
    resolv_conf: Path = Path("/etc/resolv.conf")

    @property
    def asks_nameservers(self) -> bool:
        """Tell whether the customers' own nameservers are asked, so that a stale cache does not decide."""
        return self.authoritative_port != 0 or not self.resolvers

    @property
    def nameserver_port(self) -> int:
        """Return the port of the customers' nameservers."""
        return self.authoritative_port or DNS_PORT

    @property
    def admits_private_nameservers(self) -> bool:
        """Tell whether packets may go to nameservers on private addresses.

        A customer chooses these addresses; by default none of them makes us talk to our own network.
        """
        return self.authoritative_port != 0
