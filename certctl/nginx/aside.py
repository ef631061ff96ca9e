"""Files taken out are moved aside: a rename needs no space, and only root can read them there.

    /var/lib/certctl/aside/20261127T201500Z-status.example.com/{live,certctl-sites}/…

Nothing is published or restored from there; it is for a person to look at. After 14 days the next change deletes
it. In modes ``shared`` and ``lua`` the state belongs to another user, who could place symbolic links in root's way:
so each directory is opened first, never through a link, and the rename goes between the open directories. Where
that cannot be done, as between two file systems (rename(2), EXDEV), the place is ``.aside`` beside the pairs
themselves.
"""

import errno
import os
import re
import secrets
import shutil
import stat
import time
from calendar import timegm
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import timedelta
from pathlib import Path

from certctl.domain import Domain
from certctl.io.files import PRIVATE, writing
from certctl.io.fsuid import acting_as, as_root
from certctl.nginx import mirror
from certctl.nginx.place import Place
from certctl.nginx.settings import NginxSettings

NAME = "aside"
KEPT = timedelta(days=14)
_NEAR = f".{NAME}"
_CLOSED = 0o700
_STAMP = "%Y%m%dT%H%M%SZ"
_ENTRY = re.compile(r"(\d{8}T\d{6}Z)-(.+)")
_ELSEWHERE = {errno.EXDEV, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENOTDIR, errno.EROFS}


def stamp() -> str:
    """Return the beginning of a name for files that are moved aside now, such as ``20261127T201500Z``."""
    return time.strftime(_STAMP, time.gmtime())


def put(settings: NginxSettings, domain: Domain, block: str | None = None) -> None:
    """Move a domain's pairs aside, and write down the text its server block had.

    Raises:
        ConfigInvalid: ``state-unwritable``: a pair could not be moved; it stays where it is.
    """
    entry, top = f"{stamp()}-{domain.stem}", _top(settings)
    for place in (settings.catch_all_pairs, settings.block_pairs):
        if place.has(domain):
            home = mirror.domain_path(place.path, domain)
            with writing(home):
                _move(home, place, top, entry)
    if block:
        with suppress(OSError), as_root(), _entered(top, entry) as (into, _):  # on a full disk the pair is enough
            _write(f"{domain.stem}.conf", block, into)


def _move(home: Path, place: Place, top: Path, entry: str) -> None:
    try:
        with as_root():
            _rename(home, top, entry)
    except OSError as error:
        if error.errno not in _ELSEWHERE:
            raise
        with place.reached():
            _rename(home, place.path / _NEAR, entry)


def discard(settings: NginxSettings, domain: Domain) -> None:
    """Delete everything that was moved aside of a domain, even what root found when it took the state over.

    Raises:
        ConfigInvalid: ``state-unwritable``: some files are still there.
    """

    def is_meant(entry: str, _: os.stat_result) -> bool:
        named = _ENTRY.fullmatch(entry)
        return named is not None and named[2] == domain.stem

    failed = _delete(settings, is_meant)
    with suppress(OSError), as_root(), _opened(_top(settings)) as top:
        for entry in _entries(top):
            with suppress(OSError), _directory(entry, top) as found, _directory(settings.live.name, found) as live:
                failed += _remove(domain.directory, live)
    with writing(_top(settings)):
        for error in failed:
            raise error


def expire(settings: NginxSettings, is_time_right: Callable[[], bool] = lambda: True) -> None:
    """Delete files moved aside more than 14 days ago, as far as our rights allow.

    Args:
        settings: Name the directory.
        is_time_right: Asked before anything is deleted: a run whose clock is a year ahead must not delete.
    """
    oldest = time.time() - KEPT.total_seconds()
    _delete(settings, lambda entry, facts: _since(entry, facts) < oldest and is_time_right())


def _top(settings: NginxSettings) -> Path:
    return settings.live.parent / NAME


def _delete(settings: NginxSettings, is_meant: Callable[[str, os.stat_result], bool]) -> list[OSError]:
    """Delete the entries that ``is_meant`` selects, and return the errors of those that remain."""
    failed = list[OSError]()
    tops: list[tuple[Path, AbstractContextManager[None]]] = [(_top(settings), as_root())]
    places = (settings.catch_all_pairs, settings.block_pairs)
    for top, rights in [*tops, *((place.path / _NEAR, place.reached()) for place in places)]:
        with suppress(OSError), rights, _opened(top) as directory:
            for entry in _entries(directory):
                if is_meant(entry, os.stat(entry, dir_fd=directory, follow_symlinks=False)):
                    failed += _remove(entry, directory)
    return failed


def _since(entry: str, facts: os.stat_result) -> float:
    """Return the time at which something was moved aside, from its name, or else from its last rename."""
    named = _ENTRY.fullmatch(entry)
    with suppress(ValueError):
        if named:
            return timegm(time.strptime(named[1], _STAMP))
    return facts.st_ctime


def _rename(home: Path, top: Path, entry: str) -> None:
    with _entered(top, entry) as (into, above), _directory(home.parent) as place:
        name = home.parent.name
        name += f"-{secrets.token_hex(4)}" if name in _entries(into) else ""
        os.rename(home.name, name, src_dir_fd=place, dst_dir_fd=into)
        for directory in (into, above, place):
            os.fsync(directory)


def _write(name: str, text: str, directory: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(name, flags, PRIVATE, dir_fd=directory), "wb") as file:
        file.write(text.encode("utf-8", "surrogateescape"))


@contextmanager
def _entered(top: Path, entry: str) -> Iterator[tuple[int, int]]:
    """Yield (descriptor of the domain's directory, descriptor of the one above); missing ones are made."""
    with suppress(FileExistsError):
        top.mkdir(_CLOSED)
    with _opened(top) as above:
        with suppress(FileExistsError):
            os.mkdir(entry, _CLOSED, dir_fd=above)
        with _directory(entry, above) as into:
            yield into, above


def _entries(directory: int) -> list[str]:
    return os.listdir(directory)


def _remove(name: str, directory: int) -> list[OSError]:
    try:
        if stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
            shutil.rmtree(name, dir_fd=directory)
        else:
            os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return []
    except OSError as error:
        return [error]
    return []


@contextmanager
def _opened(top: Path) -> Iterator[int]:
    """Yield the descriptor of our directory for files moved aside, closed to every other user.

    Raises:
        PermissionError: another user owns the directory.
        OSError: the directory is a symbolic link, or does not exist.
    """
    with _directory(top) as directory:
        facts, acting = os.fstat(directory), acting_as()
        if facts.st_uid != (acting.uid if acting else os.geteuid()):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(top))
        if stat.S_IMODE(facts.st_mode) != _CLOSED:
            os.fchmod(directory, _CLOSED)
        yield directory


@contextmanager
def _directory(path: Path | str, within: int | None = None) -> Iterator[int]:
    """Yield the descriptor of a directory; a link is followed only where our own user alone can have made it."""
    is_ours = within is None and Path(path).parent.stat().st_uid == os.geteuid()
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | (0 if is_ours else os.O_NOFOLLOW)
    descriptor = os.open(path, flags, dir_fd=within)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
