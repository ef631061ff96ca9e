"""Open the context of a run: as the owner of the state, and with no move between modes under way."""

from collections.abc import Callable
from contextlib import ExitStack

from certctl.app import move_journal
from certctl.app.context import Context, Source, read_context
from certctl.app.ownership import ROOT, require_write, work_as_owner
from certctl.io.fsuid import as_root, work_as

Read = Callable[[Source], Context]
Warn = Callable[[str], None]


def open_context(source: Source, warn: Warn, read: Read = read_context, *, alone: bool = False) -> Context:
    """Read the configuration, reach files as the owner of the state from now on, and hold the lock on moves.

    A move that was cut short is finished first, or taken back; none begins while this run works.

    Args:
        source: Which configuration.
        warn: Called with what became of a move that was cut short.
        read: The function that reads the configuration.
        alone: Whether the lock is exclusive, for a run that may change the owner of the state.

    Raises:
        ConfigInvalid: with every fault; ``needs-root``, ``state-unwritable``.
        Busy: the lock was not free in time.
    """
    before = read(source)
    require_write(before.state)
    _finish_move(before, warn)
    with ExitStack() as held:
        held.enter_context(move_journal.turn(before.sites, alone=alone))
        with as_root():  # a move that was finished made us the state's owner, who may not read it
            context = read(source)  # only now: whoever had the turn may have written it
        work_as_owner(context)
        context.keep(held.pop_all())
    return context


def inspect_context(source: Source, read: Read = read_context) -> Context:
    """Open the context of a run that changes nothing: it takes no lock, and leaves a move that was cut short.

    Raises:
        ConfigInvalid: as ``open_context``.
    """
    context = read(source)
    require_write(context.state)
    work_as_owner(context)
    return context


def after_a_move(source: Source, warn: Warn) -> Context:
    """Open the context of a run that keeps the user it was started as; a move that was cut short is finished first.

    Raises: as ``open_context``.
    """
    before = read_context(source)
    try:
        _finish_move(before, warn)
    finally:
        work_as(ROOT)
    return read_context(source)


def _finish_move(context: Context, warn: Warn) -> None:
    """Finish a move that was cut short, or wait for one that is under way."""
    if not move_journal.found(context.sites):
        return
    from certctl.app.mode_switch import resume

    with move_journal.turn(context.sites, alone=True):
        if cut_short := move_journal.found(context.sites):
            resume(context.source, cut_short, warn)
