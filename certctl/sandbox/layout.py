"""The paths of a sandbox: all below one directory, laid out like a real host."""

import re
import socket
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from certctl.errors import ConfigInvalid
from certctl.slugs import Slug

_PLAIN = re.compile(r"(/[A-Za-z0-9._@+~-]+)+")  # paths go into nginx's text and into a shell's env file
_HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Layout:
    """The paths of one sandbox; ``at`` makes one."""

    root: Path

    @property
    def state(self) -> Path:
        """Return the file with the state of the sandbox: its processes and addresses."""
        return self.root / "sandbox.json"

    @property
    def config(self) -> Path:
        """Return the file of certctl's configuration."""
        return self.root / "etc/certctl/config.toml"

    @property
    def nginx_conf(self) -> Path:
        """Return nginx's main file."""
        return self.root / "etc/nginx/nginx.conf"

    @property
    def conf_dir(self) -> Path:
        """Return the directory of generated server blocks."""
        return self.root / "etc/nginx/certctl.d"

    @property
    def page(self) -> Path:
        """Return the directory of the page every domain shows."""
        return self.root / "var/www/statuspage"

    @property
    def logs(self) -> Path:
        """Return the directory of the programs' logs."""
        return self.root / "log"

    @property
    def serve_socket(self) -> Path:
        """Return where certctl's daemon listens, if it runs."""
        return self.root / "run/certctl/serve.sock"

    @property
    def ca(self) -> Path:
        """Return the directory of Pebble's files."""
        return self.root / "ca"

    @property
    def dns_world(self) -> Path:
        """Return the file the DNS server serves."""
        return self.root / "dns.json"

    @property
    def approvals(self) -> Path:
        """Return the file the approval endpoint answers from."""
        return self.root / "approvals.json"


def at(root: Path) -> Layout:
    """Return the layout below ``root``.

    Raises:
        ConfigInvalid: the path cannot be written into nginx's configuration, or is the host itself.
    """
    absolute = root.absolute()
    if not _PLAIN.fullmatch(str(absolute)) or ".." in absolute.parts:
        raise ConfigInvalid(
            Slug.SANDBOX_FAILED,
            f"{absolute} cannot hold a sandbox",
            expected=["a directory of its own whose path has only letters, digits and ._@+~-"],
        )
    return Layout(absolute)


def free_ports(count: int) -> list[int]:
    """Return ports that are free now; one may be taken before it is bound, so the caller must retry."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((_HOST, 0))
        return [each.getsockname()[1] for each in sockets]
