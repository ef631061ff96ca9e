"""As which user a run works in certctl's state: its owner, in modes shared and lua the daemon's user, not root."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import certctl
from certctl.errors import ConfigInvalid
from certctl.io import fsuid
from certctl.io.files import make_directory, writing
from certctl.io.fsuid import Owner, as_root
from certctl.slugs import Slug

if TYPE_CHECKING:
    from certctl.app.context import Context

_RUN_MODE = 0o755
ROOT = Owner(0, 0)


def work_as_owner(context: "Context") -> None:
    """Let root reach files as the owner of the state from now on; threads inherit it, so call it before any.

    The run directory is gone after a boot. It must be that owner's too, or no lock could be made in it.

    Raises:
        ConfigInvalid: ``state-unwritable``; ``missing-program``: that owner cannot read certctl's own files.
    """
    if os.geteuid() != 0 or not context.state.exists():
        return
    with writing(context.state):
        facts = context.state.stat()
        if facts.st_uid != 0 and not context.run.exists():
            make_directory(context.run, _RUN_MODE)
            os.chown(context.run, facts.st_uid, facts.st_gid, follow_symlinks=False)
    fsuid.work_as(Owner(facts.st_uid, facts.st_gid))
    try:
        require_program(facts.st_uid)
    except ConfigInvalid:
        fsuid.work_as(ROOT)  # or the modules that show this could not be loaded either
        raise


def require_write(*places: Path) -> None:
    """Refuse a run that may not write into these directories, before it has done anything.

    Raises:
        ConfigInvalid: ``needs-root``.
    """
    if os.geteuid() == 0:
        return
    if place := first_unwritable(*places):
        why = f"user {os.geteuid()} may not write {place}"
        raise ConfigInvalid(Slug.NEEDS_ROOT, why) from PermissionError(why)


@as_root()
def first_unwritable(*places: Path) -> Path | None:
    """Return the first of these paths that this run may neither write nor create; None when there is none."""
    for place in places:
        nearest = next(path for path in (place, *place.parents) if path.exists())
        if not os.access(nearest, os.W_OK | (os.X_OK if nearest.is_dir() else 0), effective_ids=True):
            return place
    return None


def require_program(uid: int) -> None:
    """Check that the user we have become can load the rest of certctl.

    Raises:
        ConfigInvalid: ``missing-program``.
    """
    try:
        for path in (sys.executable, os.__file__, _a_library(), certctl.__file__):
            Path(path).open("rb").close()
    except PermissionError as error:
        raise ConfigInvalid(
            Slug.MISSING_PROGRAM,
            f"certctl is installed where user {uid}, who has to run it, cannot read it: {error.filename}",
            expected=["a place that everybody can read, such as /opt, and a Python outside of home directories"],
            next=["python3 -m venv /opt/certctl"],
        ) from error


def require_legible(user: str, group: str, again: str) -> None:
    """Check that a user can read all of certctl, its Python and its libraries.

    A daemon that dropped its privileges and then cannot import a module could not even report it. Without root
    nothing is checked.

    Args:
        user: The user who has to run it.
        group: That user's group.
        again: The command to type after certctl was installed elsewhere.

    Raises:
        ConfigInvalid: ``missing-program``, ``missing-account``.
    """
    if os.geteuid() != 0:
        return
    from certctl.io.legible import first_closed

    closed = first_closed(user, group, _installed())
    if closed is None:
        return
    ours = closed.is_relative_to(sys.prefix) and sys.prefix != sys.base_prefix
    raise ConfigInvalid(
        Slug.MISSING_PROGRAM,
        f"the user {user}, who has to run certctl, cannot read {closed}",
        seen=[f"certctl is in {Path(certctl.__file__).parent}, and its Python is {sys.executable}"],
        expected=["a place that everybody can read, such as /opt, and a Python outside of home directories"],
        next=[f"chmod -R a+rX {sys.prefix}" if ours else "install certctl in /opt/certctl, as README does", again],
    )


def _a_library() -> Path:
    """Return the directory of a library that every command imports."""
    found = find_spec("click")
    return Path(found.origin if found and found.origin else certctl.__file__)


def _installed() -> tuple[Path, ...]:
    """Return the directories with certctl's code; of a system-wide Python only one library, as a sample."""
    libraries = Path(_a_library()).parent
    own_environment = sys.prefix != sys.base_prefix
    return (
        Path(sys.executable),
        Path(sys.executable).resolve(),
        Path(os.__file__).parent,
        libraries.parent if own_environment and libraries.is_relative_to(sys.prefix) else libraries,
        Path(certctl.__file__).parent,
    )


@contextmanager
def as_owner(context: "Context") -> Iterator[None]:
    """Reach files as the owner of the state for a block, in a command that is root's otherwise.

    Raises:
        ConfigInvalid: ``state-unwritable``.
    """
    work_as_owner(context)
    try:
        yield
    finally:
        fsuid.work_as(ROOT)
