"""The database file: private from its first byte, durable, its schema brought up to date."""

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import ELOOP
from functools import partial
from importlib.resources import files
from pathlib import Path
from shlex import quote

from certctl.errors import ConfigInvalid, Unreachable
from certctl.io.files import make_directory, writing
from certctl.slugs import Slug

_BUSY_SECONDS = 30
_POLL_SECONDS = 0.01
_READABLE = partial(
    str, encoding="utf-8", errors="replace"
)  # bytes that are no text damage one field, not a listing


def open_database(path: Path) -> sqlite3.Connection:
    """Open the file, creating it when it is new.

    Raises:
        ConfigInvalid: ``state-unwritable``: it cannot be created, or a newer certctl wrote it.
        sqlite3.Error: translated by the store.
    """
    with writing(path):
        make_directory(path.parent, 0o711)  # nginx's workers pass through to challenges/
        _create(path)
    db = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    db.text_factory = _READABLE
    try:
        # FULL: a certificate the CA counted must survive a power cut. secure_delete: removed keys are overwritten.
        _use_wal(db)
        for pragma in ("synchronous = FULL", "foreign_keys = ON", "secure_delete = ON"):
            db.execute(f"PRAGMA {pragma}")
        _migrate(db, path)
    except BaseException:
        db.close()  # or its half-made transaction would lock out our own next try
        raise
    return db


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Translate an ``sqlite3.Error`` or ``OSError`` of the file into a CertctlError.

    Raises:
        Unreachable: ``store-unreachable``.
    """
    try:
        yield
    except sqlite3.Error as error:
        raise Unreachable(
            Slug.STORE_UNREACHABLE, f"the store {path} cannot be used: {error}", next=_mending(path, error)
        ) from error


def _mending(path: Path, error: sqlite3.Error) -> list[str]:
    """Return the commands to type next; for a file that is no database those that build a new one."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest says more of the same (sqlite.org/rescode.html)
    if code not in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB} and not path.is_dir():
        return ["certctl doctor"]
    kept = path.parent / "damaged"
    old, new = quote(str(path)), quote(str(kept))
    return [f"mkdir -m 0700 {new} && mv {old}* {new}/ && certctl reconcile --adopt", "certctl doctor"]


def identity(path: Path) -> tuple[int, int] | None:
    """Return the device and inode of the file, None where there is none."""
    try:
        facts = path.stat()
    except FileNotFoundError:
        return None
    return facts.st_dev, facts.st_ino


def _create(path: Path) -> None:
    """Create the file if it does not exist; an existing one must not be opened here.

    Closing it would drop every lock that other connections of this process hold on it (fcntl(2)); the next process
    to leave would then take itself for the last one and delete the write-ahead log under them.
    """
    if path.is_symlink():
        raise OSError(ELOOP, "it is a symlink", str(path))
    if not path.exists():
        with suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))


def _use_wal(db: sqlite3.Connection) -> None:
    """Turn write-ahead logging on; SQLite's busy timeout does not cover this one change on a new file (3.40)."""
    give_up = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                raise
            time.sleep(_POLL_SECONDS)
        else:
            return


def _migrate(db: sqlite3.Connection, path: Path) -> None:
    """Bring the schema up to date, one numbered file at a time."""
    schema = sorted((f for f in files("certctl.store").joinpath("schema").iterdir()), key=lambda f: f.name)
    if _version(db) == len(schema):
        return
    db.execute("BEGIN IMMEDIATE")
    have = _version(db)  # again, now that no other process can be migrating
    if have > len(schema):
        raise ConfigInvalid(
            Slug.STATE_UNWRITABLE, f"{path} was written by a newer certctl", next=["certctl --version"]
        )
    for file in schema[have:]:
        for statement in file.read_text(encoding="utf-8").split(";\n"):
            db.execute(statement)
    db.execute(f"PRAGMA user_version = {len(schema)}")
    db.execute("COMMIT")


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])
