"""Copy the CA's directory into a new one, plain files only, because another user could write in the old one.

The working directories of killed runs are copied as well, so that no second order is made; the next run of the name
checks them. Symbolic links, files with a second hard link and certbot's options are left out.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from certctl.ca.workdir import KEPT
from certctl.io.files import PRIVATE, NotRegular, make_directory, open_regular, write_new

_PRIVATE_DIRECTORY = 0o700
_MOST = 1_000_000


def copy_state(old: Path, fresh: Path) -> None:
    """Copy accounts and working directories; no link in ``old`` is followed.

    Args:
        old: The directory to copy.
        fresh: The path of the copy; the caller moves it into the place of ``old``.

    Raises:
        OSError: the copy cannot be made.
    """
    make_directory(fresh, _PRIVATE_DIRECTORY)
    for part in ("accounts", "quarantine", "logs", "work"):
        make_directory(fresh / part, _PRIVATE_DIRECTORY)
        for path, content in _plain_files(old / part):
            if part != "work" or _is_kept(path):
                make_directory((fresh / part / path).parent, _PRIVATE_DIRECTORY)
                write_new(fresh / part / path, content, PRIVATE)
    for workdir in (fresh / "work").iterdir():
        for name in ("config", "work", "logs"):
            make_directory(workdir / name, _PRIVATE_DIRECTORY)
        (workdir / "config" / "accounts").symlink_to((old / "accounts").absolute())


def _is_kept(path: Path) -> bool:
    """Tell whether a path below ``work`` is a file of ours: ``NAME/FILE``."""
    return len(path.parts) == 2 and path.name in KEPT  # noqa: PLR2004 - its two parts


def _plain_files(top: Path) -> Iterator[tuple[Path, bytes]]:
    """Yield (path below ``top``, content) of each regular file that has no second hard link."""
    if top.parent.is_symlink() or not top.is_dir():
        return
    for place, _, names, descriptor in os.fwalk(top):
        for name in names:
            with suppress(NotRegular, FileNotFoundError), open_regular(name, descriptor) as file:
                if os.fstat(file.fileno()).st_nlink == 1:
                    yield Path(place, name).relative_to(top), file.read(_MOST)
