"""Change one value in a TOML file and keep everything else, byte for byte."""

import re
import tomllib

from certctl.errors import ConfigInvalid


def with_value(text: str, section: str, key: str, value: str) -> str:
    """Return the text with ``key`` of ``[section]`` set; a line that is commented out is taken up again.

    Raises:
        ConfigInvalid: ``config-invalid`` when the file says it in another way than one key a line.
    """
    line = re.compile(rf"^([ \t]*)#?[ \t]*{key}[ \t]*=[ \t]*(?:\"[^\"\n]*\"|'[^'\n]*')", re.MULTILINE)
    header = re.compile(rf"^[ \t]*\[[ \t]*{section}[ \t]*\][^\n]*\n?", re.MULTILINE)
    found = header.search(text)
    if found is None:
        gap = "" if not text or text.endswith("\n") else "\n"
        changed = f'{text}{gap}\n[{section}]\n{key} = "{value}"\n'
    else:
        start = found.end()
        following = re.compile(r"^[ \t]*\[", re.MULTILINE).search(text, start)
        end = following.start() if following else len(text)
        body, count = line.subn(rf'\g<1>{key} = "{value}"', text[start:end], count=1)
        gap = "" if text[:start].endswith("\n") else "\n"
        changed = text[:start] + (body if count else f'{gap}{key} = "{value}"\n' + body) + text[end:]
    if not _differs_only_in(text, changed, section, key, value):
        raise ConfigInvalid(
            "config-invalid",
            f"[{section}] {key} is not written as one line of its own",
            expected=[f'{key} = "{value}" below [{section}]'],
            next=["edit it, then repeat the command"],
        )
    return changed


def _differs_only_in(before: str, after: str, section: str, key: str, value: str) -> bool:
    try:
        wanted, found = tomllib.loads(before), tomllib.loads(after)
    except tomllib.TOMLDecodeError:
        return False
    wanted.setdefault(section, {})[key] = value
    return wanted == found
