"""Become somebody with fewer rights, for good."""

import grp
import os
import pwd
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from certctl.errors import ConfigInvalid

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Person:
    """A user of this host, and the groups it has when it works for us."""

    name: str
    uid: int
    gid: int
    home: str
    groups: tuple[int, ...]


def person(user: str, group: str) -> Person:
    """Look a user up, and a group it is to have besides its own.

    Raises:
        ConfigInvalid: ``missing-account``.
    """
    found, shared = _known(pwd.getpwnam, user, "user"), group_id(group)
    groups = {*os.getgrouplist(user, found.pw_gid), shared}
    return Person(user, found.pw_uid, found.pw_gid, found.pw_dir, tuple(sorted(groups)))


def group_id(group: str) -> int:
    """Return a group's number.

    Raises:
        ConfigInvalid: ``missing-account``.
    """
    return _known(grp.getgrnam, group, "group").gr_gid


def hand_over(directory: Path, to: Person) -> None:
    """Give a directory that root has made, and all in it, to a person; groups stay: sockets are shared by them.

    One that is theirs already is left alone: root does not follow what somebody else has put there.
    """
    if directory.stat().st_uid == to.uid:
        return
    for home, _, names in os.walk(directory):
        for path in (Path(home), *(Path(home, name) for name in names)):
            os.chown(path, to.uid, -1, follow_symlinks=False)


def become(to: Person) -> None:
    """Turn from root into a person. Nothing leads back: the saved ids change too (setuid(2))."""
    os.setgroups(to.groups)
    os.setgid(to.gid)
    os.setuid(to.uid)
    os.environ["HOME"] = to.home


def _known(look: Callable[[str], T], name: str, what: str) -> T:
    try:
        return look(name)
    except KeyError as error:
        raise ConfigInvalid(
            "missing-account",
            f"there is no {what} {name} on this host",
            expected=["what [serve] user and [nginx] group name"],
            next=["certctl init"],
        ) from error
