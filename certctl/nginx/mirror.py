"""The mirror: what nginx reads, one directory per certificate version and one link that is swapped by rename.

    live/status.example.com/3/{fullchain,privkey}.pem
    live/status.example.com/current -> 3

Key and chain change together because nginx goes through ``current``. The store is the truth; everything here
can be made again from it.
"""

import os
import secrets
import ssl
import stat
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from certctl.domain import Domain
from certctl.errors import WebServerFailed
from certctl.io.files import (
    PRIVATE,
    PUBLIC,
    NotRegular,
    make_directory,
    open_regular,
    read_regular,
    remove_tree,
    swap_symlink,
    sync_directory,
    write_new,
)
from certctl.values import Certificate, Pem, Site

CHAIN = "fullchain.pem"
KEY = "privkey.pem"
CURRENT = "current"
_NAME_MAX = 255
_KEPT_VERSIONS = 2
_MOST = 1_000_000


@dataclass(frozen=True, slots=True)
class Rights:
    """The modes of the mirror's directories and keys; chains are public, and closed in by the directories."""

    directory: int
    key: int


CLOSED = Rights(0o700, PRIVATE)
# No set-group-id bit: systemd's RestrictSUIDSGID forbids to set one, and who makes files here has the group.
FOR_WORKERS = Rights(0o750, 0o640)


def rights_of(live: Path) -> Rights | None:
    """Return what the mirror's own directory grants; None when there is none yet."""
    try:
        is_open = live.stat().st_mode & stat.S_IXGRP
    except OSError:
        return None
    return FOR_WORKERS if is_open else CLOSED


def domain_path(live: Path, domain: Domain) -> Path:
    """Return a domain's directory; a wildcard of more than 255 characters goes by its short name."""
    fits = len(domain.directory) <= _NAME_MAX
    return live / (domain.directory if fits else domain.stem)


def current_path(live: Path, domain: Domain) -> Path:
    """Return the link nginx goes through."""
    return domain_path(live, domain) / CURRENT


def stage(live: Path, site: Site, rights: Rights) -> Path | None:
    """Put a version's directory in place without pointing at it; return what is new, None if all was there.

    A directory that a crash left incomplete, or that somebody changed, is replaced; while ``current`` points at
    it, the link takes a detour so that nginx finds a complete pair at every moment.

    Raises:
        WebServerFailed: ``nginx-test-failed`` when OpenSSL cannot load this pair, as nginx could not either.
    """
    home = domain_path(live, site.domain)
    version = home / str(site.certificate.version)
    new_home = _settle(home, rights)
    if _holds(version, site.pem, rights):
        return None
    _sweep(home)
    try:
        detour = _build(home, site, rights) if target(live, site.domain) == version.name else None
        if detour:
            swap_symlink(home / CURRENT, detour.name)
        _replace(version, site, rights)
    except BaseException:
        if new_home:
            remove_tree(home)
        else:
            if target(live, site.domain) != version.name:
                remove_tree(version)
            _sweep(home)
        raise
    if detour:
        swap_symlink(home / CURRENT, version.name)
        remove_tree(detour)
    return home if new_home else version


def holds(live: Path, site: Site, rights: Rights) -> bool:
    """Tell whether nginx would find exactly this version through ``current``."""
    version = str(site.certificate.version)
    if target(live, site.domain) != version:
        return False
    return _holds(domain_path(live, site.domain) / version, site.pem, rights)


def target(live: Path, domain: Domain) -> str | None:
    """Return the version ``current`` points at, or None; a link in the directory's own place is none of ours."""
    try:
        return None if domain_path(live, domain).is_symlink() else current_path(live, domain).readlink().name
    except OSError:
        return None


def fingerprints(live: Path, domain: Domain) -> frozenset[str]:
    """Return the SHA-256 of the leaf of every version that is here; nginx may still serve an older one."""
    found = set[str]()
    for chain in domain_path(live, domain).glob(f"*/{CHAIN}"):
        with suppress(OSError, ValueError):
            leaf, end, _ = read_regular(chain, _MOST).decode("ascii").partition("-----END CERTIFICATE-----")
            found.add(sha256(ssl.PEM_cert_to_DER_cert(leaf + end)).hexdigest())
    return frozenset(found)


def prune(live: Path, certificate: Certificate) -> None:
    """Keep the version in force and the newest other one; remove older ones and what crashes left."""
    home = domain_path(live, certificate.domain)
    if home.is_symlink():
        return
    in_force = target(live, certificate.domain)
    others = [path for path in home.iterdir() if path.name.isdigit() and path.name != in_force]
    for path in sorted(others, key=lambda path: int(path.name))[: -(_KEPT_VERSIONS - 1)]:
        remove_tree(path)
    _sweep(home)


def remove(live: Path, domain: Domain) -> None:
    """Remove all versions of a domain."""
    home = domain_path(live, domain)
    with suppress(FileNotFoundError):
        remove_tree(home)
        sync_directory(live)


def set_rights(live: Path, rights: Rights) -> None:
    """Give everything that is here these modes, when the way nginx serves changes.

    Every file is opened first and never followed, so that nobody who may write here can turn this on another file.
    """
    for _, _, names, directory in os.fwalk(live):
        os.fchmod(directory, rights.directory)
        for name in {KEY, CHAIN} & set(names):
            # What is no file is nothing of ours: the next change puts a pair in its place.
            with suppress(NotRegular), open_regular(name, directory) as file:
                if os.fstat(file.fileno()).st_nlink == 1:  # else another name of it is elsewhere
                    os.fchmod(file.fileno(), rights.key if name == KEY else PUBLIC)


def _settle(home: Path, rights: Rights) -> bool:
    """Make a domain's directory; return whether it is new."""
    make_directory(home.parent, rights.directory)
    if home.is_symlink():
        home.unlink()  # not ours: nothing may be written, or swept up, behind it
    if home.is_dir():
        return False
    make_directory(home, rights.directory)
    sync_directory(home.parent)
    return True


def _replace(version: Path, site: Site, rights: Rights) -> None:
    fresh = _build(version.parent, site, rights)
    remove_tree(version)
    fresh.rename(version)
    sync_directory(version.parent)


def _build(home: Path, site: Site, rights: Rights) -> Path:
    """Write a complete version under a temporary name; every byte is on disk before the caller renames it."""
    fresh = home / f".{secrets.token_hex(8)}.tmp"
    try:
        make_directory(fresh, rights.directory)
        write_new(fresh / KEY, site.pem.private_key.encode(), rights.key)
        write_new(fresh / CHAIN, site.pem.fullchain.encode(), PUBLIC)
        _check_loads(fresh, site.domain)
        sync_directory(fresh)
    except BaseException:
        remove_tree(fresh)
        raise
    return fresh


def _check_loads(directory: Path, domain: Domain) -> None:
    """Load the pair as nginx will (measured: an empty or mismatched pair stops nginx for every customer).

    OpenSSL opens it by descriptor: by name it could find something else there meanwhile, and wait for it.
    """
    try:
        with open_regular(directory / CHAIN) as chain, open_regular(directory / KEY) as key:
            opened = "/proc/self/fd/{}".format
            # An empty answer keeps OpenSSL from asking the terminal about an encrypted key.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
                opened(chain.fileno()), opened(key.fileno()), lambda: b""
            )
    except (ssl.SSLError, ValueError) as error:
        raise WebServerFailed(
            "nginx-test-failed",
            f"the certificate and key of {domain} in the store cannot be loaded together: nginx was not touched",
            seen=[str(error)],
            next=[f"certctl issue --force {domain}"],
        ) from error


def _holds(version: Path, pem: Pem, rights: Rights) -> bool:
    try:
        return (
            read_regular(version / CHAIN, _MOST) == pem.fullchain.encode()
            and read_regular(version / KEY, _MOST) == pem.private_key.encode()
            and stat.S_IMODE((version / KEY).lstat().st_mode) == rights.key
        )
    except OSError:
        return False


def _sweep(home: Path) -> None:
    """Remove what a killed run left half-made, unless ``current`` still goes through it."""
    in_force = (home / CURRENT).readlink().name if (home / CURRENT).is_symlink() else None
    for path in home.glob(".*"):
        if path.name != in_force:
            remove_tree(path)
