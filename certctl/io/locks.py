"""Locks between threads and processes of one host; the kernel drops them when a holder dies."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

import filelock

from certctl.domain import Domain
from certctl.errors import Busy
from certctl.io.files import make_directory, writing
from certctl.io.interrupt import NAP, nap
from certctl.slugs import Slug


@contextmanager
def lock(path: Path, wait: timedelta, what: str) -> Iterator[None]:
    """Hold the lock file at ``path``.

    Raises:
        Busy: another process held it for all of ``wait``; the message names it.
        Interrupted: this process was asked to stop while it waited.
    """
    with writing(path):
        make_directory(path.parent, 0o700)
        os.close(_open(path))  # filelock before 3.20.1 follows a link
        held = filelock.FileLock(path, timeout=0, mode=0o600, thread_local=False)
    with writing(path):
        _take(held.acquire, filelock.Timeout, path, wait, f"{what} is in the hands of another certctl")
    try:
        yield
    finally:
        held.release()


def _holder(path: Path) -> str:
    """Return which process holds the lock, in words, as far as /proc/locks tells (proc(5))."""
    try:
        inode = path.stat().st_ino
        rows = [row.split() for row in Path("/proc/locks").read_text(encoding="ascii").splitlines()]
    except OSError:
        return ""
    holders = [row[4] for row in rows if len(row) > 5 and row[5].endswith(f":{inode}")]  # noqa: PLR2004
    return f" (process {holders[0]})" if holders else ""


class HostLocks:
    """The locks of this host, one file per domain under the run directory."""

    def __init__(self, directory: Path, wait: timedelta) -> None:
        self._directory = directory
        self._wait = wait

    @contextmanager
    def domain(self, domain: Domain) -> Iterator[None]:
        """Hold one domain's lock for the block."""
        with lock(self._directory / f"{domain.stem}.lock", self._wait, str(domain)):
            yield


@contextmanager
def inheritable_lock(path: Path, wait: timedelta, what: str) -> Iterator[int]:
    """Hold a lock that a child process may share, and yield its descriptor.

    The lock belongs to the open file (flock(2)), so it stays held until the last process that inherited the
    descriptor ends. That is how a run finds out that the certbot of a killed certctl is still at work.

    Raises:
        Busy: another process held it for all of ``wait``.
        Interrupted: this process was asked to stop while it waited.
    """
    with writing(path):
        make_directory(path.parent, 0o700)
        descriptor = _open(path)
    try:
        take = partial(fcntl.flock, descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _take(take, BlockingIOError, path, wait, f"{what} is in the hands of another run")
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def directory_lock(descriptor: int, path: Path, wait: timedelta, complaint: str, *, shared: bool) -> Iterator[None]:
    """Hold a lock on an open directory, shared or exclusive, and close it afterwards; no lock file is created.

    Raises:
        Busy: another process held it for all of ``wait``.
        Interrupted: this process was asked to stop while it waited.
    """
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    try:
        _take(partial(fcntl.flock, descriptor, kind | fcntl.LOCK_NB), BlockingIOError, path, wait, complaint)
        yield
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _take(take: Callable[[], object], refusal: type[OSError], path: Path, wait: timedelta, complaint: str) -> None:
    """Poll for the lock until a deadline: flock(2) has none, and a signal does not interrupt a worker thread."""
    give_up = time.monotonic() + wait.total_seconds()
    while True:
        try:
            take()
        except refusal as error:
            if time.monotonic() >= give_up:
                raise Busy(
                    Slug.BUSY,
                    f"{complaint}{_holder(path)}",
                    seen=[f"lock file {path}"],
                    retry_after=int(wait.total_seconds()),
                ) from error
        else:
            return
        nap(NAP, f"while waiting for {path.name}")
