"""Install, inspect and remove files for systemd or cron; each operation is safe to repeat after a kill."""

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from certctl.errors import ConfigInvalid
from certctl.io.files import PUBLIC, make_directory, sync_directory, write_atomic, writing
from certctl.slugs import Slug
from certctl.timer.files import Condition, HostFile
from certctl.timer.systemd import LastRun, Systemd
from certctl.timer.units import SERVICE, TIMER

_OURS = frozenset({Condition.CURRENT, Condition.OUTDATED})


@dataclass(frozen=True, slots=True)
class TimerState:
    """The state of the timer or cron line; fields that only systemd knows are None where it was not asked."""

    installed: bool
    enabled: bool | None = None
    active: bool | None = None
    next_run: datetime | None = None
    last_run: LastRun | None = None


def install(files: Sequence[HostFile], systemd: Systemd | None, newest: float = 0.0) -> bool:
    """Write the files that are missing or outdated and start their units; return whether anything changed.

    Args:
        files: The files as they should be.
        systemd: Starts the units; with None files are written only.
        newest: When what a running unit read at its start last changed (a timestamp), such as the configuration.

    Raises:
        ConfigInvalid: ``timer-conflict`` or ``serve-failed`` when a file of that name is not ours;
            ``state-unwritable``; ``timer-failed``. Nothing was written in the first case.
    """
    refuse_foreign(files)
    todo = [file for file in files if file.to_write]
    require_root(todo, files[0].purpose.install)
    for file in todo:
        with writing(file.path):
            make_directory(file.path.parent, 0o755)
            write_atomic(file.path, file.text, PUBLIC)
    return (systemd is not None and _start(systemd, files, todo, newest)) or bool(todo)


def _start(systemd: Systemd, files: Sequence[HostFile], written: Sequence[HostFile], newest: float) -> bool:
    """Reload, enable and restart units to match the files, also after a run that was killed in between."""
    purpose = files[0].purpose
    reread = bool(written) or any(map(systemd.is_stale, (*purpose.starts, *purpose.rereads)))
    if reread:
        systemd.reload_units()
    active = [unit for unit in purpose.starts if systemd.is_active(unit)]
    idle = [unit for unit in purpose.starts if not (unit in active and systemd.is_enabled(unit))]
    for unit in idle:
        systemd.enable(unit)
    outlived = _outlived(systemd, files, written, newest) if set(purpose.restarts) & set(active) else ()
    first = next((at for at, unit in enumerate(purpose.restarts) if unit in outlived), len(purpose.restarts))
    if again := [unit for unit in purpose.restarts[first:] if unit in active]:
        systemd.restart(*again)
    return reread or bool(idle) or bool(again)


def _outlived(
    systemd: Systemd, files: Sequence[HostFile], written: Sequence[HostFile], newest: float
) -> Collection[str]:
    """Return the units that were started before their files, or what they read, last changed.

    systemd's timestamps are in whole seconds, so a change within the same second counts only when it is this run's.
    """
    fresh = {file.path.name for file in written}
    changed = {file.path.name: file.path.stat().st_mtime for file in files}
    service = files[0].path.name  # the others only open its doors
    changed[service] = max(changed[service], newest)
    return {
        name
        for name, at in changed.items()
        if name in fresh or ((started := systemd.started(name)) and int(at) > started.timestamp())
    }


def remove(files: Sequence[HostFile], systemd: Systemd | None) -> list[HostFile]:
    """Stop the units and delete the files that certctl wrote; return the deleted files.

    A renewal that is under way is not stopped. The file of the started unit is deleted last, so that a killed
    removal can be repeated.
    """
    gone = [file for file in files if file.condition in _OURS]
    require_root(gone, files[0].purpose.remove)
    names = {file.path.name for file in gone}
    for unit in reversed(files[0].purpose.starts):
        if systemd and unit in names:
            systemd.disable(unit)
    for file in gone:
        with writing(file.path):
            file.path.unlink()
            sync_directory(file.path.parent)
    if systemd and gone:
        systemd.reload_units()
    return gone


def state(files: Sequence[HostFile], systemd: Systemd | None) -> TimerState:
    """Return the state of the timer, from its files and systemd."""
    installed = all(file.condition in _OURS for file in files if not file.sample)
    if systemd is None or not installed:
        return TimerState(installed)
    return TimerState(
        installed,
        enabled=systemd.is_enabled(TIMER),
        active=systemd.is_active(TIMER),
        next_run=systemd.next_run(TIMER),
        last_run=systemd.last_run(SERVICE),
    )


def refuse_foreign(files: Sequence[HostFile]) -> None:
    """Refuse to overwrite a file that certctl did not write.

    Raises:
        ConfigInvalid: ``timer-conflict`` or ``serve-failed``.
    """
    purpose = files[0].purpose
    foreign = [file.path for file in files if file.condition is Condition.FOREIGN and not file.sample]
    if foreign:
        raise ConfigInvalid(
            purpose.conflict,
            f"{foreign[0]} is there already, and certctl did not write it",
            seen=[f"{path} is {'a symlink' if path.is_symlink() else 'not ours'}" for path in foreign],
            expected=[f"no file of that name, or one that '{purpose.install}' wrote"],
            next=[f"mv {path} {path}.old" for path in foreign],
        )


def require_root(files: Sequence[HostFile], command: str) -> None:
    """Refuse, before the first file is written, when a directory is not writable.

    Raises:
        ConfigInvalid: ``state-unwritable``.
    """
    for file in files:
        place = next(parent for parent in file.path.parents if parent.exists())
        if not os.access(place, os.W_OK):
            raise ConfigInvalid(Slug.STATE_UNWRITABLE, f"you may not write to {place}", next=[f"sudo {command}"])
