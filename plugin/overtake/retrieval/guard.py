"""Guard between the network and the RAG service: bearer token, request size, bounded queue, metrics, access log."""

import asyncio
import hmac
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

from fastapi import FastAPI
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_fastapi_instrumentator import Instrumentator
from prometheus_fastapi_instrumentator.metrics import Info
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_OPEN = ("/health", "/metrics")
_METHODS = ("GET", "HEAD", "POST")
_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
RETRY_AFTER = 1
"""Seconds a refused client is told to wait."""
_CHANGING = "/api/documents"


@dataclass(frozen=True)
class Limits:
    """Limits of a service: `queue` requests, `at_once` of them under way, of `body_bytes` each, which come within `body_seconds`.

    "" as `key` asks for none; `change_key`, where there is one, is what changing documents needs in its place.
    """

    queue: int = 512
    body_bytes: int = 2**20
    key: str = ""
    at_once: int = 1
    change_key: str = ""
    body_seconds: float = 5.0


class _Refused(Exception):
    """A request that is answered without a search: status, message, headers."""

    def __init__(self, status: int, message: str, headers: dict[bytes, bytes]) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, headers


def add_guard(app: FastAPI, limits: Limits, log: TextIO | None = None) -> FastAPI:
    """Put a `Guard` before the app, count whatever either of them answers, and serve the counts at /metrics.

    Where PROMETHEUS_MULTIPROC_DIR is set they are those of all processes. `log` gets one JSON object a request, without its text.
    """
    registry = CollectorRegistry()
    app.add_middleware(Guard, limits=limits, registry=registry)
    # Added last, so outermost: what the guard refuses is counted too.
    instrumentator = Instrumentator(should_group_status_codes=False, registry=registry).add(_notes(registry, log))
    instrumentator.instrument(app).expose(app, include_in_schema=False)
    return app


def _notes(registry: CollectorRegistry, log: TextIO | None) -> Callable[[Info], None]:
    """The notes of each request: its count, its time, its line of the log."""
    # The instrumentator's own series would take methods that clients make up, without end.
    requests = Counter("overtake_rag_requests", "Requests answered", ["path", "method", "status"], registry=registry)
    duration = Histogram(
        "overtake_rag_seconds", "From the request's headers to the answer's end", ["path"], buckets=_BUCKETS, registry=registry
    )

    def note(info: Info) -> None:
        path = "other" if info.modified_handler == "none" else info.modified_handler
        method = info.method if info.method in _METHODS else "other"
        requests.labels(path, method, info.modified_status).inc()
        duration.labels(path).observe(info.modified_duration)
        if log is not None:
            row = {"time": round(time.time(), 3), "method": method, "path": path, "status": int(info.modified_status)}
            log.write(json.dumps({**row, "ms": round(1000 * info.modified_duration, 2)}) + "\n")
            log.flush()

    return note


class Guard:
    """Middleware (ASGI) that bounds what waits.

    Requests past it run in the order they came, one at a time by default: a search is work that no thread makes faster.

    401 without the key (compared in constant time), 403 for a change with the key for reading, 413 for a body that is too large, 408 for
    one that is too slow, 503 with Retry-After when the queue is full; none costs a search. A request counts from its last byte until
    its client has taken the answer. /health and /metrics need no key and no queue; without the key /health names no knowledge base.

    No stock part keeps these bounds: uvicorn's limit_concurrency counts connections, so bodies that drip in would shut everybody out.
    """

    def __init__(self, app: ASGIApp, limits: Limits, registry: CollectorRegistry) -> None:
        self._app, self._limits = app, limits
        self._turn = asyncio.Semaphore(limits.at_once)
        self._inside = self._read_bytes = 0
        self._waiting = Gauge(
            "overtake_rag_queue", "Requests in the queue, those that run with them", registry=registry, multiprocess_mode="livesum"
        )
        self._bodies = Gauge("overtake_rag_bodies", "Requests whose body is still coming", registry=registry, multiprocess_mode="livesum")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or refuse one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path, headers = scope["path"], dict(scope["headers"])
        if path in _OPEN:
            await self._app({**scope, "overtake.anonymous": not self._opens(self._limits.key, headers)}, receive, send)
            return
        try:
            self._check_key(path, headers)
            body = await self._timely_body(headers.get(b"content-length", b""), receive)
            self._check_queue()
            await self._in_queue(scope, _replay(body, receive), send)
        except _Refused as refusal:
            content = json.dumps({"code": refusal.status, "message": refusal.message}).encode()
            lines = {b"content-type": b"application/json", b"content-length": str(len(content)).encode(), **refusal.headers}
            await send({"type": "http.response.start", "status": refusal.status, "headers": list(lines.items())})
            await send({"type": "http.response.body", "body": content})

    async def _in_queue(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._inside += 1
        self._waiting.inc()
        answer: list[Message] = []

        async def keep(message: Message) -> None:
            answer.append(message)

        try:
            async with self._turn:
                await self._app(scope, receive, keep)
            # Nobody waits for a client that takes its answer slowly, but it keeps its place: the server holds the bytes.
            for message in answer:
                if message["type"] == "http.response.body" and not message.get("more_body"):
                    await send({**message, "more_body": True})
                    message = {"type": "http.response.body", "body": b""}  # is sent once what stands before it has been taken
                await send(message)
        finally:
            self._inside -= 1
            self._waiting.dec()

    @staticmethod
    def _opens(key: str, headers: dict[bytes, bytes]) -> bool:
        return not key or hmac.compare_digest(headers.get(b"authorization", b""), f"Bearer {key}".encode())

    def _check_key(self, path: str, headers: dict[bytes, bytes]) -> None:
        limits = self._limits
        if self._opens((path == _CHANGING and limits.change_key) or limits.key, headers):
            return
        if path == _CHANGING and limits.change_key and limits.key and self._opens(limits.key, headers):
            raise _Refused(403, "this key only reads: send the key for changing documents", {})
        message = "the key is missing or wrong: send it as Authorization: Bearer KEY"
        raise _Refused(401, message, {b"www-authenticate": b"Bearer"})

    def _check_queue(self) -> None:
        if self._inside >= self._limits.queue:
            raise _busy(f"{self._inside} requests are waiting, as many as this service takes")

    async def _timely_body(self, declared: bytes, receive: Receive) -> bytes:
        self._bodies.inc()
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                return await self._read(declared, receive)
        except TimeoutError:
            message = f"the body did not come within {self._limits.body_seconds:g} s: send it faster"
            raise _Refused(408, message, {b"connection": b"close"}) from None
        finally:
            self._bodies.dec()

    async def _read(self, declared: bytes, receive: Receive) -> bytes:
        most = self._limits.body_bytes
        too_large = _Refused(413, f"the body is larger than {most} bytes: send less", {b"connection": b"close"})
        if declared.isdigit() and int(declared) > most:
            raise too_large
        parts: list[bytes] = []
        size, more = 0, True
        try:
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise _Refused(499, "the client left before its body was whole", {})  # for the counts: nobody reads it
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                self._read_bytes += len(parts[-1])
                if size > most:
                    raise too_large
                # Slow bodies have no place, but they must not fill the memory either.
                if self._read_bytes > most * self._limits.queue:
                    raise _busy(f"{self._read_bytes} bytes of bodies are still coming, more than this service holds")
                more = message.get("more_body", False)
        finally:
            self._read_bytes -= size
        return b"".join(parts)


def _replay(body: bytes, receive: Receive) -> Receive:
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    return again


def _busy(reason: str) -> _Refused:
    return _Refused(503, f"{reason}: try again after {RETRY_AFTER} s", {b"retry-after": str(RETRY_AFTER).encode()})
