"""What an error says is next, typed in a sandbox: it shows the same fault, or mends it.

The whole list of errors, and where each is followed, is in tests/meta/test_next.py.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.e2e.real_sandbox import Ran, Sandbox, own_host, rewrite
from tests.next_steps import typed

pytestmark = pytest.mark.e2e


@dataclass(frozen=True)
class Case:
    """A fault of the world, the name that meets it, and what each command named next must show."""

    name: str
    arrange: Callable[[Sandbox], object]
    mend: Callable[[Sandbox], object]
    shows: dict[str, str]


def dns(*words: str) -> Callable[[Sandbox], object]:
    return lambda sandbox: sandbox.must("sandbox", "dns", *words)


def approve(*words: str) -> Callable[[Sandbox], object]:
    return lambda sandbox: sandbox.must("sandbox", "approve", *words)


def heal(sandbox: Sandbox) -> None:
    sandbox.must("sandbox", "dns", "heal")


def point(name: str) -> Callable[[Sandbox], object]:
    return dns("add", name, "CNAME", "status.hyperping.io")


def letter(slug: str) -> dict[str, str]:
    """A fault of the customer's DNS: the same again, and the letter to the customer."""
    return {"issue": slug, "verify": "status.hyperping.io"}


CASES = {
    "dns-cname-mismatch": Case(
        "a.next1.test", dns("add", "a.next1.test", "CNAME", "elsewhere.example.net"), point("a.next1.test"),
        letter("dns-cname-mismatch"),
    ),
    "dns-no-such-name": Case("a.next2.test", lambda _: None, point("a.next2.test"), letter("dns-no-such-name")),
    "dns-no-data": Case(
        "a.next3.test", dns("add", "a.next3.test", "TXT", "nothing"), point("a.next3.test"), letter("dns-no-data")
    ),
    "dns-address-mismatch": Case(
        "next4.test", dns("add", "next4.test", "A", "127.0.0.9"),
        lambda s: (dns("remove", "next4.test")(s), point("next4.test")(s)), letter("dns-address-mismatch"),
    ),
    "caa-forbids": Case(
        "a.next5.test",
        lambda s: (point("a.next5.test")(s), dns("add", "next5.test", "CAA", '0 issue "other.example"')(s)),
        dns("remove", "next5.test", "CAA"), {"issue": "caa-forbids", "verify": "CAA"},
    ),
    "approval-refused": Case(
        "a.next6.test", lambda s: (point("a.next6.test")(s), approve("a.next6.test", "--revoke")(s)),
        approve("a.next6.test"), {"approval": "approval-refused"},
    ),
    "approval-unreachable": Case(
        "a.next7.test", lambda s: (point("a.next7.test")(s), approve("--mode", "500")(s)),
        approve("--mode", "list"), {"approval": "approval-unreachable", "doctor": "500"},
    ),
}  # fmt: skip


def error_of(ran: Ran) -> dict[str, object]:
    document = ran.json
    return dict(document.get("error") or next(r["error"] for r in document["results"] if r["error"]))


@pytest.mark.parametrize("slug", CASES)
def test_what_is_next_shows_the_fault_and_after_mending_it_is_gone(sandbox: Sandbox, slug: str) -> None:
    case = CASES[slug]
    if "approval" not in slug:
        sandbox.must("sandbox", "approve", case.name)
    case.arrange(sandbox)
    try:
        failed = sandbox.certctl("issue", case.name, "--json")
        error = error_of(failed)
        assert error["code"] == slug
        *commands, last = [str(command) for command in error["next"]]  # type: ignore[attr-defined]
        assert last == f"certctl explain {slug}"
        assert slug in sandbox.must("explain", slug).out
        assert {command.split()[1] for command in commands} == set(case.shows)
        for command in commands:
            words = typed(command)
            ran = sandbox.certctl(*words)
            assert ran.code == (1 if words[0] == "doctor" else failed.code), (command, ran)
            assert case.shows[words[0]] in ran.out + ran.err, (command, ran)
    finally:
        case.mend(sandbox)
        heal(sandbox)
    sandbox.must("sandbox", "approve", case.name)
    assert sandbox.certctl("verify", case.name).code == 0
    assert sandbox.certctl("approval", case.name).code == 0


@pytest.mark.usefixtures("real_parts")
def test_where_nginx_reads_nothing_of_ours_no_order_is_spent_and_the_line_is_named() -> None:
    with own_host() as host:
        name = host.customer("status.unread.test")
        line = f"include {host.layout.conf_dir}/*.conf;"
        rewrite(host.layout.nginx_conf, line, "")
        host.must("reload")
        for command in (("issue", name), ("init",)):
            error = error_of(host.certctl(*command, "--json"))
            assert (error["code"], host.orders()) == ("nginx-not-included", 0)
            assert str(error["expected"]).startswith(f"['{line} in the http block of {host.layout.nginx_conf}:")
        rewrite(host.layout.nginx_conf, "http {", f"http {{ {line}")
        host.must("init")
        host.must("reload")
        host.must("issue", name)
