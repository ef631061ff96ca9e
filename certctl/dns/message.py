"""Text an operator can forward to a customer: which record to create, exactly, and what is there today."""

from collections.abc import Sequence

from certctl.domain import Domain, registered_domain
from certctl.errors import CertctlError
from certctl.values import Delegation

_WHY = {
    "dns-no-such-name": "Today the name does not exist in DNS.",
    "dns-no-data": "Today the name exists, but it has neither a CNAME nor an address.",
    "dns-cname-mismatch": "Today its CNAME leads somewhere else.",
    "dns-address-mismatch": "Today it has addresses that are not ours. If a proxy or CDN stands in front of it,"
    ' please switch that off for this name (often called "DNS only").',
    "dns-stray-ipv6": "It also has an IPv6 address (AAAA record) that is not ours. Please delete that AAAA record:"
    " browsers and certificate authorities use it first.",
    "dns-cname-loop": "Today its CNAME records lead in a circle, or never end.",
    "dns-servfail": "Today the nameservers of the domain fail when they are asked. Please tell your DNS provider;"
    " a DNSSEC mistake is a frequent reason.",
    "dns-disagree": "Your nameservers do not all say the same. If you changed the record just now, this passes"
    " by itself; otherwise please tell your DNS provider.",
    "caa-servfail": "Your nameservers fail when they are asked for CAA records, and then no certificate authority"
    " may issue a certificate. Please tell your DNS provider; the domain needs no CAA record, only an answer.",
}  # fmt: skip


def forwardable(domain: Domain, outcome: CertctlError | Delegation | None) -> str:
    """Write what a customer needs to read about their domain, plainly, with nothing to look up.

    Args:
        domain: The customer's domain.
        outcome: What ``verify`` raised or returned; None says only that it succeeded.
    """
    if outcome is None or isinstance(outcome, Delegation):
        found = f": {outcome.summary}" if outcome else ""
        return f"Hello,\n\n{domain} is set up correctly{found}.\nThere is nothing for you to do.\n"
    if outcome.slug == "caa-forbids":
        return _letter(domain, _caa(outcome), outcome)
    if outcome.slug not in _WHY:
        return (
            f"Hello,\n\nwe could not check the DNS of {domain} just now. This is on our side, or passes by\n"
            "itself; there is nothing for you to do.\n"
        )
    wanted = [] if outcome.slug in {"dns-servfail", "caa-servfail"} else _record(domain, outcome.expected)
    return _letter(domain, [*wanted, _WHY[outcome.slug], *_hint(outcome)], outcome)


def _letter(domain: Domain, paragraphs: Sequence[str], error: CertctlError) -> str:
    records = [f"    {line}" for line in error.seen if not line.startswith("asked ")]
    seen = ["What we see:\n\n" + "\n".join(records)] if records else []
    opening = f"{domain} is not ready for HTTPS yet."
    closing = "A change takes effect for us as soon as your nameservers have it. Thank you!"
    return "\n\n".join(["Hello,", opening, *paragraphs, *seen, closing]) + "\n"


def _hint(error: CertctlError) -> list[str]:
    """Repeat the mistake that was recognised: it stands behind the semicolon of the message (``dns.hints``)."""
    _, _, hint = error.message.partition("; ")
    return [f"{hint[0].upper()}{hint[1:]}{'' if hint.endswith('?') else '.'}"] if hint else []


def _record(domain: Domain, expected: Sequence[str]) -> list[str]:
    """Explain the record to create, as DNS forms ask for it."""
    rows = [line.split(maxsplit=2) for line in expected if line.startswith(f"{domain}. ")]
    zone = registered_domain(domain)
    label = domain.name.removesuffix(zone).removesuffix(".") or "@"
    fields = [
        f"    Type:   {kind}\n    Name:   {label}\n    Value:  {value}"
        for _, kind, value in rows
        if kind != "ALIAS"
    ]
    alias = next((value for _, kind, value in rows if kind == "ALIAS"), None)
    if not rows:
        return []
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


def _caa(error: CertctlError) -> list[str]:
    owner, added, rest = error.expected[0].partition(" CAA 0 ")
    opening = (
        f"The CAA records of {owner.split('. ')[0].removesuffix('.')} do not let our certificate authority in."
    )
    if not added:
        _, _, unwanted = error.expected[0].rpartition(" ")
        return [opening, f"Please delete the CAA record with the property {unwanted}: it keeps every other CA out."]
    return [opening, f"Please add this CAA record (the others may stay):\n\n    {owner} CAA 0 {rest}"]
