"""Every sentence that people and scripts see of a domain's DNS, word for word: the error, its lines and the letter.

What is expected stands in ``dns_sentences.json``; ``python -m tests.unit.test_dns_sentences`` writes it anew.
"""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from certctl.app.result import error_json
from certctl.domain import Domain
from certctl.errors import CertctlError
from tests.fakes.dns_world import NS1, NS2, OURS_4, OURS_6, TARGET, DnsTown, Fault, town

EXPECTED = Path(__file__).with_name("dns_sentences.json")
SUB, APEX, DEEP = "status.acme.com", "acme.com", "status.eu.acme.co.uk"
HERE = f"{TARGET}."
FOREIGN_4, FOREIGN_6 = "203.0.113.9", "2001:db8::bad"

Set = Callable[[DnsTown], None]


def records(*rows: tuple[str, str, str]) -> Set:
    def set_up(world: DnsTown) -> None:
        for name, kind, value in rows:
            world.add(name, kind, value)

    return set_up


def declared(set_up: Set) -> Set:
    def both(world: DnsTown) -> None:
        world.declare("acme.com", {"ns1.acme.com": NS1})
        set_up(world)

    return both


def failing(name: str, fault: Fault, set_up: Set, kind: str = "", only: str = "") -> Set:
    def both(world: DnsTown) -> None:
        set_up(world)
        world.hurry()
        world.fault(name, fault, kind=kind, only=only)

    return both


def torn(world: DnsTown) -> None:
    world.add(SUB, "CNAME", HERE)
    world.add(SUB, "CNAME", "old.example.net.", only=NS2)


def torn_addresses(world: DnsTown) -> None:
    world.add(APEX, "A", OURS_4, only=NS1)
    world.add(APEX, "A", FOREIGN_4, only=NS2)


def by_resolver(set_up: Set) -> Set:
    def both(world: DnsTown) -> None:
        set_up(world)
        world.resolver_only()

    return both


def without_target(set_up: Set) -> Set:
    def both(world: DnsTown) -> None:
        set_up(world)
        world.remove(TARGET)

    return both


def with_addresses(set_up: Set) -> Set:
    def both(world: DnsTown) -> None:
        set_up(world)
        world.settings = replace(world.settings, addresses=("203.0.113.5", "2001:db8::5"))

    return both


OURS = records((SUB, "CNAME", HERE))
CASES: dict[str, tuple[str, Set]] = {
    "cname": (SUB, OURS),
    "cname by the resolver": (SUB, by_resolver(OURS)),
    "cname with a chain": (SUB, records((SUB, "CNAME", "a.acme.com."), ("a.acme.com", "CNAME", HERE))),
    "apex": (APEX, records((APEX, "A", OURS_4), (APEX, "AAAA", OURS_6))),
    "elsewhere": (SUB, records((SUB, "CNAME", "statuspage.example.net."))),
    "elsewhere with an address": (
        SUB,
        records((SUB, "CNAME", "page.example.net."), ("page.example.net", "A", FOREIGN_4)),
    ),
    "elsewhere with addresses of both": (
        SUB,
        records(
            (SUB, "CNAME", "page.example.net."),
            ("page.example.net", "A", FOREIGN_4),
            ("page.example.net", "A", OURS_4),
        ),
    ),
    "elsewhere by the resolver": (SUB, by_resolver(records((SUB, "CNAME", "statuspage.example.net.")))),
    "odd bytes": (SUB, records((SUB, "CNAME", r"a\;\032b\027[31m.example.net."))),
    "unregistered": ("status.nobody.com", records()),
    "no name": (SUB, records((APEX, "TXT", '"x"'))),
    "no name, deep": (DEEP, records(("x.acme.co.uk", "TXT", '"x"'))),
    "no data": (SUB, records((SUB, "TXT", '"x"'))),
    "no data at an apex": (APEX, records((APEX, "TXT", '"x"'))),
    "no data at an apex, target broken": (APEX, without_target(records((APEX, "TXT", '"x"')))),
    "no data at an apex, own addresses": (APEX, with_addresses(records((APEX, "TXT", '"x"')))),
    "doubled": (SUB, declared(records(("status.acme.com.acme.com", "CNAME", HERE)))),
    "doubled apex": (APEX, records(("acme.com.acme.com", "A", OURS_4))),
    "dot missing": (SUB, declared(records((SUB, "CNAME", f"{TARGET}.acme.com.")))),
    "typo": (SUB, records((SUB, "CNAME", "status.hyperping.tset."))),
    "foreign apex": (APEX, records((APEX, "A", FOREIGN_4))),
    "foreign apex with one of ours": (
        APEX,
        records((APEX, "A", OURS_4), (APEX, "A", FOREIGN_4), (APEX, "AAAA", FOREIGN_6)),
    ),
    "foreign address at a sub-domain": (SUB, records((SUB, "A", FOREIGN_4))),
    "many addresses": (APEX, records(*((APEX, "A", f"203.0.113.{last}") for last in range(30)))),
    "stray IPv6": (APEX, records((APEX, "A", OURS_4), (APEX, "AAAA", FOREIGN_6))),
    "loop": (SUB, records((SUB, "CNAME", "b.acme.com."), ("b.acme.com", "CNAME", f"{SUB}."))),
    "servfail": (SUB, failing(SUB, Fault.SERVFAIL, OURS)),
    "servfail behind a CNAME": (
        SUB,
        failing("page.broken.net", Fault.SERVFAIL, records((SUB, "CNAME", "page.broken.net."))),
    ),
    "servfail by the resolver": (SUB, by_resolver(failing(SUB, Fault.SERVFAIL, OURS))),
    "one nameserver fails": (
        SUB,
        failing(SUB, Fault.SERVFAIL, records((SUB, "CNAME", "page.example.net.")), only=NS2),
    ),
    "silence": (SUB, failing(SUB, Fault.DROP, OURS)),
    "disagree": (SUB, torn),
    "disagree at an apex": (APEX, torn_addresses),
    "target broken": (SUB, without_target(OURS)),
    "CAA to add": (SUB, records((SUB, "CNAME", HERE), (APEX, "CAA", '0 issue "digicert.com"'))),
    "CAA of its own": (APEX, records((APEX, "A", OURS_4), (APEX, "CAA", '0 issue ";"'))),
    "CAA to delete": (SUB, records((SUB, "CNAME", HERE), (APEX, "CAA", '128 TBS "x"'))),
    "CAA behind an alias": (SUB, records((SUB, "CNAME", HERE), (TARGET, "CAA", '0 issue "digicert.com"'))),
    "CAA of a wildcard": (
        "*.acme.com",
        records(("*.acme.com", "CNAME", HERE), (APEX, "CAA", '0 issuewild "digicert.com"')),
    ),
    "CAA for another method": (
        SUB,
        records((SUB, "CNAME", HERE), (APEX, "CAA", '0 issue "letsencrypt.org; validationmethods=dns-01"')),
    ),
    "CAA fails": (SUB, failing(SUB, Fault.SERVFAIL, OURS, kind="CAA")),
    "CAA fails by the resolver": (SUB, by_resolver(failing(SUB, Fault.SERVFAIL, OURS, kind="CAA"))),
}  # fmt: skip


def said(case: str, directory: Path) -> dict[str, Any]:
    """Return what is said of a case; ports are other ones at every run."""
    name, set_up = CASES[case]
    domain = Domain(name)
    with town(directory) as world:
        set_up(world)
        try:
            proof = world.party.verify(domain)
        except CertctlError as error:
            found = {"error": error_json(error), "letter": world.party.forwardable(domain, error)}
        else:
            found = {"summary": proof.summary, "letter": world.party.forwardable(domain, proof)}
        text = json.dumps(found, ensure_ascii=False)
        return dict(json.loads(re.sub(rf"\b{world.server.port}\b", "PORT", text)))


@pytest.mark.parametrize("case", CASES)
def test_every_sentence_is_what_it_always_was(case: str, tmp_path: Path) -> None:
    assert said(case, tmp_path) == json.loads(EXPECTED.read_text(encoding="utf-8"))[case]


def test_every_kind_of_refusal_is_among_them() -> None:
    sentences = json.loads(EXPECTED.read_text(encoding="utf-8"))
    found = {case["error"]["code"] for case in sentences.values() if "error" in case}
    assert found == {
        "dns-no-such-name", "dns-no-data", "dns-cname-mismatch", "dns-address-mismatch", "dns-stray-ipv6",
        "dns-cname-loop", "dns-servfail", "dns-disagree", "caa-forbids", "caa-servfail", "dns-unreachable",
        "dns-target-broken",
    }  # fmt: skip
    assert sentences.keys() == CASES.keys()


def _write() -> None:
    found = {}
    for case in CASES:
        with TemporaryDirectory() as directory:
            found[case] = said(case, Path(directory))
    EXPECTED.write_text(json.dumps(found, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    _write()
