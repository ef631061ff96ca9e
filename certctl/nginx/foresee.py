"""Foresee whether nginx would accept the base file, from the operator's files: nginx shows none that it refuses.

It is a best effort: only ``include`` and ``listen`` directives are read, not all of nginx's grammar.
"""

import re
from collections.abc import Iterator
from glob import glob
from pathlib import Path

from certctl.errors import WebServerFailed
from certctl.io.fsuid import as_root
from certctl.nginx.errors import not_included
from certctl.nginx.serverblock import is_ours
from certctl.nginx.settings import NginxSettings
from certctl.slugs import Slug

_COMMENT = re.compile(r"#[^\n]*")
_INCLUDE = re.compile(r"\binclude\s+[\"']?([^;\"'\s]+)[\"']?\s*;")
_LISTEN = re.compile(r"\blisten\s+([^;{}]+);")
_HTTP = re.compile(r"\bhttp\s*\{")
_PLAIN_PORT = "80"


def require_included(settings: NginxSettings) -> None:
    """Refuse to write into a directory that nginx does not include.

    Raises:
        WebServerFailed: ``nginx-not-included``, with the line and the place for it.
    """
    if not is_read(settings.config, settings.conf_dir):
        raise not_included(settings, http_block(settings.config))


def require_free(settings: NginxSettings) -> None:
    """Refuse when another server block is the default server of an address and port that the base file takes.

    Raises:
        WebServerFailed: ``nginx-conflict``, with each line.
    """
    if found := clashes(settings):
        raise WebServerFailed(
            Slug.NGINX_CONFLICT,
            "another server block is nginx's default server where certctl's base file must be it: there the CA "
            "asks about names that have no server block yet, and strangers are refused",
            seen=[f"{place}: listen {words};" for place, words in found],
            expected=[f"no default_server but that of {settings.base_path} on these ports"],
            next=[f"take default_server out of {place}, or remove that file" for place, _ in found[:3]],
        )


def clashes(settings: NginxSettings) -> list[tuple[str, str]]:
    """Return (``file:line``, arguments) of every foreign ``listen … default_server`` on an address of ours."""
    ours = {
        _normal(f"{address}:{port}")
        for address in settings.listen
        for port in (settings.http_port, settings.https_port)
    }
    found = []
    for path, text in files(settings.config):
        if path == settings.base_path or is_ours(text):
            continue
        said = _COMMENT.sub("", text)
        for match in _LISTEN.finditer(said):
            words = match[1].split()
            if {"default_server", "default"} & set(words) and _normal(words[0]) in ours:
                found.append((f"{path}:{_line(said, match.start(1))}", " ".join(words)))
    return found


def is_read(config: Path, directory: Path) -> bool:
    """Tell whether nginx's files include ``*.conf`` of a directory, which may be empty or reached by a link."""
    place = _real(directory)
    for path, text in files(config):
        patterns = (Path(_absolute(config, each)) for each in _INCLUDE.findall(_COMMENT.sub("", text)))
        if (path != config and _real(path.parent) == place) or any(
            (place / "certctl.conf").match(str(_real(pattern.parent) / pattern.name)) for pattern in patterns
        ):
            return True
    return False


def http_block(config: Path) -> str:
    """Return where the http block begins, as ``file:line``; the main file alone when it is not found."""
    for path, text in files(config):
        said = _COMMENT.sub("", text)
        if found := _HTTP.search(said):
            return f"{path}:{_line(said, found.end())}"
    return str(config)


def files(config: Path) -> Iterator[tuple[Path, str]]:
    """Yield (path, text) of every configuration file that nginx reads, each once.

    A relative pattern starts at the directory of the main file (ngx_conf_full_name with conf_prefix, nginx 1.22.1).
    """
    waiting, seen = [config], set[Path]()
    while waiting:
        path = waiting.pop(0)
        if path in seen:
            continue
        seen.add(path)
        text = _read(path)
        yield path, text
        for pattern in _INCLUDE.findall(_COMMENT.sub("", text)):
            with as_root():
                waiting += sorted(map(Path, glob(_absolute(config, pattern))))  # noqa: PTH207 - a pattern of nginx's


@as_root()
def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    except OSError:
        return ""


@as_root()
def _real(directory: Path) -> Path:
    return directory.resolve()


def _absolute(config: Path, pattern: str) -> str:
    return str(config.parent / pattern)


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


def _normal(address: str) -> tuple[str, str]:
    """Return (address, port) of a ``listen`` argument as nginx compares them (https://nginx.org/r/listen)."""
    if address.isdecimal():
        return "0.0.0.0", address  # noqa: S104 - compared, not bound
    host, colon, port = address.rpartition(":")
    if not colon or address.endswith("]"):
        host, port = address, _PLAIN_PORT
    return "0.0.0.0" if host == "*" else host.lower(), port  # noqa: S104 - compared, not bound
