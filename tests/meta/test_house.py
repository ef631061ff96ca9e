"""The house rules that a machine can watch."""

import ast
import re

import pytest

from tests.meta.source import Module, module, modules

LONGEST_MODULE = 400
LONGEST_FUNCTION = 40
UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")
VAGUE = re.compile(r"(Manager|Helper|Utils?)$")

HOUSE = modules()


def too_long(source: Module) -> list[str]:
    found = [f"{source.name} has {len(source.text.splitlines())} lines"] if is_long(source) else []
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > LONGEST_FUNCTION:
                found.append(f"{source.name}.{node.name} has {lines} lines")
    return found


def is_long(source: Module) -> bool:
    return len(source.text.splitlines()) > LONGEST_MODULE


def vague_names(source: Module) -> list[str]:
    return [n.name for n in ast.walk(source.tree) if isinstance(n, ast.ClassDef) and VAGUE.search(n.name)]


@pytest.mark.parametrize("source", HOUSE, ids=lambda source: source.name or "certctl")
def test_modules_and_functions_stay_short(source: Module) -> None:
    assert too_long(source) == []


@pytest.mark.parametrize("source", HOUSE, ids=lambda source: source.name or "certctl")
def test_every_module_says_what_it_is_for(source: Module) -> None:
    assert ast.get_docstring(source.tree)


@pytest.mark.parametrize("source", HOUSE, ids=lambda source: source.name or "certctl")
def test_nothing_is_left_for_later_and_names_say_what_a_thing_is(source: Module) -> None:
    assert UNFINISHED.findall(source.text) == []
    assert vague_names(source) == []


def test_the_rules_notice() -> None:
    assert too_long(module("x", "pass\n" * (LONGEST_MODULE + 1)))
    assert too_long(module("x", "def f():\n" + "    pass\n" * LONGEST_FUNCTION))
    assert not too_long(module("x", "def f():\n" + "    pass\n" * (LONGEST_FUNCTION - 1)))
    assert UNFINISHED.search("# TO" + "DO later")
    assert vague_names(module("x", "class CertManager: pass"))
