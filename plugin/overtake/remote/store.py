"""What is kept on disk for all processes and runs: answers and money spent (SQLite), and a ledger with a line of JSON for each call.

Lives on the gateway's loop. What arrives is written at the loop's next turn, before another request can take its place: a killed
process loses no answer but those in flight.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from overtake import settings
from overtake.remote.http import encode
from overtake.remote.process import client

_log = logging.getLogger("overtake")
_LEDGER = "ledger.jsonl"
_FORMAT = 1
_APPLICATION = 0x0F7E
_AT_ONCE = 500
_BUSY_SECONDS = 5.0
_PATIENCE = 3
_PART = 1 / 200
"""Of the most bytes: after so many more the size is looked at; of the rows: so many go at once when it is too large."""
_EVICTING_SECONDS = 0.5
"""For which every call waits; what is left is evicted next time."""
_ROW_BYTES = 200
"""What a row takes besides its value: the key twice, in table and index."""

_SCHEMA = f"""
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
BEGIN;
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {_FORMAT};
CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, value BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS spending (run TEXT PRIMARY KEY, usd REAL NOT NULL, quiet_from INTEGER);
COMMIT;
"""


class Store:
    """The folder of answers. What cannot be read costs a warning and the answers in it, never a run."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._most_bytes = folder, most_bytes
        self._pid = os.getpid()
        self._path = folder / "answers.sqlite"
        self._database = self._open()
        self._ledger = os.open(folder / _LEDGER, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o644)
        self._ledger_fails = False
        self._answers: list[tuple[str, bytes]] = []
        self._rows: list[bytes] = []
        self._flushing = False
        self._refusals = 0
        self._unlooked = most_bytes  # a process that writes little looks at the size, too

    def _open(self) -> sqlite3.Connection | None:
        try:
            with _alone(self._folder / _LEDGER):
                try:
                    return self._connect()
                except sqlite3.DatabaseError as error:
                    if not _broken(error):
                        raise
                    _log.warning("%s is no cache of ours (%s): answers are kept in a new one", self._path, error)
                    self._move_aside()
                    return self._connect()
        except (sqlite3.OperationalError, TimeoutError) as error:
            if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_BUSY) & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise
            _log.warning("%s is in another process's hands (%s): this one goes on without kept answers", self._path, error)
            return None

    def _move_aside(self) -> None:
        # With its log, which may hold what is not yet in the file; under one name, so that both can be opened again.
        aside = self._path.with_name(f"{self._path.name}.unreadable-{time.time_ns()}")
        for end in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                self._path.with_name(self._path.name + end).rename(f"{aside}{end}")
        _log.warning("%s is moved to %s", self._path, aside.name)

    def _connect(self) -> sqlite3.Connection:
        # Opened on the loop's thread, closed at exit from wherever that is.
        found = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, check_same_thread=False, isolation_level=None)
        try:
            (application,), (version,) = found.execute("PRAGMA application_id").fetchone(), found.execute("PRAGMA user_version").fetchone()
            (tables,) = found.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if tables and (application, version) != (_APPLICATION, _FORMAT):
                raise sqlite3.DatabaseError("another program's, or another version's")
            if not tables:
                found.executescript(_SCHEMA)
            found.execute("PRAGMA synchronous = NORMAL")
            found.execute("PRAGMA journal_size_limit = 67108864")
            found.execute("SELECT key, value FROM answers LIMIT 1").fetchone()
            self._inode = self._path.stat().st_ino
        except BaseException:
            found.close()  # before its file is moved: an open one has locks and a log of that name
            raise
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
                    found[key] = msgspec.json.decode(value, type=dict[str, Any])
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TypeError) as error:
                    _log.warning("the kept answer %s is unreadable (%s): it is asked for again", key[:16], error)
        return found

    def put(self, key: str, value: Mapping[str, Any]) -> None:
        """Keep an answer."""
        self._answers.append((key, encode(value)))
        self._soon()

    def note(self, row: Mapping[str, Any]) -> None:
        """Add a row to the ledger."""
        self._rows.append(encode({"time": round(time.time(), 3), "pid": self._pid, **row}) + b"\n")
        self._soon()

    def note_cached(self, service: str, keys: Sequence[str]) -> None:
        """Add a row to the ledger for each answer that was taken from here: thousands a second, so they are not encoded one by one."""
        if keys:
            start = encode({"pid": self._pid, "service": service, "status": "cached", "time": round(time.time(), 3)})[:-1].decode()
            self._rows.append("".join(f'{start},"key":"{key}"}}\n' for key in keys).encode())
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

    def quiet_from(self, run: str, step: int) -> int | None:
        """The step from which a run asks no judge: the one noted before, else `step`, noted for all its processes; None: not kept."""
        if self._database is None:
            return None
        try:
            (first,) = self._database.execute(
                "UPDATE spending SET quiet_from = coalesce(quiet_from, ?) WHERE run = ? RETURNING quiet_from", (step, run)
            ).fetchone() or (step,)
        except sqlite3.DatabaseError as error:
            self._failed(error)
            return None
        return int(first)

    def _soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        """Write what has come: all answers in one transaction, all ledger rows in one write, so that processes do not mix theirs."""
        self._flushing = False
        if self._rows:
            self._write_ledger(b"".join(self._rows))
        if self._answers and self._database:
            try:
                with _transaction(self._database):
                    self._database.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?)", self._answers)
                self._bound(self._database)
            except sqlite3.DatabaseError as error:
                self._failed(error)
                return
            self._answers, self._refusals = [], 0

    def _write_ledger(self, rows: bytes) -> None:
        self._rows = []
        try:
            left = rows[os.write(self._ledger, rows) :]
            words = "no space is left"
        except OSError as error:
            left, words = rows, str(error)
        if left and not self._ledger_fails:
            _log.warning("the ledger in %s cannot be written (%s): calls are missing in it from here on", self._folder, words)
        if 0 < len(left) < len(rows):
            self._rows = [b"\n"]  # ends the row that is cut
        self._ledger_fails = bool(left)

    def _bound(self, database: sqlite3.Connection) -> None:
        """Drop the oldest answers while the file is larger than its limit; looked at now and then."""
        self._unlooked += sum(len(value) + _ROW_BYTES for _, value in self._answers)
        if self._unlooked < self._most_bytes * _PART:
            return
        self._unlooked, began = 0, time.monotonic()
        while _bytes(database) > self._most_bytes and time.monotonic() - began < _EVICTING_SECONDS:
            oldest = "SELECT min(rowid) + (max(rowid) - min(rowid)) * ? FROM answers"
            database.execute(f"DELETE FROM answers WHERE rowid <= ({oldest})", (_PART,))
            database.executescript("PRAGMA incremental_vacuum")  # execute() would free one page only

    def _failed(self, error: sqlite3.DatabaseError) -> None:
        """Go on without what the file refused: reopen a broken one, try a locked or full one again, then do without."""
        self._refusals += 1
        if self._database and _broken(error):
            _log.warning("%s is broken (%s): answers are kept in a new one", self._path, error)
            self._database.close()
            try:
                with _alone(self._folder / _LEDGER):
                    # Unless another process has put a new one in its place already.
                    if self._path.exists() and self._path.stat().st_ino == self._inode:
                        self._move_aside()
                self._database = self._open()
                if self._answers:
                    self._soon()
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


@contextlib.contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


def _bytes(database: sqlite3.Connection) -> int:
    """The size of the database's file, less what is free in it."""
    pages, free, size = (database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size"))
    return int((pages - free) * size)


def _broken(error: sqlite3.DatabaseError) -> bool:
    """True where the file is at fault; False for no permission, no space, locked."""
    return not isinstance(error, sqlite3.OperationalError) or getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_ERROR


@contextlib.contextmanager
def _alone(file: Path) -> Iterator[None]:
    """One process at a time, by a lock on `file`, opens or moves aside the answers. Raises TimeoutError where another goes on for long."""
    lock, began = os.open(file, os.O_RDWR | os.O_CREAT, 0o644), time.monotonic()  # not the folder: NFS locks no directories
    try:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() - began > _BUSY_SECONDS:
                    raise TimeoutError(f"locked for more than {_BUSY_SECONDS:g} s") from None
                time.sleep(0.01)
        try:
            yield
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)  # a child forked meanwhile has the same lock, and never closes it
    finally:
        os.close(lock)


def store() -> Store:
    """This process's store, in the settings' folder. To be called on the gateway's loop.

    Raises SettingsError when nothing can be kept there.
    """
    chosen = settings.load()

    def make() -> Store:
        try:
            return Store(chosen.cache_dir.expanduser(), chosen.cache_mb * 2**20)
        except (OSError, sqlite3.Error) as error:
            words = f"OVERTAKE_CACHE_DIR={chosen.cache_dir}: answers cannot be kept there ({error})"
            raise settings.SettingsError(f"{words}: make room or name another folder") from None

    return client("store", make)
