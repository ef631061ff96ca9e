"""Reach files as the owner of certctl's state, so that a link planted there gives no more than that owner's rights.

The kernel then checks every access, each parent directory too. setfsuid(2) holds for one thread; threads started
later inherit it. Signals are still sent as root. execve(2) resets the filesystem ids, so ``io.process`` asks here
for the user to start a program as.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from certctl.errors import ConfigInvalid
from certctl.slugs import Slug

_CAP_CHOWN = 1 << 0
_ASK = 0xFFFF_FFFF  # no id: setfsuid(2) then changes nothing and returns the one in force
_stepped_down = False


@dataclass(frozen=True, slots=True)
class Owner:
    """A user and a group: uid and gid."""

    uid: int
    gid: int


_owner: Owner | None = None


def work_as(owner: Owner) -> None:
    """Reach files as ``owner`` from now on, in this thread and those it starts; without root nothing changes.

    The supplementary groups are dropped for good: one of them could open what the owner may not.

    Raises:
        ConfigInvalid: ``state-unwritable``: this root may not become another user (capabilities(7)).
    """
    global _stepped_down, _owner
    if os.geteuid() != 0 or (owner.uid == 0 and not _stepped_down):
        return
    try:
        os.setgroups([])
    except PermissionError as error:
        raise _refused(owner.uid) from error
    _stepped_down, _owner = True, owner if owner.uid else None
    _take(owner.uid, owner.gid)


def acting_as() -> "Owner | None":
    """Return the owner that files are reached as; None when it is the user of this process."""
    if not _stepped_down or os.geteuid() != 0:
        return None
    owner = Owner(_libc().setfsuid(_ASK), _libc().setfsgid(_ASK))
    return owner if owner.uid else None


def working_for() -> "Owner | None":
    """Return the owner given to ``work_as``, also within ``as_root``; None for root itself."""
    return _owner


def may_change_owners() -> bool:
    """Tell whether this root has CAP_CHOWN, which a hardened service's has not (capabilities(7))."""
    with as_root():  # setfsuid(2) takes it from whoever else works
        status = Path("/proc/thread-self/status").read_text(encoding="ascii", errors="replace")
    effective = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) & _CAP_CHOWN)


@contextmanager
def as_root() -> Iterator[None]:
    """Reach files as root for a block or a function, on paths where only root can have put anything."""
    before = acting_as()
    if before is None:
        yield
        return
    try:
        _take(0, 0)
        yield
    finally:
        _take(before.uid, before.gid)


def _take(uid: int, gid: int) -> None:
    """Change the filesystem ids and check them, as setfsuid(2) reports no failure."""
    libc = _libc()
    libc.setfsgid(gid)
    libc.setfsuid(uid)
    if (libc.setfsuid(_ASK), libc.setfsgid(_ASK)) != (uid, gid):
        raise _refused(uid)


def _refused(uid: int) -> ConfigInvalid:
    return ConfigInvalid(
        Slug.STATE_UNWRITABLE,
        f"certctl's state belongs to user {uid}, and this root may not work as that user",
        expected=["CAP_SETUID and CAP_SETGID, or a run by that user"],
        next=["certctl timer install"],
    )


@cache
def _libc() -> Any:  # noqa: ANN401 - ctypes makes its functions when they are named
    import ctypes

    libc = ctypes.CDLL(None)
    for function in (libc.setfsuid, libc.setfsgid):
        function.argtypes, function.restype = [ctypes.c_uint32], ctypes.c_uint32
    return libc
