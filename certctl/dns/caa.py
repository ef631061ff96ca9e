"""CAA records (RFC 8659, and RFC 8657 for their parameters): may our CA issue for this name?

The CA checks again itself; checking first saves an order and can say which record to change. The records are read
as Let's Encrypt reads them (boulder ``va/caa.go``).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import dns.name
import dns.rdtypes.ANY.CAA
from dns.name import Name
from dns.rdatatype import CAA

from certctl.dns.ask import MAX_LINKS, Reply
from certctl.dns.facts import dns_record, not_ready
from certctl.dns.zone import ZoneAnswer, Zones, ancestors, plain
from certctl.dns_records import DnsFacts, RecordVerdict
from certctl.domain import Domain
from certctl.errors import NotReady, Unreachable
from certctl.slugs import Slug

_CRITICAL = 128
_KNOWN = frozenset({"issue", "issuewild", "iodef", "issuemail"})
_PARAMETER = re.compile(r"[ \t]*([A-Za-z0-9]+(?:-+[A-Za-z0-9]+)*)[ \t]*=[ \t]*([!-:<-~]*)[ \t]*")
_DOMAIN = re.compile(r"[ \t]*([A-Za-z0-9.-]*)[ \t]*")


CaaRdata = dns.rdtypes.ANY.CAA.CAA


@dataclass(frozen=True, slots=True)
class CaaPolicy:
    """The names of our CA in CAA records, and our account there; without names CAA is left to the CA.

    ``wildcard_method`` is the validation method for a wildcard, as RFC 8657 §4 names it, such as ``dns-01``.
    """

    identities: tuple[str, ...]
    account_uri: str = ""
    wildcard_method: str = "dns-01"


@dataclass(frozen=True, slots=True)
class Property:
    """The value of an ``issue`` or ``issuewild`` property; a malformed one authorises no CA (RFC 8659 §4.2)."""

    issuer: str
    parameters: dict[str, str]


@dataclass(frozen=True, slots=True)
class CaaVerdict:
    """Whether a CAA record set allows our CA: ``text`` says why not, or what it allows.

    Attributes:
        unwanted: The record that has to be removed; None when adding a record of ours is enough.
    """

    allowed: bool
    text: str
    unwanted: CaaRdata | None = None


def check_caa(zones: Zones, domain: Domain, policy: CaaPolicy) -> str:
    """Return in a few words what the CAA record set of a domain allows.

    The closest ancestor with any CAA record decides (RFC 8659 §3); an alias has the records of its target. The set
    of every nameserver is judged, because the CA may ask any of them.

    Raises:
        NotReady: ``caa-forbids``, or ``caa-servfail`` when the query fails, in which case no CA may issue.
    """
    if not policy.identities:
        return "CAA is left to the CA"
    for owner in ancestors(dns.name.from_text(domain.zone)):
        answer = _ask_caa(zones, domain, owner)
        sets = [_properties(reply) for reply in answer.replies]
        if any(sets):
            verdicts = [judge(records, policy, wildcard=domain.is_wildcard) for records in sets]
            if forbidding := next((verdict for verdict in verdicts if not verdict.allowed), None):
                raise _forbidden(domain, owner, answer, forbidding, policy)
            return verdicts[0].text
    return "no CAA record"


def judge(records: Sequence[CaaRdata], policy: CaaPolicy, *, wildcard: bool) -> CaaVerdict:
    """Return whether one CAA record set allows our CA to issue."""
    tags = [(record, _tag(record)) for record in records]
    unknown = next((record for record, tag in tags if record.flags & _CRITICAL and tag not in _KNOWN), None)
    if unknown is not None:
        text = f"the property {_tag(unknown)!a} is marked critical and our CA does not know it"
        return CaaVerdict(allowed=False, text=text, unwanted=unknown)
    wild = [record for record, tag in tags if tag == "issuewild"] if wildcard else []
    relevant = wild or [record for record, tag in tags if tag == "issue"]
    if not relevant:
        return CaaVerdict(allowed=True, text="CAA restricts nobody")
    properties = [parse(record.value) for record in relevant]
    named = [p for p in properties if p and p.issuer in {identity.lower() for identity in policy.identities}]
    if not named:
        return CaaVerdict(allowed=False, text=f"it does not name {' or '.join(policy.identities)}")
    reasons = [_objection(p, policy, policy.wildcard_method if wildcard else "http-01") for p in named]
    if all(reasons):
        return CaaVerdict(allowed=False, text=reasons[0])
    return CaaVerdict(allowed=True, text=_allowance(named[reasons.index("")], policy))


def _tag(record: CaaRdata) -> str:
    return record.tag.decode("ascii", "replace").lower()


def parse(value: bytes) -> Property | None:
    """Return the issuer and parameters of ``issuer; tag=value; …`` (RFC 8659 §4.2); None when it is malformed."""
    first, *rest = value.decode("ascii", "replace").split(";")
    issuer = _DOMAIN.fullmatch(first)
    if rest and not rest[-1].strip(" \t"):
        rest.pop()
    pairs = [_PARAMETER.fullmatch(part) for part in rest]
    if issuer is None or not all(pairs):
        return None
    return Property(issuer[1].lower(), {pair[1].lower(): pair[2] for pair in pairs if pair})


def _objection(property_: Property, policy: CaaPolicy, method: str) -> str:
    """Return why a record that names our CA does not allow this account or method; empty when it does."""
    methods = property_.parameters.get("validationmethods")
    if methods is not None and method not in methods.split(","):
        return f"it names {property_.issuer} only for {methods or 'no method'}, not for {method}"
    account = property_.parameters.get("accounturi")
    if account is not None and policy.account_uri and account != policy.account_uri:
        return f"it names {property_.issuer} only for the account {account}, not for ours"
    return ""


def _allowance(property_: Property, policy: CaaPolicy) -> str:
    account = property_.parameters.get("accounturi")
    only = f", for the account {account} only" if account is not None and not policy.account_uri else ""
    return f"CAA allows {property_.issuer}{only}"


def _ask_caa(zones: Zones, domain: Domain, owner: Name) -> ZoneAnswer:
    """Return the CAA records of a name, or of its alias's target: authoritative servers do not follow a CNAME."""
    name = owner
    try:
        for _ in range(MAX_LINKS + 1):
            answer = zones.ask_nameservers(name, CAA)
            alias = next((r.alias for r in answer.replies if r.alias), None)
            if alias is None:
                return answer
            name = alias
    except (NotReady, Unreachable) as error:
        if isinstance(error, Unreachable) and not zones.resolver_works(name):
            raise
        seen, reason = error.seen, error.message
    else:
        seen, reason = (), f"{plain(owner)} is an alias that never ends"
    raise not_ready(
        Slug.CAA_SERVFAIL,
        f"whether a CAA record forbids {domain} cannot be found out, and then no CA may sign: {reason}",
        DnsFacts(asked=(f"asked for the CAA records of {plain(name)}",), seen=seen),
        expected=["CAA records, or the answer that there are none (RFC 8659 §3)"],
    )


def _properties(reply: Reply) -> list[CaaRdata]:
    return [value for value in reply.values if isinstance(value, CaaRdata)]


def _forbidden(domain: Domain, owner: Name, answer: ZoneAnswer, verdict: CaaVerdict, policy: CaaPolicy) -> NotReady:
    place = plain(next((r.owner for r in answer.replies if r.owner and r.values), owner))
    if place != plain(owner):
        inherited = f", where {plain(owner)} leads,"
    else:
        inherited = "" if place == domain.zone else f", which holds for {domain} as well,"
    found = [value.to_text() for reply in answer.replies for value in _properties(reply)]
    allowing = f'0 {"issuewild" if domain.is_wildcard else "issue"} "{policy.identities[0]}"'
    cure = dns_record("CAA", place, allowing, RecordVerdict.MISSING, found)
    if verdict.unwanted:
        cure = dns_record("CAA", place, verdict.unwanted.to_text(), RecordVerdict.UNWANTED, found)
    facts = DnsFacts(
        records=(cure,),
        asked=(answer.asked,),
        seen=answer.lines,
        caa_property=_tag(verdict.unwanted) if verdict.unwanted else "",
    )
    return not_ready(
        Slug.CAA_FORBIDS, f"the CAA record of {place}{inherited} forbids our CA: {verdict.text}", facts
    )
