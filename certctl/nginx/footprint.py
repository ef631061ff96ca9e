"""The files and directories nginx opens when it tests or reloads: a service that runs the test needs them."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from certctl.nginx.mainconf import built, directives, pieces, under_prefix

DUMPED = "# configuration file "
_LOGS = {"error_log": "logs/error.log", "access_log": "logs/access.log"}
_BUILT_LOGS = {"error_log": "error-log-path", "access_log": "http-log-path"}
_BODIES = {
    "client_body_temp_path": ("http-client-body-temp-path", "client_body_temp"),
    "proxy_temp_path": ("http-proxy-temp-path", "proxy_temp"),
    "fastcgi_temp_path": ("http-fastcgi-temp-path", "fastcgi_temp"),
    "uwsgi_temp_path": ("http-uwsgi-temp-path", "uwsgi_temp"),
    "scgi_temp_path": ("http-scgi-temp-path", "scgi_temp"),
}
_CACHES = {"proxy_cache_path", "fastcgi_cache_path", "uwsgi_cache_path", "scgi_cache_path"}
_NOT_FILES = re.compile(r"off$|stderr$|syslog:|memory:|.*\$")
_ALWAYS_THERE = ("/dev", "/proc", "/sys")
_OPENED = re.compile(r"load_module|\w*ssl_\w+")
_OWN_PLACE = 4  # parts of /var/lib/nginx: what is not as deep is others' as well


@dataclass(frozen=True, slots=True)
class Footprint:
    """The paths that nginx's test needs.

    Attributes:
        writes: Directories in which it creates files.
        reads: Further files that it reads.
    """

    writes: tuple[Path, ...]
    reads: tuple[Path, ...]


def footprint(dump: str, build: str) -> Footprint:
    """Return the paths, from ``nginx -T`` and ``nginx -V``, or the main file's text where ``-T`` failed.

    nginx's test opens logs and the pid file as its master does, and makes its temporary directories
    (ngx_init_cycle, nginx 1.22.1). A log with a variable in its name is opened by workers only.
    """
    files = pieces(dump)
    every = [words for _, text in files for _, words in directives(text)]
    wanted = {*_written(every, build)}
    outer = [path for path in wanted if not any(other in path.parents for other in wanted)]
    read = [Path(name) for name, _ in files if name]
    read += [Path(word) for words in every if _OPENED.fullmatch(words[0]) for word in words[1:] if word[0] == "/"]
    return Footprint(tuple(sorted(outer)), tuple(sorted({*read})))


def _written(every: Iterable[list[str]], build: str) -> Iterator[Path]:
    given = dict[str, list[str]]()
    for name, *arguments in every:
        if arguments:
            given.setdefault(name, []).append(arguments[0])
    files = [*given.get("pid", [built(build, "pid-path") or "logs/nginx.pid"])[-1:]]
    for name, default in _LOGS.items():
        files += [*given.get(name, []), built(build, _BUILT_LOGS[name]) or default]
    directories = [path for name in _CACHES for path in given.get(name, [])]
    for name, (option, default) in _BODIES.items():
        directories += [*given.get(name, []), built(build, option) or default]
    prefix = under_prefix("", build)
    for file in files:
        if not _NOT_FILES.match(file):
            yield from _useful(_place_of_file(under_prefix(file, build)))
    for directory in directories:
        yield from _useful(_place_of_directory(under_prefix(directory, build), prefix))


def _place_of_file(path: Path) -> Path:
    """Return the directory of a file: a file that was replaced is not the one that was mounted writable."""
    return path.parent if len(path.parts) > 2 else path  # noqa: PLR2004 - the root itself is never meant


def _place_of_directory(path: Path, prefix: Path) -> Path:
    """Return the parent of a directory, if it is deep enough to be nginx's own; else the directory itself."""
    own = len(path.parent.parts) >= _OWN_PLACE and path.parent not in {prefix, *prefix.parents}
    return path.parent if own else path


def _useful(path: Path) -> Iterator[Path]:
    path = Path("/run", *path.parts[3:]) if path.is_relative_to("/var/run") else path
    if not any(path.is_relative_to(place) for place in _ALWAYS_THERE):
        yield path
