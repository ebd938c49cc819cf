"""Guard between the network and the RAG service: bearer token, request size, bounded queue, metrics, access log."""

import asyncio
import hmac
import json
import os
import time
from dataclasses import dataclass
from typing import TextIO

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_OPEN = ("/health", "/metrics")
_KNOWN = ("/api/chat/general_rag", "/api/documents", "/health", "/metrics", "/openapi.json", "/docs")
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


class _Gone(Exception):
    """The client left before its body was whole."""


class Guard:
    """ASGI middleware. Requests past it run in the order they came, one at a time by default: a search is work that no thread makes faster.

    401 without the key (compared in constant time), 403 for a change with the key for reading, 413 for a body that is too large, 408 for
    one that is too slow, 503 with Retry-After when the queue is full; none costs a search. A request counts from its last byte until
    its client has taken the answer. /health and /metrics need no key and no queue; without the key /health names no knowledge base. `log`
    gets one JSON object a request, without its text.
    """

    def __init__(self, app: ASGIApp, limits: Limits, log: TextIO | None = None) -> None:
        self._app, self._limits, self._log = app, limits, log
        self._turn = asyncio.Semaphore(limits.at_once)
        self._inside = self._read_bytes = 0
        self._registry = CollectorRegistry()
        self._requests = Counter("overtake_rag_requests", "Requests answered", ["path", "method", "status"], registry=self._registry)
        self._seconds = Histogram(
            "overtake_rag_seconds", "From the request's headers to the answer's end", ["path"], buckets=_BUCKETS, registry=self._registry
        )
        self._waiting = Gauge(
            "overtake_rag_queue", "Requests in the queue, those that run with them", registry=self._registry, multiprocess_mode="livesum"
        )
        self._bodies = Gauge(
            "overtake_rag_bodies", "Requests whose body is still coming", registry=self._registry, multiprocess_mode="livesum"
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or refuse one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 0

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._answer(scope, receive, sent)
        except _Gone:
            status = 499
        finally:
            self._note(scope, status or 500, time.perf_counter() - started)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path == "/metrics":
            await _reply(send, 200, generate_latest(_of_all_workers() or self._registry), CONTENT_TYPE_LATEST)
            return
        headers = dict(scope["headers"])
        if path in _OPEN:
            await self._app({**scope, "overtake.anonymous": not self._opens(self._limits.key, headers)}, receive, send)
            return
        try:
            self._check_key(path, headers)
            body = await self._timely_body(headers.get(b"content-length", b""), receive)
            self._check_queue()
            await self._in_queue(scope, _replay(body, receive), send)
        except _Refused as refusal:
            content = {"code": refusal.status, "message": refusal.message}
            await _reply(send, refusal.status, json.dumps(content).encode(), "application/json", refusal.headers)

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
        said = "the key is missing or wrong: send it as Authorization: Bearer KEY"
        raise _Refused(401, said, {b"www-authenticate": b"Bearer"})

    def _check_queue(self) -> None:
        if self._inside >= self._limits.queue:
            raise _busy(f"{self._inside} requests are waiting, as many as this service takes")

    async def _timely_body(self, declared: bytes, receive: Receive) -> bytes:
        self._bodies.inc()
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                return await self._read(declared, receive)
        except TimeoutError:
            said = f"the body did not come within {self._limits.body_seconds:g} s: send it faster"
            raise _Refused(408, said, {b"connection": b"close"}) from None
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
                    raise _Gone
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

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        # Names that clients make up must not become series without end.
        path = scope["path"] if scope["path"] in _KNOWN else "other"
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._requests.labels(path, method, str(status)).inc()
        self._seconds.labels(path).observe(seconds)
        if self._log is not None:
            row = {"time": round(time.time(), 3), "method": method, "path": path, "status": status, "ms": round(1000 * seconds, 2)}
            self._log.write(json.dumps(row) + "\n")
            self._log.flush()


def _of_all_workers() -> CollectorRegistry | None:
    """What all processes of this service have counted; None where there is only this one."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return None
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    return registry


def _replay(body: bytes, receive: Receive) -> Receive:
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    return again


def _busy(said: str) -> _Refused:
    return _Refused(503, f"{said}: try again after {RETRY_AFTER} s", {b"retry-after": str(RETRY_AFTER).encode()})


async def _reply(send: Send, status: int, body: bytes, kind: str, headers: dict[bytes, bytes] | None = None) -> None:
    lines = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode()), *(headers or {}).items()]
    await send({"type": "http.response.start", "status": status, "headers": lines})
    await send({"type": "http.response.body", "body": body})
