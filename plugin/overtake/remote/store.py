"""What is kept on disk for all processes and runs: answers and money spent (SQLite), and a ledger with a line of JSON for each call.

Lives on the gateway's loop. What arrives is written at the loop's next turn, before another request can take its place: a killed
process loses no answer but those in flight.
"""

import asyncio
import fcntl
import logging
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from overtake import settings
from overtake.remote.process import client

_log = logging.getLogger("overtake")
_FORMAT = 1
_APPLICATION = 0x0F7E
_AT_ONCE = 500
_BUSY_SECONDS = 5.0
_PATIENCE = 3
_CHECK_EVERY = 200
_EVICTED = 1 / 20

_SCHEMA = f"""
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {_FORMAT};
CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS spending (run TEXT PRIMARY KEY, usd REAL NOT NULL, quiet_from INTEGER);
"""


class Store:
    """The folder of answers. What cannot be read costs a warning and the answers in it, never a run."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._most_bytes = folder, most_bytes
        self._path = folder / "answers.sqlite"
        self._ledger = os.open(folder / "ledger.jsonl", os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o644)
        self._database: sqlite3.Connection | None = self._open()
        self._answers: list[tuple[str, bytes]] = []
        self._rows: list[bytes] = []
        self._flushing = False
        self._refusals = 0
        self._written = 0

    def _open(self) -> sqlite3.Connection:
        with _alone(self._folder):
            try:
                return self._connect()
            except sqlite3.OperationalError:
                raise  # no permission, no space, locked: not the file's fault
            except sqlite3.DatabaseError as error:
                aside = self._path.with_name(f"{self._path.name}.unreadable-{time.time_ns()}")
                _log.warning("%s is no cache of ours (%s): moved to %s, answers are kept in a new one", self._path, error, aside.name)
                self._path.rename(aside)
                for end in ("-wal", "-shm"):
                    self._path.with_name(self._path.name + end).unlink(missing_ok=True)
                return self._connect()

    def _connect(self) -> sqlite3.Connection:
        # Opened on the loop's thread, closed at exit from wherever that is.
        found = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, check_same_thread=False, isolation_level=None)
        (application,), (version,) = found.execute("PRAGMA application_id").fetchone(), found.execute("PRAGMA user_version").fetchone()
        (tables,) = found.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and (application, version) != (_APPLICATION, _FORMAT):
            found.close()
            raise sqlite3.DatabaseError("another program's, or another version's")
        if not tables:
            found.executescript(_SCHEMA)
        found.execute("PRAGMA synchronous = NORMAL")
        found.execute("PRAGMA journal_size_limit = 67108864")
        found.execute("SELECT key, value FROM answers LIMIT 1").fetchone()
        self._inode = self._path.stat().st_ino
        return found

    def get(self, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The answers that are kept for these keys."""
        found: dict[str, dict[str, Any]] = {}
        for start in range(0, len(keys), _AT_ONCE):
            part = keys[start : start + _AT_ONCE]
            if self._database is None:
                break
            try:
                rows = self._database.execute(f"SELECT key, value FROM answers WHERE key IN ({','.join('?' * len(part))})", part).fetchall()
            except sqlite3.DatabaseError as error:
                self._failed(error)
                continue
            for key, value in rows:
                try:
                    found[key] = msgspec.json.decode(value)
                except (msgspec.DecodeError, TypeError) as error:
                    _log.warning("the kept answer %s is unreadable (%s): it is asked for again", key[:16], error)
        return found

    def put(self, key: str, value: Mapping[str, Any]) -> None:
        """Keep an answer."""
        self._answers.append((key, msgspec.json.encode(value)))
        self._soon()

    def note(self, row: Mapping[str, Any]) -> None:
        """Add a row to the ledger."""
        self._rows.append(msgspec.json.encode({"time": round(time.time(), 3), "pid": os.getpid(), **row}) + b"\n")
        self._soon()

    def spend(self, run: str, usd: float) -> float | None:
        """Add to what a run has spent, over all its processes and restarts; returns the sum in USD, None where it cannot be kept."""
        if self._database is None:
            return None
        try:
            row = self._database.execute(
                "INSERT INTO spending VALUES (?, ?, NULL) ON CONFLICT DO UPDATE SET usd = usd + excluded.usd RETURNING usd", (run, usd)
            ).fetchone()
        except sqlite3.DatabaseError as error:
            self._failed(error)
            return None
        return float(row[0])

    def quiet_from(self, run: str, step: int) -> int:
        """The step from which a run asks no judge: the one noted before, else `step`, noted for all its processes."""
        if self._database is None:
            return step
        try:
            (first,) = self._database.execute(
                "UPDATE spending SET quiet_from = coalesce(quiet_from, ?) WHERE run = ? RETURNING quiet_from", (step, run)
            ).fetchone() or (step,)
        except sqlite3.DatabaseError as error:
            self._failed(error)
            return step
        return int(first)

    def _soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        """Write what has come: all answers in one transaction, all ledger rows in one write, so that processes do not mix theirs."""
        self._flushing = False
        if self._rows:
            rows, self._rows = b"".join(self._rows), []
            try:
                os.write(self._ledger, rows)
            except OSError as error:
                _log.warning("the ledger cannot be written (%s): %d bytes of it are lost", error, len(rows))
        if self._answers and self._database:
            try:
                with _transaction(self._database):
                    self._database.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?)", self._answers)
                    self._bound(self._database)
            except sqlite3.DatabaseError as error:
                self._failed(error)
                return
            self._written += len(self._answers)
            self._answers, self._refusals = [], 0

    def _bound(self, database: sqlite3.Connection) -> None:
        """Drop the oldest answers when the file has outgrown its limit; looked at now and then."""
        if self._written % _CHECK_EVERY + len(self._answers) < _CHECK_EVERY:
            return
        pages, free, size = (database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size"))
        if (pages - free) * size > self._most_bytes:
            database.execute(
                "DELETE FROM answers WHERE rowid <= (SELECT min(rowid) + (max(rowid) - min(rowid)) * ? FROM answers)", (_EVICTED,)
            )
            database.execute("PRAGMA incremental_vacuum").fetchall()

    def _failed(self, error: sqlite3.DatabaseError) -> None:
        """Go on without what the file refused: reopen a broken one, try a locked or full one again, then do without."""
        self._refusals += 1
        if self._database and not isinstance(error, sqlite3.OperationalError):
            _log.warning("%s is broken (%s)", self._path, error)
            self._database.close()
            try:
                with _alone(self._folder):
                    # Unless another process has put a new one in its place already.
                    if self._path.exists() and self._path.stat().st_ino == self._inode:
                        self._path.rename(self._path.with_name(f"{self._path.name}.unreadable-{time.time_ns()}"))
                        for end in ("-wal", "-shm"):
                            self._path.with_name(self._path.name + end).unlink(missing_ok=True)
                self._database = self._open()
            except (sqlite3.DatabaseError, OSError) as again:
                error, self._refusals, self._database = again, _PATIENCE, None  # type: ignore[assignment]
        if self._refusals >= _PATIENCE:
            _log.warning("answers can no longer be kept in %s (%s): the run goes on without", self._path, error)
            self._database, self._answers = None, []

    def close(self) -> None:
        """Write what is left."""
        self.flush()
        if self._database:
            self._database.close()
        os.close(self._ledger)


@contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time opens, or moves aside, the file of answers."""
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def store() -> Store:
    """This process's store, in the settings' folder. To be called on the gateway's loop."""
    chosen = settings.load()
    return client("store", lambda: Store(chosen.cache_dir.expanduser(), chosen.cache_mb * 2**20))
