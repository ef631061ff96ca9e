"""How a half-made change is taken back, by this run or by the next one after a ``kill -9``.

Before a path is replaced its old inode gets a second name beside it, and a journal in the include directory lists
both. Only root writes there; the mirror may belong to the daemon's user, who must not tell root what to put back.
Taking back is then only renames: it needs no space on a full disk, gives back the very same bytes, and may be
repeated from the beginning at any time.
"""

import json
import os
import secrets
import signal
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from types import FrameType

from certctl.io.files import remove_tree, sync_directory, write_atomic
from certctl.io.rights import as_root

_JOURNAL = ".undo.json"
_SAVED = ".old"


class BeforeImages:
    """What the paths of one change were before it.

    Args:
        roots: The directories in which root works as root; elsewhere it works as the owner of the mirror.
    """

    def __init__(self, *roots: Path) -> None:
        self._roots = roots
        self._saved: list[tuple[Path, Path | None]] = []
        self._created: list[Path] = []

    @property
    def is_empty(self) -> bool:
        """Tell whether there is nothing to take back."""
        return not self._saved and not self._created

    def created(self, path: Path) -> None:
        """Remember a directory that this change made."""
        self._created.append(path)

    def remember(self, path: Path) -> None:
        """Give the file or link at ``path`` a second name; call it before the path is replaced."""
        saved = path.with_name(f".{secrets.token_hex(8)}{_SAVED}")
        try:
            with self._rights_for(path):
                os.link(path, saved, follow_symlinks=False)
        except FileNotFoundError:
            self._saved.append((path, None))
        else:
            self._saved.append((path, saved))

    def restore(self) -> None:
        """Put everything back, the last change first, then forget it.

        Raises:
            OSError: something could not be put back; calling it again goes on.
        """
        for path, saved in reversed(self._saved):
            with self._rights_for(path):
                _put_back(path, saved)
        for path in self._created:
            with self._rights_for(path):
                remove_tree(path)
        self._saved, self._created = [], []

    def drop(self) -> None:
        """Forget the old state: the change stays."""
        for path, saved in self._saved:
            if saved:
                with self._rights_for(path):
                    saved.unlink(missing_ok=True)
        self._saved, self._created = [], []

    def _rights_for(self, path: Path) -> AbstractContextManager[None]:
        return as_root() if any(path.is_relative_to(root) for root in self._roots) else nullcontext()


class Undo(BeforeImages):
    """The before-images of a change of files that nginx cannot start without, with a journal of them.

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

    @as_root()
    def write_journal(self) -> None:
        """Make the next run able to take this back if we are killed; call it before the first replacement."""
        entries = {
            "saved": [[str(path), str(saved) if saved else None] for path, saved in self._saved],
            "created": [str(path) for path in self._created],
        }
        write_atomic(self._journal, json.dumps(entries))

    @as_root()
    def close_journal(self) -> None:
        """Say that what is in place now may stay, whatever happens to us."""
        with suppress(FileNotFoundError):
            self._journal.unlink()
            sync_directory(self._conf_dir)

    def restore(self) -> None:
        """Put everything back, then forget it.

        Raises:
            OSError: something could not be put back; the journal stays, so the next run tries again.
        """
        if not self.is_empty:
            self.write_journal()
        super().restore()
        self.close_journal()

    def recover(self) -> bool:
        """Take back what a killed run left half-made; return whether there was anything.

        Raises:
            OSError: it could not be put back.
        """
        with suppress(FileNotFoundError, ValueError, KeyError, TypeError):
            with as_root():
                entries = json.loads(self._journal.read_bytes())
            self._saved = [
                (Path(path), Path(saved) if saved else None)
                for path, saved in entries["saved"]
                if self._is_inside(path) and (saved is None or self._is_inside(saved))
            ]
            self._created = [Path(path) for path in entries["created"] if self._is_inside(path)]
        with as_root():
            found = self._journal.exists()
        self.restore()
        self._sweep()
        return found

    def _is_inside(self, path: str) -> bool:
        return any(map(Path(path).is_relative_to, self._places)) and ".." not in Path(path).parts

    def _sweep(self) -> None:
        """Remove temporary names of killed runs right in our directories; nginx never saw them."""
        for place in self._places:
            with self._rights_for(place):
                for path in (path for pattern in (".*.tmp", f".*{_SAVED}") for path in place.glob(pattern)):
                    if _is_temporary(path):
                        remove_tree(path)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and SIGHUP wait until the block has ended; they then do what they would have done."""
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
    """Restore one path. It may have been restored before, by a run that was killed while it did."""
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
