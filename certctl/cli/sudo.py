"""Who may run a command: whoever may not hears it first, with the very command that works."""

import os
import shlex
from pathlib import Path

from certctl.cli.base import Invocation
from certctl.errors import CertctlError, ConfigInvalid


def require_write(invocation: Invocation, *places: Path) -> None:
    """Refuse a run that would fail half-way, before it has asked or shown anything.

    Raises:
        ConfigInvalid: ``needs-root``: whoever runs it may not write what the command writes.
    """
    if os.geteuid() == 0:
        return
    for place in places:
        nearest = next(path for path in (place, *place.parents) if path.exists())
        if not os.access(nearest, os.W_OK | (os.X_OK if nearest.is_dir() else 0), effective_ids=True):
            raise needs_root(invocation, f"user {os.geteuid()} may not write {place}")


def explained(error: CertctlError, invocation: Invocation) -> CertctlError:
    """Return what an error really says to somebody who is not root and met a file of root's."""
    cause = error.__cause__
    if os.geteuid() == 0 or not isinstance(cause, PermissionError):
        return error
    known = needs_root(invocation, error.message)
    known.__cause__ = cause
    return known


def needs_root(invocation: Invocation, why: str) -> ConfigInvalid:
    """Make the error; sudo keeps no environment, so a configuration chosen by it goes onto the line."""
    chosen = os.environ.get("CERTCTL_CONFIG", "") if invocation.config is None else ""
    option = ["--config", str(Path(chosen).absolute())] if chosen else []
    line = shlex.join(["sudo", "certctl", *option, *invocation.words])
    name = " ".join(["certctl", *invocation.command.split("-")]) if invocation.command != "certctl" else "certctl"
    return ConfigInvalid("needs-root", f"{name} needs root: {why}", next=[line])
