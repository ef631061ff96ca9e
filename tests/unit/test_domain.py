"""The name parser: the binding corpus line by line, and what holds for any text whatever."""

import ast
import re
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certctl.domain import Domain, NamePolicy, parse_domain, parse_wildcard, registered_domain
from certctl.errors import CATALOGUE, ExitCode, NameRejected

CORPUS = Path(__file__).parents[1] / "hostile-domains.txt"
POLICY = NamePolicy(own_names=("hyperping.io",))
SANDBOX = NamePolicy(own_names=("hyperping.test",), allow_private_names=True)
LDH = re.compile(r"(?=.{3,253}\Z)(?:(?!-)[a-z0-9-]{1,63}(?<!-)\.){1,9}(?!-)[a-z0-9-]{1,63}(?<!-)")
GIANT = re.compile(r"(?P<unit>'[^']*') \* (?P<times>\d+)(?: \+ (?P<tail>'[^']*'))?")


@dataclass(frozen=True)
class Line:
    number: int
    mode: str
    text: str
    expected: str

    @property
    def accepted(self) -> str | None:
        verdict, _, name = self.expected.partition(":")
        return name if verdict == "accept" else None


def literal(source: str) -> str:
    """Read the corpus' literals: Python's own, or 'unit' * N [+ 'tail'] for the giants."""
    if giant := GIANT.fullmatch(source):
        tail = ast.literal_eval(giant["tail"]) if giant["tail"] else ""
        return str(ast.literal_eval(giant["unit"]) * int(giant["times"]) + tail)
    return str(ast.literal_eval(source))


def corpus() -> list[Line]:
    rows = CORPUS.read_text(encoding="utf-8").splitlines()
    fields = [(number, row.split("\t")) for number, row in enumerate(rows, 1) if row and not row.startswith("#")]
    return [Line(number, row[0], literal(row[1]), row[2]) for number, row in fields]


def parse(line: Line) -> Domain:
    return {"customer": parse_domain, "wildcard": parse_wildcard}[line.mode](line.text, POLICY)


@pytest.mark.parametrize("line", corpus(), ids=lambda line: f"line-{line.number}")
def test_the_corpus_is_binding(line: Line) -> None:
    if line.accepted is not None:
        assert parse(line).name == line.accepted
        return
    with pytest.raises(NameRejected) as caught:
        parse(line)
    assert caught.value.slug in CATALOGUE
    assert caught.value.exit_code is ExitCode.USAGE


def test_the_corpus_was_read_as_a_whole() -> None:
    lines = corpus()
    assert len(lines) > 140
    assert {line.mode for line in lines} == {"customer", "wildcard"}
    assert sum(line.accepted is not None for line in lines) > 20


@pytest.mark.parametrize("text", ["status.acme.test", "status.acme.example", "status.acme.internal", "a.corp.lan"])
def test_private_names_are_for_those_who_ask_for_them(text: str) -> None:
    assert parse_domain(text, SANDBOX).name == text
    with pytest.raises(NameRejected):
        parse_domain(text, POLICY)


def test_private_names_are_for_nobody_unless_the_operator_says_so() -> None:
    with pytest.raises(NameRejected) as caught:
        parse_domain("status.acme.test", NamePolicy())
    assert caught.value.slug == "name-special-use"


@pytest.mark.parametrize(
    ("character", "slug"),
    [
        ("\x1b", "name-control"),
        ("\u200b", "name-format"),
        ("\u00a0", "name-space"),
        ("\u2028", "name-space"),
        ("\u2029", "name-space"),
        ("\ud800", "name-codepoint"),
        ("\u0378", "name-codepoint"),
        ("\ue000", "name-codepoint"),
        ("*", "name-wildcard"),
        ("_", "name-charset"),
        ("\u3002", "name-unicode-dot"),
        ("\uff0e", "name-unicode-dot"),
        ("\uff61", "name-unicode-dot"),
        ("\u210c", "name-compat"),
    ],
)
def test_each_kind_of_character_is_refused_by_its_own_name(character: str, slug: str) -> None:
    with pytest.raises(NameRejected) as caught:
        parse_domain(f"a{character}b.example.com", POLICY)
    assert caught.value.slug == slug
    can_be_removed = slug in {"name-space", "name-control"}
    assert any("remove U+" in line for line in caught.value.expected) == can_be_removed


def test_a_name_to_look_at_twice_is_the_same_name() -> None:
    domain = parse_domain("bücher.acme.com", POLICY)
    assert domain.warnings
    assert {domain} == {Domain(domain.name)}


@pytest.mark.parametrize("dot", ["", "."])
def test_a_name_may_be_253_characters_long_and_no_longer(dot: str) -> None:
    longest = f"{'a' * 59}.{'b' * 63}.{'c' * 63}.{'d' * 61}.com"
    assert len(parse_domain(longest + dot, POLICY).name) == 253
    for parse, text in (
        (parse_domain, "a" + longest),
        (parse_wildcard, "a" + longest),
        (parse_wildcard, "*." + longest[1:]),
    ):
        with pytest.raises(NameRejected) as caught:
            parse(text + dot, POLICY)
        assert (caught.value.slug, longest in caught.value.message) == ("name-too-long", False)


@pytest.mark.parametrize(
    "text",
    [
        "localhost",
        "a.localhost",
        "printer.local",
        "x.invalid",
        "x.onion",
        "x.home.arpa",
        "1.in-addr.arpa",
        "1.ip6.arpa",
        "status.hyperping.test",
    ],
)
def test_even_a_sandbox_has_names_nobody_may_have(text: str) -> None:
    with pytest.raises(NameRejected):
        parse_domain(text, SANDBOX)


@pytest.mark.parametrize("unit", ["a", "a.", "ü", "xn--a.", "-", "\u202e", "*.", "\u0661"])
def test_a_huge_text_costs_no_more_than_a_small_one(unit: str) -> None:
    started = time.process_time()
    for _ in range(1000):
        with pytest.raises(NameRejected):
            parse_domain(unit * 100_000, POLICY)
    assert time.process_time() - started < 10, "1000 refusals of 100 kB each: 10 ms apiece is far too much"


@pytest.mark.parametrize("text", ["\x1b[2J.example.com", "\u202eexample.com", "x\ud800.example.com", "a" * 300])
def test_a_refusal_never_carries_the_raw_text_on(text: str) -> None:
    with pytest.raises(NameRejected) as caught:
        parse_domain(text, POLICY)
    assert caught.value.message.isascii() or caught.value.message.isprintable()
    assert len(caught.value.message) < 2000


@pytest.mark.parametrize(
    ("name", "registered"),
    [
        ("status.acme.co.uk", "acme.co.uk"),
        ("acme.com", "acme.com"),
        ("a.b.acme.com", "acme.com"),
        ("*.acme.com", "acme.com"),
    ],
)
def test_the_ca_counts_by_registered_domain(name: str, registered: str) -> None:
    assert registered_domain(Domain(name)) == registered


def test_a_wildcard_knows_its_zone_and_has_a_file_name_without_a_star() -> None:
    wildcard = parse_wildcard("*.Example.com.", POLICY)
    assert (wildcard.name, wildcard.zone, wildcard.directory) == (
        "*.example.com",
        "example.com",
        "_wildcard.example.com",
    )
    assert wildcard.is_wildcard


def test_long_names_get_short_and_different_stems() -> None:
    label = "a" * 60
    one, other = (parse_domain(f"{x}{label}.{label}.{label}.{label}.com", POLICY) for x in "xy")
    assert len(one.stem) <= 200
    assert one.stem != other.stem


names = st.one_of(
    st.text(max_size=40),
    st.from_regex(r"[a-zA-Z0-9-]{1,12}(\.[a-zA-Z0-9-]{1,12}){0,4}\.?", fullmatch=True),
    st.lists(st.text(alphabet="aA0-äößç日本語.xn", min_size=1, max_size=8), min_size=1, max_size=4).map(
        lambda labels: ".".join((*labels, "com"))
    ),
)


@settings(max_examples=400)
@given(names, st.booleans())
def test_any_text_parses_or_is_refused_and_what_parses_stays_as_it_is(text: str, private: bool) -> None:  # noqa: FBT001
    policy = NamePolicy(("hyperping.io",), allow_private_names=private)
    try:
        domain = parse_domain(text, policy)
    except NameRejected:
        return
    assert LDH.fullmatch(domain.name)
    assert parse_domain(str(domain), policy) == domain


@settings(max_examples=200)
@given(names)
def test_any_text_parses_or_is_refused_as_a_wildcard(text: str) -> None:
    try:
        wildcard = parse_wildcard("*." + text, POLICY)
    except NameRejected:
        return
    assert LDH.fullmatch(wildcard.zone)
    assert parse_wildcard(wildcard.name, POLICY) == wildcard
