"""Build the error that carries DNS facts; its sentences are made here and nowhere parsed again."""

from collections.abc import Iterable, Sequence

from certctl.dns_records import DnsFacts, DnsRecord, RecordVerdict
from certctl.domain import Domain, registered_domain
from certctl.errors import NotReady
from certctl.slugs import Slug

_MOST_SEEN = 8


def not_ready(slug: Slug, problem: str, facts: DnsFacts, expected: Sequence[str] = ()) -> NotReady:
    """Return the error for a domain's DNS that must change.

    Args:
        slug: The slug of the error.
        problem: The sentence, without the hint.
        facts: The servers asked, the records seen and the records wanted; the error keeps them.
        expected: What DNS should have, beyond the records.
    """
    wanted = [_line(record, facts.caa_property) for record in facts.records]
    error = NotReady(
        slug,
        f"{problem}; {facts.hint}" if facts.hint else problem,
        seen=(*facts.asked, *facts.seen),
        expected=(*wanted, *expected),
    )
    error.facts = facts
    return error


def dns_record(kind: str, name: str, value: str, verdict: RecordVerdict, seen: Iterable[str] = ()) -> DnsRecord:
    """Return the record to create or change for a full name, with what is there now."""
    return DnsRecord(kind, host(name), name, value, verdict, tuple(dict.fromkeys(seen))[:_MOST_SEEN])


def host(name: str) -> str:
    """Return a name as DNS forms ask for it: relative to the registered domain, which is ``@`` itself."""
    return name[: -len(registered_domain(Domain(name)))].removesuffix(".") or "@"


def _line(record: DnsRecord, caa_property: str) -> str:
    if record.verdict is not RecordVerdict.UNWANTED:
        return f"{record.fqdn}. {record.type} {record.value}"
    if caa_property:
        return f"{record.fqdn}. without a critical {record.type} property {caa_property}"
    return f"no record with {record.value}"
