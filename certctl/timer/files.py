"""The files that certctl installs for systemd or cron, and how they compare with those on disk."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from certctl.formats import file_diff
from certctl.slugs import Slug


@dataclass(frozen=True, slots=True)
class Purpose:
    """A set of files that are installed together, and what they are for.

    Attributes:
        install: The command that writes them; their first line names it.
        remove: The command that deletes them.
        failed: Slug when they cannot be set up on this host.
        conflict: Slug when a file that is not ours is in the way.
        starts: Units that run once the files are there, in order.
        rereads: Units whose files systemd must have read before it starts them.
        restarts: Units that must be restarted when their files change, in order.
    """

    install: str
    remove: str
    failed: Slug
    conflict: Slug
    starts: tuple[str, ...]
    rereads: tuple[str, ...] = ()
    restarts: tuple[str, ...] = ()

    @property
    def mark(self) -> str:
        """Return the beginning of the first line of every file of ours, by which they are known."""
        return f"# Written by '{self.install}'"


class Condition(StrEnum):
    """How a file on disk compares with what it should be."""

    ABSENT = "absent"
    CURRENT = "current"
    OUTDATED = "outdated"
    EDITED = "edited"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class HostFile:
    """One file: its path and the text it should have.

    Attributes:
        sample: It is the operator's to edit once it is there.
    """

    path: Path
    text: str
    purpose: Purpose
    sample: bool = False

    @property
    def condition(self) -> Condition:
        """Return how the file on disk compares. A symlink is foreign: that is how systemd masks a unit."""
        if not self.path.exists() and not self.path.is_symlink():
            return Condition.ABSENT
        if self.path.is_symlink() or not self.path.is_file():
            return Condition.FOREIGN
        found = self.found
        if found == self.text:
            return Condition.CURRENT
        if self.sample:
            return Condition.EDITED
        return Condition.OUTDATED if found.startswith(self.purpose.mark) else Condition.FOREIGN

    @property
    def found(self) -> str:
        """Return the text on disk; empty when there is no file."""
        return self.path.read_text(encoding="utf-8", errors="replace") if self.path.is_file() else ""

    @property
    def to_write(self) -> bool:
        """Tell whether installing it changes the disk."""
        return self.condition in {Condition.ABSENT, Condition.OUTDATED}

    def diff(self) -> str:
        """Return what installing it changes, as a unified diff."""
        return file_diff(self.path, self.found or None, self.text) if self.to_write else ""
