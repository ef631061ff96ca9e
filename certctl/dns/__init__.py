"""DNS (party 1): whether a domain ends at our target, and whether CAA allows our CA. The only home of dnspython."""

from certctl.dns.propagation import TxtWatch
from certctl.dns.settings import DnsSettings
from certctl.dns.update import ZoneUpdates
from certctl.dns.verify import CustomerDns

__all__ = ["CustomerDns", "DnsSettings", "TxtWatch", "ZoneUpdates"]
