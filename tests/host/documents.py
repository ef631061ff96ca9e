"""The commands and settings that README and the tutorials tell an operator to use, read out of those pages.

A host of the tests is installed and run by these lines and by nothing else, so a page that no longer works is a red
test. What has to differ on a host without the Internet stands in one table, ``DIFFERS``.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
FIRST_DOMAIN = ROOT / "docs/tutorial/first-domain.md"
FIRST_VISITOR = ROOT / "docs/tutorial/first-visitor.md"

CA_DIRECTORY = "https://acme.authority.net/dir"
TRUST = "/etc/ssl/closed-internet.pem"
STAGING = "https://acme-staging-v02.api.letsencrypt.org/directory"

# A setting of the pages, and what stands in its place: there is no Let's Encrypt in the closed Internet, and what
# speaks HTTPS there has certificates of a CA of its own.
DIFFERS: Mapping[tuple[str, str], Mapping[tuple[str, str], str]] = {
    ("ca", "directory"): {("ca", "directory"): CA_DIRECTORY, ("ca", "ca_file"): TRUST},
    ("approval", "url"): {("approval", "ca_file"): TRUST},
}
# The same where a page leaves the CA at its default, or gives the endpoint to `certctl init`.
ALWAYS = {("ca", "directory"): CA_DIRECTORY, ("ca", "ca_file"): TRUST, ("approval", "ca_file"): TRUST}

_SECTION = re.compile(r"^## (.+)$", re.MULTILINE)
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_INSTALLING = re.compile(r"^(apt-get|rm|python3 -m venv|ln|/opt/certctl/bin/pip)\b")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block of a page: its language and its text."""

    language: str
    text: str

    @property
    def commands(self) -> list[str]:
        """Return the lines that root types: those after ``# ``."""
        if self.language != "console":
            return []
        return [line.removeprefix("# ") for line in self.text.splitlines() if line.startswith("# ")]

    @property
    def settings(self) -> dict[tuple[str, str], object]:
        """Return what a block of TOML sets, by table and key."""
        if self.language != "toml":
            return {}
        return {
            (table, key): value for table, keys in tomllib.loads(self.text).items() for key, value in keys.items()
        }


def section(page: Path, title: str) -> list[Block]:
    """Return the fenced blocks below a heading of the second level, in order."""
    pieces = _SECTION.split(page.read_text(encoding="utf-8"))
    sections = dict(zip(pieces[1::2], pieces[2::2], strict=True))
    found = [text for heading, text in sections.items() if title in heading]
    assert len(found) == 1, f"{page.name} has {len(found)} sections named like {title!r}: {list(sections)}"
    return [Block(language, text) for language, text in _BLOCK.findall(found[0])]


def commands(page: Path, title: str) -> list[str]:
    """Return the commands of a section, in order."""
    return [line for block in section(page, title) for line in block.commands]


def installing(lines: list[str]) -> list[str]:
    """Return those of the commands that need the Internet, which run before a host boots into the closed one."""
    return [line for line in lines if _INSTALLING.match(line)]


def operating(lines: list[str]) -> list[str]:
    """Return the commands that run on the host once it has booted."""
    return [line for line in lines if not _INSTALLING.match(line)]


def settings(blocks: list[Block]) -> dict[tuple[str, str], object]:
    """Return what the TOML blocks set, as it has to be in the closed Internet."""
    said = {place: value for block in blocks for place, value in block.settings.items()}
    return dict(_in_the_closed_internet(said))


def _in_the_closed_internet(said: Mapping[tuple[str, str], object]) -> Iterator[tuple[tuple[str, str], object]]:
    for place, value in said.items():
        yield place, value
        yield from DIFFERS.get(place, {}).items()
