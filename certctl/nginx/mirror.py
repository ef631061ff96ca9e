"""The mirror: the files nginx reads, a directory for each certificate version and a link that a rename swaps.

    live/status.example.com/3/{fullchain,privkey}.pem
    live/status.example.com/current -> 3

The pair of key and chain changes at once, because nginx's paths go through ``current``. The directory it points to
is never written to and never removed: a damaged version in force is made again as ``3.1``. Everything here can be
made again from the store.
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
    """The modes of the mirror's directories and keys; chains are public, protected by their directories."""

    directory: int
    key: int


CLOSED = Rights(0o700, PRIVATE)
# No set-group-id bit: systemd's RestrictSUIDSGID forbids to set one, and who makes files here has the group.
FOR_WORKERS = Rights(0o750, 0o640)


def rights_of(live: Path) -> Rights | None:
    """Return the rights that the mirror's top directory has now; None when it does not exist."""
    try:
        is_open = live.stat().st_mode & stat.S_IXGRP
    except OSError:
        return None
    return FOR_WORKERS if is_open else CLOSED


def domain_path(live: Path, domain: Domain) -> Path:
    """Return a domain's directory; a wildcard of more than 255 characters has a short name."""
    fits = len(domain.directory) <= _NAME_MAX
    return live / (domain.directory if fits else domain.stem)


def current_path(live: Path, domain: Domain) -> Path:
    """Return the path of a domain's link ``current``, through which nginx reads the pair."""
    return domain_path(live, domain) / CURRENT


@dataclass(frozen=True, slots=True)
class Slot:
    """The directory for a version: never the one ``current`` points to, unless it holds this version already.

    Attributes:
        directory: The directory that ``current`` is to point to.
        created: The path that a rollback removes; None when the version is there already.
    """

    directory: Path
    created: Path | None


def slot(live: Path, site: Site, rights: Rights) -> Slot:
    """Return the directory for a version; for a damaged one in force it is the other name, such as ``3.1``.

    What a killed run left half-made is removed, and so is a symbolic link in place of the domain's directory:
    nothing may be written or removed behind it.
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
    """Write a version under a temporary name and rename it into its slot; ``current`` is not touched.

    Raises:
        WebServerFailed: ``nginx-test-failed`` when OpenSSL cannot load this pair, as nginx could not either.
        OSError: the version cannot be written; the caller removes ``to.created``.
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
    """Remove a version, or a domain's directory, but never what ``current`` points to.

    Every removal in the mirror goes through this function, so that no caller can remove a version in force.
    """
    if path.name == _in_force(path.parent):
        return
    if not path.is_symlink() and (path / CURRENT).is_symlink():
        return
    remove_tree(path)


def take_back(path: Path) -> None:
    """Remove what a change created, and what it left half-made beside it."""
    discard(path)
    if (path.parent / CURRENT).is_symlink():
        _sweep(path.parent)


def holds(live: Path, site: Site, rights: Rights) -> bool:
    """Tell whether ``current`` leads nginx to exactly this version."""
    in_force = target(live, site.domain)
    if not is_version(in_force, site.certificate.version):
        return False
    return _holds(domain_path(live, site.domain) / str(in_force), site.pem, rights)


def is_pair(directory: Path, *, thoroughly: bool) -> bool:
    """Tell whether chain and key are there and not empty; ``thoroughly`` requires that OpenSSL loads them.

    Raises:
        OSError: a file is there and cannot be read.
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
    """Return the name of the directory ``current`` points to; None without one, or behind a symbolic link."""
    home = domain_path(live, domain)
    return None if home.is_symlink() else _in_force(home)


def is_version(name: str | None, version: int) -> bool:
    """Tell whether a directory of this name is for this version."""
    return name in _names_of(version)


def fingerprints(live: Path, domain: Domain) -> frozenset[str]:
    """Return the leaf's SHA-256 of every version that is here; nginx may still serve an older one."""
    found = map(_fingerprint, domain_path(live, domain).glob(f"*/{CHAIN}"))
    return frozenset(filter(None, found))


def leaf(live: Path, domain: Domain) -> str | None:
    """Return the SHA-256 of the leaf in force; None when there is none to read."""
    name = target(live, domain)
    return _fingerprint(domain_path(live, domain) / name / CHAIN) if name else None


def _fingerprint(chain: Path) -> str | None:
    with suppress(OSError, ValueError):
        first, end, _ = read_regular(chain, _MOST).decode("ascii").partition("-----END CERTIFICATE-----")
        return sha256(ssl.PEM_cert_to_DER_cert(first + end)).hexdigest()
    return None


def prune(live: Path, certificate: Certificate) -> None:
    """Remove old versions and leftovers of crashes; the version in force and the newest other one stay."""
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
    """Remove all versions of a domain: the link first, so that a run after a kill can finish."""
    home = domain_path(live, domain)
    if not home.is_symlink():
        (home / CURRENT).unlink(missing_ok=True)
    discard(home)
    sync_directory(live)


def set_rights(live: Path, rights: Rights) -> None:
    """Give everything in the mirror these modes, as a change of the mode of serving needs it.

    Each file is opened without following links, so that no user with rights here can redirect this to another file.
    """
    for _, _, names, directory in os.fwalk(live):
        os.fchmod(directory, rights.directory)
        for name in {KEY, CHAIN} & set(names):
            # What is no file is nothing of ours: the next change puts a pair in its place.
            with suppress(NotRegular), open_regular(name, directory) as file:
                if os.fstat(file.fileno()).st_nlink == 1:  # else another name of it is elsewhere
                    os.fchmod(file.fileno(), rights.key if name == KEY else PUBLIC)


def _names_of(version: int) -> tuple[str, str]:
    """Return the two directory names of a version: while one is in force, only the other may be made."""
    return str(version), f"{version}{_TWIN}"


def number(name: str) -> int:
    """Return the version that a directory name stands for; 0 for any other directory."""
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
    """Return a complete version under a temporary name, with every byte on disk (fsync)."""
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
    """Require that OpenSSL loads the pair as nginx will: an empty or mismatched one stops nginx for every customer.

    OpenSSL opens the files by descriptor: a name could meanwhile lead to a FIFO, on which it would wait.
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
    """Remove the temporary directories of killed runs."""
    for path in home.glob(".*"):
        discard(path)
