"""Party 1: does the domain end at our target, and does CAA allow our CA? The only home of dnspython."""

from certctl.dns.propagation import TxtWatch
from certctl.dns.settings import DnsSettings
from certctl.dns.update import ZoneUpdates
from certctl.dns.verify import CustomerDns

__all__ = ["CustomerDns", "DnsSettings", "TxtWatch", "ZoneUpdates"]
