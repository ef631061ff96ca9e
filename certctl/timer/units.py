"""The files a timer is made of: what each should say on this host, and what is there instead.

The text is in ``systemd/`` (one copy, shipped with the package). Each file there is valid as it stands; only the
program's path and what differs from a default host is filled in.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import unified_diff
from enum import StrEnum
from importlib.resources import files
from pathlib import Path

from certctl.errors import ConfigInvalid

MARK = "# Written by 'certctl timer install'"
SERVICE, TIMER, ALERT = "certctl-renew.service", "certctl-renew.timer", "certctl-alert@.service"

_CRON = "certctl.cron"
_PROGRAM = "/usr/local/bin/certctl"
_CONF_DIR = "/etc/nginx/certctl.d"
_HIDDEN_BY_PROTECT_HOME = ("/home", "/root", "/run/user")
_HIDDEN_BY_PRIVATE_TMP = ("/tmp", "/var/tmp")  # noqa: S108 - nothing is written there
_PLAIN = re.compile(r"/[A-Za-z0-9._/@+~-]+")


class Condition(StrEnum):
    """How a file on disk compares with what it should be."""

    ABSENT = "absent"
    CURRENT = "current"
    OUTDATED = "outdated"
    EDITED = "edited"
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerSettings:
    """What the timer's files depend on.

    Attributes:
        root: What every path of the files themselves is below; ``/`` on a real host.
        program: The certctl to run.
        options: Global options it is run with, such as ``--config FILE``.
        needs: Files and directories of ours that the program must be able to read, such as its interpreter.
        conf_dir: The include directory the service may write to.
        writable: More that it must be able to write, besides certctl's own directories.
    """

    root: Path
    program: Path
    options: tuple[str, ...] = ()
    needs: tuple[Path, ...] = ()
    conf_dir: Path = Path(_CONF_DIR)
    writable: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class TimerFile:
    """One file: where it belongs and what it should say.

    Attributes:
        sample: It is the operator's to edit once it is there.
    """

    path: Path
    text: str
    sample: bool = False

    @property
    def condition(self) -> Condition:
        """Compare it with the disk. A symlink is foreign: that is how systemd masks a unit."""
        if not self.path.exists() and not self.path.is_symlink():
            return Condition.ABSENT
        if self.path.is_symlink() or not self.path.is_file():
            return Condition.FOREIGN
        found = self.found
        if found == self.text:
            return Condition.CURRENT
        if self.sample:
            return Condition.EDITED
        return Condition.OUTDATED if found.startswith(MARK) else Condition.FOREIGN

    @property
    def found(self) -> str:
        """Return what is on the disk; an empty text when there is nothing."""
        return self.path.read_text(encoding="utf-8", errors="replace") if self.path.is_file() else ""

    @property
    def to_write(self) -> bool:
        """Tell whether installing it changes the disk."""
        return self.condition in {Condition.ABSENT, Condition.OUTDATED}

    def diff(self) -> str:
        """Show what installing it changes."""
        if not self.to_write:
            return ""
        before, after = self.found.splitlines(keepends=True), self.text.splitlines(keepends=True)
        source = str(self.path) if before else "/dev/null"
        return "".join(unified_diff(before, after, source, str(self.path)))


def systemd_files(settings: TimerSettings) -> list[TimerFile]:
    """Return the units, the timer last: it is what makes an installation complete.

    Raises:
        ConfigInvalid: ``timer-failed``: a path cannot be written into a unit, or the unit could not read it.
    """
    home = settings.root / "etc/systemd/system"
    return [
        TimerFile(home / ALERT, _shipped(ALERT), sample=True),
        TimerFile(home / SERVICE, _service(settings)),
        TimerFile(home / TIMER, _shipped(TIMER)),
    ]


def cron_files(settings: TimerSettings) -> list[TimerFile]:
    """Return the line for cron; its name has no dot, or cron would pass over it (cron(8), Debian).

    Raises:
        ConfigInvalid: ``timer-failed``: a path cannot be written into it.
    """
    text = _shipped(_CRON).replace(_PROGRAM, _command(settings))
    return [TimerFile(settings.root / "etc/cron.d/certctl", text)]


def below(path: Path, places: Iterable[str]) -> bool:
    """Tell whether a path or what it links to is in one of some directories."""
    return any(form.is_relative_to(place) for place in places for form in (path, path.resolve()))


def hidden_home(settings: TimerSettings) -> bool:
    """Tell whether certctl is installed where ``ProtectHome=yes`` would hide it."""
    return any(below(path, _HIDDEN_BY_PROTECT_HOME) for path in (settings.program, *settings.needs))


def _service(settings: TimerSettings) -> str:
    for path in (settings.program, *settings.needs):
        if settings.root == Path("/") and below(path, _HIDDEN_BY_PRIVATE_TMP):
            raise ConfigInvalid(
                "timer-failed",
                f"{path} is in a directory for temporary files, which the service cannot see",
                expected=["certctl and its configuration in a place that lasts, such as /opt and /etc"],
            )
    writable = " ".join(f"-{_plain(path)}" for path in (settings.conf_dir, *settings.writable))
    text = _shipped(SERVICE).replace(_PROGRAM, _command(settings))
    text = text.replace(f"ReadWritePaths=-{_CONF_DIR}\n", f"ReadWritePaths={writable}\n")
    if hidden_home(settings):
        text = text.replace("ProtectHome=yes\n", "ProtectHome=read-only\n")
    return text


def _command(settings: TimerSettings) -> str:
    words: Sequence[str] = (str(settings.program), *settings.options)
    return " ".join(word if word.startswith("--") else _plain(Path(word)) for word in words)


def _plain(path: Path) -> str:
    """Return a path that means the same to systemd, cron and a shell.

    Raises:
        ConfigInvalid: ``timer-failed``. Quoting is not tried: ``%``, ``$`` and spaces mean something else to each.
    """
    if not _PLAIN.fullmatch(str(path)) or ".." in path.parts:
        raise ConfigInvalid(
            "timer-failed",
            f"{path} cannot be written into a unit or a cron line",
            expected=["an absolute path of letters, digits and . _ / @ + ~ -"],
        )
    return str(path)


def _shipped(name: str) -> str:
    return files("certctl").joinpath("systemd", name).read_text(encoding="utf-8")
