"""Store on disk for all processes and runs: answers, claims and money (SQLite), and a ledger with a line of JSON for each call.

Lives on the gateway's loop. What arrives is written at the loop's next turn, before another request can take its place: a killed
process loses no answer but those in flight. What cannot be written, for a lock or a full disk, is held in memory until it can.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import logging
import os
import secrets
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from overtake import settings
from overtake.remote.http import decode, encode
from overtake.remote.process import client

_log = logging.getLogger("overtake")
_LEDGER, _OWNERS = "ledger.jsonl", "owners.lock"
_FORMAT = 1
_APPLICATION = 0x0F7E
_AT_ONCE = 500
_BUSY_SECONDS = 5.0
_TROUBLED_SECONDS = 0.05
"""In which a file is waited for that was in the way a moment ago: every call waits meanwhile."""
_AGAIN_SECONDS = 1.0
"""After which a file that was in the way is tried again."""
_LAST_SECONDS = 30.0
"""At the end of a process, for answers that are still in memory alone."""
_HELD_BYTES = 64 * 2**20
_HELD_ROWS_BYTES = 16 * 2**20
"""Of answers and of the ledger's rows that wait in memory; beyond it the oldest are given up."""
_PART = 1 / 200
"""Of the most bytes: after so many more the size is looked at; of the rows: so many go at once when it is too large."""
_EVICTING_SECONDS = 0.5
"""For which every call waits; what is left is evicted next time."""
_ROW_BYTES = 200
"""What a row takes besides its value: the key twice, in table and index."""
_UNTIL = "good until"
"""In a kept answer: seconds since 1970 after which it is none."""

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
# Not of the format, so that files made before these were there are still ours.
_OF_OWNERS = """
CREATE TABLE IF NOT EXISTS claims (key TEXT PRIMARY KEY, owner INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS reserved (run TEXT, owner INTEGER, usd REAL NOT NULL, PRIMARY KEY (run, owner));
"""

T = TypeVar("T")


def key_of(identity: Mapping[str, Any]) -> str:
    """The key under which an answer is kept: the hash of all that it depends on."""
    return hashlib.sha256(encode(identity)).hexdigest()


class Money(NamedTuple):
    """USD of a run, over all its processes and restarts."""

    spent: float
    reserved: float
    """For requests under way."""
    granted: bool = True
    """Whether what was asked for is reserved."""


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


class Store:
    """The folder of answers. What cannot be read costs a warning and the answers in it, never a run.

    What another backend has to do as this one: answers (`get`, `put`), claims (`claim`, `taken`, `release`), money (`reserve`, `settle`,
    `spend`, `quiet_from`) and the ledger (`note`, `note_cached`). Rate limits and the circuit are `RateLimiter` and `Circuit`.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._most_bytes = folder, most_bytes
        self._pid = os.getpid()
        self._path = folder / "answers.sqlite"
        self._answers: dict[str, bytes] = {}
        self._held = 0
        self._rows: list[bytes] = []
        self._claims: set[str] = set()
        self._released: set[str] = set()
        self._flushing = False
        self._closed = False
        self._trouble = ""
        self._next_write = self._next_read = 0.0
        self._again: asyncio.TimerHandle | None = None
        self._ledger_fails = False
        self._unlooked = most_bytes  # a process that writes little looks at the size, too
        self._owners = Owners(folder)
        self._database: sqlite3.Connection | None = None
        self._database = self._open(_BUSY_SECONDS)
        self._ledger = _private(folder / _LEDGER, os.O_APPEND | os.O_WRONLY)

    def _open(self, seconds: float) -> sqlite3.Connection | None:
        try:
            with _alone(self._folder / _LEDGER, seconds):
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

    # ------------------------------------------------------------ answers

    def get(self, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The answers that are kept for these keys."""
        values: dict[str, bytes] = {}
        for start in range(0, len(keys), _AT_ONCE):
            part = keys[start : start + _AT_ONCE]
            sql = f"SELECT key, value FROM answers WHERE key IN ({','.join('?' * len(part))})"
            values |= dict(self._read(lambda database, sql=sql, part=part: database.execute(sql, part).fetchall(), []))  # type: ignore[misc]
        values |= {key: self._answers[key] for key in keys if key in self._answers}
        decoded = {key: self._value(key, value) for key, value in values.items()}
        return {key: value for key, value in decoded.items() if value is not None}

    @staticmethod
    def _value(key: str, encoded: bytes) -> dict[str, Any] | None:
        try:
            value = decode(encoded)
            if not isinstance(value, dict):
                raise TypeError("no JSON object")
        except (ValueError, RecursionError, TypeError) as error:
            _log.warning("the kept answer %s is unreadable (%s): it is asked for again", key[:16], error)
            return None
        return None if value.pop(_UNTIL, float("inf")) < time.time() else value

    def put(self, key: str, value: Mapping[str, Any], seconds: float | None = None) -> None:
        """Keep an answer, for so many seconds where they are given."""
        encoded = encode(value if seconds is None else {**value, _UNTIL: time.time() + seconds})
        self._held += len(encoded) - len(self._answers.pop(key, b""))
        self._answers[key] = encoded
        given_up = 0
        while self._held > _HELD_BYTES and len(self._answers) > 1:
            self._held -= len(self._answers.pop(next(iter(self._answers))))
            given_up += 1
        if given_up and self._trouble != "given up":
            self._trouble = "given up"
            message = "%s cannot be written, and %d MB of answers wait in memory: the oldest are given up"
            _log.warning(message, self._path, _HELD_BYTES // 2**20)
        self._soon()

    # ------------------------------------------------------------ claims

    def claim(self, key: str) -> dict[str, Any] | bool:
        """The kept answer; else True: this caller is to ask for it, and to `release` the key; False: somebody else is asking.

        A claim is its process's for as long as that lives. While the file cannot be written, only the claims of this process are known.
        """
        if key in self._claims:
            return False
        if key in self._answers and (value := self._value(key, self._answers[key])) is not None:
            return value

        def claim(database: sqlite3.Connection) -> bytes | bool:
            row = database.execute("SELECT value FROM answers WHERE key = ?", (key,)).fetchone()
            if row and self._value(key, row[0]) is not None:
                return bytes(row[0])
            owner = database.execute("SELECT owner FROM claims WHERE key = ?", (key,)).fetchone()
            if owner and owner[0] != self._owners.me and self._owners.alive(owner[0]):
                return False
            database.execute("INSERT OR REPLACE INTO claims VALUES (?, ?)", (key, self._owners.me))
            return True

        claimed = self._write(claim)
        if claimed is None:
            return self.get([key]).get(key) or self._claimed(key)
        if isinstance(claimed, bytes):
            return self._value(key, claimed) or self._claimed(key)
        return claimed and self._claimed(key)

    def _claimed(self, key: str) -> bool:
        self._claims.add(key)
        self._released.discard(key)
        return True

    def taken(self, key: str) -> bool:
        """Return whether somebody else is asking for it."""
        if key in self._claims:
            return True
        sql = "SELECT owner FROM claims WHERE key = ?"
        row = self._read(lambda database: database.execute(sql, (key,)).fetchone(), None)
        return bool(row) and row[0] != self._owners.me and self._owners.alive(row[0])

    def release(self, key: str) -> None:
        """Give up a claim, after the answer was `put`, if there is one."""
        self._claims.discard(key)
        self._released.add(key)
        self._soon()

    # ------------------------------------------------------------ money

    def reserve(self, run: str, usd: float, most: float) -> Money | None:
        """Reserve USD for a request that is about to leave, if with all that is spent and reserved they stay within `most`.

        What processes had reserved that have ended counts as spent: the service may have answered them. None: cannot be kept.
        """

        def reserve(database: sqlite3.Connection) -> Money:
            rows = database.execute("SELECT owner, usd FROM reserved WHERE run = ?", (run,)).fetchall()
            for owner, stale in [(owner, stale) for owner, stale in rows if not self._owners.alive(owner)]:
                database.execute("DELETE FROM reserved WHERE run = ? AND owner = ?", (run, owner))
                self._spend(database, run, stale)
            spent = self._spend(database, run, 0.0)
            (reserved,) = database.execute("SELECT coalesce(sum(usd), 0) FROM reserved WHERE run = ?", (run,)).fetchone()
            granted = spent + reserved + usd <= most
            if granted:
                self._reserve(database, run, usd)
            return Money(spent, reserved, granted)

        return self._write(reserve)

    def settle(self, run: str, reserved: float, usd: float) -> float | None:
        """Take back a reservation and add what was really spent; returns the sum spent in USD, None where it cannot be kept."""

        def settle(database: sqlite3.Connection) -> float:
            self._reserve(database, run, -reserved)
            return self._spend(database, run, usd)

        return self._write(settle)

    def _reserve(self, database: sqlite3.Connection, run: str, usd: float) -> None:
        sql = "INSERT INTO reserved VALUES (?, ?, max(?, 0)) ON CONFLICT DO UPDATE SET usd = max(usd + ?, 0)"
        database.execute(sql, (run, self._owners.me, usd, usd))

    @staticmethod
    def _spend(database: sqlite3.Connection, run: str, usd: float) -> float:
        sql = "INSERT INTO spending VALUES (?, ?, NULL) ON CONFLICT DO UPDATE SET usd = usd + excluded.usd RETURNING usd"
        return float(database.execute(sql, (run, usd)).fetchall()[0][0])

    def spend(self, run: str, usd: float) -> float | None:
        """Add to what a run has spent, over all its processes and restarts; returns the sum in USD, None where it cannot be kept."""
        return self._write(lambda database: self._spend(database, run, usd))

    def quiet_from(self, run: str, step: int) -> int | None:
        """The step from which a run asks no judge: the one noted before, else `step`, noted for all its processes; None: not kept."""
        sql = "UPDATE spending SET quiet_from = coalesce(quiet_from, ?) WHERE run = ? RETURNING quiet_from"
        return self._write(lambda database: int((database.execute(sql, (step, run)).fetchall() or [(step,)])[0][0]))

    # ------------------------------------------------------------ the ledger

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

    def _write_ledger(self) -> None:
        rows, self._rows = b"".join(self._rows), []
        try:
            count = os.write(self._ledger, rows)
            reason = "no space is left"
        except OSError as error:
            count, reason = 0, str(error)
        rest = rows[count:]
        if not rest:
            self._ledger_fails = False
            return
        if count:  # the row that is cut ends here, and is written whole when it is possible again
            rest = b"\n" + rows[rows.rfind(b"\n", 0, count) + 1 :]
        if not self._ledger_fails:
            _log.warning("the ledger in %s cannot be written (%s): its rows wait in memory until it can", self._folder, reason)
        self._ledger_fails = True
        self._rows = [rest[rest.find(b"\n", len(rest) - _HELD_ROWS_BYTES) + 1 :] if len(rest) > _HELD_ROWS_BYTES else rest]

    # ------------------------------------------------------------ the file

    def _soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        """Write what has come: all answers in one transaction, all ledger rows in one write, so that processes do not mix theirs."""
        self._flushing = False
        if self._rows:
            self._write_ledger()
        if self._answers or self._released:

            def keep(database: sqlite3.Connection) -> bool:
                answers = [*self._answers.items()]
                database.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?)", answers)
                mine = [(key, self._owners.me) for key in self._released]
                database.executemany("DELETE FROM claims WHERE key = ? AND owner = ?", mine)
                return True

            if self._write(keep):
                self._kept()
        if self._again:
            self._again.cancel()
        if (self._ledger_fails or self._answers) and not self._closed:
            self._again = asyncio.get_running_loop().call_later(_AGAIN_SECONDS, self.flush)

    def _kept(self) -> None:
        """All that was waiting is in the file."""
        sizes = [len(value) + _ROW_BYTES for value in self._answers.values()]
        if self._trouble:
            _log.warning("%s can be written again: %d answers that waited in memory are kept", self._path, len(sizes))
        self._answers, self._held, self._released, self._trouble = {}, 0, set(), ""
        self._unlooked += sum(sizes)
        if self._database and self._unlooked >= self._most_bytes * _PART:
            self._unlooked = 0
            with contextlib.suppress(sqlite3.OperationalError):  # another process writes: next time
                self._evict(self._database)

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
                self._next_read = time.monotonic() + _AGAIN_SECONDS
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
            with _alone(self._folder / _LEDGER):
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
            _log.warning(message, self._path, error, _HELD_BYTES // 2**20)
        self._next_write = time.monotonic() + _AGAIN_SECONDS
        self._patient(_TROUBLED_SECONDS)

    def _patient(self, seconds: float) -> None:
        if self._database and self._busy != seconds:
            self._busy = seconds
            self._database.execute(f"PRAGMA busy_timeout = {int(1000 * seconds)}")

    @property
    def closing_seconds(self) -> float:
        """Seconds that `close` may take: long where answers are in memory alone."""
        return _LAST_SECONDS if self._trouble and self._answers else 0.0

    def close(self) -> None:
        """Write what is left; what cannot be written is waited for."""
        if self._closed:
            return
        self._closed = True
        until = time.monotonic() + self.closing_seconds
        if self.closing_seconds:
            _log.warning("%d answers are not in %s yet: waiting for it, at most %g s", len(self._answers), self._path, _LAST_SECONDS)
        self.flush()
        while self._answers and time.monotonic() < until:
            time.sleep(0.1)
            self.flush()
        if self._answers:
            _log.warning("%d answers could not be kept in %s: they are asked for, and paid, again", len(self._answers), self._path)
        self._write(lambda database: database.execute("DELETE FROM claims WHERE owner = ?", (self._owners.me,)))
        if self._database:
            self._database.close()
        self._owners.close()
        os.close(self._ledger)


def _private(path: Path, flags: int) -> int:
    """A file opened, or made, that its owner alone may read: it holds what users ask."""
    descriptor = os.open(path, flags | os.O_CREAT, 0o600)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):  # and no device that a link names
        with contextlib.suppress(PermissionError):  # another user's, who shares the folder
            os.fchmod(descriptor, 0o600)
    return descriptor


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
    lock, began = _private(file, os.O_RDWR), time.monotonic()  # not the folder: NFS locks no directories
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


def store() -> Store:
    """Return this process's store, in the settings' folder. To be called on the gateway's loop.

    Raises SettingsError when nothing can be kept there.
    """
    config = settings.load()

    def make() -> Store:
        try:
            return Store(config.cache_dir.expanduser(), config.cache_mb * 2**20)
        except (OSError, sqlite3.Error) as error:
            message = f"OVERTAKE_CACHE_DIR={config.cache_dir}: answers cannot be kept there ({error})"
            raise settings.SettingsError(f"{message}: make room or name another folder") from None

    return client("store", make)
