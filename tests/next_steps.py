"""What an error calls next, as somebody would type it."""

import re
import shlex
from itertools import pairwise

_PROSE = re.compile(r"(, (or|then|for) |; | < ).*")


def typed(command: str) -> list[str]:
    """Return the words after ``certctl`` of a command named next; a long wait is cut short, sudo is us."""
    words = shlex.split(command.removeprefix("sudo "))
    assert words[0] == "certctl", command
    return ["1s" if before == "--wait" else word for before, word in pairwise(words)]


def is_ours(command: str) -> bool:
    """Tell whether it is certctl that is to be typed."""
    return command.removeprefix("sudo ").startswith("certctl ")


def without_prose(text: str) -> str:
    """Cut what a sentence adds to a command."""
    return _PROSE.sub("", text)
