"""Rollback of an unfinished change, by this run or by the next one after a ``kill -9``.

Before anything is changed, a journal in the include directory lists what will be: each file to be replaced, the
hard link that keeps its old content, and each file to be created. Only root writes there; the mirror may belong to
the daemon's user, who must not decide what root restores. A rollback consists of renames and removals only: it
needs no space on a full disk, restores the very same bytes, and can be repeated from the beginning at any time.
"""

import json
import os
import secrets
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from types import FrameType

from certctl.io.files import remove_tree, sync_directory, write_atomic
from certctl.io.fsuid import as_root
from certctl.nginx import mirror

_JOURNAL = ".undo.json"
_KEPT = ".kept.json"
_SAVED = ".old"


class BeforeImages:
    """The files and links of one change as they were before it.

    Args:
        roots: The directories in which root works as root; elsewhere it works as the owner of the mirror.
    """

    def __init__(self, *roots: Path) -> None:
        self._roots = roots
        self._saved: list[tuple[Path, Path | None]] = []
        self._created: list[Path] = []

    @property
    def is_empty(self) -> bool:
        """Tell whether there is nothing to roll back."""
        return not self._saved and not self._created

    def remember(self, replaced: Iterable[Path], created: Iterable[Path] = ()) -> None:
        """Give each file a second name before the change, so that it can be rolled back.

        Args:
            replaced: Files and symbolic links, each of which gets a second name.
            created: Directories of the mirror that do not exist yet; see ``mirror.discard``.

        Raises:
            OSError: a second name cannot be made; ``restore`` then removes the others.
        """
        noted = [(path, self._second_name(path)) for path in replaced]
        self._saved += noted
        self._created += created
        self._write_down()
        for path, saved in noted:
            if saved:
                with self._rights_for(path):
                    os.link(path, saved, follow_symlinks=False)

    def restore(self) -> None:
        """Restore everything, the last change first, and remove the second names.

        Raises:
            OSError: something could not be restored; calling it again goes on.
        """
        for path, saved in reversed(self._saved):
            with self._rights_for(path):
                _put_back(path, saved)
        for path in self._created:
            with self._rights_for(path):
                mirror.take_back(path)
        self._saved, self._created = [], []

    def drop(self) -> None:
        """Remove the second names: the change stays."""
        for path, saved in self._saved:
            if saved:
                with self._rights_for(path):
                    saved.unlink(missing_ok=True)
        self._saved, self._created = [], []

    def _write_down(self) -> None:
        """Write the journal for the next run, in the subclass that has one."""

    def _second_name(self, path: Path) -> Path | None:
        with self._rights_for(path):
            return path.with_name(f".{secrets.token_hex(8)}{_SAVED}") if os.path.lexists(path) else None

    def _rights_for(self, path: Path) -> AbstractContextManager[None]:
        return as_root() if any(path.is_relative_to(root) for root in self._roots) else nullcontext()


class Rollback(BeforeImages):
    """The before-images of a change of files that nginx cannot start without, with a journal on disk.

    The journal has one of two names: under the first the next run rolls the change back, under the second it keeps
    the change and removes the old files. A rename goes from one to the other.

    Args:
        live: The pairs behind a catch-all.
        sites: The pairs of server blocks.
        conf_dir: The include directory, where the journal lies. Nothing outside the three is put back or removed.
    """

    def __init__(self, live: Path, sites: Path, conf_dir: Path) -> None:
        super().__init__(conf_dir, sites)
        self._places = (conf_dir, sites, live)
        self._conf_dir = conf_dir
        self._journal = conf_dir / _JOURNAL
        self._kept = conf_dir / _KEPT

    def keep(self) -> None:
        """Mark the journal so that the next run keeps the change; ``restore`` may still be called."""
        self._rename(self._journal, self._kept)

    def restore(self) -> None:
        """Restore everything, then remove the journal.

        Raises:
            OSError: something could not be put back; the journal stays, so the next run tries again.
        """
        with as_root():
            if not self._journal.exists():
                self._rename(self._kept, self._journal)
        super().restore()
        self._forget(self._journal)

    def drop(self) -> None:
        """Remove the old files and the journal: the change stays, even if we are killed meanwhile."""
        self.keep()
        super().drop()
        self._forget(self._kept)

    def recover(self) -> bool:
        """Roll back or clean up after a killed run; return whether something was rolled back.

        Raises:
            OSError: something could not be restored.
        """
        is_half_made = self._read(self._journal)
        if is_half_made:
            self.restore()
        elif self._read(self._kept):
            self.drop()
        self._sweep()
        return is_half_made

    @as_root()
    def _write_down(self) -> None:
        entries = {
            "saved": [[str(path), str(saved) if saved else None] for path, saved in self._saved],
            "created": [str(path) for path in self._created],
        }
        write_atomic(self._journal, json.dumps(entries))
        self._forget(self._kept)  # what it lists is in this one, too

    @as_root()
    def _read(self, journal: Path) -> bool:
        """Load a journal's entries, as far as they can be ours; return whether there is a journal."""
        try:
            entries = json.loads(journal.read_bytes())
            saved = [(Path(path), Path(saved) if saved else None) for path, saved in entries["saved"]]
            created = [Path(path) for path in entries["created"]]
        except FileNotFoundError:
            return False
        except (ValueError, KeyError, TypeError):
            return True
        self._saved = [
            pair for pair in saved if self._is_inside(pair[0]) and (not pair[1] or self._is_second(*pair))
        ]
        self._created = [path for path in created if self._is_inside(path)]
        return True

    @as_root()
    def _rename(self, old: Path, new: Path) -> None:
        with suppress(FileNotFoundError):
            old.rename(new)
            sync_directory(self._conf_dir)

    @as_root()
    def _forget(self, journal: Path) -> None:
        with suppress(FileNotFoundError):
            journal.unlink()
            sync_directory(self._conf_dir)

    def _is_inside(self, path: Path) -> bool:
        return any(map(path.is_relative_to, self._places)) and ".." not in path.parts

    def _is_second(self, path: Path, saved: Path | None) -> bool:
        return saved is not None and saved.parent == path.parent and _is_temporary(saved)

    def _sweep(self) -> None:
        """Remove temporary files of killed runs directly in our directories, which nginx never read."""
        for place in self._places:
            with self._rights_for(place):
                for path in (path for pattern in (".*.tmp", f".*{_SAVED}") for path in place.glob(pattern)):
                    if _is_temporary(path):
                        remove_tree(path)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Delay Ctrl-C, SIGTERM and SIGHUP until the block has ended; their handlers run then."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python delivers signals to the main thread only
        return
    arrived: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        arrived.append(number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if arrived:
        signal.raise_signal(arrived[0])


def _put_back(path: Path, saved: Path | None) -> None:
    """Restore one path; it does nothing when an earlier, killed run has restored it."""
    if saved is None:
        path.unlink(missing_ok=True)
    else:
        with suppress(FileNotFoundError):
            saved.rename(path)
        saved.unlink(missing_ok=True)  # rename(2) does nothing when both names are one inode
    if path.parent.is_dir():
        sync_directory(path.parent)


def _is_temporary(path: Path) -> bool:
    middle = path.stem.removeprefix(".")
    return len(middle) == 16 and set(middle) <= set("0123456789abcdef")  # noqa: PLR2004 - token_hex(8)
