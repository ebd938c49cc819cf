"""The one door for remote calls: bound, retry, cache, share, meter. Never raises for a service's fault, never hangs.

A call ends as `Ok(value)` or `Failed(reason)`; nothing else, and never an invented value (design.md, Gateway). ms-swift makes
a new event loop at every step, which breaks clients and semaphores bound to the old one (ms-swift-4.6: 2.4); so all calls of
a process run on one loop in a daemon thread that lives as long as the process.
"""

import asyncio
import atexit
import contextlib
import ctypes
import hashlib
import inspect
import json
import os
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar

import tenacity

from overtake import settings

ATTEMPTS = 5
_RETRIED = {408, 409, 425, 429, 500, 502, 503, 504, *range(520, 525), 529}
_LONGEST_WAIT = 60.0
_CLOSING_SECONDS = 2.0

T = TypeVar("T")


@dataclass(frozen=True)
class Ok:
    """A measured answer; `cached` says that it cost nothing."""

    value: Any
    cached: bool = False


@dataclass(frozen=True)
class Failed:
    """No answer, with the reason in words. Never to be turned into a score."""

    reason: str
    outage: bool = True
    """False when the service answered and refused this very request (a 4xx, an unusable answer)."""
    unusable: bool = False
    """True when an answer came and was not in the form agreed, e.g. a model's empty text."""


Result = Ok | Failed


class Unusable(Exception):
    """The service answered, but not in the form that was agreed; the message quotes what came.

    `paid` holds the "usage" and "usd" of the useless answer, which is billed all the same.
    """

    def __init__(self, message: str, paid: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.paid = paid or {}


class UnusableAgain(Unusable):
    """As Unusable, where asking once more may help."""


@dataclass(frozen=True)
class Call:
    """One request: what it depends on (the cache key) and how to send it."""

    identity: dict[str, Any]
    """Everything that changes the answer: endpoint, model, text, parameters, knowledge-base version. No secrets."""
    send: Callable[[], Awaitable[dict[str, Any]]]
    """Sends once and returns a JSON value with the answer; tokens, if any, under "usage", the price under "usd"."""
    cached: bool = True
    """False for what changes behind the same address and name, such as a model that is trained and served again."""
    requests: int = 1
    """How many requests `send` may make, one after the other: an attempt may take the gateway's `attempt_seconds` for each of them."""

    @property
    def key(self) -> str:
        """Hash of the identity."""
        return hashlib.sha256(json.dumps(self.identity, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


@dataclass
class Meter:
    """What the calls of one service came to in this process."""

    calls: int = 0
    cached: int = 0
    failed: int = 0
    seconds: float = 0.0
    tokens: int = 0
    usd: float = 0.0


@dataclass
class Gateway:
    """One service as this process sees it. Use `gateway()` to get it: one per service and process."""

    service: str
    concurrency: int
    attempt_seconds: float
    meter: Meter = field(default_factory=Meter)
    _slots: asyncio.Semaphore | None = None
    _in_flight: dict[str, asyncio.Task[Result]] = field(default_factory=dict)

    def run(
        self, calls: Sequence[Call], deadline: float | None = None, on_result: Callable[[int, Result], None] | None = None
    ) -> list[Result]:
        """Run all calls together and wait for them, at most `deadline` seconds; what is late is `Failed`.

        `on_result(index, result)` is told of each as it comes, from the gateway's thread.
        """
        return self.submit(calls, deadline, on_result).result()

    def submit(
        self, calls: Sequence[Call], deadline: float | None = None, on_result: Callable[[int, Result], None] | None = None
    ) -> "Future[list[Result]]":
        """As `run`, without waiting: several services can be asked at the same time."""
        return asyncio.run_coroutine_threadsafe(self._run(calls, deadline, on_result), _loop())

    async def _run(self, calls: Sequence[Call], deadline: float | None, on_result: Callable[[int, Result], None] | None) -> list[Result]:
        async def one(index: int, call: Call) -> Result:
            result = await self._shared(call)
            if on_result:
                on_result(index, result)
            return result

        tasks = [asyncio.ensure_future(one(i, call)) for i, call in enumerate(calls)]
        if not tasks:
            return []
        _, late = await asyncio.wait(tasks, timeout=deadline)
        for task in late:
            task.cancel()
        self.meter.failed += len(late)
        reason = f"{self.service}: no answer within the batch's deadline of {deadline} s"
        return [Failed(reason) if task in late else task.result() for task in tasks]

    async def _shared(self, call: Call) -> Result:
        """Identical calls in flight are one call."""
        key = call.key
        task = self._in_flight.get(key)
        if task is None:
            task = asyncio.ensure_future(self._answer(call, key))
            self._in_flight[key] = task
            task.add_done_callback(lambda _: self._in_flight.pop(key, None))
        else:
            self.meter.cached += 1
            self.meter.calls += 1
        return await asyncio.shield(task)

    async def _answer(self, call: Call, key: str) -> Result:
        self.meter.calls += 1
        stored = _store().get(key) if call.cached else None
        if stored is not None:
            self.meter.cached += 1
            return Ok(stored, cached=True)
        self._slots = self._slots or asyncio.Semaphore(self.concurrency)
        started, tries = time.monotonic(), 0
        result: Result
        try:
            async for attempt in tenacity.AsyncRetrying(
                stop=tenacity.stop_after_attempt(ATTEMPTS), wait=_wait, retry=tenacity.retry_if_exception(_is_transient), reraise=True
            ):
                with attempt:
                    tries += 1
                    # The slot is given back while backing off, so that one slow row holds up nobody.
                    async with self._slots, asyncio.timeout(self.attempt_seconds * call.requests):
                        value = await call.send()
            if call.cached:
                _store().put(key, value)
            result = Ok(value)
        except Exception as error:  # noqa: BLE001 - whatever a client library raises is a failed call, never a crashed step
            self.meter.failed += 1
            result = Failed(
                f"{self.service}: {_words(error, self.attempt_seconds)}", outage=_is_transient(error), unusable=isinstance(error, Unusable)
            )
            value = error.paid if isinstance(error, Unusable) else {}
        seconds = time.monotonic() - started
        self.meter.seconds += seconds
        self.meter.tokens += sum((value.get("usage") or {}).values())
        self.meter.usd += value.get("usd") or 0.0
        row = {"service": self.service, "key": key[:16], "status": "ok" if isinstance(result, Ok) else result.reason, "tries": tries}
        _store().note({**row, "seconds": round(seconds, 4), "usage": value.get("usage"), "usd": value.get("usd")})
        return result


def _status(error: BaseException) -> int | None:
    response = getattr(error, "response", None)
    return getattr(error, "status_code", None) or getattr(response, "status_code", None)


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, Unusable):
        return isinstance(error, UnusableAgain)
    if not isinstance(error, Exception):
        return False  # cancelled: tenacity would try again
    status = _status(error)
    return status in _RETRIED if status else True


def _wait(state: tenacity.RetryCallState) -> float:
    """Jittered exponential back-off, or what the service asks for in Retry-After (seconds or a date)."""
    error = state.outcome.exception() if state.outcome else None
    asked = getattr(getattr(error, "response", None), "headers", {}).get("retry-after")
    if asked:
        try:
            seconds = float(asked) if asked.replace(".", "").isdigit() else parsedate_to_datetime(asked).timestamp() - time.time()
            return min(max(seconds, 0.0), _LONGEST_WAIT)
        except ValueError:
            pass  # an unreadable header is as good as none
    return tenacity.wait_random_exponential(multiplier=0.5, max=8)(state)


def _words(error: BaseException, seconds: float) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {seconds:g} s"
    status = _status(error)
    # The SDK calls every lost connection a time-out; what it was stands in the cause.
    text = str(error.__cause__ or error) if status is None else str(error)
    if status and getattr(error, "response", None) is not None:
        text = str(getattr(error.response, "text", text))  # type: ignore[attr-defined]
    prefix = f"HTTP {status}: " if status else "" if isinstance(error, Unusable) else f"{type(error).__name__}: "
    return prefix + _without_secrets(text)[:300]


def _without_secrets(text: str) -> str:
    for name, value in os.environ.items():
        if name.endswith("API_KEY") and len(value) > 5:
            text = text.replace(value, "***")
    return text


class _Store:
    """Answers and ledger on disk, shared by processes: SQLite in WAL mode, JSON values, one line of JSON for each call."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.lock = threading.Lock()
        self.ledger = folder / "ledger.jsonl"
        self.database = sqlite3.connect(folder / "answers.sqlite", timeout=30, check_same_thread=False, isolation_level=None)
        self.database.execute("PRAGMA journal_mode=WAL")
        self.database.execute("PRAGMA synchronous=NORMAL")
        self.database.execute("CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, value TEXT NOT NULL)")

    def get(self, key: str) -> dict[str, Any] | None:
        """The stored answer, or None."""
        with self.lock:
            row = self.database.execute("SELECT value FROM answers WHERE key = ?", (key,)).fetchone()
        return json.loads(row[0]) if row else None

    def put(self, key: str, value: dict[str, Any]) -> None:
        """Keep an answer."""
        with self.lock:
            self.database.execute("INSERT OR REPLACE INTO answers VALUES (?, ?)", (key, json.dumps(value, ensure_ascii=False)))

    def note(self, row: dict[str, Any]) -> None:
        """Append a row to the ledger; one write of one line, so that processes do not mix theirs."""
        with self.ledger.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"time": round(time.time(), 3), "pid": os.getpid(), **row}, ensure_ascii=False) + "\n")


_of_process: dict[str, Any] = {}
_guard = threading.Lock()


def _once(name: str, make: Callable[[], T]) -> T:
    """Make `name` once in this process; a forked child makes its own, since threads and sockets do not survive a fork."""
    with _guard:
        if _of_process.get("pid") != os.getpid():
            _of_process.clear()
            _of_process["pid"] = os.getpid()
        if name not in _of_process:
            _of_process[name] = make()
        return _of_process[name]


def _leave_to_parent() -> None:
    """In a forked child: start afresh and never free what was the parent's.

    A freed aiohttp client closes its connections, which takes them off the epoll that parent and child share: the parent would wait
    for answers that it is never told of.
    """
    global _guard, _of_process
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(_of_process))
    _guard, _of_process = threading.Lock(), {}


os.register_at_fork(after_in_child=_leave_to_parent)


def _loop() -> asyncio.AbstractEventLoop:
    def start() -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        threading.Thread(target=loop.run_forever, name="overtake-gateway", daemon=True).start()
        return loop

    return _once("loop", start)


def _store() -> _Store:
    return _once("store", lambda: _Store(settings.load().cache_dir.expanduser()))


def gateway(service: str, concurrency: int, attempt_seconds: float) -> Gateway:
    """The gateway of a service ("rag", "teacher", "judge") in this process."""
    return _once(f"gateway-{service}", lambda: Gateway(service, concurrency, attempt_seconds))


def client(name: str, make: Callable[[], T]) -> T:
    """A client object kept for the life of the process. To be called inside `Call.send`, so that it is made on the gateway's loop.

    At exit its `aclose()`, else its `close()`, is called on that loop.
    """
    return _once(f"client-{name}", make)


def _close_clients() -> None:
    """End what is under way and close the clients, within _CLOSING_SECONDS; aiohttp prints complaints about sessions left open."""
    made = dict(_of_process)  # no lock: whoever holds it may never return
    if made.get("pid") != os.getpid() or "loop" not in made:
        return  # nothing was called here; a forked child has no thread that runs its parent's loop

    async def close() -> None:
        running = asyncio.all_tasks() - {asyncio.current_task()}
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=_CLOSING_SECONDS / 2)
        for name, one in made.items():
            closing = getattr(one, "aclose", None) or getattr(one, "close", None)
            if name.startswith("client-") and closing:
                _of_process.pop(name, None)
                with contextlib.suppress(Exception):
                    ended = closing()
                    if inspect.isawaitable(ended):
                        await ended

    with contextlib.suppress(Exception, KeyboardInterrupt):
        asyncio.run_coroutine_threadsafe(close(), made["loop"]).result(_CLOSING_SECONDS)


atexit.register(_close_clients)
