"""The users of a sandbox's parts: in root's each part has one of its own, as on a real host."""

import grp
import os
import pwd
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from certctl.errors import ConfigInvalid
from certctl.io import fsuid
from certctl.io.fsuid import Owner
from certctl.sandbox.layout import Layout
from certctl.slugs import Slug

# Of the distribution's own, in this order; none is made, and none is certctl: it owns a real host's keys.
_DAEMON = ("games", "daemon")
_WORKERS = ("www-data", "nginx", "http", "nobody")
_OUTSIDERS = ("nobody",)
_ROOT = Owner(0, 0)


@dataclass(frozen=True, slots=True)
class Users:
    """The users of one sandbox, by name.

    Attributes:
        daemon: The user who runs certctl's daemon, and owns the state in modes shared and lua.
        group: That user's group, which nginx's workers have too.
        workers: The user of nginx's workers; empty when its master cannot change users.
        outsiders: The user of the parts that stand for other hosts: CA, DNS, approval endpoint; empty as before.
    """

    daemon: str
    group: str
    workers: str = ""
    outsiders: str = ""

    def run_outsider(self, argv: Sequence[str]) -> list[str]:
        """Return the argv that runs a program as the outsiders' user."""
        if not self.outsiders:
            return list(argv)
        user = pwd.getpwnam(self.outsiders)
        return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--", *argv]

    @contextmanager
    def reaching_as_daemon(self) -> Iterator[Owner]:
        """Reach files as the daemon's user for a block; without root nothing changes."""
        user = pwd.getpwnam(self.daemon)
        whose = Owner(user.pw_uid, user.pw_gid)
        fsuid.work_as(whose)
        try:
            yield whose
        finally:
            fsuid.work_as(_ROOT)


def of_this_host() -> Users:
    """Return the users of a sandbox that is started now.

    Raises:
        ConfigInvalid: ``missing-account``: root has no unprivileged user for a part.
    """
    if os.geteuid() != 0:
        return Users(pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name)
    daemon = _first(_DAEMON)
    group = grp.getgrgid(pwd.getpwnam(daemon).pw_gid).gr_name
    return Users(daemon, group, _first(_WORKERS), _first(_OUTSIDERS))


def require_way(users: Users, layout: Layout) -> None:
    """Check that the unprivileged users can enter a sandbox's directory, before any file is made.

    Raises:
        ConfigInvalid: ``sandbox-failed``: a directory above it is closed to them.
    """
    above = next(parent for parent in layout.root.parents if parent.exists())
    try:
        with users.reaching_as_daemon():
            os.stat(f"{above}/.")  # noqa: PTH116 - a Path loses the dot, and with it the question
    except PermissionError as error:
        raise ConfigInvalid(
            Slug.SANDBOX_FAILED,
            f"{layout.root} cannot hold a sandbox of root's: its nginx and its daemon run as {users.workers} and"
            f" {users.daemon}, who cannot enter {above}",
            expected=["a directory below one that everybody may enter"],
            next=["certctl sandbox up --root /tmp/certctl-sandbox"],
        ) from error


def _first(names: Sequence[str]) -> str:
    known = {entry.pw_name for entry in pwd.getpwall()}
    found = next((name for name in names if name in known), None)
    if found is None:
        raise ConfigInvalid(
            Slug.MISSING_ACCOUNT,
            f"root's sandbox needs an unprivileged user, and none of {', '.join(names)} is on this host",
            expected=["one of them, or a sandbox of an ordinary user: sandbox up needs no root"],
        )
    return found
