"""The one door for remote calls: bound, pace, retry, cache, share, meter. Never raises for a service's fault, never hangs.

A call ends as `Ok(value)` or `Failed(reason)`; nothing else, and never an invented value (design.md, Gateway).
"""

import asyncio
import hashlib
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from overtake import settings
from overtake.remote import budget, faults, limits
from overtake.remote.circuit import Circuit
from overtake.remote.faults import Fault
from overtake.remote.http import encode
from overtake.remote.process import loop, once
from overtake.remote.store import store

ATTEMPTS = 8
"""Of one call; answers of 429, and failures while the circuit is open, are not counted."""
_CALL_SECONDS = 600.0
"""One call's attempts and waits together, its place in the queue and pauses of the service not counted."""
_LONGEST_BACKOFF = 8.0
_STOOD_STILL = 0.05
_LOOKED_UP = 256


@dataclass(frozen=True, slots=True)
class Ok:
    """A measured answer; `cached` says that it cost nothing."""

    value: Any
    cached: bool = False
    seconds: float = field(default=0.0, compare=False)
    """What it took, attempts and the waits between them together."""


@dataclass(frozen=True, slots=True)
class Failed:
    """No answer, with the reason in words. Never to be turned into a score."""

    reason: str
    kind: str = ""
    """What `Fault.kind` says of the last attempt."""
    outage: bool = True
    """False when the service answered and refused this very request (a 4xx, an unusable answer), and when the budget is spent."""

    @property
    def unusable(self) -> bool:
        """An answer came and held nothing usable, e.g. a model's empty text."""
        return self.kind == "unusable"


Result = Ok | Failed


@dataclass(slots=True)
class Call:
    """One request: what it depends on (the cache key) and how to send it."""

    identity: dict[str, Any]
    """Everything that changes the answer: endpoint, model, text, parameters, knowledge-base version. No secrets."""
    send: Callable[[], Awaitable[dict[str, Any]]]
    """Sends one request and returns a JSON value with the answer; tokens, if any, under "usage", the price under "usd". Raises Fault."""
    cached: bool = True
    """False for what changes behind the same address and name, such as a model that is trained and served again."""
    tokens: int = 0
    """About how many tokens it will take, for the limit of tokens a minute."""
    model: str = ""
    """The model asked, where the answer has a price."""

    @property
    def key(self) -> str:
        """Hash of the identity."""
        return hashlib.sha256(encode(self.identity)).hexdigest()


@dataclass
class Meter:
    """What was asked of one service in this process, and what it came to."""

    calls: int = 0
    cached: int = 0
    """Answered from disk."""
    shared: int = 0
    """Answered by an identical call."""
    failed: Counter[str] = field(default_factory=Counter)
    """Calls that ended without an answer, by kind."""
    faults: Counter[str] = field(default_factory=Counter)
    """Attempts that failed, by kind; most of them were made good by another."""
    requests: int = 0
    seconds: float = 0.0
    """Summed over requests and the waits between them."""
    waited: float = 0.0
    """Wall time of the batches."""
    tokens: int = 0
    usd: float = 0.0


@dataclass(slots=True)
class _Record:
    """What one call has taken so far."""

    faults: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    paid: dict[str, Any] = field(default_factory=dict)
    """"usage" and "usd" of all its answers, the useless ones too; an unknown price makes the sum unknown."""
    held: bool = True
    """It holds one of the gateway's places."""

    def pay(self, answer: dict[str, Any]) -> None:
        if "usage" in answer:
            before, usd = self.paid.get("usage", {}), self.paid.get("usd", 0.0)
            self.paid["usage"] = {name: before.get(name, 0) + count for name, count in answer["usage"].items()}
            self.paid["usd"] = None if usd is None or answer.get("usd") is None else usd + answer["usd"]


@dataclass(slots=True)
class _Flight:
    """A call under way and how many places of how many batches wait for it."""

    task: "asyncio.Task[Result]"
    waiting: int = 0


class Gateway:
    """One service as this process sees it. Use `gateway()` to get it: one per service and process."""

    def __init__(self, service: str, concurrency: int, attempt_seconds: float, pace: limits.Pace, patience: float) -> None:
        self.service, self.concurrency, self.attempt_seconds = service, concurrency, attempt_seconds
        self.meter = Meter()
        self._pace = pace
        self._circuit = Circuit(service, patience)
        self._slots = asyncio.Semaphore(concurrency)
        self._flights: dict[str, _Flight] = {}

    def run(
        self, calls: Sequence[Call], deadline: float | None = None, on_result: Callable[[int, Result], None] | None = None
    ) -> list[Result]:
        """Run all calls together and wait for them, at most `deadline` seconds; what is late is `Failed`.

        Seconds in which the service was down and the calls paused for it do not count, up to the settings' outage_patience.
        `on_result(index, result)` is told of each as it comes, from the gateway's thread.
        """
        return self.submit(calls, deadline, on_result).result()

    def submit(
        self, calls: Sequence[Call], deadline: float | None = None, on_result: Callable[[int, Result], None] | None = None
    ) -> "Future[list[Result]]":
        """As `run`, without waiting: several services can be asked at the same time."""
        return asyncio.run_coroutine_threadsafe(self._run(calls, deadline, on_result or (lambda *_: None)), loop())

    async def _run(self, calls: Sequence[Call], deadline: float | None, tell: Callable[[int, Result], None]) -> list[Result]:
        started, paused = time.monotonic(), self._circuit.paused
        self._circuit.renew()
        results: dict[int, Result] = {}
        flights: dict[str, tuple[_Flight, list[int]]] = {}

        def land(index: int, result: Result) -> None:
            if index not in results:
                results[index] = result
                tell(index, result)

        feeding = asyncio.ensure_future(self._feed(calls, flights, land))
        while not feeding.done():
            left = None if deadline is None else started + deadline + self._circuit.paused - paused - time.monotonic()
            if left is not None and left <= 0:
                break
            await asyncio.wait([feeding], timeout=left)
        if feeding.done():
            feeding.result()
        else:
            feeding.cancel()
        late = Failed(f"{self.service}: no answer within the batch's deadline of {deadline} s", "deadline")
        for index in range(len(calls)):
            results.setdefault(index, late)
        for key, (flight, indices) in flights.items():
            flight.waiting -= len(indices)
            if flight.waiting == 0 and not flight.task.done():
                self._flights.pop(key)  # nobody may join it any more
                flight.task.cancel()
        self._count(results, flights, time.monotonic() - started)
        return [results[index] for index in range(len(calls))]

    async def _feed(
        self, calls: Sequence[Call], flights: dict[str, tuple[_Flight, list[int]]], land: Callable[[int, Result], None]
    ) -> None:
        """Look up what is kept and start the rest, never more at once than may run; then wait for all of them.

        So many waiting calls cost no memory, and one that backs off gives its place to the next.
        """
        disk = store()
        for start in range(0, len(calls), _LOOKED_UP):
            part = calls[start : start + _LOOKED_UP]
            keys = [call.key for call in part]
            kept = disk.get([key for key, call in zip(keys, part, strict=True) if call.cached])
            disk.note_cached(self.service, [key[:16] for key in keys if key in kept])
            for index, (key, call) in enumerate(zip(keys, part, strict=True), start):
                if key in kept:
                    land(index, Ok(kept[key], cached=True))
                    continue
                flight = flights[key][0] if key in flights else self._flights.get(key)
                if flight is None:
                    await self._slots.acquire()
                    if flight := self._flights.get(key):  # another batch was first
                        self._slots.release()
                if flight is None:
                    record = _Record()
                    flight = self._flights[key] = _Flight(asyncio.ensure_future(self._answer(call, key, record)))
                    flight.task.add_done_callback(partial(self._landed, key, record))
                flight.waiting += 1
                flights.setdefault(key, (flight, []))[1].append(index)
                flight.task.add_done_callback(partial(_pass_on, land, index))
        if flights:
            await asyncio.wait([flight.task for flight, _ in flights.values()])

    def _landed(self, key: str, record: "_Record", task: "asyncio.Task[Result]") -> None:
        if record.held:  # here and not in the task: one that is cancelled before its first step never runs
            self._slots.release()
        if key in self._flights and self._flights[key].task is task:
            del self._flights[key]

    async def _answer(self, call: Call, key: str, record: "_Record") -> Result:
        """One call from its first attempt to its end."""
        result: Result | None = None
        try:
            result = await self._insist(call, record)
            if isinstance(result, Ok) and call.cached:
                store().put(key, result.value)
            return result
        finally:
            self._note(call, key, record, result)

    async def _insist(self, call: Call, record: "_Record") -> Result:
        """Attempt after attempt, until one brings an answer or another would not help."""
        counted = 0
        while True:
            came = await self._attempt(call, record)
            if not isinstance(came, Fault):
                return Ok({**came, **record.paid}, seconds=record.seconds)
            # What fails while the service is known to be down is not held against the one that probes.
            counted += came.kind != "http_429" and not self._circuit.open
            wait = _wait(came, record.faults.total())
            late = record.seconds + wait > _CALL_SECONDS
            if not came.again or counted >= ATTEMPTS or late:
                words = f"; trying again would take it past {_CALL_SECONDS:g} s" if came.again and late else ""
                return Failed(f"{self.service}: {came}{words}", came.kind, came.outage)
            if wait:
                # The place is given back while backing off, so that one slow row holds up nobody.
                self._slots.release()
                record.held = False
                await asyncio.sleep(wait)
                record.seconds += wait
                await self._slots.acquire()
                record.held = True

    async def _attempt(self, call: Call, record: "_Record") -> dict[str, Any] | Fault:
        probe = await self._circuit.enter()
        if probe is None:
            return Fault("circuit", f"the service did not answer for {self._circuit.patience:g} s", again=False)
        came: dict[str, Any] | Fault | None = None
        try:
            if words := budget.refusal(call.model):
                return Fault("budget", words, again=False)
            await self._pace.take(call.tokens)
            self.meter.requests += 1
            begun = time.monotonic()
            try:
                came = await self._within_seconds(call)
            except Exception as error:  # noqa: BLE001 - whatever a client library raises is a failed call, never a crashed step
                came = faults.of_error(error, self.attempt_seconds)
            finally:
                record.seconds += time.monotonic() - begun
        finally:
            if came is None:
                self._circuit.left(probe)
        if isinstance(came, Fault):
            record.faults[came.kind] += 1
        if isinstance(came, Fault) and came.outage and came.kind != "http_429":
            self._circuit.failed(probe, str(came))
        else:
            self._circuit.answered()
        paid = came.paid if isinstance(came, Fault) else came
        record.pay(paid)
        self._pace.settle(call.tokens, sum((paid.get("usage") or {}).values()))
        budget.spend(paid.get("usd"))
        return came

    async def _within_seconds(self, call: Call) -> dict[str, Any]:
        """Send once, within `attempt_seconds`; raises TimeoutError, and what `send` raises."""
        running = asyncio.get_running_loop()
        due = running.time() + self.attempt_seconds

        def expire() -> None:
            # When this process itself stood still, the answer may have come meanwhile and is read in this same turn of the loop: it is
            # paid for, so it gets as long again.
            late = running.time() - due
            limit.reschedule(running.time() + (min(late, self.attempt_seconds) if late > _STOOD_STILL else 0.0))

        async with asyncio.timeout(None) as limit:
            timer = running.call_at(due, expire)
            try:
                return await call.send()
            finally:
                timer.cancel()

    def _note(self, call: Call, key: str, record: "_Record", result: Result | None) -> None:
        self.meter.faults += record.faults
        self.meter.seconds += record.seconds
        self.meter.tokens += sum((record.paid.get("usage") or {}).values())
        self.meter.usd += record.paid.get("usd") or 0.0
        row: dict[str, Any] = {"service": self.service, "key": key[:16], "status": "failed"}
        if isinstance(result, Ok):
            row |= {"status": "ok", "model": result.value.get("model", call.model)}
        else:
            ended = result or Failed("cancelled when its batch ended", "deadline")
            row |= {"kind": ended.kind, "reason": ended.reason, "model": call.model}
        tries = record.faults.total() + isinstance(result, Ok)
        store().note({**row, "tries": tries, "faults": record.faults, "seconds": round(record.seconds, 4), **record.paid})

    def _count(self, results: dict[int, Result], flights: dict[str, tuple[_Flight, list[int]]], seconds: float) -> None:
        self.meter.calls += len(results)
        self.meter.waited += seconds
        self.meter.cached += sum(isinstance(result, Ok) and result.cached for result in results.values())
        self.meter.failed += Counter(result.kind for result in results.values() if isinstance(result, Failed))
        for key, (_, indices) in flights.items():
            for _ in indices[1:]:
                self.meter.shared += 1
                store().note({"service": self.service, "key": key[:16], "status": "shared"})


def _pass_on(land: Callable[[int, Result], None], index: int, task: "asyncio.Task[Result]") -> None:
    if not task.cancelled():
        land(index, task.result())


def _wait(fault: Fault, tries: int) -> float:
    """Seconds to wait before another attempt: none after a useless answer, what the service asked for and a little, or a back-off."""
    if fault.kind == "unusable":
        return 0.0
    return _backoff(tries) if fault.wait is None else fault.wait + _backoff(1)


def _backoff(tries: int) -> float:
    """Seconds: anything up to a bound that doubles ("full jitter"), so that those who failed together do not come back together."""
    return random.uniform(0, min(0.5 * 2.0 ** (tries - 1), _LONGEST_BACKOFF))


def gateway(
    service: str, concurrency: int, attempt_seconds: float, *, address: str = "", requests_a_minute: int = 0, tokens_a_minute: int = 0
) -> Gateway:
    """The gateway of a service ("rag", "teacher", "judge") in this process; of several ranks each takes its part of the limits.

    Services of one `address` share its limits of requests and tokens a minute.
    """

    pace = once(f"pace-{address or service}", lambda: limits.Pace(requests_a_minute, tokens_a_minute))
    places, patience = limits.share(concurrency, *limits.ranks()), settings.load().outage_patience
    return once(f"gateway-{service}", lambda: Gateway(service, places, attempt_seconds, pace, patience))
