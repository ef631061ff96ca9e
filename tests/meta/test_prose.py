"""Prose is never parsed back into data: no code reads anything out of a sentence that certctl itself has written.

A sentence is a ``message``, ``seen``, ``expected``, ``summary``, ``detail`` or ``hint`` of an error,
a proof or a step. Whoever needs a part of one asks for the field it was rendered from, or makes such a field.
"""

import ast
from collections.abc import Iterator
from typing import TypeGuard

import pytest

from tests.meta.source import Module, module, modules

SENTENCES = frozenset({"message", "summary", "detail", "hint"})
LINES = frozenset({"seen", "expected"})
PARAMETERS = SENTENCES - {"hint"} | {"expected"}
TAKING_APART = frozenset({
    "partition", "rpartition", "split", "rsplit", "splitlines", "startswith", "endswith", "removeprefix",
    "removesuffix", "replace", "find", "rfind", "index", "rindex", "translate", "isdigit", "isdecimal",
})  # fmt: skip
MATCHING = frozenset({"match", "fullmatch", "search", "findall", "finditer", "split", "sub", "subn"})

# What is not ours: the CA's own words (RFC 8555 §6.7 ``detail``), in which alone it says some things; pydantic's.
THEIRS = {"ca.errors": "detail", "config": "detail"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def parsed_prose(source: Module) -> list[str]:
    return sorted({f"{source.name}:{line} takes a sentence apart" for line in _lines(source)})


def _lines(source: Module) -> Iterator[int]:
    for scope in _scopes(source.tree):
        prose = Prose(scope, THEIRS.get(source.name, ""))
        yield from (node.lineno for each in scope for node in ast.walk(each) if prose.is_parsed(node))


def _scopes(tree: ast.AST) -> Iterator[list[ast.AST]]:
    """Yield what shares its names: each function with all in it, and what stands in no function."""
    outside: list[ast.AST] = []
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Function):
            yield [node]
        elif isinstance(node, ast.ClassDef):
            yield from _scopes(node)
        else:
            outside.append(node)
    yield outside


class Prose:
    """What is prose in one function: the attributes, and the names that were given one or run over its lines."""

    def __init__(self, scope: list[ast.AST], theirs: str) -> None:
        self._theirs = theirs
        nodes = [node for each in scope for node in ast.walk(each)]
        self._names = {node.arg for node in nodes if isinstance(node, ast.arg)} & PARAMETERS - {theirs}
        for _ in range(2):  # a name may be given to another
            self._names |= {name for node in nodes for name, value in _bound(node) if self.is_prose(value)}

    def is_prose(self, node: ast.AST) -> bool:
        """Tell whether an expression is a sentence, some lines of them, or one of these lines."""
        match node:
            case ast.Attribute(attr=attr):
                return attr in SENTENCES | LINES and attr != self._theirs
            case ast.Name(id=name):
                return name in self._names
            case ast.Subscript(value=value):
                return self.is_prose(value)
            case ast.Call(func=ast.Attribute(value=value, attr="lower" | "upper" | "strip" | "casefold")):
                return self.is_prose(value)
            case ast.Call(func=ast.Name(id="str" | "one_line"), args=[value, *_]):
                return self.is_prose(value)
            case _:
                return False

    def is_parsed(self, node: ast.AST) -> TypeGuard[ast.expr]:
        """Tell whether an expression takes one apart, or looks for words in it."""
        match node:
            case ast.Call(func=ast.Attribute(value=value, attr=method), args=arguments):
                taken = method in TAKING_APART and self.is_prose(value)
                return taken or (method in MATCHING and any(map(self.is_prose, arguments)))
            case ast.Compare(left=left, ops=operations, comparators=[*others]):
                operands = zip(operations, (left, *others), others, strict=False)
                return any(self._is_compared(operation, one, other) for operation, one, other in operands)
            case ast.Subscript(slice=ast.Slice(lower=None)):
                return False  # it is cut to a length
            case ast.Subscript(value=ast.Attribute(attr=attr)):
                return attr in SENTENCES and attr != self._theirs
            case _:
                return False

    def _is_compared(self, operation: ast.cmpop, one: ast.expr, other: ast.expr) -> bool:
        if isinstance(operation, ast.In | ast.NotIn):
            return self.is_prose(other)
        with_words = any(isinstance(each, ast.Constant) and each.value for each in (one, other))
        return isinstance(operation, ast.Eq | ast.NotEq) and with_words and any(map(self.is_prose, (one, other)))


def _bound(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Yield each name that a statement or a clause gives a value to, with the value or what it runs over."""
    match node:
        case ast.Assign(targets=[*targets], value=value):
            yield from ((target.id, value) for target in targets if isinstance(target, ast.Name))
        case (
            ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
            | ast.NamedExpr(target=ast.Name(id=name), value=value)
            | ast.For(target=ast.Name(id=name), iter=value)
            | ast.comprehension(target=ast.Name(id=name), iter=value)
        ):
            yield name, value
        case _:
            pass


@pytest.mark.parametrize("source", modules(), ids=lambda source: source.name or "certctl")
def test_no_sentence_is_taken_apart(source: Module) -> None:
    assert parsed_prose(source) == []


@pytest.mark.parametrize(
    "text",
    [
        "_, _, hint = error.message.partition('; ')",
        "owner = error.expected[0].rpartition(' ')",
        "x = [line for line in error.seen if not line.startswith('asked ')]",
        "for line in error.expected:\n    print(line.split(maxsplit=2))",
        "def f(error):\n    said = error.message\n    lowered = said.lower()\n    return 'nginx' in lowered",
        "if 'port 80' in proof.summary: pass",
        "if 'port 80' not in step.detail: pass",
        "if (text := error.message) and text.endswith('.'): pass",
        "found = re.search('by (.*)', error.message)",
        "found = _WHERE.fullmatch(one_line(error.seen[0]))",
        "priority = int(answer.message[1])",
        "if error.message == 'nothing to do': pass",
        "def f(message): return message.partition('; ')",
        "if self.outcome.message.lower().startswith('x'): pass",
    ],
)
def test_the_rule_notices(text: str) -> None:
    assert parsed_prose(module("dns.message", text))


@pytest.mark.parametrize(
    "text",
    [
        "print(f'{error.message}; {hint}', *error.seen)",
        "lines = [one_line(line) for line in error.seen]",
        "first = error.expected[0]",
        "if error.message and error.message not in said: said.add(error.message)",
        "name, _, rest = line.partition(' ')",
        "same = before.detail == after.detail",
        "text = '; '.join((error.message, *error.seen))",
    ],
)
def test_to_render_a_sentence_is_no_parsing(text: str) -> None:
    assert parsed_prose(module("cli.output.text", text)) == []


def test_the_words_of_the_ca_may_be_read_where_they_come_in() -> None:
    text = "found = _UNPAUSE.search(problem.detail)"
    assert parsed_prose(module("ca.errors", text)) == []
    assert parsed_prose(module("stories.issue", text))
