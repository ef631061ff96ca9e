"""An operator who reads a page and does what it says, and what can be asked of the host afterwards."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tests.host.documents import ALWAYS, Block, installing, settings
from tests.host.machine import Machine, Ran

CONFIG = "/etc/certctl/config.toml"
NGINX_CONF = "/etc/nginx/nginx.conf"
_SAYS_WHO_WE_ARE = "certctl init --target"
Place = tuple[str, str]


class Walk:
    """Types the lines of pages on one host, in order.

    Args:
        host: Where.
        words: What differs from the page, such as the mode: each word of a line is replaced where it is a key.
        examines: Ask the doctor after each line of ours: whatever state that leaves, the doctor has to report.
    """

    def __init__(self, host: Machine, words: Mapping[str, str] | None = None, *, examines: bool = False) -> None:
        self.host = host
        self._words = dict(words or {})
        self._examines = examines

    def follow(self, blocks: Iterable[Block], ends: Sequence[int] = ()) -> list[Ran]:
        """Do what the blocks say: commands are typed, settings set; a line for nginx takes the place of its like.

        Args:
            blocks: As a page has them.
            ends: The exit codes of the commands, in order; 0 for those that are not given.

        Returns: what each command did.
        """
        ran = list[Ran]()
        codes = iter(ends)
        for block in blocks:
            for line in block.commands:
                if installing([line]):
                    continue  # it ran before the host booted
                ran.append(self.type(line, next(codes, 0)))
            self.set(settings([block]))
            if block.language == "nginx":
                self.edit_nginx(block.text.strip())
        return ran

    def type(self, line: str, code: int = 0) -> Ran:
        """Type one line of a page, which has to end with a code."""
        said = " ".join(self._words.get(word, word) for word in line.split(" "))
        ran = self.host.must(said, code)
        if said.startswith(_SAYS_WHO_WE_ARE):
            self.adapt()
        if self._examines and said.startswith("certctl "):
            doctor(self.host)
        return ran

    def adapt(self) -> None:
        """Set what has to differ in the closed Internet, whatever the page says."""
        self.set(ALWAYS)

    def set(self, values: Mapping[Place, object]) -> None:
        """Set keys of the configuration, each in the table that is there, by its ``#`` line if it has one."""
        text = self.host.read(CONFIG) if values else ""
        for (table, key), value in values.items():
            text = _with(text, table, f"{key} = {json.dumps(value)}")
        if values:
            self.host.write(CONFIG, text, 0o640)

    def unset(self, table: str, key: str) -> None:
        """Take a line out of the configuration."""
        text = self.host.read(CONFIG)
        start, end = _table(text, table)
        inside = re.sub(rf"(?m)^{key} = .*\n", "", text[start:end])
        self.host.write(CONFIG, text[:start] + inside + text[end:], 0o640)

    def edit_nginx(self, line: str) -> None:
        """Put a line of nginx's main file in the place of the line of the same directive."""
        directive = line.split(maxsplit=1)[0]
        text, times = re.subn(rf"(?m)^\s*{directive}\s.*;$", line, self.host.read(NGINX_CONF))
        assert times == 1, f"{NGINX_CONF} has {times} lines of {directive}"
        self.host.write(NGINX_CONF, text)


def doctor(host: Machine) -> list[dict[str, Any]]:
    """Ask the doctor; it has to report: the exit code says whether there is a problem, and nothing else does."""
    ran = host.run("certctl doctor --json")
    report = json.loads(ran.out)
    findings: list[dict[str, Any]] = report["data"]
    assert findings, ran.text
    broken = any(finding["level"] == "problem" for finding in findings)
    assert ran.code == int(broken), ran.text
    return findings


def problems(host: Machine) -> list[str]:
    """Return what the doctor calls a problem, one line each."""
    return [f"{f['area']}: {f['text']} (fix: {f['fix']})" for f in doctor(host) if f["level"] == "problem"]


def status(host: Machine, name: str) -> dict[str, Any]:
    """Return what ``certctl status`` says about one domain."""
    ran = host.must(f"certctl status {name} --json")
    result: dict[str, Any] = json.loads(ran.out)["results"][0]
    return result


def serial(host: Machine, name: str) -> str:
    """Return the serial number of the certificate the store has of a domain."""
    return str(status(host, name)["certificate"]["serial"])


def _with(text: str, table: str, line: str) -> str:
    key = line.split(" = ", 1)[0]
    start, end = _table(text, table)
    inside, times = re.subn(rf"(?m)^#? ?{re.escape(key)} = .*$", lambda _: line, text[start:end], count=1)
    if not times:
        inside = f"{line}\n{inside}" if not inside.startswith("\n") else f"\n{line}{inside}"
    return text[:start] + inside + text[end:]


def _table(text: str, name: str) -> tuple[int, int]:
    """Return where the lines of a table begin and end."""
    head = re.search(rf"(?m)^\[{re.escape(name)}\].*\n", text)
    assert head, f"{CONFIG} has no table [{name}]:\n{text}"
    following = re.search(r"(?m)^\[", text[head.end() :])
    return head.end(), head.end() + following.start() if following else len(text)
