"""Notice when other processes read our files, by the kernel's IN_CLOSE_NOWRITE (inotify(7)).

It is best effort: without an inotify instance, or on a file system that has none, no read is ever noticed, and
callers have a deadline of their own.
"""

import ctypes
import os
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

_CLOSE_NOWRITE = 0x10  # linux/inotify.h; whoever writes a file closes it otherwise, so our own writing is not seen
_HEADER = struct.Struct("iIII")  # struct inotify_event: wd, mask, cookie, len
_BUFFER = 64 * 1024


class Readers:
    """Counts reads of the files of one directory, by one thread for the whole process."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._changed = threading.Condition()
        self._awaited: Counter[str] = Counter()
        self._reads: Counter[str] = Counter()
        self._descriptor: int | None = None

    @contextmanager
    def of(self, names: Collection[str]) -> Iterator[Callable[[float, float], bool]]:
        """Count reads of files with these names during the block.

        Yields a function ``wait(seconds, quiet)``: it waits at most ``seconds`` until each file was read and then
        none for ``quiet`` seconds. It returns False when that did not happen, at once where inotify cannot be had.
        """
        with self._changed:
            watching = self._watch()
            self._awaited.update(names)
        try:
            yield lambda seconds, quiet: watching and self._were_read(names, seconds, quiet)
        finally:
            with self._changed:
                self._awaited.subtract(names)
                self._awaited += Counter()  # drops what nobody waits for any more
                self._reads = Counter({name: self._reads[name] for name in self._awaited})

    def _were_read(self, names: Collection[str], seconds: float, quiet: float) -> bool:
        until = time.monotonic() + seconds
        with self._changed:
            if not self._changed.wait_for(lambda: all(self._reads[name] for name in names), seconds):
                return False
            while (left := until - time.monotonic()) > 0:
                before = self._count(names)
                if not self._changed.wait_for(lambda: self._count(names) > before, min(quiet, left)):  # noqa: B023
                    break
            return True

    def _count(self, names: Collection[str]) -> int:
        return sum(self._reads[name] for name in names)

    def _watch(self) -> bool:
        """Start the thread that reads inotify events, once; return whether there is one."""
        if self._descriptor is None:
            self._descriptor = _open(self._directory)
            if self._descriptor >= 0:
                threading.Thread(target=self._listen, args=(self._descriptor,), name="inotify", daemon=True).start()
        return self._descriptor >= 0

    def _listen(self, descriptor: int) -> None:
        while buffer := os.read(descriptor, _BUFFER):
            with self._changed:
                self._reads.update(name for name in _names(buffer) if name in self._awaited)
                self._changed.notify_all()


def _open(directory: Path) -> int:
    """Return an inotify descriptor for reads in a directory; -1 where it cannot be had."""
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        descriptor: int = libc.inotify_init1(os.O_CLOEXEC)
        watch = libc.inotify_add_watch(descriptor, os.fsencode(directory), _CLOSE_NOWRITE)
    except AttributeError:  # not Linux
        return -1
    if descriptor >= 0 and watch < 0:
        os.close(descriptor)
    return descriptor if watch >= 0 else -1


def _names(buffer: bytes) -> Iterator[str]:
    """Yield the file names in a buffer of inotify events."""
    at = 0
    while at < len(buffer):
        *_, length = _HEADER.unpack_from(buffer, at)
        at += _HEADER.size
        yield os.fsdecode(buffer[at : at + length].rstrip(b"\0"))
        at += length
