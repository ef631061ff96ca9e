"""The system accounts of this host: look one up, create a missing one, become one for good."""

import grp
import os
import pwd
from datetime import timedelta

from certctl.errors import ConfigInvalid
from certctl.io.fsuid import Owner
from certctl.io.process import Missing, run
from certctl.slugs import Slug

_DEADLINE = timedelta(seconds=30)


def find(user: str, group: str) -> Owner | None:
    """Return the uid and gid of a user and a group; None when one of the two does not exist."""
    try:
        return Owner(pwd.getpwnam(user).pw_uid, grp.getgrnam(group).gr_gid)
    except KeyError:
        return None


def require(user: str, group: str) -> Owner:
    """Return the uid and gid of a user and a group.

    Raises:
        ConfigInvalid: ``missing-account``.
    """
    owner = find(user, group)
    if owner is None:
        raise ConfigInvalid(
            Slug.MISSING_ACCOUNT,
            f"the user {user} or the group {group} is not on this host",
            expected=[
                "what [serve] user and [nginx] group name: certctl init --mode, and the next command, make both"
            ],
            next=["certctl init", "certctl serve --install"],
        )
    return owner


def group_id(group: str) -> int:
    """Return the gid of a group.

    Raises:
        ConfigInvalid: ``missing-account``.
    """
    return require("root", group).gid


def groups_of(user: str) -> frozenset[int]:
    """Return the groups a process of this user has: its primary one and the others (initgroups(3))."""
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        return frozenset()
    return frozenset(os.getgrouplist(user, entry.pw_gid))


def missing(user: str, group: str) -> list[list[str]]:
    """Return the commands (as argv) that create the missing user and group."""
    commands = []
    if group not in {entry.gr_name for entry in grp.getgrall()}:
        commands.append(["groupadd", "--system", group])
    if user not in {entry.pw_name for entry in pwd.getpwall()}:
        commands.append(
            ["useradd", "--system", "--gid", group, "--no-create-home", "--home-dir", "/var/lib/certctl",
             "--shell", "/usr/sbin/nologin", user]
        )  # fmt: skip
    return commands


def create(user: str, group: str) -> Owner:
    """Create the missing system user and group, with the group as the user's primary one.

    Raises:
        ConfigInvalid: ``missing-account`` when that takes root or fails.
    """
    for argv in missing(user, group):
        try:
            why = "accounts are root's to make"
            ended = run(argv, deadline=_DEADLINE, root_because=why) if os.geteuid() == 0 else None
        except Missing:
            ended = None
        if ended is None or not ended.ok:
            raise ConfigInvalid(
                Slug.MISSING_ACCOUNT,
                f"the user {user} and the group {group} are needed and could not be made",
                seen=ended.output.splitlines()[-3:] if ended else ["only root can"],
                next=["sudo " + " ".join(argv)],
            )
    return require(user, group)


def become(user: str, group: str) -> None:
    """Change this process from root to a user and group for good: the saved ids change too (setuid(2)).

    Raises:
        ConfigInvalid: ``missing-account``.
    """
    owner = require(user, group)
    os.setgroups(sorted(groups_of(user) | {owner.gid}))
    os.setgid(owner.gid)
    os.setuid(owner.uid)
    os.environ["HOME"] = pwd.getpwnam(user).pw_dir
