"""Read facts from nginx's main configuration file and from its build (``nginx -V``); nothing is written."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from certctl.io.fsuid import as_root

_WORD = re.compile(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|#[^\n]*|[{};]|[^\s{};"\'#]+')
_WORKER_CONNECTIONS = 512
_NOT_FILES = ("stderr", "syslog:", "memory:")


@dataclass(frozen=True, slots=True)
class ConfigLine:
    """A line of a configuration file; its text is ``file:line``, as nginx writes it."""

    file: str
    number: int

    def __str__(self) -> str:
        """Return ``file:line``."""
        return f"{self.file}:{self.number}"


def main_directive(config: Path, name: str) -> list[str]:
    """Return the first arguments of the directives of a name in the main context, in order."""
    return [words[1] for depth, words in _directives(config) if depth == 0 and words[0] == name and words[1:]]


def worker_connections(config: Path) -> int:
    """Return the number of connections a worker may have (``worker_connections``, default 512)."""
    given = [words[1] for depth, words in _directives(config) if depth == 1 and words[0] == "worker_connections"]
    return int(given[-1]) if given and given[-1].isdecimal() else _WORKER_CONNECTIONS


def main_arguments(config: Path, name: str) -> list[str]:
    """Return all arguments of the last directive of a name in the main context; empty when there is none."""
    return next(
        (words[1:] for depth, words in reversed([*_directives(config)]) if (depth, words[0]) == (0, name)), []
    )


def own_error_log(config: Path, build: str) -> list[str]:
    """Return the arguments of the ``error_log`` for requests: the http block's, the main one, or the default.

    nginx writes to all of one depth; the first is enough to find an error in.
    """
    given = [(depth, words[1:]) for depth, words in _directives(config) if words[0] == "error_log" and depth <= 1]
    deepest = max((depth for depth, _ in given), default=0)
    return next((words for depth, words in given if depth == deepest), [built(build, "error-log-path") or "stderr"])


def settings_of(config: Path) -> set[str]:
    """Return the names of all directives in the file itself, at any depth."""
    return {words[0] for _, words in _directives(config)}


def pid_file(config: Path, build: str) -> Path:
    """Return where the master writes its pid: the ``pid`` directive, else the compiled default (``nginx -V``)."""
    given = main_directive(config, "pid")
    return under_prefix(given[-1] if given else built(build, "pid-path") or "logs/nginx.pid", build)


def worker_group(config: Path) -> str | None:
    """Return the group that the ``user`` directive gives to the workers: named, else of the user's own name."""
    given = [words[1:] for depth, words in _directives(config) if depth == 0 and words[0] == "user" and words[1:]]
    return given[-1][-1] if given else None


def default_group(build: str) -> str:
    """Return the group of the workers where no ``user`` is configured (``nginx -V``)."""
    return built(build, "group") or built(build, "user") or "nogroup"


def error_log(config: Path, build: str) -> Path | None:
    """Return the file the master logs to, or None when it logs to no file."""
    given = main_directive(config, "error_log") or [built(build, "error-log-path") or "logs/error.log"]
    files = [name for name in given if not name.startswith(_NOT_FILES)]
    return under_prefix(files[0], build) if files else None


def includes(dump: str, config: Path, directory: Path) -> bool:
    """Tell from ``nginx -T`` whether nginx reads ``*.conf`` of a directory.

    An empty directory shows no file, so the ``include`` lines count as well. A relative pattern starts at the
    directory of the main file (ngx_conf_full_name with conf_prefix, nginx 1.22.1).
    """
    if any(
        Path(file).parent == directory for file in re.findall(r"^# configuration file (.+):$", dump, re.MULTILINE)
    ):
        return True
    probe = directory / "certctl.conf"
    patterns = re.findall(r"^[^#\n]*?\binclude\s+[\"']?([^;\"'\s]+)[\"']?\s*;", dump, re.MULTILINE)
    return any(probe.match(str(config.parent / pattern)) for pattern in patterns)


def _directives(config: Path) -> Iterator[tuple[int, list[str]]]:
    try:
        with as_root():
            text = config.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    yield from directives(text)


def pieces(dump: str) -> list[tuple[str, str]]:
    """Return (file, text) of each file in ``nginx -T``; a text without headers is one piece with an empty name."""
    first, *parts = re.split(r"^# configuration file (.+):$", dump, flags=re.MULTILINE)
    return list(zip(parts[::2], parts[1::2], strict=True)) if parts else [("", first)]


def directives(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (depth in blocks, [directive, arguments…]) for each directive of a text."""
    depth, words = 0, list[str]()
    for word in _WORD.findall(text):
        if word.startswith("#"):
            continue
        if word not in {"{", "}", ";"}:
            words.append(word[1:-1] if word[0] in "\"'" else word)
            continue
        if words:
            yield depth, words
        words = []
        depth += {"{": 1, "}": -1, ";": 0}[word]


def built(build: str, option: str) -> str:
    """Return the value of a configure option (``nginx -V``); empty when it was not given."""
    found = re.search(rf"--{option}=(\S+)", build)
    return found[1] if found else ""


def under_prefix(name: str, build: str) -> Path:
    """Return a path made absolute as nginx does: other files than its configuration begin at the prefix."""
    return Path(built(build, "prefix") or "/usr/local/nginx") / name
