"""The store on one host: an SQLite file."""

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from certctl.budget import Bucket, Limit, Spend
from certctl.domain import Domain
from certctl.due import Shares
from certctl.errors import CATALOGUE, ConfigInvalid
from certctl.io.clock import Clock
from certctl.slugs import Slug
from certctl.store import ledger, pruning, reading
from certctl.store.file import identity, open_database, translated
from certctl.store.rows import moment, text
from certctl.values import Certificate, DnsSolver, DomainRow, Event, Issued, Mode, Pem, Removal, State, Suggestion

_KEPT_VERSIONS = 2
_HOST_FAULTS = json.dumps([kind.slug for kind in CATALOGUE.values() if kind.blames_host])
_ON_THIS_HOST = "last_error IN (SELECT value FROM json_each(?3))"
_SERVED = f"""
    UPDATE domain SET served = ?1, last_error = CASE WHEN {_ON_THIS_HOST} THEN NULL ELSE last_error END
    WHERE name = ?2 AND (served <> ?1 OR {_ON_THIS_HOST})
"""  # noqa: S608 - constants only


class SqliteStore:
    """The store in an SQLite file, mode 0600 from its first byte, opened on first use.

    Every method is one transaction unless it stands inside ``together``; safe between threads and processes.

    Raises:
        Unreachable: ``store-unreachable``: missing rights, disk full, locked for too long, corrupt.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._guard = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        with self._guard:
            if self._connection:
                self._connection.close()
                self._connection = None

    @contextmanager
    def together(self) -> Iterator[None]:
        """Make all that this thread writes in the block one transaction, with one flush to disk."""
        with self._transaction():
            yield

    def domain(self, domain: Domain) -> DomainRow | None:
        """Return the row of a domain, removed or not; None when there is none."""
        with self._reading() as db:
            return reading.one(db, domain.name, self._clock.now())

    def domains(self) -> Sequence[DomainRow]:
        """Return every domain that was not removed, by name."""
        with self._reading() as db:
            return reading.listed(db, self._clock.now())

    def count(self) -> int:
        """Return how many domains were not removed."""
        with self._reading() as db:
            return reading.count(db)

    def candidates(self, now: datetime, shares: Shares) -> Sequence[DomainRow]:
        """Return at least every domain that has a fault or a certificate that is due."""
        with self._reading() as db:
            return reading.candidates(db, now, shares)

    def ari_due(self, now: datetime) -> Sequence[DomainRow]:
        """Return the active domains with a certificate that has no suggestion of the CA's (ARI), or an old one."""
        with self._reading() as db:
            return reading.ari_due(db, now)

    def damaged(self) -> Sequence[DomainRow]:
        """Return the domains with a damaged row."""
        with self._reading() as db:
            return reading.damaged(db, self._clock.now())

    def unwritten(self) -> Sequence[str]:
        """Return the names that certctl never wrote."""
        with self._reading() as db:
            return [name for _, name in reading.unwritten(db)]

    def strike_unwritten(self) -> None:
        """Delete the rows of names that certctl never wrote; no such name is ever served."""
        with self._transaction() as db:
            db.executemany("DELETE FROM domain WHERE rowid = ?", [(row,) for row, _ in reading.unwritten(db)])

    def expiries(self) -> Sequence[datetime]:
        """Return the expiry of the certificate of every domain that was not removed."""
        with self._reading() as db:
            return reading.expiries(db)

    def keep(self, issued: Issued) -> Certificate:
        """Store a new version and its key, make the domain active, forget its failures, keep two versions.

        A certificate from the mirror keeps its version number if that is higher than any in the store. Of a damaged
        row the readable fields stay, the others are as for a new domain.
        """
        facts, name = issued.certificate, issued.certificate.domain.name
        with self._transaction() as db:
            row = reading.one(db, name, self._clock.now())
            self._enter_state(db, name, State.ACTIVE)
            (version,) = db.execute(
                "UPDATE domain SET version = max(?2, 1 + version,"
                " (SELECT 1 + coalesce(max(version), 0) FROM certificate WHERE domain = ?1)),"
                " attempts = 0, last_error = NULL, retry_at = NULL WHERE name = ?1 RETURNING version",
                (name, facts.version),
            ).fetchone()
            if row and row.damage:
                _mend(db, row)
            db.execute(
                "INSERT INTO certificate VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    name, version, json.dumps(facts.names), facts.serial, facts.issuer, text(facts.not_before),
                    text(facts.not_after), facts.key_type, facts.fingerprint,
                ),
            )  # fmt: skip
            db.execute(
                "INSERT INTO pem VALUES (?, ?, ?, ?)", (name, version, issued.pem.fullchain, issued.pem.private_key)
            )
            db.execute(
                "DELETE FROM certificate WHERE domain = ? AND version <= ?", (name, version - _KEPT_VERSIONS)
            )
        return replace(facts, version=version)

    def has(self, domain: Domain, fingerprint: str) -> bool:
        """Tell whether the store has a certificate of a domain with this fingerprint (SHA-256, hex)."""
        with self._reading() as db:
            found = db.execute(
                "SELECT 1 FROM certificate WHERE domain = ? AND fingerprint = ?", (domain.name, fingerprint)
            )
            return found.fetchone() is not None

    def served(self, certificate: Certificate) -> None:
        """Write down that this version was seen in a TLS handshake, and delete an error that blamed this host."""
        with self._transaction() as db:
            db.execute(_SERVED, (certificate.version, certificate.domain.name, _HOST_FAULTS))

    def pem(self, certificate: Certificate) -> Pem:
        """Return the chain and key of a stored version."""
        with self._reading() as db:
            row = db.execute(
                "SELECT fullchain, private_key FROM pem WHERE domain = ? AND version = ?",
                (certificate.domain.name, certificate.version),
            ).fetchone()
        if row is None:
            raise ConfigInvalid(
                Slug.UNKNOWN_DOMAIN,
                f"the store no longer has version {certificate.version} of {certificate.domain}",
            )
        return Pem(*row)

    def set_state(self, domain: Domain, state: State) -> None:
        """Move a domain to another state of its life, creating it when it is new; active forgets its last error."""
        with self._transaction() as db:
            self._enter_state(db, domain.name, state)
            if state is State.REMOVED:
                _end_yes(db, domain.name)
            if state is State.ACTIVE:
                db.execute("UPDATE domain SET last_error = NULL WHERE name = ?", (domain.name,))

    def failed(self, domain: Domain, slug: Slug, retry_at: datetime | None) -> None:
        """Write a failure down; with ``retry_at`` it was an attempt at the CA and counts for the back-off."""
        with self._transaction() as db:
            db.execute(
                "INSERT INTO domain (name, state, since) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                (domain.name, State.PENDING, text(self._clock.now())),
            )
            db.execute(
                "UPDATE domain SET last_error = ?1, attempts = attempts + (?2 IS NOT NULL),"
                " retry_at = coalesce(?2, retry_at) WHERE name = ?3",
                (slug, text(retry_at) if retry_at else None, domain.name),
            )

    def take(
        self, needed: Sequence[Spend], taken: Sequence[Spend], limits: Mapping[Bucket, Limit], at: datetime
    ) -> tuple[Spend, timedelta] | None:
        """Take tokens in the ledger if all of ``needed`` are free, in one transaction.

        Returns:
            None; or the token that is missing and how long until it is free, and then nothing was written.
        """
        with self._transaction() as db:
            missing = ledger.missing(db, needed, limits, at)
            if missing is None:
                ledger.spend(db, taken, at)
            return missing

    def spend(self, spends: Sequence[Spend], at: datetime) -> None:
        """Write tokens that the CA took into the ledger."""
        with self._transaction() as db:
            ledger.spend(db, spends, at)

    def refund(self, spends: Sequence[Spend], at: datetime) -> None:
        """Delete tokens from the ledger that were written at this moment and that the CA did not count."""
        with self._transaction() as db:
            ledger.refund(db, spends, at)

    def spent(self, spend: Spend, limit: Limit, at: datetime) -> Sequence[datetime]:
        """Return when tokens of this bucket and key were taken, as far back as it matters at ``at``."""
        with self._reading() as db:
            return ledger.spent(db, spend, limit, at)

    def spent_keys(self, bucket: Bucket, limit: Limit, at: datetime) -> Sequence[str]:
        """Return the keys of a bucket with tokens that still count, the most used first."""
        with self._reading() as db:
            return ledger.keys(db, bucket, limit, at)

    def forgive(self, spend: Spend) -> None:
        """Delete the tokens of a bucket that a success resets, such as consecutive failures."""
        with self._transaction() as db:
            ledger.forgive(db, spend)

    def suggest(self, suggestions: Sequence[tuple[Certificate, Suggestion]]) -> None:
        """Store the CA's suggestions (ARI) for these certificates."""
        with self._transaction() as db:
            db.executemany(
                "INSERT OR REPLACE INTO suggestion SELECT domain, version, ?, ? FROM certificate"
                " WHERE domain = ? AND version = ?",
                [
                    (
                        text(suggestion.renew_at) if suggestion.renew_at else None, text(suggestion.ask_at),
                        certificate.domain.name, certificate.version,
                    )
                    for certificate, suggestion in suggestions
                ],
            )  # fmt: skip

    def set_mode(self, domain: Domain, mode: Mode | None) -> None:
        """Store the mode of this domain; None is the host's."""
        with self._transaction() as db:
            db.execute(
                "INSERT INTO domain (name, state, since, mode) VALUES (?1, ?2, ?3, ?4)"
                " ON CONFLICT (name) DO UPDATE SET mode = ?4",
                (domain.name, State.PENDING, text(self._clock.now()), mode),
            )

    def set_solver(self, domain: Domain, solver: DnsSolver) -> None:
        """Store the solver of a wildcard's challenge, for its renewals."""
        with self._transaction() as db:
            db.execute(
                "INSERT INTO domain (name, state, since, solver) VALUES (?1, ?2, ?3, ?4)"
                " ON CONFLICT (name) DO UPDATE SET solver = ?4",
                (
                    domain.name, State.PENDING, text(self._clock.now()),
                    _written(solver),
                ),
            )  # fmt: skip

    def remember_answer(self, domain: Domain, *, approved: bool, at: datetime) -> None:
        """Store a yes with its time; a no deletes it and writes no row: anyone can cause any number of refusals."""
        with self._transaction() as db:
            if approved:
                db.execute("INSERT OR REPLACE INTO approval VALUES (?, TRUE, ?)", (domain.name, text(at)))
            else:
                _end_yes(db, domain.name)

    def remembered_yes(self, domain: Domain) -> datetime | None:
        """Return when the endpoint last said yes; None when it never did or has said no since."""
        with self._reading() as db:
            row = db.execute("SELECT at FROM approval WHERE domain = ? AND approved", (domain.name,)).fetchone()
        return moment(row[0]) if row else None

    def record(self, event: Event) -> None:
        """Append an event to the history."""
        with self._transaction() as db:
            db.execute(
                "INSERT INTO event (at, domain, step, ok, slug, detail) VALUES (?, ?, ?, ?, ?, ?)",
                (text(event.at), event.domain, event.step, event.ok, event.slug, event.detail),
            )

    def events(self, domain: str | None, limit: int) -> Sequence[Event]:
        """Return the history, newest first."""
        with self._reading() as db:
            return reading.events(db, domain, limit)

    def begin_removal(self, domain: Domain, removal: Removal) -> None:
        """Mark a domain removed, and store what is still to be done for that until ``forget`` is called."""
        with self._transaction() as db:
            self.set_state(domain, State.REMOVED)
            db.execute("UPDATE domain SET removal = ? WHERE name = ?", (removal, domain.name))

    def half_removed(self) -> Sequence[DomainRow]:
        """Return the domains with a removal that was begun and is not finished."""
        with self._reading() as db:
            return reading.half_removed(db, self._clock.now())

    def forget(self, domain: Domain, *, keep_certificate: bool) -> None:
        """Mark a domain removed; unless told otherwise delete its certificates and keys."""
        with self._transaction() as db:
            self._enter_state(db, domain.name, State.REMOVED)
            db.execute(
                "UPDATE domain SET attempts = 0, last_error = NULL, retry_at = NULL, removal = NULL WHERE name = ?",
                (domain.name,),
            )
            _end_yes(db, domain.name)
            if not keep_certificate:
                db.execute("DELETE FROM certificate WHERE domain = ?", (domain.name,))

    def reaches_back(self, before: datetime) -> bool:
        """Tell whether the history or the ledger has rows from before a moment."""
        with self._reading() as db:
            return pruning.reaches_back(db, before)

    def prune(self, before: datetime, limits: Mapping[Bucket, Limit], at: datetime) -> Iterator[int]:
        """Delete rows written before a moment that no longer count; yield how many each transaction deleted."""
        after: int | None = 0
        while after is not None:
            with self._transaction() as db:
                gone, after = pruning.old_events(db, after, before)
                db.executemany("DELETE FROM event WHERE id = ?", [(row,) for row in gone])
            yield len(gone)
        with self._reading() as db:
            old_spends, after = pruning.OldSpends(db, before, limits, at), 0
        while after is not None:
            with self._transaction() as db:
                gone, after = old_spends.next(after)
                db.executemany("DELETE FROM spend WHERE rowid = ?", [(row,) for row in gone])
            yield len(gone)

    def _enter_state(self, db: sqlite3.Connection, name: str, state: State) -> None:
        """Write a state and since when; a removal sets the time anew, so that our handshake is no first visit."""
        db.execute(
            "INSERT INTO domain (name, state, since) VALUES (?1, ?2, ?3) ON CONFLICT (name) DO UPDATE"
            " SET state = ?2, removal = CASE WHEN ?2 = ?4 THEN removal END,"
            " since = CASE WHEN state = ?2 AND ?2 <> ?4 AND julianday(since) IS NOT NULL AND since LIKE '%+00:00'"
            " THEN since ELSE ?3 END",
            (name, state, text(self._clock.now()), State.REMOVED),
        )

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection, which the threads share under a lock, for one SELECT."""
        with self._guard, translated(self._path):
            self._leave_what_was_replaced()
            if self._connection is None:
                self._connection = open_database(self._path)
                self._opened = identity(self._path)
            yield self._connection

    def _leave_what_was_replaced(self) -> None:
        """Close the connection when another file is in the place of ours, as after a restore: writes would be lost.

        SQLite does not touch the log of the new file (https://www.sqlite.org/c3ref/c_fcntl_begin_atomic_write.html,
        SQLITE_FCNTL_HAS_MOVED).
        """
        if self._connection and not self._connection.in_transaction and identity(self._path) != self._opened:
            self.close()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Run one transaction; inside ``together`` the block is a part of that one."""
        with self._reading() as db:
            is_part = db.in_transaction
            if is_part:
                yield db
                return
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:  # on a full disk SQLite has already rolled back by itself
                    db.execute("ROLLBACK")
                raise


def _mend(db: sqlite3.Connection, row: DomainRow) -> None:
    """Write the readable fields of a damaged row, so that it is no longer damaged."""
    solver = _written(row.solver) if row.solver else None
    db.execute("UPDATE domain SET mode = ?, solver = ? WHERE name = ?", (row.mode, solver, row.domain.name))


def _written(solver: DnsSolver) -> str:
    return json.dumps({"plugin": solver.plugin, "options": dict(solver.options)})


def _end_yes(db: sqlite3.Connection, name: str) -> None:
    db.execute("DELETE FROM approval WHERE domain = ?", (name,))
