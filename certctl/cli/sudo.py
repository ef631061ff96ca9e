"""Who may run a command: whoever may not hears it first, with the very command that works."""

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from certctl.cli.framework import Invocation
from certctl.errors import CertctlError, ConfigInvalid
from certctl.slugs import Slug


def explained(error: CertctlError, invocation: Invocation) -> CertctlError:
    """Return what an error says to whoever typed what it calls next, or met a file of root's without being root."""
    cause = error.__cause__
    typed = shlex.join(["certctl", *without_globals(invocation.words)])
    error.next = tuple(command for command in error.next if command != typed)  # whoever reads it has just typed it
    if os.geteuid() == 0 or not isinstance(cause, PermissionError):
        return error
    known = needs_root(invocation, error.message)
    known.__cause__ = cause
    return known


def without_globals(words: Sequence[str]) -> list[str]:
    """Return what was typed without the options that every command takes: they make it no other command."""
    own, left = list[str](), list(words)
    while left:
        word = left.pop(0)
        if word in {"--config", "--root", "--color"}:
            del left[:1]
        elif not re.fullmatch(r"--json|--quiet|--verbose|-[qv]+|--(config|root|color)=.*", word, re.DOTALL):
            own.append(word)
    return own


def needs_root(invocation: Invocation, why: str) -> ConfigInvalid:
    """Make the error; sudo keeps no environment, so a configuration chosen by it goes onto the line."""
    chosen = os.environ.get("CERTCTL_CONFIG", "") if invocation.config is None else ""
    option = ["--config", str(Path(chosen).absolute())] if chosen else []
    line = shlex.join(["sudo", "certctl", *option, *invocation.words])
    name = " ".join(["certctl", *invocation.command.split("-")]) if invocation.command != "certctl" else "certctl"
    return ConfigInvalid(Slug.NEEDS_ROOT, f"{name} needs root: {why}", next=[line])
