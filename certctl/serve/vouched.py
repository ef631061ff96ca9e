"""Party 1 in the monitor: the other process has asked DNS, or says so.

The one place besides party 1 that makes its proof, and all there is of it is a name.
"""

from certctl.domain import Domain
from certctl.values import Delegation, DnsSolver
from certctl.world import Dns


class Vouched:
    """Party 1 where another process of ours has asked it already, or says so.

    A lie would gain it little: the operator is asked about the name, and the CA looks whether it leads here.
    """

    def __init__(self, dns: Dns) -> None:
        self._dns = dns

    def verify(self, domain: Domain) -> Delegation:
        """Take the other process's word."""
        return Delegation(domain, "", (), "asked by the daemon's unprivileged process")

    def verify_own(self, domain: Domain, solver: DnsSolver) -> Delegation:
        """Ask: nobody vouches for a wildcard."""
        return self._dns.verify_own(domain, solver)
