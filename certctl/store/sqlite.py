"""The store on one host: SQLite, no server, no flags."""

import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

from certctl.domain import Domain
from certctl.errors import ConfigInvalid, Unreachable
from certctl.io.clock import Clock
from certctl.io.files import make_directory, writing
from certctl.values import Certificate, DomainRow, Event, Issued, Pem, State

_KEPT_VERSIONS = 2
_BUSY_SECONDS = 30
_FACTS = "c.names, c.serial, c.issuer, c.not_before, c.not_after, c.key_type, c.fingerprint, c.version"
_ROWS = f"""
    SELECT d.name, d.state, d.since, d.attempts, d.last_error, d.retry_at, {_FACTS}
    FROM domain d LEFT JOIN certificate c ON c.domain = d.name AND c.version = d.version
"""  # noqa: S608 - constants only


class SqliteStore:
    """Rows in one file, 0600 from its first byte, opened when first needed.

    Every method is one transaction, safe between threads and processes.

    Raises:
        Unreachable: ``store-unreachable``: missing rights, disk full, locked for too long, corrupt.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._guard = threading.RLock()
        self._connection: sqlite3.Connection | None = None

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._guard:
            if self._connection:
                self._connection.close()
                self._connection = None

    def domain(self, domain: Domain) -> DomainRow | None:
        """Return what is known of a domain, or None."""
        with self._reading() as db:
            row = db.execute(_ROWS + " WHERE d.name = ?", (domain.name,)).fetchone()
        return _domain_row(row) if row else None

    def domains(self) -> Sequence[DomainRow]:
        """Return every domain that was not removed, by name."""
        with self._reading() as db:
            rows = db.execute(_ROWS + " WHERE d.state <> ? ORDER BY d.name", (State.REMOVED,)).fetchall()
        return [_domain_row(row) for row in rows]

    def keep(self, issued: Issued) -> Certificate:
        """Store a new version and its key, make the domain active, forget its failures, keep two versions."""
        facts, name = issued.certificate, issued.certificate.domain.name
        with self._transaction() as db:
            self._enter_state(db, name, State.ACTIVE)
            (version,) = db.execute(
                "UPDATE domain SET version = version + 1, attempts = 0, last_error = NULL, retry_at = NULL"
                " WHERE name = ? RETURNING version",
                (name,),
            ).fetchone()
            db.execute(
                "INSERT INTO certificate VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    name, version, json.dumps(facts.names), facts.serial, facts.issuer, _text(facts.not_before),
                    _text(facts.not_after), facts.key_type, facts.fingerprint,
                ),
            )  # fmt: skip
            db.execute(
                "INSERT INTO pem VALUES (?, ?, ?, ?)", (name, version, issued.pem.fullchain, issued.pem.private_key)
            )
            db.execute(
                "DELETE FROM certificate WHERE domain = ? AND version <= ?", (name, version - _KEPT_VERSIONS)
            )
        return replace(facts, version=version)

    def pem(self, certificate: Certificate) -> Pem:
        """Return the chain and key of a stored version."""
        with self._reading() as db:
            row = db.execute(
                "SELECT fullchain, private_key FROM pem WHERE domain = ? AND version = ?",
                (certificate.domain.name, certificate.version),
            ).fetchone()
        if row is None:
            raise ConfigInvalid(
                "unknown-domain", f"the store no longer has version {certificate.version} of {certificate.domain}"
            )
        return Pem(*row)

    def set_state(self, domain: Domain, state: State) -> None:
        """Move a domain to another state of its life, creating it when it is new."""
        with self._transaction() as db:
            self._enter_state(db, domain.name, state)

    def failed(self, domain: Domain, slug: str, retry_at: datetime | None) -> None:
        """Count a failed attempt."""
        with self._transaction() as db:
            db.execute(
                "INSERT INTO domain (name, state, since) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                (domain.name, State.PENDING, _text(self._clock.now())),
            )
            db.execute(
                "UPDATE domain SET attempts = attempts + 1, last_error = ?, retry_at = ? WHERE name = ?",
                (slug, _text(retry_at) if retry_at else None, domain.name),
            )

    def remember_answer(self, domain: Domain, *, approved: bool, at: datetime) -> None:
        """Remember what the approval endpoint said, and when."""
        with self._transaction() as db:
            db.execute(
                "INSERT INTO approval VALUES (?, ?, ?)"
                " ON CONFLICT (domain) DO UPDATE SET approved = excluded.approved, at = excluded.at",
                (domain.name, approved, _text(at)),
            )

    def remembered_yes(self, domain: Domain) -> datetime | None:
        """Return when the endpoint last said yes, unless it has said no since."""
        with self._reading() as db:
            row = db.execute("SELECT at FROM approval WHERE domain = ? AND approved", (domain.name,)).fetchone()
        return datetime.fromisoformat(row[0]) if row else None

    def record(self, event: Event) -> None:
        """Append to the history."""
        with self._transaction() as db:
            db.execute(
                "INSERT INTO event (at, domain, step, ok, slug, detail) VALUES (?, ?, ?, ?, ?, ?)",
                (_text(event.at), event.domain, event.step, event.ok, event.slug, event.detail),
            )

    def events(self, domain: str | None, limit: int) -> Sequence[Event]:
        """Return the history, newest first."""
        with self._reading() as db:
            rows = db.execute(
                "SELECT at, domain, step, ok, slug, detail FROM event"
                " WHERE ?1 IS NULL OR domain = ?1 ORDER BY id DESC LIMIT ?2",
                (domain, limit),
            ).fetchall()
        return [Event(datetime.fromisoformat(at), name, step, bool(ok), slug, text)
                for at, name, step, ok, slug, text in rows]  # fmt: skip

    def forget(self, domain: Domain, *, keep_certificate: bool) -> None:
        """Mark a domain removed; unless told otherwise delete its certificates and keys."""
        with self._transaction() as db:
            self._enter_state(db, domain.name, State.REMOVED)
            db.execute("DELETE FROM approval WHERE domain = ?", (domain.name,))
            if not keep_certificate:
                db.execute("DELETE FROM certificate WHERE domain = ?", (domain.name,))

    def _enter_state(self, db: sqlite3.Connection, name: str, state: State) -> None:
        db.execute(
            "INSERT INTO domain (name, state, since) VALUES (?1, ?2, ?3) ON CONFLICT (name) DO UPDATE"
            " SET state = ?2, since = CASE WHEN state = ?2 THEN since ELSE ?3 END",
            (name, state, _text(self._clock.now())),
        )

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """Lend the connection, which is shared by all threads in turn, for one SELECT."""
        with self._guard, _translated(self._path):
            self._connection = self._connection or _open(self._path)
            yield self._connection

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Run one transaction: all of it happens, or nothing."""
        with self._reading() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")


def _open(path: Path) -> sqlite3.Connection:
    with writing(path):
        make_directory(path.parent, 0o711)  # nginx's workers pass through to challenges/
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    db = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    # FULL: a certificate the CA counted must survive a power cut. secure_delete: removed keys are overwritten.
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON", "secure_delete = ON"):
        db.execute(f"PRAGMA {pragma}")
    _migrate(db, path)
    return db


def _migrate(db: sqlite3.Connection, path: Path) -> None:
    """Bring the schema up to date, one numbered file at a time."""
    schema = sorted((f for f in files("certctl.store").joinpath("schema").iterdir()), key=lambda f: f.name)
    if _version(db) == len(schema):
        return
    db.execute("BEGIN IMMEDIATE")
    have = _version(db)  # again, now that no other process can be migrating
    if have > len(schema):
        raise ConfigInvalid(
            "state-unwritable", f"{path} was written by a newer certctl", next=["certctl --version"]
        )
    for file in schema[have:]:
        for statement in file.read_text(encoding="utf-8").split(";\n"):
            db.execute(statement)
    db.execute(f"PRAGMA user_version = {len(schema)}")
    db.execute("COMMIT")


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise Unreachable(
            "store-unreachable", f"the store {path} cannot be used: {error}", next=["certctl doctor"]
        ) from error


def _domain_row(row: Sequence[object]) -> DomainRow:
    name, state, since, attempts, last_error, retry_at, *facts = row
    domain = Domain(str(name))
    return DomainRow(
        domain,
        State(str(state)),
        datetime.fromisoformat(str(since)),
        _certificate(domain, facts) if facts[-1] is not None else None,
        int(str(attempts)),
        str(last_error) if last_error else None,
        datetime.fromisoformat(str(retry_at)) if retry_at else None,
    )


def _certificate(domain: Domain, facts: Sequence[object]) -> Certificate:
    names, serial, issuer, not_before, not_after, key_type, fingerprint, version = map(str, facts)
    return Certificate(
        domain, tuple(json.loads(names)), serial, issuer, datetime.fromisoformat(not_before),
        datetime.fromisoformat(not_after), key_type, fingerprint, int(version),
    )  # fmt: skip


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")
