"""Who can read private keys in modes ``shared`` and ``lua``: nginx's workers, no other process of their user."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from certctl.errors import ConfigInvalid
from certctl.io import accounts
from certctl.io.fsuid import as_root
from certctl.nginx import mainconf
from certctl.nginx.command import NginxCommand
from certctl.nginx.master import Master, workers
from certctl.nginx.service import name_of
from certctl.nginx.settings import NginxSettings
from certctl.slugs import Slug


@dataclass(frozen=True, slots=True)
class Identity:
    """The user and groups of a process, on which its rights to files depend."""

    uid: int
    gids: frozenset[int]

    def may_read(self, settings: NginxSettings) -> bool:
        """Tell whether the process can read keys of mode 0640 of certctl's user and the workers' group."""
        owner = accounts.find(settings.user, settings.group)
        return self.uid == 0 or (owner is not None and (self.uid == owner.uid or owner.gid in self.gids))


def running(master: Master) -> Sequence[Identity]:
    """Return the identities of the workers that take connections now; none when nginx is not running."""
    pid = master.pid()
    return [found for worker, _ in workers(pid).accepting if (found := _identity(worker))] if pid else []


@dataclass(frozen=True, slots=True)
class Workers:
    """The arguments of nginx's ``user`` directive, and the identity they give to workers from the next reload."""

    arguments: Sequence[str]
    identity: Identity

    @property
    def line(self) -> str:
        """Return the ``user`` directive as it stands in the file."""
        return f"user {' '.join(self.arguments)};"

    def line_for(self, settings: NginxSettings) -> str:
        """Return the ``user`` directive with which workers could read keys."""
        return f"user {self.arguments[0]} {settings.group};"


def configured(settings: NginxSettings, command: NginxCommand, master: Master) -> Workers:
    """Return the ``user`` directive of the main file and the identity of the workers it starts.

    Only a master that runs as root can give its workers another user (nginx ``user``: "if the master process runs
    with super-user privileges").
    """
    pid = master.pid()
    started_by = _identity(pid) if pid else Identity(os.geteuid(), frozenset(os.getgroups()))
    words = mainconf.main_arguments(settings.config, "user") or _built(command.build)
    if started_by and started_by.uid != 0:
        return Workers(words, started_by)
    user, group = words[0], (words[1:] or words[:1])[0]
    owner = accounts.find(user, group)
    gids = accounts.groups_of(user) | {owner.gid} if owner else frozenset[int]()
    return Workers(words, Identity(owner.uid if owner else -1, gids))


def require(settings: NginxSettings, command: NginxCommand, master: Master) -> None:
    """Refuse a mode in which nginx's workers could not read keys.

    Raises:
        ConfigInvalid: ``keys-out-of-reach``, with the line that nginx's main file needs.
    """
    meant = configured(settings, command, master)
    if meant.identity.may_read(settings):
        return
    raise ConfigInvalid(
        Slug.KEYS_OUT_OF_REACH,
        f"in mode {settings.mode} nginx's workers open keys, and they are not in the group {settings.group}",
        seen=[f"{meant.line} in {settings.config}"],
        expected=[meant.line_for(settings)],
        next=[
            f"put that line into {settings.config}",
            f"systemctl reload {name_of(master.pid(), settings.binary)}",
            f"certctl init --mode {settings.mode}",
        ],
    )


def _built(build: str) -> list[str]:
    """Return the compiled-in user and group (``nginx -V``); nginx's own default is the user "nobody"."""
    found = [re.search(rf"--{option}=(\S+)", build) for option in ("user", "group")]
    return [match[1] for match in found if match] or ["nobody"]


@as_root()
def _identity(pid: int) -> Identity | None:
    """Return a process's effective user and all its groups (proc_pid_status(5)); None when it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    gids = {int(fields["Gid"].split()[1]), *map(int, fields.get("Groups", "").split())}
    return Identity(int(fields["Uid"].split()[1]), frozenset(gids))
