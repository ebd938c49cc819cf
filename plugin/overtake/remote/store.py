"""Store of what all processes and runs share: answers, claims and money, on disk (disk.py) or on a Redis server (shared.py); and a ledger
on disk with a line of JSON for each call.

Lives on the gateway's loop. What arrives is written at the loop's next turn, before another request can take its place: a killed
process loses no answer but those in flight. What cannot be written is held in memory until it can.
"""

import asyncio
import contextlib
import hashlib
import logging
import os
import sqlite3
import stat
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec

from overtake import settings
from overtake.remote.circuit import Circuit
from overtake.remote.http import decode, encode
from overtake.remote.process import client

_log = logging.getLogger("overtake")
LEDGER = "ledger.jsonl"
AGAIN_SECONDS = 1.0
"""After which a store that was in the way is tried again."""
_LAST_SECONDS = 30.0
"""At the end of a process, for answers that are still in memory alone."""
HELD_BYTES = 64 * 2**20
_HELD_ROWS_BYTES = 16 * 2**20
"""Of answers and of the ledger's rows that wait in memory; beyond it the oldest are given up."""
_UNTIL = "good until"
"""In a kept answer: seconds since 1970 after which it is none."""

T = TypeVar("T")


def key_of(identity: Mapping[str, Any]) -> str:
    """The key under which an answer is kept: the hash of all that it depends on."""
    return hashlib.sha256(encode(identity)).hexdigest()


class StoreGone(settings.SettingsError):
    """The store does not answer, and without it nothing may be asked: `Store.reachable` waits for it."""


class Money(NamedTuple):
    """USD of a run, over all its processes and restarts."""

    spent: float
    reserved: float
    """For requests under way."""
    granted: bool = True
    """Whether what was asked for is reserved."""


class Account(msgspec.Struct):
    """A run's money as the store keeps it, by the number of the process that spent or reserved it.

    Each process writes its own sums and never a difference, so writing them twice, or again after the store lost them, is no fault.
    """

    spent: dict[str, float] = msgspec.field(default_factory=dict)
    reserved: dict[str, float] = msgspec.field(default_factory=dict)
    quiet_from: int | None = None

    @classmethod
    def read(cls, value: bytes) -> "Account":
        """The account in some bytes, a new one in none and in what is no account, which is said."""
        try:
            return msgspec.json.decode(value or b"{}", type=cls)
        except msgspec.MsgspecError as error:
            _log.warning("what a run has spent is unreadable in the store (%s): it is counted from 0", error)
            return cls()


class Store(ABC):
    """The part that every store shares: keep answers, claim what is asked for, count money, write the ledger.

    A store says by the methods without a body where these are. Rate limits and the circuit are `RateLimiter` and `Circuit`, which a
    store that reaches past this machine shares, too (`watch`, `pace`).
    """

    def __init__(self, folder: Path, place: str, me: int) -> None:
        """`folder`: for the ledger; `place`: what the store is, for messages; `me`: this process's number."""
        self._folder, self._place, self._me = folder, place, me
        self._pid = os.getpid()
        self._answers: dict[str, bytes] = {}
        self._held = 0
        self._rows: list[bytes] = []
        self._claims: set[str] = set()
        self._released: set[str] = set()
        self._mine: dict[str, Money] = {}
        self._unsaved: set[str] = set()
        self._flushing = False
        self._closed = False
        self._trouble = ""
        """"held" while something waits in memory for the store to be there, "given up" once that was too much."""
        self._again: asyncio.TimerHandle | None = None
        self._ledger_fails = False

    def _open_ledger(self) -> None:
        self._ledger = private(self._folder / LEDGER, os.O_APPEND | os.O_WRONLY)

    # ------------------------------------------------------------ where things are

    @abstractmethod
    def _read_answers(self, keys: Sequence[str]) -> dict[str, bytes]:
        """The values that are kept for these keys."""

    @abstractmethod
    def _keep(self, answers: Mapping[str, bytes], released: Sequence[str]) -> bool:
        """Write answers and give up claims of this process, all or nothing; whether that was possible."""

    @abstractmethod
    def _claim(self, key: str) -> bytes | bool | None:
        """The kept value; True: the key is this process's; False: it is a living process's; None: claims cannot be kept."""

    @abstractmethod
    def _owner(self, key: str) -> int | None:
        """The number of the process that claimed the key last."""

    @abstractmethod
    def alive(self, owner: int) -> bool:
        """Return whether the process of that number still runs."""

    @abstractmethod
    def _change(self, run: str, work: Callable[[Account], T]) -> T | None:
        """What `work` returns, once the account that it was given, and changed, is kept, nobody else having changed it meanwhile.

        None: it cannot be kept. `work` may be called again, with another account.
        """

    @abstractmethod
    def _leave(self) -> None:
        """Give up all claims and close what is open."""

    # ------------------------------------------------------------ whether it is there

    async def reachable(self) -> bool:
        """Wait until the store answers; False: it did not for as long as the settings' outage_patience."""
        return True

    @property
    def paused(self) -> float:
        """Seconds for which all calls have waited for the store so far."""
        return 0.0

    def renew(self) -> None:  # noqa: B027 - a file is there
        """A new batch may try a store that was given up."""

    def watch(self, circuit: Circuit) -> None:  # noqa: B027 - a file is of this machine
        """Share a service's circuit with the processes of other machines."""

    def pace(self, name: str, amount: float, a_second: float, burst: float) -> float | None:
        """Seconds to wait before `amount` of something limited may be used, which is then taken; None: each process keeps to its part."""
        return None

    # ------------------------------------------------------------ answers

    def get(self, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The answers that are kept for these keys. Raises StoreGone."""
        values = self._read_answers(keys) | {key: self._answers[key] for key in keys if key in self._answers}
        decoded = {key: kept(key, value) for key, value in values.items()}
        return {key: value for key, value in decoded.items() if value is not None}

    def put(self, key: str, value: Mapping[str, Any], seconds: float | None = None) -> None:
        """Keep an answer, for so many seconds where they are given."""
        encoded = encode(value if seconds is None else {**value, _UNTIL: time.time() + seconds})
        self._held += len(encoded) - len(self._answers.pop(key, b""))
        self._answers[key] = encoded
        given_up = 0
        while self._held > HELD_BYTES and len(self._answers) > 1:
            self._held -= len(self._answers.pop(next(iter(self._answers))))
            given_up += 1
        if given_up and self._trouble != "given up":
            self._trouble = "given up"
            message = "%s cannot be written, and %d MB of answers wait in memory: the oldest are given up"
            _log.warning(message, self._place, HELD_BYTES // 2**20)
        self._soon()

    # ------------------------------------------------------------ claims

    def claim(self, key: str) -> dict[str, Any] | bool:
        """The kept answer; else True: this caller is to ask for it, and to `release` the key; False: somebody else is asking.

        A claim is its process's for as long as that lives. While claims cannot be kept, only those of this process are known.
        Raises StoreGone.
        """
        if key in self._claims:
            return False
        if key in self._answers and (value := kept(key, self._answers[key])) is not None:
            return value
        claimed = self._claim(key)
        if claimed is None:
            return self.get([key]).get(key) or self._claimed(key)
        if isinstance(claimed, bytes):
            return kept(key, claimed) or self._claimed(key)
        return claimed and self._claimed(key)

    def _claimed(self, key: str) -> bool:
        self._claims.add(key)
        self._released.discard(key)
        return True

    def taken(self, key: str) -> bool:
        """Return whether somebody else is asking for it. Raises StoreGone."""
        if key in self._claims:
            return True
        owner = self._owner(key)
        return owner is not None and owner != self._me and self.alive(owner)

    def release(self, key: str) -> None:
        """Give up a claim, after the answer was `put`, if there is one."""
        self._claims.discard(key)
        self._released.add(key)
        self._soon()

    # ------------------------------------------------------------ money

    def reserve(self, run: str, usd: float, most: float) -> Money | None:
        """Reserve USD for a request that is about to leave, if with all that is spent and reserved they stay within `most`.

        What processes had reserved that have ended counts as spent: the service may have answered them. None: cannot be kept.
        Raises StoreGone.
        """
        mine = self._mine_of(run)

        def reserve(account: Account) -> Money:
            spent, reserved = self._sums(run, account)
            granted = spent + reserved + usd <= most
            if granted:
                account.reserved[str(self._me)] = mine.reserved + usd
            return Money(spent, reserved, granted)

        money = self._change(run, reserve)
        if money is not None:
            self._unsaved.discard(run)
            self._mine[run] = mine._replace(reserved=mine.reserved + usd * money.granted)
        return money

    def settle(self, run: str, reserved: float, usd: float) -> float | None:
        """Take back a reservation and add what was really spent; returns the sum spent in USD, None where it cannot be kept by now."""
        mine = self._mine_of(run)
        self._mine[run] = Money(mine.spent + usd, max(mine.reserved - reserved, 0.0))
        total = self._sum(run)
        if total is None:
            self._soon()
        return total

    def spend(self, run: str, usd: float) -> float | None:
        """Add to what a run has spent, over all its processes and restarts; returns the sum in USD, None where it cannot be kept by now."""
        return self.settle(run, 0.0, usd)

    def _sum(self, run: str) -> float | None:
        try:
            spent = self._change(run, lambda account: self._sums(run, account)[0])
        except StoreGone:
            spent = None
        if spent is None:
            self._unsaved.add(run)
        else:
            self._unsaved.discard(run)
        return spent

    def _mine_of(self, run: str) -> Money:
        return self._mine.setdefault(run, Money(0.0, 0.0))

    def _sums(self, run: str, account: Account) -> tuple[float, float]:
        """(spent, reserved) by all, once this process's own sums are entered."""
        mine = self._mine_of(run)
        for sums, usd in ((account.spent, mine.spent), (account.reserved, mine.reserved)):
            sums.pop(str(self._me), None)
            if usd:
                sums[str(self._me)] = usd
        lost = {owner: usd for owner, usd in account.reserved.items() if usd and not self.alive(int(owner))}
        reserved = sum(account.reserved.values()) - sum(lost.values())
        return sum(account.spent.values()) + float(sum(lost.values())), max(float(reserved), 0.0)

    def quiet_from(self, run: str, step: int) -> int | None:
        """The step from which a run asks no judge: the one noted before, else `step`, noted for all its processes; None: not kept."""

        def note(account: Account) -> int:
            account.quiet_from = step if account.quiet_from is None else account.quiet_from
            return account.quiet_from

        try:
            return self._change(run, note)
        except StoreGone:
            return None

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

    # ------------------------------------------------------------ what waits

    def _soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self.flush)

    def flush(self) -> None:
        """Write what has come: all answers at once, all ledger rows in one write, so that processes do not mix theirs."""
        self._flushing = False
        if self._rows:
            self._write_ledger()
        if (self._answers or self._released) and self._keep(self._answers, [*self._released]):
            if self._trouble:
                _log.warning("%s can be written again: %d answers that waited in memory are kept", self._place, len(self._answers))
            self._answers, self._held, self._released, self._trouble = {}, 0, set(), ""
        for run in [*self._unsaved]:
            self._sum(run)
        if self._again:
            self._again.cancel()
            self._again = None
        if (self._ledger_fails or self._answers or self._unsaved) and not self._closed:
            self._again = asyncio.get_running_loop().call_later(AGAIN_SECONDS, self.flush)

    @property
    def closing_seconds(self) -> float:
        """Seconds that `close` may take: long where answers are in memory alone."""
        return _LAST_SECONDS if (self._trouble and self._answers) or self._unsaved else 0.0

    def close(self) -> None:
        """Write what is left; what cannot be written is waited for."""
        if self._closed:
            return
        self._closed = True
        until = time.monotonic() + self.closing_seconds
        if self.closing_seconds:
            _log.warning("%d answers are not in %s yet: waiting for it, at most %g s", len(self._answers), self._place, _LAST_SECONDS)
        self.flush()
        while (self._answers or self._unsaved) and time.monotonic() < until:
            time.sleep(0.1)
            self.flush()
        if self._answers:
            _log.warning("%d answers could not be kept in %s: they are asked for, and paid, again", len(self._answers), self._place)
        self._leave()
        os.close(self._ledger)


def kept(key: str, encoded: bytes) -> dict[str, Any] | None:
    """The answer in a kept value; None for one that is no answer any more, or is unreadable, which is said."""
    try:
        value = decode(encoded)
        if not isinstance(value, dict):
            raise TypeError("no JSON object")
    except (ValueError, RecursionError, TypeError) as error:
        _log.warning("the kept answer %s is unreadable (%s): it is asked for again", key[:16], error)
        return None
    return None if value.pop(_UNTIL, float("inf")) < time.time() else value


def private(path: Path, flags: int) -> int:
    """A file opened, or made, that its owner alone may read: it holds what users ask."""
    descriptor = os.open(path, flags | os.O_CREAT, 0o600)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):  # and no device that a link names
        with contextlib.suppress(PermissionError):  # another user's, who shares the folder
            os.fchmod(descriptor, 0o600)
    return descriptor


def store() -> Store:
    """Return this process's store, the one that the settings name. To be called on the gateway's loop.

    Raises SettingsError when nothing can be kept there.
    """
    config = settings.load()

    def make() -> Store:
        folder, address = config.cache_dir.expanduser(), config.store.get_secret_value()
        try:
            if address:
                from overtake.remote.shared import SharedStore

                return SharedStore(address, folder, config.outage_patience)
            from overtake.remote.disk import DiskStore

            return DiskStore(folder, config.cache_mb * 2**20)
        except (OSError, sqlite3.Error) as error:
            message = f"OVERTAKE_CACHE_DIR={config.cache_dir}: answers cannot be kept there ({error})"
            raise settings.SettingsError(f"{message}: make room or name another folder") from None

    return client("store", make)
