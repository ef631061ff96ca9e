"""The state of a sandbox: its processes and addresses, in one file below its root."""

import json
from dataclasses import asdict, dataclass

from certctl.errors import ConfigInvalid
from certctl.io.files import PUBLIC, write_atomic, writing
from certctl.sandbox.daemons import Daemon
from certctl.sandbox.layout import Layout
from certctl.slugs import Slug


@dataclass(frozen=True, slots=True)
class Addresses:
    """The addresses of a sandbox's parts; its fields are the keys of ``certctl sandbox status --json``."""

    acme_directory: str
    acme_ca_file: str
    issuer_root_file: str
    pebble_management: str
    dns: str
    approval: str
    http: str
    https: str
    config: str


@dataclass(frozen=True, slots=True)
class SandboxState:
    """The state of a sandbox; ``daemons`` in the order they were started."""

    layout: Layout
    daemons: tuple[Daemon, ...] = ()
    addresses: Addresses | None = None

    @property
    def running(self) -> bool:
        """Tell whether every part of it runs."""
        return bool(self.daemons and self.addresses) and all(daemon.running for daemon in self.daemons)

    def write(self) -> None:
        """Write the state; called after every process that is started, so that ``down`` finds each of them."""
        addresses = asdict(self.addresses) if self.addresses else None
        content = {"daemons": [asdict(daemon) for daemon in self.daemons], "addresses": addresses}
        with writing(self.layout.state):
            write_atomic(self.layout.state, json.dumps(content, indent=1) + "\n", PUBLIC)


def read(layout: Layout) -> SandboxState:
    """Return the state of a sandbox.

    Raises:
        ConfigInvalid: there is none, or its file is not ours.
    """
    try:
        content = json.loads(layout.state.read_text(encoding="utf-8"))
        daemons = tuple(Daemon(**row) for row in content["daemons"])
        addresses = Addresses(**content["addresses"]) if content["addresses"] else None
    except FileNotFoundError as error:
        command = f"certctl sandbox up --root {layout.root}"
        raise ConfigInvalid(Slug.SANDBOX_FAILED, f"there is no sandbox in {layout.root}", next=[command]) from error
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigInvalid(Slug.SANDBOX_FAILED, f"{layout.state} does not describe a sandbox: {error}") from error
    return SandboxState(layout, daemons, addresses)


def claim(layout: Layout) -> None:
    """Claim a directory for a sandbox; ``up`` empties it, so one with other files in it is refused.

    Raises:
        ConfigInvalid: it holds something, and that is not a sandbox.
    """
    with writing(layout.root):
        layout.root.mkdir(parents=True, exist_ok=True)
        if layout.state.exists():
            return
        if any(layout.root.iterdir()):
            raise ConfigInvalid(
                Slug.SANDBOX_FAILED,
                f"{layout.root} is not empty and not a sandbox: nothing in it was touched",
                expected=["--root with an empty directory, or one that does not exist yet"],
            )
        SandboxState(layout).write()
