"""Change one value in a TOML file and keep everything else, byte for byte."""

import json
import re
import tomllib
from typing import TypeAlias

from certctl.errors import ConfigInvalid
from certctl.slugs import Slug

Key: TypeAlias = tuple[str, str]
"""A section and a key in it."""


def with_value(text: str, section: str, key: str, value: str) -> str:
    """Return the text with ``key`` of ``[section]`` set; a line with it that is commented out is put in force.

    Raises:
        ConfigInvalid: ``config-invalid`` when the file sets the key in another form than one line for it.
    """
    wanted = f"{key} = {json.dumps(value, ensure_ascii=False)}"
    header = re.compile(rf"^[ \t]*\[[ \t]*{section}[ \t]*\][^\n]*\n?", re.MULTILINE)
    found = header.search(text)
    if found is None:
        gap = "" if not text or text.endswith("\n") else "\n"
        changed = f"{text}{gap}\n[{section}]\n{wanted}\n"
    else:
        start = found.end()
        following = re.compile(r"^[ \t]*\[", re.MULTILINE).search(text, start)
        end = following.start() if following else len(text)
        gap = "" if text[:start].endswith("\n") else "\n"
        body = _set(text[start:end], key, wanted) or f"{gap}{wanted}\n{text[start:end]}"
        changed = text[:start] + body + text[end:]
    if not _differs_only_in(text, changed, section, key, value):
        raise ConfigInvalid(
            Slug.CONFIG_INVALID,
            f"[{section}] {key} is not written as one line of its own",
            expected=[f"{wanted} below [{section}]"],
            next=["edit it, then repeat the command"],
        )
    return changed


def _set(body: str, key: str, wanted: str) -> str | None:
    """Return the body with the line in force replaced, or else the first commented out; None without either."""
    for mark in ("", "#"):
        line = re.compile(rf"^([ \t]*){mark}[ \t]*{key}[ \t]*=[ \t]*(?:\"[^\"\n]*\"|'[^'\n]*')", re.MULTILINE)
        changed, count = line.subn(lambda match: match[1] + wanted, body, count=1)
        if count:
            return changed
    return None


def _differs_only_in(before: str, after: str, section: str, key: str, value: str) -> bool:
    try:
        wanted, found = tomllib.loads(before), tomllib.loads(after)
    except tomllib.TOMLDecodeError:
        return False
    wanted.setdefault(section, {})[key] = value
    return wanted == found
