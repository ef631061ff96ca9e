"""A customer's DNS as data: the records that are wanted, and what stands there today.

Error lines, the letter to the customer and ``--json`` are rendered from it; none of them is read back.
"""

from dataclasses import dataclass
from enum import StrEnum


class RecordVerdict(StrEnum):
    """How one record compares with what it should be (public: ``verdict`` of ``records`` in ``--json``)."""

    RIGHT = "right"
    MISSING = "missing"
    DIFFERENT = "different"
    UNWANTED = "unwanted"


@dataclass(frozen=True, slots=True)
class DnsRecord:
    """One record that should be in DNS, or that should not.

    Attributes:
        type: Such as ``CNAME``, ``A`` or ``CAA``; ``ALIAS`` is what some providers offer in place of addresses.
        host: The name as most DNS forms want it: without the registered domain, ``@`` for that itself.
        fqdn: The name in full, without the final dot.
        value: The value in zone file form.
        seen: Values found under that name today, at most a few.
    """

    type: str
    host: str
    fqdn: str
    value: str
    verdict: RecordVerdict
    seen: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsFacts:
    """The facts from which the sentences of a ``NotReady`` are rendered.

    Attributes:
        records: The records that would mend it; empty where no record would.
        asked: The nameservers that were asked, one line each.
        seen: Their answers, one line each.
        hint: The mistake that was recognised, as a clause; empty when none was.
        caa_property: The critical CAA property that has to go; empty when none does.
    """

    records: tuple[DnsRecord, ...] = ()
    asked: tuple[str, ...] = ()
    seen: tuple[str, ...] = ()
    hint: str = ""
    caa_property: str = ""
