"""A name as it was given on the command line or stdin."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Given:
    """A text that should be a name.

    Attributes:
        line: In which line of stdin it stood, from 1; 0 for a word of the command line.
    """

    text: str
    line: int = 0
