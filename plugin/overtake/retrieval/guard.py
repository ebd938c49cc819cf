"""What stands between the network and the RAG service: bearer token, request size, bounded queue, metrics, access log."""

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


@dataclass(frozen=True)
class Limits:
    """What a service takes: `queue` requests, `at_once` of them under way, of `body_bytes` each; "" as `key` asks for none."""

    queue: int = 512
    body_bytes: int = 2**20
    key: str = ""
    at_once: int = 1


class _TooLarge(Exception):
    """A body beyond the limit."""


class _Gone(Exception):
    """The client left before its body was whole."""


class Guard:
    """ASGI middleware. Requests past it run in the order they came, one at a time by default: a search is work that no thread makes faster.

    401 without the key (compared in constant time), 413 for a body that is too large, 503 with Retry-After when the queue is full; none
    of them costs a search. /health and /metrics are answered without key or queue. `log` gets one JSON object a request, without its text.
    """

    def __init__(self, app: ASGIApp, limits: Limits, log: TextIO | None = None) -> None:
        self._app, self._limits, self._log = app, limits, log
        self._expected = f"Bearer {limits.key}".encode()
        self._turn = asyncio.Semaphore(limits.at_once)
        self._inside = 0
        self._registry = CollectorRegistry()
        self._requests = Counter("overtake_rag_requests", "Requests answered", ["path", "method", "status"], registry=self._registry)
        self._seconds = Histogram(
            "overtake_rag_seconds", "From the request's headers to the answer's end", ["path"], buckets=_BUCKETS, registry=self._registry
        )
        self._waiting = Gauge(
            "overtake_rag_queue", "Requests in the queue, those that run with them", registry=self._registry, multiprocess_mode="livesum"
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
        if path in _OPEN:
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        if self._limits.key and not hmac.compare_digest(headers.get(b"authorization", b""), self._expected):
            await _refuse(send, 401, "the key is missing or wrong: send it as Authorization: Bearer KEY", {b"www-authenticate": b"Bearer"})
            return
        if self._inside >= self._limits.queue:
            said = f"{self._inside} requests are waiting, as many as this service takes: try again after {RETRY_AFTER} s"
            await _refuse(send, 503, said, {b"retry-after": str(RETRY_AFTER).encode()})
            return
        self._inside += 1
        self._waiting.inc()
        try:
            body = await self._read(headers.get(b"content-length", b""), receive)
            async with self._turn:
                await self._app(scope, _replay(body, receive), send)
        except _TooLarge:
            said = f"the body is larger than {self._limits.body_bytes} bytes: send less"
            await _refuse(send, 413, said, {b"connection": b"close"})
        finally:
            self._inside -= 1
            self._waiting.dec()

    async def _read(self, declared: bytes, receive: Receive) -> bytes:
        if declared.isdigit() and int(declared) > self._limits.body_bytes:
            raise _TooLarge
        parts, size, more = [], 0, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _Gone
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._limits.body_bytes:
                raise _TooLarge
            more = message.get("more_body", False)
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


async def _refuse(send: Send, status: int, message: str, headers: dict[bytes, bytes]) -> None:
    await _reply(send, status, json.dumps({"code": status, "message": message}).encode(), "application/json", headers)


async def _reply(send: Send, status: int, body: bytes, kind: str, headers: dict[bytes, bytes] | None = None) -> None:
    lines = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode()), *(headers or {}).items()]
    await send({"type": "http.response.start", "status": status, "headers": lines})
    await send({"type": "http.response.body", "body": body})
