"""The service that the benchmark asks: RAG search and chat on one port, latencies drawn from a seed and told, or a hard limit a second.

    python benchmarks/remote/server.py READY_FILE      # READY_FILE then holds the address

POST /api/chat/general_rag and POST /v1/chat/completions answer with the same bytes each time, after the latency drawn. GET /reset sets
seed, rag and chat (mean latencies in seconds), jitter (share of them), concurrency (of the ideal client) and rate (requests accepted in
any second, 0: all) and forgets what was counted; GET /stats tells it. The body of a request is not read: the server must cost less than
any client that it measures.
"""

import asyncio
import heapq
import json
import random
import re
import selectors
import sys
import time
from collections import deque
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

_RAG, _CHAT = "/api/chat/general_rag", "/v1/chat/completions"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
# curator asks with an empty conversation for the headers that tell its limits.
_PROBE = re.compile(rb'"messages": ?\[\]')


def answer(value: object, status: str = "200 OK", header: str = "") -> bytes:
    """A whole HTTP response with a JSON body."""
    body = json.dumps(value, ensure_ascii=False).encode()
    return f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{header}\r\n".encode() + body


def _recall() -> bytes:
    text = "胶原蛋白肽与抗氧化成分配合服用，有助于改善皮肤松弛与暗沉；请在医生指导下按说明书推荐的用量食用。" * 3
    recall = [{"doc_id": f"d{rank}", "text": text, "reranker_score": round(0.95 - 0.1 * rank, 2)} for rank in range(5)]
    return answer({"code": 0, "data": {"recall": recall}})


def _said() -> bytes:
    # A verdict, so that the judge's calls can be answered too.
    message = {"role": "assistant", "content": json.dumps({"综合得分": 4.5, "评分理由": "意图完整，术语准确"}, ensure_ascii=False)}
    usage = {"prompt_tokens": 200, "completion_tokens": 20, "total_tokens": 220}
    choices = [{"index": 0, "finish_reason": "stop", "message": message}]
    return answer({"id": "x", "object": "chat.completion", "created": 1, "model": "bench", "choices": choices, "usage": usage})


_GOOD = {_RAG: _recall(), _CHAT: _said()}
_REFUSED = answer({"error": {"message": "rate limit", "type": "requests"}}, "429 Too Many Requests", "Retry-After: 1\r\n")
_UNKNOWN = answer({"error": {"message": "no such path"}}, "404 Not Found")


class Service:
    """Latencies drawn and requests counted. Times are of the loop's clock, in seconds."""

    def __init__(self) -> None:
        self.reset({})

    def reset(self, options: dict[str, str]) -> None:
        """Forget what was counted and draw anew."""
        self.random = random.Random(options.get("seed", "0"))
        self.mean = {_RAG: float(options.get("rag", 0)), _CHAT: float(options.get("chat", 0))}
        self.jitter, self.rate = float(options.get("jitter", 0)), int(options.get("rate", 0))
        self.count, self.drawn = dict.fromkeys(self.mean, 0), dict.fromkeys(self.mean, 0.0)
        self.ideal = [0.0] * int(options.get("concurrency", 1))
        self.accepted: deque[float] = deque()
        self.refused = self.under_way = self.most = 0
        self.late = self.first = self.last = 0.0
        self.cpu = time.process_time()

    def enter(self, path: str, now: float) -> float | None:
        """The latency of a request that has come in, or None when it is refused."""
        self.first = self.first or now
        if self.rate:
            while self.accepted and self.accepted[0] <= now - 1:
                self.accepted.popleft()
            if len(self.accepted) >= self.rate:
                self.refused += 1
                self.last = now
                return None
            self.accepted.append(now)
        latency = self.mean[path] * self.random.uniform(1 - self.jitter, 1 + self.jitter)
        self.count[path] += 1
        self.drawn[path] += latency
        heapq.heapreplace(self.ideal, self.ideal[0] + latency)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        return latency

    def leave(self, due: float, now: float) -> None:
        """An answer that was due then is sent now."""
        self.under_way -= 1
        self.late += now - due
        self.last = now

    def stats(self) -> dict[str, float]:
        """Return what was counted since the last reset; `ideal`: seconds of a client that costs nothing and never lets a place lie idle."""
        return {
            "rag_calls": self.count[_RAG],
            "rag_drawn": self.drawn[_RAG],
            "chat_calls": self.count[_CHAT],
            "chat_drawn": self.drawn[_CHAT],
            "refused": self.refused,
            "most_at_once": self.most,
            "ideal": max(self.ideal),
            "late": self.late,
            "window": self.last - self.first,
            "cpu": time.process_time() - self.cpu,
        }


class Connection(asyncio.Protocol):
    """One client's connection: one request after the other."""

    def __init__(self, service: Service, loop: asyncio.AbstractEventLoop) -> None:
        self.service, self.loop, self.buffer = service, loop, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what answers are written to."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Meet the request, once all of it is there."""
        self.buffer = self.buffer + data if self.buffer else data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        match = _LENGTH.search(self.buffer, 0, end)
        whole = end + 4 + (int(match[1]) if match else 0)
        if len(self.buffer) < whole:
            return
        request, self.buffer = self.buffer[:whole], self.buffer[whole:]
        target = request[: request.find(b"\r\n")].split(b" ")[1].decode()
        if target in _GOOD and not _PROBE.search(request, end):
            self._meet(target)
        else:
            self._write(_GOOD.get(target) or self._tell(target))

    def _meet(self, path: str) -> None:
        now = self.loop.time()
        latency = self.service.enter(path, now)
        if latency is None:
            self._write(_REFUSED)
        elif latency:
            self.loop.call_at(now + latency, self._done, path, now + latency)
        else:
            self._done(path, now)

    def _done(self, path: str, due: float) -> None:
        self._write(_GOOD[path])
        self.service.leave(due, self.loop.time())

    def _tell(self, target: str) -> bytes:
        url = urlsplit(target)
        if url.path == "/reset":
            self.service.reset({name: values[0] for name, values in parse_qs(url.query).items()})
        return answer(self.service.stats()) if url.path in ("/reset", "/stats") else _UNKNOWN

    def _write(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(data)


async def serve(ready: Path) -> None:
    """Serve until killed."""
    service, loop = Service(), asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(service, loop), "127.0.0.1", 0, backlog=1024)
    aside = ready.with_name(f"{ready.name}.part")
    aside.write_text(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    aside.replace(ready)
    await server.serve_forever()


if __name__ == "__main__":
    # epoll sleeps whole milliseconds, which is 2 % of 50; select sleeps microseconds, and 64 connections are few for it.
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.SelectSelector())) as runner:
        runner.run(serve(Path(sys.argv[1])))
