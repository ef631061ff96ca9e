"""Durable, private file writes: the mode is right from the first byte, and a rename is the commit."""

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from certctl.errors import ConfigInvalid
from certctl.slugs import Slug

PRIVATE = 0o600
PUBLIC = 0o644
_PASSABLE = 0o755
_ROOM_BYTES = 2_000_000
_ROOM_FILES = 100


class NotRegular(OSError):
    """The path is a link, a FIFO or a device, not a regular file."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Translate an OSError of writing ``path`` in the block into a ConfigInvalid.

    Raises:
        ConfigInvalid: ``state-unwritable`` with the path and the reason.
    """
    try:
        yield
    except OSError as error:
        raise ConfigInvalid(
            Slug.STATE_UNWRITABLE,
            f"cannot write {reason(error, path)}",
            next=["certctl doctor"],
        ) from error


def reason(error: OSError, path: Path) -> str:
    """Return which path could not be written or read, and why, in words.

    Args:
        error: The error. Its own file name is none after a failed flush, relative below a descriptor, and the
            temporary
            one of a rename.
        path: The path that was meant.
    """
    named = Path(str(error.filename2 or error.filename or path))
    return f"{named if named.is_absolute() else path}: {error.strerror or error}"


def require_room(path: Path) -> None:
    """Refuse to begin without room on the disk: the CA would issue and count a certificate that cannot be stored.

    One certificate needs 110 KiB and 30 files on its way (measured: certbot 5.8, its log, two copies of the pair).

    Raises:
        ConfigInvalid: ``state-unwritable``, with what is left.
    """
    free = os.statvfs(path)
    left = free.f_bavail * free.f_frsize
    if left < _ROOM_BYTES or (free.f_files and free.f_favail < _ROOM_FILES):  # no f_files: it has no limit (btrfs)
        raise ConfigInvalid(
            Slug.STATE_UNWRITABLE,
            f"there is too little room in {path}: what the CA would make could not be kept",
            seen=[f"{left // 1000} kB and {free.f_favail} files free"],
            expected=[f"at least {_ROOM_BYTES // 1000} kB and {_ROOM_FILES} files"],
            next=["certctl doctor"],
        )


def hand_over(tree: Path, uid: int, gid: int, *, drop_links: bool = False, sparing: str = "") -> None:
    """Change the owner of a directory and of the directories, files and links below it; sockets keep theirs.

    No link is followed: each file is opened first, and one with a second hard link is refused. A directory that
    goes to root is changed before it is read, one that leaves root after that, so that no other user can change it
    meanwhile, and a killed run can be repeated.

    Args:
        tree: The directory.
        uid: The new owner.
        gid: The new group.
        drop_links: Remove links, FIFOs and files with a second hard link instead, where certctl makes none.
        sparing: A name right below the directory that keeps its owner, with all that is in it.

    Raises:
        ConfigInvalid: ``state-unwritable``: a file has a second hard link.
    """
    is_ours = tree.parent.stat().st_uid == os.geteuid()
    with _directory(tree, 0 if is_ours else os.O_NOFOLLOW) as descriptor:
        _hand_over(tree, descriptor, (uid, gid), drop_links=drop_links, sparing=sparing)


def _hand_over(path: Path, descriptor: int, owner: tuple[int, int], *, drop_links: bool, sparing: str = "") -> None:
    if owner[0] == 0:
        os.fchown(descriptor, *owner)
    for name in set(os.listdir(descriptor)) - {sparing}:
        with suppress(FileNotFoundError):
            kind = os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode
            if stat.S_ISDIR(kind):
                with _directory(Path(name), os.O_NOFOLLOW, descriptor) as below:
                    _hand_over(path / name, below, owner, drop_links=drop_links)
            elif not stat.S_ISSOCK(kind) and not _hand_over_file(name, descriptor, owner):
                if drop_links:
                    os.unlink(name, dir_fd=descriptor)
                elif stat.S_ISREG(kind):
                    raise _lies_elsewhere_too(path / name)
                else:
                    os.chown(name, *owner, dir_fd=descriptor, follow_symlinks=False)
    if owner[0] != 0:
        os.fchown(descriptor, *owner)


def _hand_over_file(name: str, directory: int, owner: tuple[int, int]) -> bool:
    """Change the owner of a regular file without a second hard link; return whether it was one."""
    try:
        with open_regular(name, directory) as file:
            is_one = os.fstat(file.fileno()).st_nlink == 1
            if is_one:
                os.fchown(file.fileno(), *owner)
            return is_one
    except NotRegular:
        return False


def _lies_elsewhere_too(path: Path) -> ConfigInvalid:
    return ConfigInvalid(
        Slug.STATE_UNWRITABLE,
        f"{path} has another name elsewhere, so it is not given away",
        expected=["a file with one name"],
        next=[f"cp -p {path} {path}.new && mv {path}.new {path}", "certctl doctor --fix"],
    )


def write_atomic(path: Path, content: str | bytes, mode: int = PRIVATE, *, durable: bool = True) -> None:
    """Replace a file so that a reader or a crash sees the old content or the new, never a mix.

    The temporary name starts with a dot and does not end like the target, so no ``include *.conf`` sees it.
    What need not outlive a power cut is not ``durable``: a flush costs milliseconds on an ordinary disk.
    """
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        write_new(temporary, data, mode, durable=durable)
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync_directory(path.parent)


def rewrite(path: Path, content: str, mode: int) -> None:
    """Replace a file that may be an operator's: an existing one keeps its mode and owner."""
    try:
        facts = path.stat()
    except FileNotFoundError:
        write_atomic(path, content, mode)
        return
    write_atomic(path, content, stat.S_IMODE(facts.st_mode))
    if os.geteuid() == 0:
        os.chown(path, facts.st_uid, facts.st_gid)


def open_regular(path: str | Path, directory: int | None = None) -> IO[bytes]:
    """Open a file that another user may have planted: no link, no device, no FIFO that would block.

    Args:
        path: The file.
        directory: A descriptor of the directory that a relative path is meant in.

    Raises:
        NotRegular: it is no regular file.
        OSError: it is not there, or cannot be read.
    """
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(path, flags, dir_fd=directory)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENXIO}:  # a link; a socket, or a device that is not there (open(2))
            raise NotRegular(error.errno, error.strerror, str(path)) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotRegular(errno.EINVAL, "it is not a regular file", str(path))
    return os.fdopen(descriptor, "rb")


def read_regular(path: Path, most: int) -> bytes:
    """Return the first ``most`` bytes of a file opened by ``open_regular``.

    Raises: as ``open_regular``.
    """
    with open_regular(path) as file:
        return file.read(most)


def write_new(path: Path, data: bytes, mode: int = PRIVATE, *, durable: bool = True) -> None:
    """Create a file that must not exist, with its final mode whatever the umask, and flush it to disk."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(data)
        file.flush()
        if durable:
            os.fsync(descriptor)


def swap_symlink(link: Path, target: str) -> None:
    """Point ``link`` at ``target`` in one rename."""
    temporary = link.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        temporary.symlink_to(target)
        temporary.rename(link)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(link.parent)


def make_directory(path: Path, mode: int) -> None:
    """Create a directory and its parents; the leaf gets ``mode`` whatever the umask."""
    if path.is_dir():
        return
    make_directory(path.parent, _PASSABLE)
    path.mkdir(mode=mode, exist_ok=True)
    with _directory(path, os.O_NOFOLLOW) as descriptor:
        os.fchmod(descriptor, mode)


def narrow(path: Path, widest: int) -> None:
    """Narrow a directory's mode to at most ``widest``. A link is followed only where root alone can have put it."""
    is_ours = path.parent.stat().st_uid == os.geteuid()
    with _directory(path, 0 if is_ours else os.O_NOFOLLOW) as descriptor:
        found = stat.S_IMODE(os.fstat(descriptor).st_mode)
        if found & ~widest:
            os.fchmod(descriptor, found & widest)


def remove_tree(path: Path) -> None:
    """Remove a directory tree if it is there."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)


def flush(path: Path) -> None:
    """Make a directory and the files in it survive a power cut."""
    for file in path.iterdir():
        if file.is_file() and not file.is_symlink():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
    sync_directory(path)


def sync_directory(path: Path) -> None:
    """Make a rename in this directory survive a power cut."""
    with _directory(path) as descriptor:
        os.fsync(descriptor)


@contextmanager
def entered(top: Path, *names: str) -> Iterator[int]:
    """Open a directory below one of ours and yield its descriptor; no link on the way there is followed.

    Raises:
        OSError: it is not there, is a link, or cannot be read.
    """
    with ExitStack() as opened:
        descriptor = opened.enter_context(_directory(top))
        for name in names:
            descriptor = opened.enter_context(_directory(Path(name), os.O_NOFOLLOW, descriptor))
        yield descriptor


@contextmanager
def _directory(path: Path, flags: int = 0, within: int | None = None) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | flags, dir_fd=within)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
