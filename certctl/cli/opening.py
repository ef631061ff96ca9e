"""Open the house of a command: what it opened is closed at the command's end."""

import click

from certctl.app import context, opening
from certctl.app.context import House
from certctl.cli.framework import Invocation
from certctl.cli.output.choose import open_report


def open_house(invocation: Invocation, *, alone: bool = False, is_new: bool = False) -> House:
    """Open the house of a command that may change something; see ``app/opening.py``.

    Args:
        invocation: How certctl was called.
        alone: Whether no other command may work meanwhile.
        is_new: Whether the configuration that was named may not be there yet.

    Raises:
        ConfigInvalid: with every fault; ``needs-root``, ``state-unwritable``.
        Busy: others work for too long.
    """
    read = context.read_new_house if is_new else context.read_house
    return _closing(opening.open_house(invocation.source, _warn(invocation), read, alone=alone))


def inspect_house(invocation: Invocation, *, is_new: bool = False) -> House:
    """Open the house of a command that changes nothing.

    Raises: as ``open_house``.
    """
    read = context.read_new_house if is_new else context.read_house
    return _closing(opening.inspect_house(invocation.source, read))


def after_a_move(invocation: Invocation) -> House:
    """Open the house of a command that goes on as whoever runs it; a move that was cut short is finished before.

    Raises: as ``open_house``.
    """
    return _closing(opening.after_a_move(invocation.source, _warn(invocation)))


def read_house(invocation: Invocation) -> House:
    """Read the configuration this command was given; whoever runs it stays who that is.

    Raises:
        ConfigInvalid: with every fault.
    """
    return _closing(context.read_house(invocation.source))


def _closing(house: House) -> House:
    if running := click.get_current_context(silent=True):
        running.call_on_close(house.close)
    return house


def _warn(invocation: Invocation) -> opening.Warn:
    return lambda text: open_report(invocation).warn(text)  # a report is made when there is something to say
