"""Store on this machine's disk (SQLite), for all of its processes: answers, claims and accounts in one file.

What cannot be read costs a warning and the answers in it, never a run; what cannot be written, for a lock or a full disk, waits in memory.
"""

import contextlib
import fcntl
import logging
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from overtake.remote.http import encode
from overtake.remote.store import AGAIN_SECONDS, HELD_BYTES, LEDGER, Account, Store, kept, private

_log = logging.getLogger("overtake")
_OWNERS = "owners.lock"
_FORMAT = 1
_APPLICATION = 0x0F7E
_AT_ONCE = 500
_BUSY_SECONDS = 5.0
_TROUBLED_SECONDS = 0.05
"""In which a file is waited for that was in the way a moment ago: every call waits meanwhile."""
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
COMMIT;
"""
# Not of the format, so that files made before these were there are still ours.
_OF_OWNERS = """
CREATE TABLE IF NOT EXISTS claims (key TEXT PRIMARY KEY, owner INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS accounts (run TEXT PRIMARY KEY, value BLOB NOT NULL);
"""

T = TypeVar("T")


class Owners:
    """Register of live processes, told by a lock on one byte for each: the kernel takes it off when the process ends, however it ends."""

    def __init__(self, folder: Path) -> None:
        self._file = os.open(folder / _OWNERS, os.O_RDWR | os.O_CREAT, 0o600)
        self.me = secrets.randbelow(2**48)
        # A lock of this kind belongs to the process: a forked child has none of it, and makes a store of its own.
        fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, self.me)

    def alive(self, owner: int) -> bool:
        """Return whether the process of that number still runs."""
        if owner == self.me:
            return True
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, owner)
        except OSError:
            return True
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, owner)
        return False

    def close(self) -> None:
        """Mark this process as ended."""
        os.close(self._file)


class DiskStore(Store):
    """The store in a folder, at most `most_bytes` of answers. Raises OSError or sqlite3.Error where nothing can be kept there."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._most_bytes = folder, most_bytes
        self._path = folder / "answers.sqlite"
        self._next_write = self._next_read = 0.0
        self._unlooked = most_bytes  # a process that writes little looks at the size, too
        self._owners = Owners(folder)
        self._database: sqlite3.Connection | None = None
        super().__init__(folder, str(self._path), self._owners.me)
        self._database = self._open(_BUSY_SECONDS)
        self._open_ledger()

    def _open(self, seconds: float) -> sqlite3.Connection | None:
        try:
            with _alone(self._folder / LEDGER, seconds):
                try:
                    return self._connect(seconds)
                except sqlite3.DatabaseError as error:
                    if not _broken(error):
                        raise
                    _log.warning("%s is no cache of ours (%s): answers are kept in a new one", self._path, error)
                    self._move_aside()
                    return self._connect(seconds)
        except (sqlite3.OperationalError, TimeoutError) as error:
            if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_BUSY) & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise
            self._in_the_way(error)
            return None

    def _move_aside(self) -> None:
        # With its log, which may hold what is not yet in the file; under one name, so that both can be opened again.
        aside = self._path.with_name(f"{self._path.name}.unreadable-{time.time_ns()}")
        for end in ("", "-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                self._path.with_name(self._path.name + end).rename(f"{aside}{end}")
        _log.warning("%s is moved to %s", self._path, aside.name)

    def _connect(self, seconds: float) -> sqlite3.Connection:
        _make_private(self._path)  # SQLite gives its log the permissions of the file
        # Opened on the loop's thread, closed at exit from wherever that is.
        database = sqlite3.connect(self._path, timeout=seconds, check_same_thread=False, isolation_level=None)
        try:
            (application,), (version,) = (
                database.execute("PRAGMA application_id").fetchone(),
                database.execute("PRAGMA user_version").fetchone(),
            )
            (tables,) = database.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if tables and (application, version) != (_APPLICATION, _FORMAT):
                raise sqlite3.DatabaseError("another program's, or another version's")
            if not tables:
                database.executescript(_SCHEMA)
            database.executescript(_OF_OWNERS)
            database.execute("PRAGMA synchronous = NORMAL")
            database.execute("PRAGMA journal_size_limit = 67108864")
            database.execute("SELECT key, value FROM answers LIMIT 1").fetchone()
            self._inode, self._busy = self._path.stat().st_ino, seconds
        except BaseException:
            database.close()  # before its file is moved: an open one has locks and a log of that name
            raise
        return database

    # ------------------------------------------------------------ what a store does

    def _read_answers(self, keys: Sequence[str]) -> dict[str, bytes]:
        values: dict[str, bytes] = {}
        for start in range(0, len(keys), _AT_ONCE):
            part = keys[start : start + _AT_ONCE]
            sql = f"SELECT key, value FROM answers WHERE key IN ({','.join('?' * len(part))})"
            values |= dict(self._read(lambda database, sql=sql, part=part: database.execute(sql, part).fetchall(), []))  # type: ignore[misc]
        return values

    def _keep(self, answers: Mapping[str, bytes], released: Sequence[str]) -> bool:
        def keep(database: sqlite3.Connection) -> bool:
            database.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?)", [*answers.items()])
            database.executemany("DELETE FROM claims WHERE key = ? AND owner = ?", [(key, self._me) for key in released])
            return True

        if not self._write(keep):
            return False
        self._unlooked += sum(len(value) + _ROW_BYTES for value in answers.values())
        if self._database and self._unlooked >= self._most_bytes * _PART:
            self._unlooked = 0
            with contextlib.suppress(sqlite3.OperationalError):  # another process writes: next time
                self._evict(self._database)
        return True

    def _claim(self, key: str) -> bytes | bool | None:
        def claim(database: sqlite3.Connection) -> bytes | bool:
            row = database.execute("SELECT value FROM answers WHERE key = ?", (key,)).fetchone()
            if row and kept(key, row[0]) is not None:
                return bytes(row[0])
            owner = database.execute("SELECT owner FROM claims WHERE key = ?", (key,)).fetchone()
            if owner and owner[0] != self._me and self.alive(owner[0]):
                return False
            database.execute("INSERT OR REPLACE INTO claims VALUES (?, ?)", (key, self._me))
            return True

        return self._write(claim)

    def _owner(self, key: str) -> int | None:
        sql = "SELECT owner FROM claims WHERE key = ?"
        row = self._read(lambda database: database.execute(sql, (key,)).fetchone(), None)
        return row[0] if row else None

    def alive(self, owner: int) -> bool:
        """Return whether the process of that number still runs."""
        return self._owners.alive(owner)

    def _change(self, run: str, work: Callable[[Account], T]) -> T | None:
        def change(database: sqlite3.Connection) -> T:
            row = database.execute("SELECT value FROM accounts WHERE run = ?", (run,)).fetchone()
            account = Account.read(row[0] if row else b"")
            result = work(account)
            database.execute("INSERT OR REPLACE INTO accounts VALUES (?, ?)", (run, encode(account)))
            return result

        return self._write(change)

    def _leave(self) -> None:
        self._write(lambda database: database.execute("DELETE FROM claims WHERE owner = ?", (self._me,)))
        if self._database:
            self._database.close()
        self._owners.close()

    # ------------------------------------------------------------ the file

    def _evict(self, database: sqlite3.Connection) -> None:
        """Drop the oldest answers while the file is larger than its limit."""
        began = time.monotonic()
        while _bytes(database) > self._most_bytes and time.monotonic() - began < _EVICTING_SECONDS:
            oldest = "SELECT min(rowid) + (max(rowid) - min(rowid)) * ? FROM answers"
            database.execute(f"DELETE FROM answers WHERE rowid <= ({oldest})", (_PART,))
            database.executescript("PRAGMA incremental_vacuum")  # execute() would free one page only

    def _write(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        """What `work` returns, done in one transaction; None while the file cannot be written."""
        for _ in range(2):
            if time.monotonic() < self._next_write and not self._closed:
                return None
            if self._database is None:
                try:
                    self._database = self._open(_TROUBLED_SECONDS)
                except (sqlite3.DatabaseError, OSError) as error:
                    self._in_the_way(error)
            if self._database is None:
                return None
            try:
                with _transaction(self._database):
                    value = work(self._database)
            except sqlite3.DatabaseError as error:
                if not self._failed(error):
                    return None
            else:
                if self._trouble and not self._answers:
                    self._trouble = ""
                self._patient(_BUSY_SECONDS)
                return value
        return None

    def _read(self, work: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        """What `work` returns; `otherwise` while the file cannot be read."""
        if self._database is None or time.monotonic() < self._next_read:
            return otherwise
        try:
            return work(self._database)
        except sqlite3.DatabaseError as error:
            if not self._failed(error):
                self._next_read = time.monotonic() + AGAIN_SECONDS
        return otherwise

    def _failed(self, error: sqlite3.DatabaseError) -> bool:
        """Replace a broken file, and return True where a new one is there; wait for one that is in the way, and return False."""
        if not self._database or not _broken(error):
            self._in_the_way(error)
            return False
        _log.warning("%s is broken (%s): answers are kept in a new one", self._path, error)
        self._database.close()
        self._database = None
        try:
            with _alone(self._folder / LEDGER):
                # Unless another process has put a new one in its place already.
                if self._path.exists() and self._path.stat().st_ino == self._inode:
                    self._move_aside()
            self._database = self._open(_BUSY_SECONDS)
        except (sqlite3.DatabaseError, OSError) as again:
            self._in_the_way(again)
        return self._database is not None

    def _in_the_way(self, error: Exception) -> None:
        """Another process's lock, a full disk, no permission: say so once, and keep nobody waiting for it."""
        if not self._trouble:
            self._trouble = "held"
            message = "%s cannot be used at the moment (%s): answers wait in memory, at most %d MB, and are kept when it is possible again"
            _log.warning(message, self._path, error, HELD_BYTES // 2**20)
        self._next_write = time.monotonic() + AGAIN_SECONDS
        self._patient(_TROUBLED_SECONDS)

    def _patient(self, seconds: float) -> None:
        if self._database and self._busy != seconds:
            self._busy = seconds
            self._database.execute(f"PRAGMA busy_timeout = {int(1000 * seconds)}")


def _make_private(path: Path) -> None:
    """Make a database's file, if there is none, and let its owner alone read it and what SQLite puts beside it.

    An existing one is not opened for it: closing it would take off the locks that SQLite has on it in this process.
    """
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    for file in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))):
        with contextlib.suppress(FileNotFoundError, PermissionError):
            if file.is_file():
                file.chmod(0o600)


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
def _alone(file: Path, seconds: float | None = None) -> Iterator[None]:
    """One process at a time, by a lock on `file`, opens or moves aside the answers. Raises TimeoutError where another goes on for long."""
    lock, began = private(file, os.O_RDWR), time.monotonic()  # not the folder: NFS locks no directories
    seconds = _BUSY_SECONDS if seconds is None else seconds
    try:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() - began > seconds:
                    raise TimeoutError(f"locked for more than {seconds:g} s") from None
                time.sleep(0.01)
        try:
            yield
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)  # a child forked meanwhile has the same lock, and never closes it
    finally:
        os.close(lock)
