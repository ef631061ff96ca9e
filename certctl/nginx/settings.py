"""What the nginx party needs to know of this host, and the names of the files it writes."""

import os
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from certctl.domain import Domain
from certctl.io.fsuid import as_root
from certctl.nginx.mirror import CLOSED, FOR_WORKERS, Rights, rights_of
from certctl.nginx.place import Place, require_room_for
from certctl.values import Mode, Site

BASE_NAME = "00-certctl-base.conf"
LUA_NAME = "certctl.lua"


@dataclass(frozen=True, slots=True, kw_only=True)
class NginxSettings:
    """The ``[nginx]`` section with every path made absolute.

    Attributes:
        config: nginx's main configuration file.
        conf_dir: The include directory whose generated files are ours.
        live: The pairs that nginx's workers open, behind a catch-all; it may belong to the daemon's user.
        sites: The pairs that server blocks name; root's in every mode.
        challenges: Where the answers to HTTP-01 challenges lie, one file per token.
        site_root: The pages every domain shows when there is no ``upstream``.
        upstream: ``""``, ``http://host:port`` or ``unix:/path``.
        listen: Addresses as nginx writes them; the first one is where the proof connects.
        reload_command: Runs instead of a SIGHUP to the master; empty means the signal.
        template: A jinja2 file in place of our server block.
        mode: How the host serves sites that have no mode of their own.
        user: Whose the mirror is in modes ``shared`` and ``lua``.
        group: The workers' group, which may read keys there.
        socket: Where the daemon answers that gets a certificate for a first visitor, if it runs.
        test_deadline: For ``nginx -t``, and again for new workers after a reload, which parse the same text.
    """

    config: Path
    conf_dir: Path
    live: Path
    sites: Path
    challenges: Path
    site_root: Path
    lock_file: Path
    binary: str = "nginx"
    upstream: str = ""
    http_port: int = 80
    https_port: int = 443
    listen: tuple[str, ...] = ("*", "[::]")
    reload_command: tuple[str, ...] = ()
    template: Path | None = None
    mode: Mode = Mode.BLOCKS
    user: str = "certctl"
    group: str = "certctl"
    socket: Path = Path("/run/certctl/serve.sock")
    lock_wait: timedelta = timedelta(minutes=2)
    test_deadline: timedelta = timedelta(seconds=30)
    confirm_deadline: timedelta = timedelta(seconds=10)

    @property
    def base_path(self) -> Path:
        """Return the base file; a domain has two labels or more, so no server block can have this name."""
        return self.conf_dir / BASE_NAME

    @property
    def prefix(self) -> Path | None:
        """Return where nginx is laid out as one tree, ``sbin/nginx`` beside ``conf/``; None as Debian does it.

        What its configuration names without a leading slash begins there, also where ``nginx -p`` said so.
        """
        home = Path(self.binary).parent.parent
        is_tree = Path(self.binary).parent.name == "sbin" and self.config.parent == home / "conf"
        return home if is_tree else None

    def block_path(self, domain: Domain) -> Path:
        """Return the server block of one domain."""
        return self.conf_dir / f"{domain.stem}.conf"

    def require_room_for_blocks(self) -> None:
        """Refuse to begin what could not be written into the include directory; only root writes there.

        Raises:
            ConfigInvalid: ``state-unwritable``.
        """
        if os.geteuid() == 0:
            with as_root():
                require_room_for("a server block", self.conf_dir)

    @property
    def lua_path(self) -> Path:
        """Return our Lua file; its name does not end in ``.conf``, so nginx does not include it."""
        return self.conf_dir / LUA_NAME

    @property
    def miss_socket(self) -> Path:
        """Return where mode ``shared`` sends its handshake errors: a hint for the daemon."""
        return self.socket.with_name("miss.sock")

    @property
    def wanted_rights(self) -> Rights:
        """Return who must be able to read the mirror in this mode: the master alone, or the workers too."""
        return CLOSED if self.mode is Mode.BLOCKS else FOR_WORKERS

    @property
    def rights(self) -> Rights:
        """Return who may read the mirror now, which while a host moves is not yet what it will be."""
        return rights_of(self.live) or self.wanted_rights

    @property
    def catch_all_pairs(self) -> Place:
        """Return where workers find pairs."""
        return Place(self.live, self.rights, is_roots=False)

    @property
    def block_pairs(self) -> Place:
        """Return where nginx's master finds pairs, as server blocks name them."""
        return Place(self.sites, CLOSED, is_roots=True)

    def place_of(self, site: Site) -> Place:
        """Return where a site's pair belongs."""
        return self.block_pairs if self.has_block(site) else self.catch_all_pairs

    def other_place(self, site: Site) -> Place:
        """Return where a site's pair lay when it was served in the other way, or by a certctl before this one."""
        return self.catch_all_pairs if self.has_block(site) else self.block_pairs

    def has_block(self, site: Site) -> bool:
        """Tell whether a site gets a server block of its own; a wildcard always does, and it wins over the rest."""
        return site.domain.is_wildcard or Mode.BLOCKS in {self.mode, site.mode}
