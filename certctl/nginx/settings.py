"""The settings of nginx (party 4), and the names of the files certctl writes for it."""

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
        conf_dir: The include directory of our generated files.
        live: The pairs that nginx's workers open, behind a catch-all; the daemon's user may own it.
        sites: The pairs that server blocks name; root's in every mode.
        challenges: The directory of HTTP-01 tokens, one file each.
        site_root: The directory of the pages that every domain shows without an ``upstream``.
        upstream: ``""``, ``http://host:port`` or ``unix:/path``.
        listen: Addresses as in nginx's ``listen``; handshakes connect to the first one.
        reload_command: The command that reloads nginx instead of a SIGHUP to the master; empty means the signal.
        template: A jinja2 file that replaces our server block.
        mode: The mode of sites that have no mode of their own.
        user: The owner of the mirror in modes ``shared`` and ``lua``.
        group: The workers' group, which may read keys there.
        socket: The daemon's socket, over which it obtains a certificate for a first visitor.
        test_deadline: The limit of ``nginx -t``, and again of new workers' start, which parses the same text.
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
        """Return the path of the base file; no domain has one label, so no server block has this name."""
        return self.conf_dir / BASE_NAME

    @property
    def prefix(self) -> Path | None:
        """Return the root of an nginx laid out as one tree, ``sbin/nginx`` beside ``conf/``; else None.

        Relative paths in its configuration begin there, as with ``nginx -p``.
        """
        home = Path(self.binary).parent.parent
        is_tree = Path(self.binary).parent.name == "sbin" and self.config.parent == home / "conf"
        return home if is_tree else None

    def block_path(self, domain: Domain) -> Path:
        """Return the path of a domain's server block."""
        return self.conf_dir / f"{domain.stem}.conf"

    def require_room_for_blocks(self) -> None:
        """Refuse to begin when root could not write into the include directory.

        Raises:
            ConfigInvalid: ``state-unwritable``.
        """
        if os.geteuid() == 0:
            with as_root():
                require_room_for("a server block", self.conf_dir)

    @property
    def lua_path(self) -> Path:
        """Return the path of our Lua file; nginx does not include it, as its name does not end in ``.conf``."""
        return self.conf_dir / LUA_NAME

    @property
    def miss_socket(self) -> Path:
        """Return the socket to which mode ``shared`` logs handshake errors, for the daemon to read."""
        return self.socket.with_name("miss.sock")

    @property
    def wanted_rights(self) -> Rights:
        """Return the mirror's rights in this mode: for the master alone, or for workers too."""
        return CLOSED if self.mode is Mode.BLOCKS else FOR_WORKERS

    @property
    def rights(self) -> Rights:
        """Return the mirror's rights now, which during a change of the mode are not yet the wanted ones."""
        return rights_of(self.live) or self.wanted_rights

    @property
    def catch_all_pairs(self) -> Place:
        """Return the directory of pairs that workers open."""
        return Place(self.live, self.rights, is_roots=False)

    @property
    def block_pairs(self) -> Place:
        """Return the directory of pairs that server blocks name, which nginx's master opens."""
        return Place(self.sites, CLOSED, is_roots=True)

    def place_of(self, site: Site) -> Place:
        """Return the directory in which a site's pair belongs."""
        return self.block_pairs if self.has_block(site) else self.catch_all_pairs

    def other_place(self, site: Site) -> Place:
        """Return the other directory, where a site's pair lay in another mode or for an older certctl."""
        return self.catch_all_pairs if self.has_block(site) else self.block_pairs

    def has_block(self, site: Site) -> bool:
        """Tell whether a site gets a server block; a wildcard always does, whatever the modes."""
        return site.domain.is_wildcard or Mode.BLOCKS in {self.mode, site.mode}
