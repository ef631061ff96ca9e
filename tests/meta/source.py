"""Read the house's own source: which module imports, calls and says what."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "certctl"


@dataclass(frozen=True)
class Module:
    """One parsed file. ``name`` is its path below certctl/ with dots, such as ``app.report``."""

    name: str
    tree: ast.Module
    text: str

    @property
    def unit(self) -> str:
        """The package or top-level module it belongs to."""
        return self.name.partition(".")[0]


def modules() -> list[Module]:
    return [read(path, path.relative_to(PACKAGE)) for path in sorted(PACKAGE.rglob("*.py"))]


def read(path: Path, below: Path) -> Module:
    parts = below.with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    text = path.read_text(encoding="utf-8")
    return Module(name, ast.parse(text, str(path)), text)


def module(name: str, text: str) -> Module:
    """A module that is not in the house, to prove that a rule can be broken."""
    return Module(name, ast.parse(text), text)


def imports(source: Module) -> Iterator[str]:
    """Every imported module in full; ``from a import b`` yields ``a.b``, as b may be a module."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source.name} imports relatively: the fence reads absolute imports only"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def calls(source: Module) -> Iterator[tuple[str, int]]:
    """Every call as (dotted name, line); what is not a plain dotted name is left out."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node.lineno
