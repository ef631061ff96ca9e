"""CAA: may our CA sign this name? RFC 8659, and RFC 8657 for its parameters.

The CA asks again itself; asking first saves an order and can say which record to change. Read as Let's Encrypt
reads it (boulder ``va/caa.go``).
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
    """Who our CA is in CAA records, and our account there; empty identities leave CAA to the CA.

    ``wildcard_method`` is how a wildcard is proven, in the words of RFC 8657 §4.
    """

    identities: tuple[str, ...]
    account_uri: str = ""
    wildcard_method: str = "dns-01"


@dataclass(frozen=True, slots=True)
class Property:
    """The value of one ``issue`` or ``issuewild`` record; a malformed one authorises nobody (RFC 8659 §4.2)."""

    issuer: str
    parameters: dict[str, str]


@dataclass(frozen=True, slots=True)
class CaaVerdict:
    """What a CAA record set means for us: a reason when it forbids, else what is allowed.

    Attributes:
        unwanted: The record that has to go; None when adding one of ours is the cure.
    """

    allowed: bool
    text: str
    unwanted: CaaRdata | None = None


def check_caa(zones: Zones, domain: Domain, policy: CaaPolicy) -> str:
    """Find the CAA record set that holds for a domain, judge it, and say in a few words what it allows.

    The closest ancestor with any CAA record decides (RFC 8659 §3); a name that is an alias has the records of
    where it leads. Every nameserver's set is judged: the CA may ask any of them.

    Raises:
        NotReady: ``caa-forbids``, or ``caa-servfail`` when the question fails, which stops every CA.
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
    """Judge one record set."""
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
    """Parse ``issuer; tag=value; …`` (RFC 8659 §4.2); None when it is malformed."""
    first, *rest = value.decode("ascii", "replace").split(";")
    issuer = _DOMAIN.fullmatch(first)
    if rest and not rest[-1].strip(" \t"):
        rest.pop()
    pairs = [_PARAMETER.fullmatch(part) for part in rest]
    if issuer is None or not all(pairs):
        return None
    return Property(issuer[1].lower(), {pair[1].lower(): pair[2] for pair in pairs if pair})


def _objection(property_: Property, policy: CaaPolicy, method: str) -> str:
    """Say what in a record that names our CA still forbids us; empty when nothing does."""
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
    """Ask for CAA, and at an alias where that leads: nameservers do not follow it for us."""
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
