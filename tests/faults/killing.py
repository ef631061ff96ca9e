"""Kill a command before one of the changes it asks the kernel for: which there are, and how to die at one.

``killer.c`` does it. A run is recorded once; changes of one kind are one point: the same call about the same class
of path, whatever the customer, the version or the token is called.
"""

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from errno import EINPROGRESS
from hashlib import sha256
from pathlib import Path

_SOURCE = Path(__file__).with_name("killer.c")
_HEX, _BASE64URL = "[0-9a-f]", "[0-9A-Za-z_-]"
# What differs from run to run in one component of a path: how to know it, its word, and a pattern for fnmatch(3).
_RANDOM = (
    (r"\.[0-9a-f]{16}\.(?P<rest>\w+)", ".RANDOM.{rest}", "." + _HEX * 16 + ".{rest}"),
    (r"certctl-probe-[\w-]{32}", "PROBE", "certctl-probe-*"),
    (r"[\w-]{43}", "TOKEN", _BASE64URL * 43),
    (r"\d{8}T\d{6}Z-.+", "TIME", "[0-9]*"),
    (r"[0-9a-f]{32}", "ACCOUNT", _HEX * 32),
    (r"[a-z0-9-]+\.test(?P<rest>(\.\w+)?)", "NAME{rest}", "*.test{rest}"),
    (r"127\.0\.0\.1:\d+", "CA", "127.0.0.1:*"),
    (r"[0-9a-f]{2}\.lock", "LOCK", "[0-9a-f][0-9a-f].lock"),
    (r"\d+(\.\d+)?", "VERSION", "[0-9]*"),
)
# nginx's own, certbot's own, and what certbot's log says.
_OURS = re.compile(r"(tcp:|unix:)?\{|signal:")
_NOT_OURS = re.compile(
    r"{root}/(log|var/tmp)/.*"
    r"|{root}/var/lib/certctl/acme/(work/[^/]+|registration)/(work|logs)/.+"
)
_ROLES = {"rename", "unlink", "rmdir", "link", "symlink", "chown"}  # the last of a kind is not what the first is
_STORE = "{root}/var/lib/certctl/certctl.db"
_NO_TRACE = ("tcp:{http}", "tcp:{https}", "tcp:{approval}", _STORE + "-shm")
_OF_SQLITE = {_STORE: {"truncate", "write"}, _STORE + "-wal": {"open", "write", "unlink"}}
_MADE = ("0", str(EINPROGRESS))
_COMMITS = 12  # transactions of the store that are told apart in one run


@dataclass(frozen=True, slots=True)
class Change:
    """A system call that is to change something: see ``killer.c``."""

    call: str
    subject: str
    was_made: bool = True


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """Where a run dies: before the n-th change that fits.

    Attributes:
        course: Which run, in words.
        about: The class of its subject.
        pattern: How to know the subject, with the places of a sandbox as ``{root}`` and so on.
        index: Which of the changes of the recorded run it was.
    """

    course: str
    call: str
    about: str
    which: str
    pattern: str
    occurrence: int
    index: int = field(default=0, compare=False)

    @property
    def number(self) -> int:
        """Return the number that this point has whatever else there is."""
        words = f"{self.course}\n{self.call}\n{self.about}\n{self.which}"
        return int(sha256(words.encode()).hexdigest(), 16) % 100_000

    def __str__(self) -> str:
        return f"{self.number:05} {self.course}: {self.which} {self.call} of {self.about}"


@dataclass(frozen=True, slots=True)
class Killer:
    """The program, compiled; each method returns what to put before a command."""

    program: Path

    def record(self, log: Path) -> list[str]:
        """Let the run write down its changes."""
        return [str(self.program), "record", str(log)]

    def kill(self, point: Point, places: Mapping[str, str]) -> list[str]:
        """Let the run die."""
        return [str(self.program), "kill", point.call, point.pattern.format(**places), str(point.occurrence)]


def build(directory: Path) -> Killer:
    """Compile the program."""
    program = directory / "killer"
    subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", program, _SOURCE], check=True)
    return Killer(program)


def read(log: Path, places: Mapping[str, str]) -> list[Change]:
    """Return what a run changed in its sandbox, each place of the sandbox by its name."""
    lines = [line.split("\t") for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    changes = [Change(call, _named(subject, places), error in _MADE) for call, subject, error in lines]
    return [change for change in changes if _OURS.match(change.subject) and not _NOT_OURS.fullmatch(change.subject)]


def _named(subject: str, places: Mapping[str, str]) -> str:
    """Replace the places of a sandbox by their names: its root, and the ports of what stands for other hosts."""
    if subject.startswith("tcp:"):
        known = {port: name for name, port in places.items()}
        return f"tcp:{{{known[subject[4:]]}}}" if subject[4:] in known else subject
    return subject.replace(places["root"] + "/", "{root}/")


def points(course: str, changes: Sequence[Change]) -> list[Point]:
    """Return the points of one recorded run, by their numbers."""
    becomes = _becomes(changes)
    kinds: dict[tuple[str, str], list[int]] = {}
    for index, change in enumerate(changes):
        if _matters(change, changes[:index][-1:], becomes):
            kinds.setdefault((change.call, _classed(change, becomes)), []).append(index)
    found = [
        _point(course, about, which, changes, index)
        for (call, about), indices in kinds.items()
        for which, index in _told_apart(call, indices)
    ]
    return sorted(found, key=lambda point: point.number)


def _matters(change: Change, before: Sequence[Change], becomes: Mapping[str, str]) -> bool:
    """Tell whether to die before a change differs from dying before the next one.

    Not where nothing is altered that outlives the process: a call that failed, an fsync (a transaction of the store
    but for), a handshake. Nor before the rights of what was made by the last call, nor before there is a temporary
    file or anything is in it: one that lies about is seen where it is to be renamed. And how SQLite writes is
    SQLite's.
    """
    if not change.was_made or change.subject in _NO_TRACE or change.subject in becomes:
        return False
    if change.call == "fsync" or change.call in _OF_SQLITE.get(change.subject, set()):
        return (change.call, change.subject) == ("fsync", _STORE + "-wal")
    if change.call == "write" and any(change.subject.startswith(path + "/") for path in becomes):
        return False
    made = [each.subject for each in before if each.call in {"open", "mkdir"}]
    return not (change.call in {"chmod", "chown"} and change.subject in made)


def _told_apart(call: str, indices: Sequence[int]) -> list[tuple[str, int]]:
    if call == "fsync":
        return [(f"{number}.", index) for number, index in enumerate(indices[:_COMMITS], 1)]
    last = [("last", indices[-1])] if call in _ROLES and len(indices) > 1 else []
    return [("first", indices[0]), *last]


def _point(course: str, about: str, which: str, changes: Sequence[Change], index: int) -> Point:
    call, subject = changes[index].call, changes[index].subject
    pattern = _replaced(subject, 2)
    alike = re.compile(_as_regex(pattern))
    occurrence = sum(1 for each in changes[: index + 1] if each.call == call and alike.fullmatch(each.subject))
    return Point(course, call, about, which, pattern, occurrence, index)


def _becomes(changes: Sequence[Change]) -> dict[str, str]:
    """Return what each temporary path is renamed to in the end."""
    pairs = [change.subject.split(" -> ") for change in changes if change.call == "rename"]
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


# Files that come and go together, below these directories: one class for each call.
_TOGETHER = tuple(
    re.compile(place)
    for place in (
        r"(run/certctl)/.+",
        r"(var/lib/certctl/acme/(?:work/NAME|registration))/(?:config|work|logs)(?:/.+)?",
        r"(var/lib/certctl/acme(?:, new)?/accounts)/.+",
        r"(var/lib/certctl/acme/quarantine)/.+",
        r"(var/lib/certctl/acme, new)/.+",
        r"(.*aside/\w+.*?)/.+",
        r"(var/lib/certctl/live/certctl-check\.invalid)/.+",
        r"(.*\.aside, new)/.+",
    )
)


def _classed(change: Change, becomes: Mapping[str, str]) -> str:
    """Return the class of a subject: a temporary path by what it is to become."""
    subject = change.subject
    for temporary, path in becomes.items():
        if subject == temporary or subject.startswith(temporary + "/"):
            return _together(f"{_replaced(path, 1)}, new{_replaced(subject[len(temporary) :], 1)}")
    about = _together(_replaced(subject, 1))
    if change.call == "chown":
        return re.sub(r"(certctl-sites/NAME|live/NAME)/.+", r"\1/...", about)
    is_emptied = change.call == "unlink" and not about.endswith("privkey.pem")
    return re.sub(r"(acme/work/NAME)/.+", r"\1/...", about) if is_emptied else about


def _together(about: str) -> str:
    about = about.replace("{root}/", "")
    found = next((found for place in _TOGETHER if (found := place.fullmatch(about))), None)
    return f"{found[1]}/..." if found and " -> " not in about else about


def _replaced(subject: str, column: int) -> str:
    """Replace what is random in each component by its word (1) or its pattern (2)."""
    return " -> ".join(
        "/".join(_component(part, column) for part in path.split("/")) for path in subject.split(" -> ")
    )


def _component(text: str, column: int) -> str:
    for rule in _RANDOM:
        if found := re.fullmatch(rule[0], text):
            return rule[column].replace("{rest}", found.groupdict().get("rest") or "")
    return text


def _as_regex(pattern: str) -> str:
    """Translate what ``_RANDOM`` uses of fnmatch(3), with FNM_PATHNAME and FNM_PERIOD."""
    parts = re.split(r"(\[[^]]+\]|\*)", pattern)
    return "".join("[^/]*" if part == "*" else part if part.startswith("[") else re.escape(part) for part in parts)


def is_this_commits(number: int, shares: int) -> bool:
    """Tell whether one of many like cases is tried in this session: each commit has its share, --faults has all."""
    return os.environ.get("CERTCTL_KILL") == "all" or number % shares == commits() % shares


def commits() -> int:
    """Count the commits so far, by which each check tries another share; 0 where there is no history."""
    argv = ["git", "-c", "safe.directory=*", "rev-list", "--count", "HEAD"]
    try:
        found = subprocess.run(argv, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    except OSError:
        return 0
    return int(found.stdout) if found.returncode == 0 else 0
