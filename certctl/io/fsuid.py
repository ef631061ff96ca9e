"""Reach files as the owner of certctl's state: what that owner may not do, no link planted in it makes root do.

The kernel itself then checks every access, each parent directory too. setfsuid(2) is one thread's own; threads made
later inherit it. Signals are still root's. execve(2) sets the filesystem's ids back, so ``io.process`` asks here
whom to start a program as.
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
    """A user and a group, by number."""

    uid: int
    gid: int


_owner: Owner | None = None


def work_as(owner: Owner) -> None:
    """Reach files as ``owner`` from now on, in this thread and those it makes; does nothing for who is not root.

    The groups of root's login go for good: one of them could open what the owner may not.

    Raises:
        ConfigInvalid: ``state-unwritable``: this root may not become somebody else (capabilities(7)).
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
    """Return whom files are reached as; None when as whoever runs this, as by who has given root's rights up."""
    if not _stepped_down or os.geteuid() != 0:
        return None
    owner = Owner(_libc().setfsuid(_ASK), _libc().setfsgid(_ASK))
    return owner if owner.uid else None


def working_for() -> "Owner | None":
    """Return whose state this root works in, also while it reaches files as root; None when it is its own."""
    return _owner


def may_change_owners() -> bool:
    """Tell whether root may give files away here, as a hardened service's may not (capabilities(7), CAP_CHOWN)."""
    with as_root():  # setfsuid(2) takes it from whoever else works
        status = Path("/proc/thread-self/status").read_text(encoding="ascii", errors="replace")
    effective = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) & _CAP_CHOWN)


@contextmanager
def as_root() -> Iterator[None]:
    """Reach files as root for a block or a function, where nobody but root can have put what is on the way."""
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
    """Change the ids and look: setfsuid(2) reports no failure."""
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
