"""Give the state back to root, when the host moves from mode shared or lua, in which the daemon's user owns it.

That user may have planted anything, such as ``acme/work -> /srv``, through which root would then write and remove.
So no directory is given to root as it is: certctl's files are created again from plain files and the store, and all
else is put aside. It is safe to repeat after a kill: ``app/move_journal.py`` has its entry until it is complete.
"""

import os
import secrets
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from certctl.errors import ConfigInvalid
from certctl.io.files import (
    NotRegular,
    hand_over,
    make_directory,
    open_regular,
    remove_tree,
    sync_directory,
)
from certctl.io.fsuid import as_root
from certctl.slugs import Slug

if TYPE_CHECKING:
    from certctl.app.context import Context

_CLOSED, _SHOWN = 0o700, 0o755


@as_root()
def take_over(context: "Context") -> None:
    """Give the state to root; safe to repeat after a kill.

    Raises:
        ConfigInvalid: ``state-unwritable``: the store is no plain file.
        OSError: something cannot be written.
    """
    require_plain_store(context)
    _own(context.state)  # from here on nobody else can put anything right below it
    aside = _aside(context.state)
    for path in _store_files(context):
        with open_regular(path) as file:
            os.fchown(file.fileno(), 0, 0)
    for name, make in _makers(context).items():
        _replace(context.state / name, make, aside)
    kept = {*_makers(context), aside.parent.name, *(path.name for path in _store_files(context))}
    for path in sorted(context.state.iterdir()):
        if path.name not in kept and path.lstat().st_uid != 0:
            path.rename(aside / path.name)
    _tidy(aside, context)
    if context.run.is_dir():
        hand_over(context.run, 0, 0, drop_links=True)
    sync_directory(context.state)


def _makers(context: "Context") -> dict[str, Callable[[Path], None]]:
    """Return for each of our directories the function that creates it again in a new place."""
    from certctl.ca.state_copy import copy_state

    return {
        "acme": lambda fresh: copy_state(context.state / "acme", fresh),
        "challenges": lambda fresh: make_directory(fresh, _SHOWN),
        "live": lambda fresh: _live(context, fresh),
    }


def _live(context: "Context", fresh: Path) -> None:
    """Write each pair of the mirror again from the store: an operator's own server block may name it."""
    from certctl.nginx.mirror import CLOSED
    from certctl.nginx.place import Place
    from certctl.values import Site

    make_directory(fresh, _CLOSED)
    old = Place(context.state / "live", CLOSED, is_roots=True)
    new = Place(fresh, CLOSED, is_roots=True)
    for row in context.store.domains() if not old.path.is_symlink() else []:
        if row.certificate and old.has(row.domain):
            new.put(Site(row.certificate, context.store.pem(row.certificate)))


def _replace(path: Path, make: Callable[[Path], None], aside: Path) -> None:
    """Create a directory again and rename it into place, the old one aside; a killed run is continued."""
    fresh = path.with_name(f".{path.name}.remade")
    if os.path.lexists(path):
        remove_tree(fresh)
        make(fresh)
        path.rename(aside / path.name)
    elif not fresh.exists():
        make(fresh)
    fresh.rename(path)


def _tidy(aside: Path, context: "Context") -> None:
    """Remove from aside what certctl made itself; certificates that the store does not have stay."""
    for path in (aside / "acme", aside / "challenges", aside / "live"):
        is_spare = path.name != "live" or _is_in_store(path, context)
        if path.is_dir() and not path.is_symlink() and is_spare and not _has_odd(path):
            remove_tree(path)
    if not any(aside.iterdir()):
        aside.rmdir()


def _is_in_store(live: Path, context: "Context") -> bool:
    """Tell whether the store has every certificate in force in a mirror, or knows that its domain was removed."""
    from certctl.domain import Domain
    from certctl.nginx.mirror import CLOSED
    from certctl.nginx.place import Place
    from certctl.values import State

    place = Place(live, CLOSED, is_roots=True)
    for home in live.glob("[!.]*"):
        domain = Domain(home.name.replace("_wildcard", "*"))
        row = context.store.domain(domain)
        is_removed = row is not None and row.state is State.REMOVED
        leaf = place.leaf(domain)
        if leaf and not is_removed and not context.store.has(domain, leaf):
            return False
    return True


def _has_odd(tree: Path) -> bool:
    """Tell whether a tree has a link that certctl does not make, or anything else but files with one name."""
    for _, directories, names, descriptor in os.fwalk(tree):
        for name in (*directories, *names):
            facts = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            is_file = stat.S_ISREG(facts.st_mode) and facts.st_nlink == 1
            is_our_link = stat.S_ISLNK(facts.st_mode) and name in {"accounts", "current"}
            if not (is_file or is_our_link or stat.S_ISDIR(facts.st_mode)):
                return True
    return False


def _own(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fchown(descriptor, 0, 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _aside(state: Path) -> Path:
    """Create a directory of root's for what is put aside; an ``aside`` of another user is moved into it."""
    top = state / "aside"
    odd = None
    if os.path.lexists(top) and (top.is_symlink() or not top.is_dir() or top.stat().st_uid != 0):
        odd = top.rename(state / f".{secrets.token_hex(8)}.aside")
    make_directory(top, _CLOSED)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    place = top / f"{stamp}-{secrets.token_hex(2)}-taken-over"
    make_directory(place, _CLOSED)
    if odd:
        odd.rename(place / "aside")
    return place


def _store_files(context: "Context") -> list[Path]:
    database = context.database
    files = [database, *(database.with_name(f"{database.name}-{part}") for part in ("wal", "shm"))]
    return [path for path in files if os.path.lexists(path)]


@as_root()
def require_plain_store(context: "Context") -> None:
    """Refuse a database that is no plain file, or is a hard link to a file outside of the state.

    Raises:
        ConfigInvalid: ``state-unwritable``.
    """
    for path in _store_files(context):
        try:
            with open_regular(path) as file:
                names = os.fstat(file.fileno()).st_nlink
        except NotRegular:
            names = 0
        if names != 1:
            raise ConfigInvalid(
                Slug.STATE_UNWRITABLE,
                f"{path} is a link, or lies elsewhere too: it is not taken over",
                expected=["the store as a file of its own, such as one from a backup"],
                next=["certctl doctor"],
            )
