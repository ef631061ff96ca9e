"""Change a unit's text by what it assigns: its comments and its order stay the sample's."""

from collections.abc import Callable

from certctl.errors import Internal
from certctl.slugs import Slug


def replaced(text: str, key: str, old: str, new: str) -> str:
    """Put other words in place of some in the assignments of a key; one with nothing left goes.

    Args:
        text: The unit.
        key: What is assigned, such as ``After``.
        old: The words to find, whole ones, as the sample has them.
        new: What takes their place; may be empty.

    Raises:
        Internal: ``internal``: no assignment has them. The sample was changed, and what is filled in was not.
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
    """Put other words in place of one that a sample has once, outside of a unit.

    Raises:
        Internal: ``internal``: it does not have it, or more than once.
    """
    if text.split().count(old) != 1:
        raise Internal(Slug.INTERNAL, f"the sample does not say {old!r} once")
    return text.replace(old, new)


def assignments(text: str) -> dict[str, list[str]]:
    """Return what a unit assigns, by key, in order; which section it is in does not matter for ours."""
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
