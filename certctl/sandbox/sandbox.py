"""Start, inspect and stop a sandbox: DNS, approval endpoint, nginx and Pebble below one directory."""

import json
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from certctl.errors import ConfigInvalid
from certctl.io.files import remove_tree, writing
from certctl.io.locks import lock
from certctl.sandbox import daemons, fixtures, nginx_conf, pebble, readiness, state, users
from certctl.sandbox.daemons import Daemon
from certctl.sandbox.layout import Layout, at, free_ports
from certctl.sandbox.state import Addresses, SandboxState
from certctl.sandbox.users import Users
from certctl.slugs import Slug

_LOCK_WAIT = timedelta(minutes=2)
_TRIES = 5
_PASSABLE = 0o755  # what is private below has a mode of its own
_ANEW = ("etc", "var", "run", "log", "ca")


Init = Callable[[Path], None]
"""Does for the configuration at a path what ``certctl init`` does for a host: directories and nginx's base file."""


def up(
    root: Path, init: Init, lifetime: timedelta = pebble.NINETY_DAYS, mode: str = "blocks", *, serve: bool = False
) -> tuple[SandboxState, bool]:
    """Start a sandbox; return its state and whether anything changed.

    ``lifetime`` is how long its CA's certificates live; ``mode`` is how its nginx serves; ``serve`` runs certctl's
    own daemon in it too.

    A sandbox that is down begins a new world, because a restarted Pebble is a new CA: certificates and accounts
    of the old one are worth nothing. If one part fails to come up, the others are stopped again.

    Raises:
        ConfigInvalid: ``sandbox-failed`` with the end of the log of the part that failed, or ``missing-program``.
    """
    layout, whose = at(root), users.of_this_host()
    users.require_way(whose, layout)
    state.claim(layout)
    with _alone(layout):
        before = state.read(layout)
        if before.running:
            return before, False
        _stop(before)
        for _ in range(_TRIES):
            try:
                return _Startup(layout, whose, init, serve=serve).start(lifetime, mode), True
            except readiness.PortTaken:
                continue
    raise ConfigInvalid(Slug.SANDBOX_FAILED, f"the ports for the sandbox were taken {_TRIES} times in a row")


def down(root: Path) -> tuple[SandboxState, bool]:
    """End every process of a sandbox; its files stay. Return its state and whether anything changed.

    Raises:
        ConfigInvalid: there is no sandbox.
    """
    layout = at(root)
    state.read(layout)
    with _alone(layout):
        before = state.read(layout)
        _stop(before)
        after = SandboxState(layout)
        after.write()
    return after, bool(before.daemons)


def status(root: Path) -> SandboxState:
    """Return the state of a sandbox.

    Raises:
        ConfigInvalid: there is no sandbox.
    """
    return state.read(at(root))


class _Startup:
    """The start of a sandbox: unless every part comes to answer, those that were started are stopped again."""

    def __init__(self, layout: Layout, whose: Users, init: Init, *, serve: bool) -> None:
        self._layout = layout
        self._users = whose
        self._init = init
        self._serve = serve
        self._standing = SandboxState(layout)
        self._undo = ExitStack()

    def start(self, lifetime: timedelta, mode: str) -> SandboxState:
        """Write new files and start the parts in the order of their dependencies."""
        for old in _ANEW:
            remove_tree(self._layout.root / old)
        with writing(self._layout.root):
            if self._users.workers:
                self._layout.root.chmod(_PASSABLE)
            fixtures.write_files(self._layout, self._users)
        with self._undo:
            addresses = self._start_all(lifetime, mode)
            self._standing = replace(self._standing, addresses=addresses)
            self._standing.write()
            self._undo.pop_all()
        return self._standing

    def _start_all(self, lifetime: timedelta, mode: str) -> Addresses:
        dns_port = self._start_ours("dns", "certctl.sandbox.dns_server", self._layout.dns_world)
        approval_port = self._start_ours("approval", "certctl.sandbox.approval_server", self._layout.approvals)
        acme, management, http, https = free_ports(4)
        resolver = f"127.0.0.1:{dns_port}"
        ca = pebble.Pebble(
            self._layout.ca, acme, management, http, https, resolver,
            blocklist=(fixtures.NEVER_SIGNED,), lifetime=lifetime,
        )  # fmt: skip
        self._start_pebble(ca)
        addresses = Addresses(
            acme_directory=ca.directory_url,
            acme_ca_file=str(ca.ca_file),
            issuer_root_file=str(ca.issuer_root),
            pebble_management=ca.management_url,
            dns=ca.dns,
            approval=f"http://127.0.0.1:{approval_port}/approvalendpoint/{{domain}}",
            http=f"127.0.0.1:{http}",
            https=f"127.0.0.1:{https}",
            config=str(self._layout.config),
        )
        fixtures.write_config(self._layout, self._users, addresses, profile=_profile(ca), mode=mode)
        self._init(self._layout.config)
        self._start_nginx(http, https)
        if self._serve:
            argv = readiness.python_module("certctl", "--config", str(self._layout.config), "serve")
            readiness.wait_for_socket(self._start("serve", argv), self._layout.serve_socket)
        return addresses

    def _start_ours(self, name: str, module: str, file: Path) -> int:
        argv = self._users.run_outsider(readiness.python_module(module, "--file", str(file)))
        return readiness.port_announced(self._start(name, argv))

    def _start_nginx(self, http: int, https: int) -> None:
        daemon = self._start("nginx", nginx_conf.argv(self._layout))
        for port in (http, https):
            readiness.wait_for_port(daemon, port)

    def _start_pebble(self, ca: pebble.Pebble) -> None:
        pebble.write_files(ca)
        if self._users.outsiders:
            shutil.chown(ca.key, self._users.outsiders)
        argv = self._users.run_outsider(pebble.argv(ca, pebble.find_pebble()))
        daemon = self._start("pebble", argv, pebble.environment(ca))
        for port in (ca.acme_port, ca.management_port):
            readiness.wait_for_port(daemon, port)
        pebble.wait_ready(ca)

    def _start(self, name: str, argv: list[str], env: dict[str, str] | None = None) -> Daemon:
        daemon = daemons.start(name, argv, self._layout.logs / f"{name}.log", env)
        self._undo.callback(daemons.stop, daemon)
        self._standing = replace(self._standing, daemons=(*self._standing.daemons, daemon))
        self._standing.write()
        return daemon


def _profile(ca: pebble.Pebble) -> str:
    """Return the profile to ask for: 2.10 picks one at random when none is named, 2.4.0 has none."""
    directory = json.loads(pebble.fetch(ca, ca.acme_port, "/dir"))
    return pebble.DEFAULT_PROFILE if directory["meta"].get("profiles") else ""


def _stop(before: SandboxState) -> None:
    for daemon in reversed(before.daemons):
        daemons.stop(daemon)


def _alone(layout: Layout) -> AbstractContextManager[None]:
    return lock(layout.root / ".lock", _LOCK_WAIT, f"the sandbox in {layout.root}")
