"""Tell whether another user can read files, checked as that user because parent directories count as well."""

import os
import sysconfig
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from certctl.errors import ConfigInvalid
from certctl.io import accounts, process
from certctl.slugs import Slug

_PASSED_OVER = {"__pycache__", Path(sysconfig.get_path("purelib")).name}
_LOOKED = b"looked:"
_LONGEST = 5000  # a path has 4096 bytes at most (limits.h, PATH_MAX)


def first_closed(user: str, group: str, trees: Iterable[Path]) -> Path | None:
    """Return the first file or directory in some trees that a user cannot read; None when there is none.

    A forked child becomes that user and looks. It needs root; call it before any thread is started.

    Raises:
        ConfigInvalid: ``missing-account``, also when this root may not become that user.
    """
    accounts.require(user, group)
    wanted = tuple(trees)
    reading, writing = os.pipe()

    def look() -> int:
        accounts.become(user, group)
        closed = next((path for tree in wanted for path in _closed(tree)), None)
        os.write(writing, _LOOKED + (os.fsencode(closed) if closed else b""))
        return 0

    pid = process.fork(look)
    os.close(writing)
    with open(reading, "rb") as answer:  # noqa: PTH123 - a descriptor
        said = answer.read(_LONGEST)
    os.waitpid(pid, 0)
    if not said.startswith(_LOOKED):
        raise ConfigInvalid(
            Slug.MISSING_ACCOUNT,
            f"this root may not become the user {user}",
            expected=["CAP_SETGID and CAP_SETUID (capabilities(7))"],
        )
    closed = said.removeprefix(_LOOKED)
    return Path(os.fsdecode(closed)) if closed else None


def _closed(tree: Path) -> Iterator[Path]:
    """Yield what the user of this process cannot read; below a closed parent directory nothing else is tried."""
    way = [*reversed(tree.parents), tree]
    for path in way:
        with suppress(OSError):
            if not os.access(path, os.X_OK if path.is_dir() else os.R_OK):
                yield path
                return
    if tree.is_dir():
        yield from _closed_below(tree)


def _closed_below(tree: Path) -> Iterator[Path]:
    refused = list[Path]()
    for place, directories, files in os.walk(tree, onerror=lambda error: refused.append(Path(error.filename))):
        directories[:] = sorted({*directories} - _PASSED_OVER)
        refused.extend(path for name in files if not os.access(path := Path(place, name), os.R_OK))
        if refused:
            break
    yield from refused[:1]
