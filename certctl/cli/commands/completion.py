"""Shell completion: the answers to a shell's TAB, and ``certctl completion``, which prints the shell's script."""

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import click
from click.shell_completion import get_completion_class, shell_complete

from certctl.cli.framework import Invocation, command

if TYPE_CHECKING:
    from types import FrameType

QUESTION = "_CERTCTL_COMPLETE"
_SECONDS = 10  # nobody waits longer, even on a busy host
_MOST = 500


def answer(root: click.Command) -> int:
    """Answer the shell's request for completions; every error is silent, and a deadline keeps it short.

    An error message would be printed into the line that is being typed.
    """
    signal.signal(signal.SIGALRM, _give_up)
    signal.alarm(_SECONDS)
    sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - as long as we run
    try:
        code = shell_complete(root, {"obj": Invocation()}, "certctl", QUESTION, os.environ[QUESTION])
        sys.stdout.flush()
    except BaseException:  # noqa: BLE001 - see above
        return 1
    finally:
        signal.alarm(0)
    return code


def _give_up(_signal: int, _frame: "FrameType | None") -> None:
    os._exit(1)


def known_domains(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the stored names that begin with what was typed and are new on the line; wildcards after ``*``."""
    typed = context.params.get(str(parameter.name)) or ()
    with suppress(Exception):
        known = _known(context.ensure_object(Invocation), incomplete)
        return [name for name in known if name not in typed and (incomplete or name[0] != "*")]
    return []


def _known(invocation: Invocation, prefix: str) -> Sequence[str]:
    from certctl.cli.opening import read_context

    return read_context(invocation).names_beginning(prefix, _MOST)


@command(
    "completion",
    """
    certctl completion bash > /etc/bash_completion.d/certctl
    certctl completion fish > ~/.config/fish/completions/certctl.fish
    """,
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_obj
def completion(invocation: Invocation, shell: str) -> int:
    """Print the completion script for a shell: commands, options, errors, and the domains in the store."""
    from certctl.cli.output.choose import open_report

    kind = get_completion_class(shell)
    script = kind(click.get_current_context().find_root().command, {}, "certctl", QUESTION).source() if kind else ""
    if invocation.json:
        open_report(invocation).data({"shell": shell, "script": script}, script)
    else:
        click.echo(script)
    return 0
