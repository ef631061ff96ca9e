"""Which server block answers for a name, from ``nginx -T``; for diagnosis only, as a best effort.

The order is nginx's own (https://nginx.org/en/docs/http/server_names.html): the exact name, the longest name with a
star in front, the longest with a star behind, the first regular expression that fits, the default server.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from certctl.nginx.mainconf import ConfigLine

_DUMPED = re.compile(r"^# configuration file (.+):$", re.MULTILINE)
_WORD = re.compile(
    r"(?P<space>\s+|#[^\n]*)"
    r"|(?P<lua>\w+_by_lua_block\s*(?=\{))"
    r'|(?P<quoted>"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\')'
    r"|(?P<sign>[{};])"
    r"|(?P<plain>(?:\\.|\$\{\w+\}|[^\s{};\\])+|.)",
    re.DOTALL,
)
_PORT = re.compile(r"(?:^|:)(\d+)$")
_NAMED_GROUP = re.compile(r"\(\?<(?![=!])")


@dataclass(slots=True)
class ServerBlock:
    """The ``server_name`` and ``listen`` directives of one ``server`` block."""

    place: ConfigLine
    listens: list[list[str]] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    def listens_on(self, port: int) -> bool:
        """Tell whether the block listens on a port; without ``listen`` that is 80."""
        return any(_port_of(words) == port for words in self.listens) if self.listens else port == 80  # noqa: PLR2004

    def is_default(self, port: int) -> bool:
        """Tell whether the block is marked ``default_server`` for a port."""
        return any(_port_of(words) == port and "default_server" in words for words in self.listens)


@dataclass(frozen=True, slots=True)
class Answering:
    """The block that answers for a name, and which of its names matches."""

    place: ConfigLine
    by: str

    @property
    def text(self) -> str:
        """Return the block's place and matching name as one line."""
        return f"the server block at {self.place} answers, by {self.by}"


def answering(every: Iterable[ServerBlock], name: str, port: int) -> Answering | None:
    """Return the block that answers for a name on a port; None when no block listens there."""
    blocks = [block for block in every if block.listens_on(port)]
    named = [(block, each) for block in blocks for each in block.names]
    fits = [
        next(((b, n) for b, n in named if n.lower() == name), None),
        _longest([(b, n) for b, n in named if n.startswith(("*.", ".")) and _ends(name, n)]),
        _longest([(b, n) for b, n in named if n.endswith(".*") and name.startswith(n[:-1])]),
        next(((b, n) for b, n in named if n.startswith("~") and _matches(n, name)), None),
    ]
    if found := next((fit for fit in fits if fit), None):
        return Answering(found[0].place, f"server_name {found[1]}")
    default = next((block for block in blocks if block.is_default(port)), blocks[0] if blocks else None)
    return Answering(default.place, f"being the default server of port {port}") if default else None


def server_blocks(dump: str) -> Iterator[ServerBlock]:
    """Yield every ``server`` block with its place, in the order in which nginx reads them."""
    pieces = _DUMPED.split(dump)[1:]
    for file, text in zip(pieces[::2], pieces[1::2], strict=True):
        yield from _blocks_of(file, text.removeprefix("\n"))


def _blocks_of(file: str, text: str) -> Iterator[ServerBlock]:
    depth, words, open_block = 0, list[str](), None
    for line, word, is_sign in _words(text):
        if not is_sign:
            words.append(word)
            continue
        if open_block and depth == open_block[0] and word == ";" and words:
            _note(open_block[1], words)
        if word == "{":
            depth += 1
            if words == ["server"] and not open_block:
                open_block = depth, ServerBlock(ConfigLine(file, line))
        elif word == "}":
            if open_block and depth == open_block[0]:
                yield open_block[1]
                open_block = None
            depth -= 1
        words = []


def _note(block: ServerBlock, words: Sequence[str]) -> None:
    if words[0] == "listen":
        block.listens.append(list(words[1:]))
    elif words[0] == "server_name":
        block.names += words[1:]


def _words(text: str) -> Iterator[tuple[int, str, bool]]:
    """Yield (line, word or sign, whether it is a sign) of a text; the body of a Lua block is skipped."""
    at, line = 0, 1
    while found := _WORD.match(text, at):
        kind, word = found.lastgroup, found[0]
        if kind == "lua":
            yield line, word.strip(), False
            end = _end_of_braces(text, found.end())
            line += text.count("\n", at, end)
            at = end
            yield line, ";", True
            continue
        if kind != "space":
            yield line, word[1:-1] if kind == "quoted" else word, kind == "sign"
        line += word.count("\n")
        at = found.end()


def _end_of_braces(text: str, at: int) -> int:
    depth = 0
    for end in range(at, len(text)):
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        if not depth:
            return end + 1
    return len(text)


def _port_of(words: Sequence[str]) -> int:
    found = _PORT.search(words[0]) if words else None
    return int(found[1]) if found else 80


def _longest(fits: Sequence[tuple[ServerBlock, str]]) -> tuple[ServerBlock, str] | None:
    return max(fits, key=lambda fit: len(fit[1]), default=None)


def _ends(name: str, pattern: str) -> bool:
    """Tell whether ``*.example.com`` matches a name, or ``.example.com``, which matches example.com as well."""
    suffix = pattern.removeprefix("*").lower()
    return name.endswith(suffix) or (pattern.startswith(".") and name == suffix[1:])


def _matches(pattern: str, name: str) -> bool:
    """Tell whether nginx's regular expression matches, by Python's ``re``; one it cannot compile never does."""
    with suppress(re.error):
        return re.search(_NAMED_GROUP.sub("(?P<", pattern[1:]), name, re.IGNORECASE) is not None
    return False
