"""How a run begins to work on a host: as the owner of its state, and with no move between modes under way."""

from collections.abc import Callable
from contextlib import ExitStack

from certctl.app import move_journal
from certctl.app.context import House, Source, read_house
from certctl.app.ownership import ROOT, require_write, work_as_owner
from certctl.io.fsuid import as_root, work_as

Read = Callable[[Source], House]
Warn = Callable[[str], None]


def open_house(source: Source, warn: Warn, read: Read = read_house, *, alone: bool = False) -> House:
    """Read the configuration this run was given, and work in the state as its owner from now on.

    A move that was cut short is finished first, or taken back; none begins while this run works.

    Args:
        source: Which configuration.
        warn: Hears what became of a move that was cut short.
        read: How it is read.
        alone: Whether no other run may work meanwhile: whose the state is may change.

    Raises:
        ConfigInvalid: with every fault; ``needs-root``, ``state-unwritable``.
        Busy: a move, or others when it is to be alone, take too long.
    """
    before = read(source)
    require_write(before.state)
    _finish_move(before, warn)
    with ExitStack() as held:
        held.enter_context(move_journal.turn(before.sites, alone=alone))
        with as_root():  # a move that was finished made us the state's owner, who may not read it
            house = read(source)  # only now: whoever had the turn may have written it
        house.keep(held.pop_all())
    work_as_owner(house)
    return house


def inspect_house(source: Source, read: Read = read_house) -> House:
    """Open the house of a run that changes nothing: it waits for nobody, and leaves a move that was cut short.

    Raises:
        ConfigInvalid: as ``open_house``.
    """
    house = read(source)
    require_write(house.state)
    work_as_owner(house)
    return house


def after_a_move(source: Source, warn: Warn) -> House:
    """Open the house of a run that goes on as whoever began it; a move that was cut short is finished before.

    Raises: as ``open_house``.
    """
    before = read_house(source)
    try:
        _finish_move(before, warn)
    finally:
        work_as(ROOT)
    return read_house(source)


def _finish_move(house: House, warn: Warn) -> None:
    """Go on where a move was cut short; one that is under way is waited for."""
    if not move_journal.found(house.sites):
        return
    from certctl.app.mode_switch import resume

    with move_journal.turn(house.sites, alone=True):
        if cut_short := move_journal.found(house.sites):
            resume(house.source, cut_short, warn)
