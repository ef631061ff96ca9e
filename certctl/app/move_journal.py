"""The journal of a move between modes, and the readers-writer lock that keeps other runs out of a move.

The journal file exists from before the first change until the configuration has the new mode, in a directory only
root can write: from it a later command knows what a killed run had begun.
"""

import json
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path

from certctl.app.toml_edit import Key
from certctl.io.files import make_directory, sync_directory, write_atomic, writing
from certctl.io.fsuid import as_root
from certctl.io.locks import directory_lock
from certctl.values import Mode

_JOURNAL = ".moving"
_CLOSED = 0o700
_WAIT = timedelta(minutes=5)


class Kind(StrEnum):
    """The kind of a journal entry: a move, its rollback, or only a change of the state's owner."""

    MOVE = "move"
    BACK = "back"
    OWNER = "owner"


@dataclass(frozen=True, slots=True)
class Move:
    """A change of the way a host serves.

    Attributes:
        kind: How much of it there is to do.
        source: The mode that is left.
        target: The mode that is wanted.
        config: The configuration file that says so in the end.
        changes_owner: Whether the state goes to another owner, and may be half handed over.
        values: What the file says in the end, by section and key.
    """

    kind: Kind
    source: Mode
    target: Mode
    config: Path
    changes_owner: bool
    values: Mapping[Key, str] = field(default_factory=dict)

    def back(self) -> "Move":
        """Return the rollback of this move; the configuration needs no change for it. It is never rolled back."""
        return Move(Kind.BACK, self.target, self.source, self.config, self.changes_owner)

    @property
    def text(self) -> str:
        """Return the move in words, for a message."""
        if self.kind is Kind.OWNER:
            return "the change of the state's owner"
        return f"the move {'back ' if self.kind is Kind.BACK else ''}to mode {self.target}"


def begin(sites: Path, move: Move) -> None:
    """Write the journal entry; call it before the first change, and again when the move is rolled back.

    Raises:
        ConfigInvalid: ``state-unwritable``.
    """
    values = [[*key, value] for key, value in move.values.items()]
    facts = asdict(move) | {"config": str(move.config), "values": values}
    with writing(sites), as_root():
        make_directory(sites, _CLOSED)
        write_atomic(sites / _JOURNAL, json.dumps(facts))


@as_root()
def end(sites: Path) -> None:
    """Remove the journal entry: the move or its rollback is complete."""
    with suppress(FileNotFoundError):
        (sites / _JOURNAL).unlink()
        sync_directory(sites)


def found(sites: Path) -> Move | None:
    """Return the move that is under way or was cut short; None also for a user who may not read the journal."""
    try:
        with as_root():
            facts = json.loads((sites / _JOURNAL).read_bytes())
    except (FileNotFoundError, PermissionError):
        return None
    values = {(section, key): value for section, key, value in facts["values"]}
    source, target = Mode(facts["source"]), Mode(facts["target"])
    return Move(Kind(facts["kind"]), source, target, Path(facts["config"]), bool(facts["changes_owner"]), values)


def turn(sites: Path, *, alone: bool, wait: timedelta = _WAIT) -> AbstractContextManager[None]:
    """Hold the lock shared, for work during which no move may begin, or exclusively (``alone``), for a move.

    A user who may not open the directory cannot change what a move changes, and takes no lock.

    Raises:
        Busy: the lock was not free within ``wait``.
        ConfigInvalid: ``state-unwritable``.
    """
    try:
        with as_root():
            if alone:
                make_directory(sites, _CLOSED)
            descriptor = os.open(sites, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, PermissionError):
        return nullcontext()
    others = "other commands of certctl are at work" if alone else "another certctl changes how this host serves"
    return directory_lock(descriptor, sites, wait, others, shared=not alone)
