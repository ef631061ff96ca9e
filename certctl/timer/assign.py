"""Fill in the text of a systemd unit, assignment by assignment; comments and order stay the sample's."""

from collections.abc import Callable

from certctl.errors import Internal
from certctl.slugs import Slug


def replaced(text: str, key: str, old: str, new: str) -> str:
    """Return the unit with words replaced in the assignments of a key; an assignment left empty is dropped.

    Args:
        text: The unit.
        key: The key that is assigned, such as ``After``.
        old: The whole words to find, as the sample has them.
        new: The words in their place; may be empty.

    Raises:
        Internal: ``internal``: no assignment has them: the sample and the code do not match.
    """
    looked_for = old.split()
    found = False

    def change(value: str) -> str:
        nonlocal found
        words = value.split(" ")
        for at in range(len(words) - len(looked_for) + 1):
            if words[at : at + len(looked_for)] == looked_for:
                found = True
                return " ".join([*words[:at], *new.split(), *words[at + len(looked_for) :]])
        return value

    changed = _each(text, key, change)
    if not found:
        raise Internal(Slug.INTERNAL, f"the sample unit assigns no {old!r} to {key}")
    return changed


def filled(text: str, old: str, new: str) -> str:
    """Return a text with one word replaced that occurs in it exactly once.

    Raises:
        Internal: ``internal``: it does not occur, or more than once.
    """
    if text.split().count(old) != 1:
        raise Internal(Slug.INTERNAL, f"the sample does not say {old!r} once")
    return text.replace(old, new)


def assignments(text: str) -> dict[str, list[str]]:
    """Return the values that a unit assigns, by key, in order, whatever their section."""
    found = dict[str, list[str]]()
    for line in text.splitlines():
        key, mark, value = line.partition("=")
        if mark and key.isalnum():
            found.setdefault(key, []).append(value)
    return found


def _each(text: str, key: str, change: Callable[[str], str]) -> str:
    lines = list[str]()
    for line in text.splitlines(keepends=True):
        if not line.startswith(f"{key}="):
            lines.append(line)
        elif value := change(line.rstrip("\n").partition("=")[2]):
            lines.append(f"{key}={value}\n")
    return "".join(lines)
