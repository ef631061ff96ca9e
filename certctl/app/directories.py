"""certctl's own directories: which must exist, their owner and mode, and which files do not belong in them."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from certctl.app import move_journal
from certctl.app.context import Context
from certctl.app.move_journal import Kind, Move
from certctl.app.ownership import work_as_owner
from certctl.app.take_over import require_plain_store, take_over
from certctl.io import accounts
from certctl.io.files import hand_over, make_directory, narrow, writing
from certctl.io.fsuid import Owner, as_root
from certctl.nginx.aside import NAME as ASIDE

_ROOT = Owner(0, 0)


def directories(context: Context) -> dict[Path, int]:
    """Return each directory with the widest mode it may have (decisions 0007, 0013: who may read private keys)."""
    live = 0o700 if context.settings.nginx.mode == "blocks" else 0o750
    modes = {"": 0o711, "live": live, "acme": 0o700, "challenges": 0o755}
    return {context.state / name: mode for name, mode in modes.items()} | {context.sites: 0o700, context.run: 0o755}


def owner(context: Context) -> Owner:
    """Return the owner that the state should have: root, or in modes shared and lua the daemon's user.

    Raises:
        ConfigInvalid: ``missing-account``.
    """
    if context.settings.nginx.mode == "blocks":
        return _ROOT
    return accounts.require(context.settings.serve.user, context.settings.nginx.group)


def planted(context: Context) -> Iterator[Path]:
    """Find what certctl never creates: symbolic links, hard links, and directories in the place of a lock file.

    Another user may have planted them, and nothing is opened through them. Allowed are a symbolic link of root's
    right below the top (another disk) and a hard link in a directory of root's (a backup). The mirror is left out:
    what does not belong there is replaced at the next change.
    """
    for path, facts, is_ours in _entries(context):
        if is_ours and path.parent in {context.state, context.run}:
            continue
        if _is_odd(path, facts, is_ours=is_ours) and not _is_the_accounts(path, context.state):
            yield path


def foreign_files(context: Context, whose: Owner) -> Iterator[Path]:
    """Find files that belong to another user than the owner of the state, who could not open them.

    The daemon's own lock is root's where root started it: it is taken before the rights are given up.
    """
    daemons = context.path(context.settings.serve.socket).with_suffix(".lock")
    files = (
        (path, facts) for path, facts, _ in _entries(context) if stat.S_ISREG(facts.st_mode) and path != daemons
    )
    return (path for path, facts in files if facts.st_uid != whose.uid)


def _entries(context: Context) -> Iterator[tuple[Path, os.stat_result, bool]]:
    """Yield the path and stat of each entry of state and run directory, and whether only we can write beside it."""
    for top in filter(Path.is_dir, (context.state, context.run)):
        for place, directories, names, descriptor in os.fwalk(top):
            is_ours = os.fstat(descriptor).st_uid == os.geteuid()
            for name in (*directories, *names):
                with suppress(FileNotFoundError):  # another run has removed it meanwhile
                    yield Path(place, name), os.stat(name, dir_fd=descriptor, follow_symlinks=False), is_ours
            if Path(place) == context.state:
                directories[:] = [name for name in directories if name not in {"live", ASIDE}]


@as_root()
def aside(context: Context) -> list[Path]:
    """Return the files that ``take_over`` put aside, because certctl had not made them."""
    return sorted((context.state / ASIDE).glob("*-taken-over"))


def _is_odd(path: Path, facts: os.stat_result, *, is_ours: bool) -> bool:
    if stat.S_ISREG(facts.st_mode):
        return facts.st_nlink > 1 and not is_ours
    if stat.S_ISDIR(facts.st_mode):
        return path.suffix == ".lock"
    return not stat.S_ISSOCK(facts.st_mode)


def _is_the_accounts(path: Path, state: Path) -> bool:
    """Tell whether a path is the one link certctl makes: from a working directory to the shared ACME accounts."""
    is_there = path.match("acme/*/*/config/accounts") or path.match("acme/registration/config/accounts")
    return is_there and path.is_symlink() and path.readlink() == (state / "acme/accounts").absolute()


def prepare_directories(context: Context) -> None:
    """Create certctl's directories, with their modes, and give them and all that is in them to their owner.

    A directory that is open wider is narrowed; a narrower mode stays, except in the mirror, which nginx must read.
    From then on root reaches files as the owner of the state.

    Raises:
        ConfigInvalid: ``state-unwritable``, ``missing-account``.
    """
    changes = changes_owner(context)
    with writing(context.state), as_root(), _written_down(context, changes=changes) as half_done:
        if (changes or half_done) and owner(context) == _ROOT:
            take_over(context)
        for path, mode in directories(context).items():
            make_directory(path, mode)
            narrow(path, mode)
        context.web.set_rights()
        if os.geteuid() == 0:
            whose = owner(context)
            hand_over(context.sites, _ROOT.uid, _ROOT.gid)
            hand_over(context.run, whose.uid, whose.gid)
            hand_over(
                context.state, whose.uid, whose.gid, sparing=ASIDE
            )  # its top last: it says whom root works as
    work_as_owner(context)


def changes_owner(context: Context) -> bool:
    """Tell whether the state has another owner than it should have in this mode.

    Raises:
        ConfigInvalid: ``missing-account``.
    """
    return os.geteuid() == 0 and context.state.exists() and context.state.stat().st_uid != owner(context).uid


@contextmanager
def _written_down(context: Context, *, changes: bool) -> Iterator[bool]:
    """Write a change of owner into the journal for the block; yield whether an earlier run left one half done."""
    found = move_journal.found(context.sites)
    if found or not changes:
        yield found is not None and found.changes_owner
        return
    if owner(context) == _ROOT:
        require_plain_store(context)
    move_journal.begin(
        context.sites, Move(Kind.OWNER, context.mode, context.mode, context.file, changes_owner=True)
    )
    yield False
    move_journal.end(context.sites)
