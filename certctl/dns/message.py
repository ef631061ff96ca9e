"""The letter an operator can forward to a customer: the record to create, exactly, and what DNS has today."""

from collections.abc import Sequence

from certctl.dns_records import DnsFacts, DnsRecord, RecordVerdict
from certctl.domain import Domain, registered_domain
from certctl.errors import CertctlError, NotReady
from certctl.slugs import Slug
from certctl.values import Delegation

_WHY = {
    Slug.DNS_NO_SUCH_NAME: "Today the name does not exist in DNS.",
    Slug.DNS_NO_DATA: "Today the name exists, but it has neither a CNAME nor an address.",
    Slug.DNS_CNAME_MISMATCH: "Today its CNAME leads somewhere else.",
    Slug.DNS_ADDRESS_MISMATCH: "Today it has addresses that are not ours. If a proxy or CDN stands in front of it,"
    ' please switch that off for this name (often called "DNS only").',
    Slug.DNS_STRAY_IPV6: "It also has an IPv6 address (AAAA record) that is not ours. Please delete that AAAA"
    " record: browsers and certificate authorities use it first.",
    Slug.DNS_CNAME_LOOP: "Today its CNAME records lead in a circle, or never end.",
    Slug.DNS_SERVFAIL: "Today the nameservers of the domain fail when they are asked. Please tell your DNS"
    " provider; a DNSSEC mistake is a frequent reason.",
    Slug.DNS_DISAGREE: "Your nameservers do not all say the same. If you changed the record just now, this passes"
    " by itself; otherwise please tell your DNS provider.",
    Slug.CAA_SERVFAIL: "Your nameservers fail when they are asked for CAA records, and then no"
    " certificate authority may issue a certificate. Please tell your DNS provider; the domain needs no CAA record,"
    " only an answer.",
}  # fmt: skip


def forwardable(domain: Domain, outcome: CertctlError | Delegation | None) -> str:
    """Return the letter to a customer about their domain, in plain words.

    Args:
        domain: The customer's domain.
        outcome: What ``verify`` raised or returned; None when it succeeded without details.
    """
    if outcome is None or isinstance(outcome, Delegation):
        found = f": {outcome.summary}" if outcome else ""
        return f"Hello,\n\n{domain} is set up correctly{found}.\nThere is nothing for you to do.\n"
    if isinstance(outcome, NotReady) and any(record.type == "CAA" for record in outcome.facts.records):
        return _letter(domain, _caa(outcome.facts), outcome.facts)
    if not isinstance(outcome, NotReady) or not (why := _WHY.get(outcome.slug)):
        return (
            f"Hello,\n\nwe could not check the DNS of {domain} just now. This is on our side, or passes by\n"
            "itself; there is nothing for you to do.\n"
        )
    facts = outcome.facts
    return _letter(domain, [*_records(domain, facts.records), why, *_hint(facts.hint)], facts)


def _letter(domain: Domain, paragraphs: Sequence[str], facts: DnsFacts) -> str:
    records = [f"    {line}" for line in facts.seen]
    seen = ["What we see:\n\n" + "\n".join(records)] if records else []
    opening = f"{domain} is not ready for HTTPS yet."
    closing = "A change takes effect for us as soon as your nameservers have it. Thank you!"
    return "\n\n".join(["Hello,", opening, *paragraphs, *seen, closing]) + "\n"


def _hint(hint: str) -> list[str]:
    """Return the recognised mistake as a sentence of its own; nothing without a hint."""
    return [f"{hint[0].upper()}{hint[1:]}{'' if hint.endswith('?') else '.'}"] if hint else []


def _records(domain: Domain, records: Sequence[DnsRecord]) -> list[str]:
    """Return paragraphs about the records to create, as DNS forms ask for them."""
    wanted = [record for record in records if record.verdict is not RecordVerdict.UNWANTED]
    if not wanted:
        return []
    zone, label = registered_domain(domain), wanted[0].host
    fields = [
        f"    Type:   {record.type}\n    Name:   {record.host}\n    Value:  {record.value}"
        for record in wanted
        if record.type != "ALIAS"
    ]
    alias = next((record.value for record in wanted if record.type == "ALIAS"), None)
    several = "these records and no other address" if len(fields) > 1 else "this record"
    text = [f"In the DNS of {zone}, please create {several} for {domain}:", *fields] if fields else []
    if alias:
        text.append(
            f'{zone} is the top of your domain, where a CNAME is not allowed. If your DNS provider offers "ALIAS",'
            f' "ANAME" or "CNAME flattening", {"an" if fields else "please create an"} ALIAS to {alias} is'
            f"{' even better' if fields else ' what we need'}."
        )
    else:
        text.append(f"(Some forms want the full name, {domain}, instead of {label}.)")
    return text


def _caa(facts: DnsFacts) -> list[str]:
    cure = facts.records[0]
    opening = f"The CAA records of {cure.fqdn} do not let our certificate authority in."
    if facts.caa_property:
        unwanted = facts.caa_property
        return [opening, f"Please delete the CAA record with the property {unwanted}: it keeps every other CA out."]
    added = f"{cure.fqdn}. {cure.type} {cure.value}"
    return [opening, f"Please add this CAA record (the others may stay):\n\n    {added}"]
