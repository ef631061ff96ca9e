"""Slugs name errors and decide nothing: outside the catalogue nobody compares, groups, cuts or spells one."""

import ast
import re
from collections.abc import Iterator, Sequence

import pytest

from certctl.errors import CATALOGUE
from certctl.slugs import Slug
from tests.meta.source import PACKAGE, Module, module, modules

MAY_COMPARE = {"slugs", "errors"}
PREFIXES = {f"{slug.partition('-')[0]}-" for slug in Slug if "-" in slug}

# Words that look like a slug, or its beginning, and are something else: the module, the word, what it is.
SOMETHING_ELSE = {
    ("domain", "internal"): "a top-level domain",
    ("serve.answers", "busy"): "a kind of answer to a visitor",
    ("ca.solvers.certbot_plugin", "dns-"): "how certbot's DNS plugins are called",
    ("cli.commands.wildcard", "dns-"): "likewise",
    ("cli.framework", "slug.startswith"): "what somebody has typed of one",
}

_PREFIX = "|".join(sorted(PREFIXES))
_SLUG = "|".join(Slug)
SQL = re.compile(rf"LIKE\s+'(?:{_PREFIX})|(?:=|<>|!=|IN\s*\(|,)\s*'(?:{_SLUG})'", re.IGNORECASE)

HOUSE = [source for source in modules() if source.name not in MAY_COMPARE]


def wrong(source: Module) -> list[str]:
    """Return each place where a module steers by a slug."""
    found = [*_compared(source.tree), *_cut(source.tree), *_spelt(source.tree)]
    return [f"{source.name}: {what} {text}" for what, text in found if (source.name, text) not in SOMETHING_ELSE]


def _compared(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Find comparisons and groups of slugs; whether there is one at all may be asked."""
    for node in ast.walk(tree):
        match node:
            case ast.Compare(ops=[ast.Is() | ast.IsNot()], comparators=[ast.Constant(value=None)]):
                continue
            case ast.Compare() | ast.MatchValue() | ast.Set() if _names_a_slug(node):
                yield "compares", ast.unparse(node)
            case ast.Match(subject=subject) if _names_a_slug(subject):
                yield "compares", ast.unparse(subject)
            case _:
                pass


def _names_a_slug(node: ast.AST) -> bool:
    for part in ast.walk(node):
        match part:
            case ast.Attribute(attr="slug") | ast.Name(id="slug"):
                return True
            case ast.Attribute(value=ast.Name(id="Slug")):
                return True
            case _:
                pass
    return False


def _cut(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Find whoever looks at a part of a slug, or looks for one of a text."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(attr="startswith" | "endswith" | "removeprefix" | "partition" | "split")
            ):
                if _names_a_slug(node.func):
                    yield "cuts", ast.unparse(node.func)
                for word in ast.walk(node):
                    if isinstance(word, ast.Constant) and word.value in PREFIXES:
                        yield "cuts at", word.value
            case ast.Subscript(value=ast.Attribute(attr="slug")):
                yield "cuts", ast.unparse(node)
            case _:
                pass


def _spelt(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Find slugs that are written out, as text or in SQL; prose may name them."""
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str) or id(node) in prose:
            continue
        if node.value in set(Slug):
            yield "spells", node.value
        if found := SQL.search(node.value):
            yield "asks the store for", found[0]


@pytest.mark.parametrize("source", HOUSE, ids=lambda source: source.name or "certctl")
def test_nobody_steers_by_a_slug(source: Module) -> None:
    assert wrong(source) == []


def test_nor_does_the_stores_schema() -> None:
    for path in sorted(PACKAGE.rglob("*.sql")):
        assert SQL.search(path.read_text(encoding="utf-8")) is None, path


def test_what_is_something_else_is_still_there() -> None:
    used = [
        (source.name, text)
        for source in HOUSE
        for _, text in (*_cut(source.tree), *_spelt(source.tree))
        if (source.name, text) in SOMETHING_ELSE
    ]
    assert set(used) == set(SOMETHING_ELSE)


@pytest.mark.parametrize(
    "text",
    [
        "if error.slug == other: pass",
        "if Slug.CA_DNS != found: pass",
        "if error.slug in TABLE: pass",
        "if slug not in TABLE: pass",
        "if CATALOGUE[Slug.CA_DNS] is error.kind: pass",
        "GROUP = {Slug.CA_DNS, Slug.CA_CAA}",
        "match error.slug:\n    case other: pass",
        "match found:\n    case Slug.CA_DNS: pass",
        "if error.slug.startswith(x): pass",
        "if text.startswith('ca-'): pass",
        "if text.startswith(('x', 'nginx-')): pass",
        "party = error.slug.partition('-')[0]",
        "if error.slug[:3]: pass",
        "raise Refused('ca-dns', 'no')",
        "found = Slug('ca-dns')",
        "WORDS = {'dns-no-data': 'no data'}",
        "db.execute(\"SELECT 1 FROM domain WHERE last_error LIKE 'nginx-%'\")",
        "db.execute(f\"UPDATE domain SET x = {y} WHERE last_error IN ('busy', 'ca-dns')\")",
        "db.execute(\"SELECT 1 FROM event WHERE slug = 'wildcard-manual'\")",
    ],
)
def test_the_rule_notices(text: str) -> None:
    assert wrong(module("x", text))


@pytest.mark.parametrize(
    "text",
    [
        '"""Raises: ``ca-dns``."""',
        "raise Refused(Slug.CA_DNS, 'no')",
        "if error.kind.blames_host: pass",
        "if event.slug is None: pass",
        "text = f'error[{error.slug}]'",
        "said = WORDS.get(error.slug)",
        "SAID = {Slug.CA_DNS: 'no'}",
        "db.execute(\"SELECT 1 FROM domain WHERE name LIKE '*.%'\")",
    ],
)
def test_the_rule_lets_slugs_be_said(text: str) -> None:
    assert wrong(module("x", text)) == []


def test_every_slug_has_the_name_of_its_words() -> None:
    named: Sequence[str] = [slug.name.lower().replace("_", "-") for slug in Slug]
    assert named == list(Slug)


def test_every_slug_stands_in_the_catalogue() -> None:
    assert list(CATALOGUE) == list(Slug)


def test_every_slug_is_given_to_an_error_somewhere() -> None:
    given = {name for source in HOUSE for name in re.findall(r"\bSlug\.(\w+)", source.text)}
    assert set(Slug.__members__) - given == set()
