"""The checks of ``certctl doctor`` for certctl's directories: owner, mode, foreign files, room, write access."""

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from secrets import token_hex

from certctl.app import move_journal
from certctl.app.context import Context
from certctl.app.directories import aside, directories, foreign_files, owner, planted
from certctl.io.files import PRIVATE, write_new
from certctl.io.fsuid import Owner, as_root
from certctl.values import Finding, Level

_LOW_DISK_BYTES = 50_000_000
_TRIED = b"\0" * 4096
_ROOT = Owner(0, 0)
_STORE_PARTS = ("", "-wal", "-shm")  # SQLite's write-ahead log has the mode its database had
_FIXES = {
    errno.ENOSPC: "df -h {}",
    errno.EDQUOT: "repquota -a",
    errno.EIO: "dmesg",
}


def examine_state(context: Context) -> list[Finding]:
    """Check the state, the certificates and keys of server blocks, the include directory and the run directory."""
    whose = owner(context) if os.geteuid() == 0 else None
    odd = list(planted(context))
    found = [*map(_out_of_place, odd), *(_foreign_files(context, whose) if whose else ())]
    found += [
        Finding("state", Level.WARNING, f"{path} holds what certctl did not make", f"look at it, then rm -r {path}")
        for path in aside(context)
    ]
    found += _cut_short(context)
    for path, widest in directories(context).items():
        if path not in odd:
            found += _directory(path, widest, _ROOT if whose and path == context.sites else whose)
    found += _open_store(context, odd)
    found += _untaken(context, {path for path in directories(context) if path not in odd})
    return [*found, *_room(context, is_sound=not found)]


def _out_of_place(path: Path) -> Finding:
    if path.is_dir() and not path.is_symlink():
        text, fix = f"{path} is a directory, where a lock file belongs", f"look at it, then rm -r {path}"
    else:
        text, fix = f"{path} was put there: it is a link, or lies elsewhere too", f"rm {path}"
    return Finding("state", Level.PROBLEM, text, fix)


def _foreign_files(context: Context, whose: Owner) -> Iterator[Finding]:
    """Check for files of another user than the owner of the state, as root leaves them after a restore."""
    found = sorted(foreign_files(context, whose))
    if found:
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        text = f"all here is read and written as user {whose.uid}, and {found[0]}{more} belong to another"
        yield Finding("state", Level.PROBLEM, text, "certctl doctor --fix")


def _cut_short(context: Context) -> Iterator[Finding]:
    """Check for a move that a killed run left unfinished; later findings may then belong to either mode."""
    if move := move_journal.found(context.sites):
        text = f"{move.text} is under way, or a run was killed that had begun it"
        yield Finding("state", Level.PROBLEM, text, "certctl reconcile")


def _directory(path: Path, widest: int, whose: Owner | None) -> Iterator[Finding]:
    """Check that a directory exists, with the right owner and mode."""
    if not path.is_dir():
        yield Finding("state", Level.PROBLEM, f"{path} is missing", "certctl doctor --fix")
        return
    facts = path.stat()
    if (mode := stat.S_IMODE(facts.st_mode)) & ~widest:
        text = f"{path} has mode {mode:04o}, wider than {widest:04o}"
        yield Finding("state", Level.PROBLEM, text, f"chmod {widest:04o} {path}")
    if whose and whose != Owner(facts.st_uid, facts.st_gid):
        text = f"{path} belongs to user {facts.st_uid} and group {facts.st_gid}, not {whose.uid} and {whose.gid}"
        yield Finding("state", Level.PROBLEM, text, "certctl doctor --fix")


def _open_store(context: Context, odd: list[Path]) -> Iterator[Finding]:
    """Look whether others may open the store, which holds every key, in a directory that all may pass."""
    for path in (context.database.with_name(f"{context.database.name}{part}") for part in _STORE_PARTS):
        if path not in odd and path.is_file() and (mode := stat.S_IMODE(path.stat().st_mode)) & ~PRIVATE:
            text = f"{path} holds keys and has mode {mode:04o}, wider than {PRIVATE:04o}"
            yield Finding("state", Level.PROBLEM, text, f"chmod {PRIVATE:04o} {path}")


def _untaken(context: Context, places: set[Path]) -> Iterator[Finding]:
    """Check each directory by writing a file: only this shows a quota, a failing disk or a read-only mount."""
    conf_dir = context.path(context.settings.nginx.conf_dir)
    for place in sorted(filter(Path.is_dir, places | {conf_dir})):
        rights = as_root() if place in {conf_dir, context.sites} else nullcontext()
        if trouble := _trouble(place, rights):
            fix = _FIXES.get(trouble.errno or 0, "findmnt --target {}").format(place)
            yield Finding("state", Level.PROBLEM, f"{place} takes no file: {trouble.strerror}", fix)


def _trouble(place: Path, rights: AbstractContextManager[None]) -> OSError | None:
    """Return the error of writing a file into a directory, None when that works; a later run sweeps leftovers."""
    tried = place / f".{token_hex(8)}.tmp"
    with rights:
        try:
            write_new(tried, _TRIED)
        except OSError as error:
            return error
        finally:
            with suppress(OSError):
                tried.unlink(missing_ok=True)
    return None


def _room(context: Context, *, is_sound: bool) -> Iterator[Finding]:
    """Check the free space of every directory certctl writes to; the state's is reported also when it is enough."""
    for place in (context.state, context.path(context.settings.nginx.conf_dir), context.run):
        free = shutil.disk_usage(place).free if place.is_dir() else _LOW_DISK_BYTES + 1
        if free <= _LOW_DISK_BYTES:
            text = f"there is too little room in {place}: {free / 1e6:.1f} MB free"
            yield Finding("state", Level.PROBLEM, text, f"df -h {place}")
        elif is_sound and place == context.state:
            yield Finding("state", Level.OK, f"{place}, {free / 1e9:.1f} GB free", "")
