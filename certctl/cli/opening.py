"""Open the context of a command, which click closes at the command's end."""

import click

from certctl.app import context, opening
from certctl.app.context import Context
from certctl.cli.framework import Invocation
from certctl.cli.output.choose import open_report


def open_context(invocation: Invocation, *, alone: bool = False, is_new: bool = False) -> Context:
    """Open the context of a command that may change something; see ``app/opening.py``.

    Args:
        invocation: How certctl was called.
        alone: Whether the command holds the lock on moves exclusively.
        is_new: Whether the configuration file may be missing, because the command writes it.

    Raises:
        ConfigInvalid: with every fault; ``needs-root``, ``state-unwritable``.
        Busy: the lock was not free in time.
    """
    read = context.read_new_context if is_new else context.read_context
    return _closing(opening.open_context(invocation.source, _warn(invocation), read, alone=alone))


def inspect_context(invocation: Invocation, *, is_new: bool = False) -> Context:
    """Open the context of a command that changes nothing.

    Raises: as ``open_context``.
    """
    read = context.read_new_context if is_new else context.read_context
    return _closing(opening.inspect_context(invocation.source, read))


def after_a_move(invocation: Invocation) -> Context:
    """Open the context of a command that keeps the user it was started as; finish a move that was cut short first.

    Raises: as ``open_context``.
    """
    return _closing(opening.after_a_move(invocation.source, _warn(invocation)))


def read_context(invocation: Invocation) -> Context:
    """Read the configuration this command was given, without a change of user.

    Raises:
        ConfigInvalid: with every fault.
    """
    return _closing(context.read_context(invocation.source))


def _closing(context: Context) -> Context:
    if running := click.get_current_context(silent=True):
        running.call_on_close(context.close)
    return context


def _warn(invocation: Invocation) -> opening.Warn:
    return lambda text: open_report(invocation).warn(text)  # a report is made when there is something to say
