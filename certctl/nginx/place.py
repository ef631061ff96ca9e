"""The mirror's two directories: root's pairs for server blocks, and the pairs that nginx's workers open.

nginx's master opens the pairs of server blocks as root, at each test, reload and boot. A user who could write there
could put a FIFO in a pair's place, and nginx would never start again; so in every mode only root can.
"""

import os
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

from certctl.domain import Domain
from certctl.errors import ConfigInvalid
from certctl.io.files import make_directory, narrow, require_room, swap_symlink
from certctl.io.fsuid import as_root
from certctl.nginx import mirror
from certctl.nginx.mirror import Rights, Slot
from certctl.slugs import Slug
from certctl.values import Certificate, Site


@dataclass(frozen=True, slots=True)
class Place:
    """One of the two directories of pairs.

    Attributes:
        is_roots: Whether root writes here as root; in the other directory it writes as the owner of the state.
    """

    path: Path
    rights: Rights
    is_roots: bool

    def reached(self) -> AbstractContextManager[None]:
        """Return a context that has the rights to write here."""
        return as_root() if self.is_roots else nullcontext()

    def make(self) -> None:
        """Create the directory with its mode, and narrow a wider mode of root's.

        Raises:
            OSError: the directory cannot be made.
        """
        with self.reached():
            make_directory(self.path, self.rights.directory)
            if self.is_roots:
                narrow(self.path, self.rights.directory)

    def require_room(self) -> None:
        """Refuse to begin when a pair could not be written here; another user than root skips root's directory.

        Raises:
            ConfigInvalid: ``state-unwritable``.
        """
        if os.geteuid() == 0 or not self.is_roots:
            with self.reached():
                require_room_for("a pair", self.path)

    def link(self, domain: Domain) -> Path:
        """Return the path of a domain's link ``current``, through which nginx reads the pair."""
        return mirror.current_path(self.path, domain)

    def holds(self, site: Site) -> bool:
        """Tell whether nginx would find exactly this version here; False without rights to look."""
        with suppress(PermissionError), self.reached():
            return mirror.holds(self.path, site, self.rights)
        return False

    def has(self, domain: Domain) -> bool:
        """Tell whether a domain has a directory here; False without rights to look."""
        with suppress(PermissionError), self.reached():
            return mirror.domain_path(self.path, domain).is_dir()
        return False

    def has_pair(self, certificate: Certificate) -> bool:
        """Tell whether ``current`` leads to this version and its files exist; their content is not read."""
        here = [self.link(certificate.domain) / name for name in (mirror.CHAIN, mirror.KEY)]
        is_there = mirror.is_version(self.target(certificate.domain), certificate.version)
        with self.reached():
            return is_there and all(path.is_file() for path in here)

    def target(self, domain: Domain) -> str | None:
        """Return the name of the directory in force, see ``mirror.target``; None without rights to look."""
        with suppress(PermissionError), self.reached():
            return mirror.target(self.path, domain)
        return None

    def fingerprints(self, domain: Domain) -> frozenset[str]:
        """Return the leaves of all versions here; see ``mirror.fingerprints``."""
        with self.reached():
            return mirror.fingerprints(self.path, domain)

    def leaf(self, domain: Domain) -> str | None:
        """Return the SHA-256 of the leaf in force, see ``mirror.leaf``; None without rights to look."""
        with suppress(PermissionError), self.reached():
            return mirror.leaf(self.path, domain)
        return None

    def slot(self, site: Site) -> Slot:
        """Return the directory for a version; see ``mirror.slot``."""
        with self.reached():
            return mirror.slot(self.path, site, self.rights)

    def stage(self, to: Slot, site: Site) -> None:
        """Write a version without pointing ``current`` at it; see ``mirror.stage``."""
        with self.reached():
            mirror.stage(to, site, self.rights)

    def put(self, site: Site) -> None:
        """Write a version and put it in force, without the possibility of a rollback."""
        with self.reached():
            slot = mirror.slot(self.path, site, self.rights)
            mirror.stage(slot, site, self.rights)
            swap_symlink(self.link(site.domain), slot.directory.name)

    def prune(self, certificate: Certificate) -> None:
        """Remove old versions; see ``mirror.prune``."""
        with self.reached():
            mirror.prune(self.path, certificate)

    def remove(self, domain: Domain) -> None:
        """Remove all versions of a domain's pair."""
        if self.has(domain):
            with self.reached():
                mirror.remove(self.path, domain)


def require_room_for(what: str, path: Path) -> None:
    """Refuse to begin when a file could not be written into a directory, for want of rights or of space.

    Raises:
        ConfigInvalid: ``state-unwritable``.
    """
    there = next(place for place in (path, *path.parents) if place.exists())
    if not os.access(there, os.W_OK):
        raise ConfigInvalid(
            Slug.STATE_UNWRITABLE,
            f"{path} cannot be written, and {what} has to go there: nothing was ordered",
            expected=["ReadWritePaths with it in the unit that runs this"],
            next=["certctl timer install", "certctl serve --install", "certctl doctor"],
        )
    require_room(there)
