"""The gateway of remote calls: bound, pace, retry, cache, share, meter. Never raises for a service's fault, never hangs.

A call ends as `Ok(value)` or `Failed(reason)`; nothing else, and never an invented value.
"""

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from overtake import settings
from overtake.redaction import without_login
from overtake.remote import budget, faults, limits
from overtake.remote.circuit import Circuit
from overtake.remote.faults import Fault
from overtake.remote.http import whole
from overtake.remote.process import loop, once
from overtake.remote.store import StoreGone, key_of, store

ATTEMPTS = 8
"""Of one call; answers of 429, and failures while the circuit is open, are not counted."""
_CALL_SECONDS = 600.0
"""One call's attempts and waits together, its place in the queue and pauses of the service not counted."""
_LONGEST_BACKOFF = 8.0
_STOOD_STILL = 0.05
_LOOKED_UP = 256
_LOOK_SECONDS = 0.1
"""Between two looks at whether another process's answer has come."""


@dataclass(frozen=True, slots=True)
class Ok:
    """A measured answer; `cached` says that it cost nothing."""

    value: Any
    cached: bool = False
    seconds: float = field(default=0.0, compare=False)
    """What it took, attempts and the waits between them together."""


@dataclass(frozen=True, slots=True)
class Failed:
    """Failure to get an answer, with the reason in words. Never to be turned into a score."""

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
    model: str = ""
    """The model asked, where the answer has a price."""
    prompt_tokens: int = 0
    """About how many tokens the request holds."""
    answer_tokens: int = 0
    """The most that the answer may have, as it is asked for first."""
    stretch: Callable[[], int] = lambda: 1
    """How many times `answer_tokens` it is asked for now; its seconds grow with them."""

    @property
    def key(self) -> str:
        """Hash of the identity."""
        return key_of(self.identity)

    @property
    def tokens(self) -> int:
        """Number of tokens, about, that it takes at most."""
        return self.prompt_tokens + self.stretch() * self.answer_tokens

    @property
    def usd(self) -> float | None:
        """Cost by those tokens; None where there is no price."""
        return budget.price(self.model, {"prompt_tokens": self.prompt_tokens, "completion_tokens": self.tokens - self.prompt_tokens})

    def prepare(self) -> None:
        """Find out what the key depends on, on the gateway's loop, before it is used."""

    def unsure(self) -> str:
        """Return what kept answers may be out of date for, so that one call is to go out and see; "" where they are good."""
        return ""

    def good_for(self, value: dict[str, Any]) -> float | None:
        """Seconds for which an answer may be kept; None: for good."""
        return None


@dataclass
class Meter:
    """Counters of one service in this process: what was asked, and what it came to."""

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
    claim: str = ""
    """The key that this process alone asks for meanwhile."""

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

    def __init__(
        self, service: str, concurrency: int, attempt_seconds: float, limiter: limits.RateLimiter, patience: float, place: str = ""
    ) -> None:
        self.service, self.concurrency, self.attempt_seconds = service, concurrency, attempt_seconds
        self.meter = Meter()
        self._limiter = limiter
        self._circuit = Circuit(service, patience, place=place)
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
        """Send as `run` does, without waiting: several services can be asked at the same time."""
        return asyncio.run_coroutine_threadsafe(self._run(calls, deadline, on_result or (lambda *_: None)), loop())

    async def _run(self, calls: Sequence[Call], deadline: float | None, tell: Callable[[int, Result], None]) -> list[Result]:
        self._circuit.renew()
        store().renew()
        store().watch(self._circuit)
        started, paused = time.monotonic(), self._paused()
        results: dict[int, Result] = {}
        flights: dict[str, tuple[_Flight, list[int]]] = {}

        def land(index: int, result: Result) -> None:
            if index not in results:
                results[index] = result
                tell(index, result)

        feeding = asyncio.ensure_future(self._feed(calls, flights, land))
        while not feeding.done():
            remaining = None if deadline is None else started + deadline + self._paused() - paused - time.monotonic()
            if remaining is not None and remaining <= 0:
                break
            await asyncio.wait([feeding], timeout=remaining)
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

    def _paused(self) -> float:
        """Seconds for which calls have waited for the service or the store."""
        return self._circuit.paused + store().paused

    async def _feed(
        self, calls: Sequence[Call], flights: dict[str, tuple[_Flight, list[int]]], land: Callable[[int, Result], None]
    ) -> None:
        """Look up what is kept and start the rest, never more at once than may run; then wait for all of them.

        So many waiting calls cost no memory, and one that backs off gives its place to the next.
        """
        for start in range(0, len(calls), _LOOKED_UP):
            part = dict(enumerate(calls[start : start + _LOOKED_UP], start))
            doubtful: dict[str, dict[int, tuple[Call, Ok]]] = {}
            while await store().reachable():
                with contextlib.suppress(StoreGone):
                    doubtful = self._land_kept(part, land)
                    break
            for index, call in part.items():
                await self._start(index, call, flights, land)
            await asyncio.gather(*(self._make_sure(group, flights, land) for group in doubtful.values()))
        if flights:
            await asyncio.wait([flight.task for flight, _ in flights.values()])

    def _land_kept(self, part: dict[int, Call], land: Callable[[int, Result], None]) -> dict[str, dict[int, tuple[Call, Ok]]]:
        """Land the calls whose answers are kept and take them out of `part`; those that may be out of date are returned, by what for."""
        disk = store()
        for call in part.values():
            call.prepare()
        keys = {index: call.key for index, call in part.items() if call.cached}
        in_store = disk.get(list(set(keys.values())))
        doubtful: dict[str, dict[int, tuple[Call, Ok]]] = {}
        landed = []
        for index, key in keys.items():
            if key in in_store:
                call, answer = part.pop(index), Ok(in_store[key], cached=True)
                if why := call.unsure():
                    doubtful.setdefault(why, {})[index] = call, answer
                else:
                    landed.append(key[:16])
                    land(index, answer)
        disk.note_cached(self.service, landed)
        return doubtful

    async def _make_sure(
        self,
        doubtful: dict[int, tuple[Call, Ok]],
        flights: dict[str, tuple[_Flight, list[int]]],
        land: Callable[[int, Result], None],
    ) -> None:
        """Send the first of these, and land or start the others by what it tells, or another meanwhile.

        Where the service does not answer, what was measured before still holds.
        """

        def land_first(index: int, result: Result) -> None:
            land(index, answer if isinstance(result, Failed) and result.outage else result)

        first = next(iter(doubtful))
        call, answer = doubtful.pop(first)
        flight = await self._start(first, call, flights, land_first, anew=True)
        while call.unsure() and not flight.task.done():
            await asyncio.wait([flight.task], timeout=_LOOK_SECONDS)
        in_store: dict[str, dict[str, Any]] = {}
        while await store().reachable():
            with contextlib.suppress(StoreGone):
                in_store = store().get([other.key for other, _ in doubtful.values()])
                break
        for index, (other, _) in doubtful.items():
            if other.key in in_store:
                store().note_cached(self.service, [other.key[:16]])
                land(index, Ok(in_store[other.key], cached=True))
            else:
                await self._start(index, other, flights, land)

    async def _start(
        self,
        index: int,
        call: Call,
        flights: dict[str, tuple[_Flight, list[int]]],
        land: Callable[[int, Result], None],
        anew: bool = False,
    ) -> _Flight:
        """Join the flight of an identical call, or start one as soon as there is a place."""
        key = call.key
        flight = flights[key][0] if key in flights else self._flights.get(key)
        if flight is None:
            await self._slots.acquire()
            if flight := self._flights.get(key):  # another batch was first
                self._slots.release()
        if flight is None:
            record = _Record()
            flight = self._flights[key] = _Flight(asyncio.ensure_future(self._answer(call, key, record, anew)))
            flight.task.add_done_callback(partial(self._landed, key, record))
        flight.waiting += 1
        flights.setdefault(key, (flight, []))[1].append(index)
        flight.task.add_done_callback(partial(_pass_on, land, index))
        return flight

    def _landed(self, key: str, record: "_Record", task: "asyncio.Task[Result]") -> None:
        if record.held:  # here and not in the task: one that is cancelled before its first step never runs
            self._slots.release()
        if key in self._flights and self._flights[key].task is task:
            del self._flights[key]

    async def _answer(self, call: Call, key: str, record: "_Record", anew: bool) -> Result:
        """One call from its first attempt to its end. `anew`: though an answer is kept."""
        result: Result | None = None
        try:
            result = await self._call_with_retries(call, record, anew)
            if isinstance(result, Ok) and call.cached and not result.cached:
                store().put(call.key, result.value, call.good_for(result.value))  # the key as it is now that the answer is there
            return result
        finally:
            if record.claim:
                store().release(record.claim)
            self._note(call, key, record, result)

    async def _call_with_retries(self, call: Call, record: "_Record", anew: bool) -> Result:
        """Attempt after attempt, until one brings an answer or another would not help."""
        counted = 0
        # Whoever asks the same is not waited for longer than a call may take: it may be stopped, not ended.
        patience = time.monotonic() + _CALL_SECONDS
        while True:
            came = await self._attempt(call, record, anew or time.monotonic() > patience)
            if isinstance(came, Ok):
                return came
            if came is None:
                await self._without_place(record, self._until_free(call.key, patience))
                continue
            if isinstance(came, StoreGone):
                continue
            if not isinstance(came, Fault):
                return Ok({**whole(came), **record.paid}, seconds=record.seconds)
            # What fails while the service is known to be down is not held against the one that probes.
            counted += came.kind != "http_429" and not self._circuit.open
            wait = _wait(came, record.faults.total())
            late = record.seconds + wait > _CALL_SECONDS
            if not came.again or counted >= ATTEMPTS or late:
                too_late = f"; trying again would take it past {_CALL_SECONDS:g} s" if came.again and late else ""
                return Failed(f"{self.service}: {came}{too_late}", came.kind, came.outage)
            if wait and record.claim:  # so that who waits for this answer finds by himself that the service is down
                store().release(record.claim)
                record.claim = ""
            await self._without_place(record, asyncio.sleep(wait) if wait else None)
            record.seconds += wait

    async def _without_place(self, record: "_Record", meanwhile: Awaitable[None] | None) -> None:
        """Let another call have this one's place, for a while or for its turn, so that one slow row holds up nobody."""
        self._slots.release()
        record.held = False
        if meanwhile:
            await meanwhile
        await self._slots.acquire()
        record.held = True

    async def _until_free(self, key: str, until: float) -> None:
        """Wait until nobody else asks for this key, or the time is over."""
        while time.monotonic() <= until:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                if not store().taken(key):
                    return
            except StoreGone:  # the next attempt waits for it
                return

    async def _attempt(self, call: Call, record: "_Record", anew: bool) -> dict[str, Any] | Fault | Ok | StoreGone | None:
        """The answer or the fault of one request; an Ok where the answer is kept by now, None while somebody else asks for it.

        Only here is a place waited for no more, so what is kept is looked up here and claimed: of all processes one asks.
        A StoreGone where nothing was sent for want of the store.
        """
        if not await store().reachable():
            return Fault("circuit", f"the store did not answer for {self._circuit.patience:g} s", again=False)
        probe = await self._circuit.enter()
        if probe is None:
            return Fault("circuit", f"the service did not answer for {self._circuit.patience:g} s", again=False)
        came: dict[str, Any] | Fault | None = None
        try:
            if call.cached and not anew and not record.claim:
                key = call.key
                claim = store().claim(key)
                if isinstance(claim, dict):
                    return Ok(claim, cached=True)
                if not claim:
                    return None
                record.claim = key
            usd = call.usd
            if refusal := await budget.reserve(call.model, usd):
                return Fault("budget", refusal, again=False)
            tokens = call.tokens
            paid: dict[str, Any] = {}
            try:
                await self._limiter.take(tokens)
                self.meter.requests += 1
                begun = time.monotonic()
                seconds = self.attempt_seconds * call.stretch()
                try:
                    came = await self._within_seconds(call, seconds)
                except Exception as error:  # noqa: BLE001 - whatever a client library raises is a failed call, never a crashed step
                    came = faults.of_error(error, seconds)
                finally:
                    record.seconds += time.monotonic() - begun
                paid = came.paid if isinstance(came, Fault) else came
            finally:
                budget.spend(paid.get("usd"), usd)
        except StoreGone as gone:
            return gone
        finally:
            if came is None:
                self._circuit.left(probe)
        if isinstance(came, Fault):
            record.faults[came.kind] += 1
        if isinstance(came, Fault) and came.outage and came.kind != "http_429":
            self._circuit.failed(probe, str(came))
        else:
            self._circuit.answered()
        record.pay(paid)
        self._limiter.settle(tokens, sum((paid.get("usage") or {}).values()))
        return came

    async def _within_seconds(self, call: Call, seconds: float) -> dict[str, Any]:
        """Send once, within so many seconds; raises TimeoutError, and what `send` raises."""
        running = asyncio.get_running_loop()
        due = running.time() + seconds

        def expire() -> None:
            # When this process itself stood still, the answer may have come meanwhile and is read in this same turn of the loop: it is
            # paid for, so it gets as long again.
            late = running.time() - due
            limit.reschedule(running.time() + (min(late, seconds) if late > _STOOD_STILL else 0.0))

        async with asyncio.timeout(None) as limit:
            timer = running.call_at(due, expire)
            try:
                return await call.send()
            finally:
                timer.cancel()

    def _note(self, call: Call, key: str, record: "_Record", result: Result | None) -> None:
        if isinstance(result, Ok) and result.cached and not record.faults:
            store().note_cached(self.service, [key[:16]])
            return
        self.meter.faults += record.faults
        self.meter.seconds += record.seconds
        self.meter.tokens += sum((record.paid.get("usage") or {}).values())
        self.meter.usd += record.paid.get("usd") or 0.0
        row: dict[str, Any] = {"service": self.service, "key": key[:16], "status": "failed"}
        if isinstance(result, Ok):
            row |= {"status": "cached" if result.cached else "ok", "model": result.value.get("model", call.model)}
        else:
            outcome = result or Failed("cancelled when its batch ended", "deadline")
            row |= {"kind": outcome.kind, "reason": outcome.reason, "model": call.model}
        tries = record.faults.total() + (isinstance(result, Ok) and not result.cached)
        store().note({**row, "tries": tries, "faults": record.faults, "seconds": round(record.seconds, 4), **record.paid})

    def _count(self, results: dict[int, Result], flights: dict[str, tuple[_Flight, list[int]]], seconds: float) -> None:
        self.meter.calls += len(results)
        self.meter.waited += seconds
        self.meter.cached += sum(isinstance(result, Ok) and result.cached for result in results.values())
        self.meter.failed += Counter(result.kind for result in results.values() if isinstance(result, Failed))
        for key, (_, indices) in flights.items():
            first = results[indices[0]]
            for _ in indices[1:] if not isinstance(first, Ok) or not first.cached else ():
                self.meter.shared += 1
                store().note({"service": self.service, "key": key[:16], "status": "shared"})


def _pass_on(land: Callable[[int, Result], None], index: int, task: "asyncio.Task[Result]") -> None:
    if not task.cancelled():
        land(index, task.result())


def _wait(fault: Fault, tries: int) -> float:
    """Seconds to wait before another attempt: none after a useless answer, else a back-off, or what the service asked for if it is more."""
    if fault.kind == "unusable":
        return 0.0
    return max(_backoff(tries), fault.wait + _backoff(1) if fault.wait else 0.0)


def _backoff(tries: int) -> float:
    """Seconds: anything up to a bound that doubles ("full jitter"), so that those who failed together do not come back together."""
    return random.uniform(0, min(0.5 * 2.0 ** (tries - 1), _LONGEST_BACKOFF))


def gateway(
    service: str,
    concurrency: int,
    attempt_seconds: float,
    *,
    address: str = "",
    shared_by: str = "",
    requests_a_minute: int = 0,
    tokens_a_minute: int = 0,
) -> Gateway:
    """The gateway of a service ("rag", "teacher", "judge") in this process; of several ranks each takes its part of the limits.

    Services of one name in `shared_by` share the limits of requests and tokens a minute. Where the store is shared, so do all processes
    that ask the service's `address`, and they pause together when it is down.
    """
    place, name = without_login(address), shared_by or service

    def limiter() -> limits.RateLimiter:
        return limits.RateLimiter(requests_a_minute, tokens_a_minute, place or name, lambda *what: store().pace(*what))

    places, patience = limits.share(concurrency, *limits.ranks()), settings.load().outage_patience
    paced = once(f"limiter-{name}", limiter)
    return once(f"gateway-{service}", lambda: Gateway(service, places, attempt_seconds, paced, patience, place))
