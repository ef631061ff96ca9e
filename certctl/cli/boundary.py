"""Report a failure that belongs to no domain, and choose its exit code.

A user without the rights a command needs is shown the sudo command line that works.
"""

import os
import re
import shlex
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import click

from certctl.cli.framework import Invocation
from certctl.cli.output.choose import open_report
from certctl.errors import CertctlError, ConfigInvalid, ExitCode, Interrupted, NameRejected, unforeseen
from certctl.slugs import Slug


def report_failure(error: BaseException, invocation: Invocation) -> int:
    """Report an error that ended the whole run, with a traceback only with -vv; return the exit code."""
    known = _explained(error if isinstance(error, CertctlError) else _translated(error), invocation)
    if invocation.verbose > 1:
        traceback.print_exception(error, file=sys.stderr)
    try:
        open_report(invocation).failure(known)
    except OSError:  # stdout takes nothing, not even JSON
        invocation.json = False
        open_report(invocation).failure(known)
    return int(known.exit_code)


def report_usage(error: click.ClickException, invocation: Invocation) -> int:
    """Report a wrong command line as a JSON document; return the exit code."""
    invocation.json = True
    context = getattr(error, "ctx", None)
    if context:
        invocation.command = "-".join(context.command_path.split()[1:]) or invocation.command
    open_report(invocation).failure(NameRejected(Slug.USAGE, error.format_message(), next=["certctl --help"]))
    return int(ExitCode.USAGE)


def _translated(error: BaseException) -> CertctlError:
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return Interrupted(
            Slug.INTERRUPTED, "stopped; what was in force before still is", next=["certctl reconcile"]
        )
    return unforeseen(error)


def _explained(error: CertctlError, invocation: Invocation) -> CertctlError:
    """Return the error without the command just typed as its next, or ``needs-root`` where rights were missing."""
    cause = error.__cause__
    typed = shlex.join(["certctl", *_without_globals(invocation.words)])
    error.next = tuple(command for command in error.next if command != typed)  # whoever reads it has just typed it
    if os.geteuid() == 0 or not isinstance(cause, PermissionError):
        return error
    known = _needs_root(invocation, error.message)
    known.__cause__ = cause
    return known


def _without_globals(words: Sequence[str]) -> list[str]:
    """Return the arguments without the global options."""
    own, left = list[str](), list(words)
    while left:
        word = left.pop(0)
        if word in {"--config", "--root", "--color"}:
            del left[:1]
        elif not re.fullmatch(r"--json|--quiet|--verbose|-[qv]+|--(config|root|color)=.*", word, re.DOTALL):
            own.append(word)
    return own


def _needs_root(invocation: Invocation, why: str) -> ConfigInvalid:
    """Return the error with the sudo command line; it has ``--config``, as sudo drops the environment."""
    chosen = os.environ.get("CERTCTL_CONFIG", "") if invocation.config is None else ""
    option = ["--config", str(Path(chosen).absolute())] if chosen else []
    line = shlex.join(["sudo", "certctl", *option, *invocation.words])
    name = " ".join(["certctl", *invocation.command.split("-")]) if invocation.command != "certctl" else "certctl"
    return ConfigInvalid(Slug.NEEDS_ROOT, f"{name} needs root: {why}", next=[line])
