"""Files the configuration names for the CA's party: whoever works in the state must be able to read them."""

import os
from pathlib import Path

from certctl.errors import ConfigInvalid
from certctl.io.fsuid import acting_as
from certctl.slugs import Slug


def require_readable(path: Path, key: str) -> None:
    """Read a file that everybody may read, once: an engine that cannot would end as if the CA had refused.

    Raises:
        ConfigInvalid: ``config-invalid``.
    """
    try:
        if not path.is_dir():  # a directory of hashed certificates does as well (requests, ``verify``)
            path.open("rb").close()
    except OSError as error:
        raise cannot_read(path, key, error, "chmod a+r") from error


def cannot_read(path: Path, key: str, error: OSError, mend: str) -> ConfigInvalid:
    """Say why a file cannot be read, and the command that mends it unless a directory above is what is closed."""
    message = f"{key}: cannot read {path}: {error.strerror}"
    reader = acting_as()
    if reader is None or not isinstance(error, PermissionError):
        return ConfigInvalid(Slug.CONFIG_INVALID, message)
    expected = f"a file that user {reader.uid} can read, who owns certctl's state"
    closed = next((above for above in reversed(path.parents) if not _lets_in(above)), None)
    if closed is not None:
        return ConfigInvalid(Slug.CONFIG_INVALID, message, expected=[f"{expected}, and not below {closed}"])
    return ConfigInvalid(Slug.CONFIG_INVALID, message, expected=[expected], next=[f"{mend} {path}"])


def _lets_in(directory: Path) -> bool:
    try:
        os.stat(f"{directory}/.")  # noqa: PTH116 - a Path loses the dot, and with it the question
    except PermissionError:
        return False
    except OSError:
        return True
    return True
