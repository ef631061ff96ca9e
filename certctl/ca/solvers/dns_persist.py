"""dns-persist-01 (draft-ietf-acme-dns-persist-00): one standing TXT record proves every renewal.

The record names the CA and our account there, so it holds no secret, and no other account can use it.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from acme import challenges
from josepy.json_util import field

from certctl.ca.solvers.base import Challenge
from certctl.ca.solvers.dns01 import PropagatingDns01
from certctl.ports.manual_dns import ManualOperator
from certctl.txt_records import TxtAnswer, TxtSight
from certctl.values import STANDING_LABEL

DNS_PERSIST_01 = "dns-persist-01"
_ISSUER = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")


@challenges.ChallengeResponse.register
class DnsPersist01Response(challenges.ChallengeResponse):
    """The response to the challenge, which asks the CA to validate (RFC 8555 §7.5.1)."""

    typ = DNS_PERSIST_01

    def __bool__(self) -> bool:
        """Return True: acme 5.9 sends what is false as a POST-as-GET, which answers no challenge."""
        return True


@challenges.Challenge.register
class DnsPersist01(challenges.Challenge):
    """The challenge object of dns-persist-01; unlike others it has no token."""

    typ = DNS_PERSIST_01

    issuer_domain_names: tuple[str, ...] = field("issuer-domain-names")

    def record(self, account: str) -> str:
        """Return the value of the TXT record for a zone and its wildcard; empty when no issuer name is usable."""
        issuers = [name for name in self.issuer_domain_names if _ISSUER.fullmatch(str(name))]
        return f"{issuers[0]}; accounturi={account}; policy=wildcard" if issuers else ""


class DnsPersist(PropagatingDns01):
    """Implements ``solvers.base.Solver`` for a standing record, which may be written in other words."""

    challenge_type = DNS_PERSIST_01
    stands = True

    def __init__(self, operator: ManualOperator, order_ends: Callable[[], datetime | None]) -> None:
        super().__init__(operator, order_ends)
        self._wanted = ""

    def present(self, challenges: Sequence[Challenge]) -> None:
        """Pass the wanted record to the prompt; where it stands already nothing is asked of a person."""
        self._wanted = challenges[0].validation
        super().present(challenges)

    def _look(self, zone: str) -> TxtSight:
        """Return what the nameservers show, with each equivalent record replaced by the wanted text."""
        sight = self._operator.watch.look(zone, STANDING_LABEL)
        return replace(sight, answers=tuple(self._read(answer) for answer in sight.answers))

    def _read(self, answer: TxtAnswer) -> TxtAnswer:
        now = self._operator.clock.now()
        said = (self._wanted if means(value, self._wanted, now) else value for value in answer.values)
        return replace(answer, values=tuple(dict.fromkeys(said)))

    def _again(self, zone: str) -> list[str]:
        return [f"certctl wildcard {zone} --dns persist"]


def means(value: str, wanted: str, now: datetime) -> bool:
    """Tell whether a record is equivalent to the wanted one: tags in any case and order, with others beside them.

    A record past its ``persistUntil`` (seconds since 1970) is not.
    """
    said = _parsed(value)
    until = said.get("persistuntil", str(int(now.timestamp()) + 1))
    return _parsed(wanted).items() <= said.items() and until.isdecimal() and int(until[:15]) > now.timestamp()


def _parsed(value: str) -> dict[str, str]:
    """Return the tags of ``issuer; tag=value; …`` (RFC 8659 §4.2), the issuer under ""; empty when malformed."""
    issuer, *rest = (part.strip(" \t") for part in value.split(";"))
    found = {"": issuer.lower().removesuffix(".")}
    for part in filter(None, rest):
        tag, equals, content = part.partition("=")
        tag = tag.strip(" \t").lower()
        if not equals or tag in found:
            return {}
        content = content.strip(" \t")
        found[tag] = content.lower() if tag == "policy" else content
    return found
