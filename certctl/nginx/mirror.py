"""The mirror: what nginx reads, one directory per certificate version and one link that is swapped by rename.

    live/status.example.com/3/{fullchain,privkey}.pem
    live/status.example.com/current -> 3

Key and chain change together because nginx goes through ``current``. What it names is never written to and never
removed: a version that was damaged while in force is made again as ``3.1``. The store is the truth; everything here
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
    sync_directory,
    write_new,
)
from certctl.slugs import Slug
from certctl.values import Certificate, Pem, Site

CHAIN = "fullchain.pem"
KEY = "privkey.pem"
CURRENT = "current"
_NAME_MAX = 255
_TWIN = ".1"
_MOST = 1_000_000
_LONGEST_NUMBER = 9


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


@dataclass(frozen=True, slots=True)
class Slot:
    """The directory of a version: never the one ``current`` names, unless that holds this version already.

    Attributes:
        directory: What ``current`` is to name.
        created: What taking the change back removes; None when the version is there.
    """

    directory: Path
    created: Path | None


def slot(live: Path, site: Site, rights: Rights) -> Slot:
    """Find the directory for a version. One that is in force and was damaged is not touched: its twin is made.

    What a killed run left half-made goes. So does a link in the place of the domain's directory, which is none of
    ours: nothing may be written, or swept up, behind it.
    """
    home = domain_path(live, site.domain)
    if home.is_symlink():
        home.unlink()
    _sweep(home)
    in_force = _in_force(home)
    names = sorted(_names_of(site.certificate.version), key=lambda name: name != in_force)
    for name in names:
        if _holds(home / name, site.pem, rights):
            return Slot(home / name, None)
    free = next(home / name for name in _names_of(site.certificate.version) if name != in_force)
    return Slot(free, free if home.is_dir() else home)


def stage(to: Slot, site: Site, rights: Rights) -> None:
    """Make a version beside the others and rename it into its slot; ``current`` is not touched.

    Raises:
        WebServerFailed: ``nginx-test-failed`` when OpenSSL cannot load this pair, as nginx could not either.
        OSError: it cannot be written. Who called removes ``to.created``.
    """
    if to.created is None:
        return
    home = to.directory.parent
    _make_home(home, rights)
    fresh = _build(home, site, rights)
    try:
        discard(to.directory)
        fresh.rename(to.directory)
        sync_directory(home)
    except BaseException:
        remove_tree(fresh)
        raise


def discard(path: Path) -> None:
    """Remove a version, or the directory of a domain that has none in force.

    Every removal in the mirror comes through here: what ``current`` names stays, whoever says that it may go.
    """
    if path.name == _in_force(path.parent):
        return
    if not path.is_symlink() and (path / CURRENT).is_symlink():
        return
    remove_tree(path)


def take_back(path: Path) -> None:
    """Remove what a change created, and what it had half-made beside it."""
    discard(path)
    if (path.parent / CURRENT).is_symlink():
        _sweep(path.parent)


def holds(live: Path, site: Site, rights: Rights) -> bool:
    """Tell whether nginx would find exactly this version through ``current``."""
    in_force = target(live, site.domain)
    if not is_version(in_force, site.certificate.version):
        return False
    return _holds(domain_path(live, site.domain) / str(in_force), site.pem, rights)


def is_pair(directory: Path, *, thoroughly: bool) -> bool:
    """Tell whether a pair is there: two files that are not empty; ``thoroughly``, two that OpenSSL can load.

    Raises:
        OSError: it is there, and cannot be read.
    """
    try:
        facts = [(directory / name).stat() for name in (CHAIN, KEY)]
        if not all(stat.S_ISREG(each.st_mode) and each.st_size for each in facts):
            return False
        if thoroughly:
            with open_regular(directory / CHAIN) as chain, open_regular(directory / KEY) as key:
                _load(chain.fileno(), key.fileno(), Domain(directory.parent.name))
    except (FileNotFoundError, NotADirectoryError, NotRegular, WebServerFailed):
        return False
    return True


def require_loadable(site: Site) -> None:
    """Refuse a pair of the store that OpenSSL cannot load; nothing is written.

    Raises:
        WebServerFailed: ``nginx-test-failed``.
    """
    with os.fdopen(os.memfd_create(CHAIN), "wb") as chain, os.fdopen(os.memfd_create(KEY), "wb") as key:
        for file, text in ((chain, site.pem.fullchain), (key, site.pem.private_key)):
            file.write(text.encode())
            file.flush()
        _load(chain.fileno(), key.fileno(), site.domain)


def target(live: Path, domain: Domain) -> str | None:
    """Return the directory ``current`` points at, or None; a link in the domain's own place is none of ours."""
    home = domain_path(live, domain)
    return None if home.is_symlink() else _in_force(home)


def is_version(name: str | None, version: int) -> bool:
    """Tell whether a directory of this name is meant for this version."""
    return name in _names_of(version)


def fingerprints(live: Path, domain: Domain) -> frozenset[str]:
    """Return the SHA-256 of the leaf of every version that is here; nginx may still serve an older one."""
    found = map(_fingerprint, domain_path(live, domain).glob(f"*/{CHAIN}"))
    return frozenset(filter(None, found))


def leaf(live: Path, domain: Domain) -> str | None:
    """Return the SHA-256 of the leaf in force, None where there is none to read."""
    name = target(live, domain)
    return _fingerprint(domain_path(live, domain) / name / CHAIN) if name else None


def _fingerprint(chain: Path) -> str | None:
    with suppress(OSError, ValueError):
        first, end, _ = read_regular(chain, _MOST).decode("ascii").partition("-----END CERTIFICATE-----")
        return sha256(ssl.PEM_cert_to_DER_cert(first + end)).hexdigest()
    return None


def prune(live: Path, certificate: Certificate) -> None:
    """Keep the version in force and the newest other one; remove older ones and what crashes left."""
    home = domain_path(live, certificate.domain)
    if home.is_symlink():
        return
    in_force = number(target(live, certificate.domain) or "")
    versions = sorted((path for path in home.iterdir() if number(path.name)), key=lambda path: number(path.name))
    spare = [path for path in versions if number(path.name) != in_force][-1:]
    for path in versions:
        if path not in spare:
            discard(path)
    _sweep(home)


def remove(live: Path, domain: Domain) -> None:
    """Remove all versions of a domain: first none is in force, so that what is killed here goes on."""
    home = domain_path(live, domain)
    if not home.is_symlink():
        (home / CURRENT).unlink(missing_ok=True)
    discard(home)
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


def _names_of(version: int) -> tuple[str, str]:
    """Return the two directories a version may have: while one is in force, only the other may be made."""
    return str(version), f"{version}{_TWIN}"


def number(name: str) -> int:
    """Return the version of a directory, 0 when it has another purpose."""
    digits = name.removesuffix(_TWIN)
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) <= _LONGEST_NUMBER else 0


def _in_force(home: Path) -> str | None:
    try:
        return (home / CURRENT).readlink().name
    except OSError:
        return None


def _make_home(home: Path, rights: Rights) -> None:
    make_directory(home.parent, rights.directory)
    if not home.is_dir():
        make_directory(home, rights.directory)
        sync_directory(home.parent)


def _build(home: Path, site: Site, rights: Rights) -> Path:
    """Write a complete version under a temporary name; every byte is on disk before the caller renames it."""
    fresh = home / f".{secrets.token_hex(8)}.tmp"
    try:
        make_directory(fresh, rights.directory)
        write_new(fresh / KEY, site.pem.private_key.encode(), rights.key)
        write_new(fresh / CHAIN, site.pem.fullchain.encode(), PUBLIC)
        with open_regular(fresh / CHAIN) as chain, open_regular(fresh / KEY) as key:
            _load(chain.fileno(), key.fileno(), site.domain)
        sync_directory(fresh)
    except BaseException:
        remove_tree(fresh)
        raise
    return fresh


def _load(chain: int, key: int, domain: Domain) -> None:
    """Load the pair as nginx will (measured: an empty or mismatched pair stops nginx for every customer).

    OpenSSL opens it by descriptor: by name it could find something else there meanwhile, and wait for it.
    """
    try:
        opened = "/proc/self/fd/{}".format
        # An empty answer keeps OpenSSL from asking the terminal about an encrypted key.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(opened(chain), opened(key), lambda: b"")
    except (ssl.SSLError, ValueError) as error:
        raise WebServerFailed(
            Slug.NGINX_TEST_FAILED,
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
    """Remove what a killed run left half-made."""
    for path in home.glob(".*"):
        discard(path)
