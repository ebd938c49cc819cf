"""A service that misbehaves on demand: RAG search and chat on one port, each request met with the fate its plan deals, all of it logged.

python tests/chaos/server.py --port 0 --ready-file READY --plan '{"seed": 7, "latency": 0.02, "mix": {"503": 0.2, "hang": 0.1}}'

READY then holds the address. A fate is `ok`, one of the misdeeds below, or a status with an optional Retry-After (seconds, `date+SECONDS`
for an HTTP date, or any text): "503", "429 retry-after 2", "429 retry-after date+2". It depends on the seed, on the text asked about and
on how often that was asked before, not on the order of arrival; only storms and the rate limit, which answer 429, depend on that.

    hang         never answers                      redirect      302 to a page of this server that answers well
    drip         the body a byte a second           html          200 with an HTML page
    drip_head    the header a byte a second         bad_json      200 with JSON that stops in the middle
    close        closes without a byte              binary        200 with bytes that are no UTF-8
    cut          closes half-way                    deep          200 with JSON that nests 200,000 levels
    reset        resets the connection              wrong_form    200 with JSON that lacks the answer
    reset_half   resets it half-way                 error_inside  200 with an error in it
    flood        2 GB in chunks                     empty         an empty text; for RAG an honest empty list
    flood_told   2 GB, announced in the header      length        a text cut off with finish_reason "length"
    bomb         2 GB, gzipped to 2 MB
    max_tokens   "length" under another name, with half a text
    abort        half a text that the service broke off
    filtered     half a text that a filter stopped
    no_success   200 with an empty list, or nothing, under "success": false
    half_pair    a good answer whose text ends in half a surrogate pair
    quota        429 for good: the account has nothing left

What follows a redirect is logged under /moved and answered well.
GET /log lists the requests, GET /when?requests=N answers once N have come, GET /reset forgets all.
"""

import argparse
import asyncio
import hashlib
import json
import socket
import struct
import sys
import time
import zlib
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

RAG, CHAT, MOVED = "/api/chat/general_rag", "/v1/chat/completions", "/moved"
HUGE = 2 << 30
_PIECE = 1 << 20
_ZEROS = 16 << 20


@dataclass(frozen=True)
class Plan:
    """What is dealt to whom. A text's first askings follow the script, later ones are drawn from the mix, the rest is `ok`."""

    seed: int = 0
    latency: float = 0.0
    """Seconds before any fate shows; `jitter` adds up to as many again, drawn like the fate."""
    jitter: float = 0.0
    script: list[str] = field(default_factory=list)
    mix: dict[str, float] = field(default_factory=dict)
    """Share of each fate, together at most 1."""
    storms: list[list[int]] = field(default_factory=list)
    """[first, last] request by order of arrival, from 1: all of these meet `storm`."""
    storm: str = "429 retry-after 1"
    rate: int = 0
    """Requests accepted in any second, the others meet a 429; 0: no limit."""

    def fate(self, text: str, nth: int) -> tuple[str, float]:
        """(fate, seconds before it shows) of the nth asking about a text, from 1.

        >>> Plan(script=["hang", "503"]).fate("a", 2)
        ('503', 0.0)
        >>> plan = Plan(seed=1, mix={"hang": 0.25})
        >>> Counter(plan.fate(str(number), 1)[0] for number in range(1000))["hang"]
        251
        """
        digest = hashlib.sha256(f"{self.seed}\n{nth}\n{text}".encode()).digest()
        one, two = (number / 2**64 for number in struct.unpack(">QQ", digest[:16]))
        seconds = self.latency + self.jitter * two
        if nth <= len(self.script):
            return self.script[nth - 1], seconds
        for name, share in self.mix.items():
            one -= share
            if one < 0:
                return name, seconds
        return "ok", seconds


class Book:
    """What came in and what it met."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.forget()

    def forget(self) -> None:
        """Start anew."""
        self.log: list[dict[str, Any]] = []
        self.asked: Counter[str] = Counter()
        self.accepted: deque[float] = deque()
        self.waiting: list[tuple[int, Callable[[], None]]] = []

    def enter(self, path: str, who: str, text: str) -> tuple[dict[str, Any], float]:
        """(log row, seconds before its fate shows) of a request that has just come in."""
        now, number, plan = time.time(), len(self.log) + 1, self.plan
        nth, seconds = 0, 0.0  # what is refused for its time is not drawn, so the draws stay those of the text
        if path.startswith(MOVED):
            fate = "ok"
        elif any(first <= number <= last for first, last in plan.storms):
            fate = plan.storm
        elif plan.rate and not self._accept(now):
            fate = "429"
        else:
            self.asked[f"{path} {text}"] += 1
            nth = self.asked[f"{path} {text}"]
            fate, seconds = plan.fate(f"{path} {text}", nth)
        row = {"number": number, "path": path, "who": who, "text": text, "nth": nth, "fate": fate, "in": now, "out": None, "end": "open"}
        self.log.append(row)
        for count, tell in [one for one in self.waiting if one[0] <= number]:
            self.waiting.remove((count, tell))
            tell()
        return row, seconds

    def _accept(self, now: float) -> bool:
        while self.accepted and self.accepted[0] <= now - 1:
            self.accepted.popleft()
        if len(self.accepted) >= self.plan.rate:
            return False
        self.accepted.append(now)
        return True


class Connection(asyncio.Protocol):
    """One client's connection: reads requests one after the other and lets each meet its fate."""

    def __init__(self, book: Book) -> None:
        self.book, self.loop = book, asyncio.get_running_loop()
        self.buffer = b""
        self.row: dict[str, Any] | None = None
        self.body: dict[str, Any] = {}
        self.later: asyncio.TimerHandle | None = None
        self.rest: Callable[[], None] = lambda: None
        self.full = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        self._end("left")
        if self.later:
            self.later.cancel()

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        self.rest()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        self._next()

    def _next(self) -> None:
        """Take the next whole request from the buffer, unless one is still under way."""
        head, found, after = self.buffer.partition(b"\r\n\r\n")
        if self.row or not found:
            return
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        size = int(headers.get("content-length", 0))
        if len(after) < size:
            return
        self.buffer = after[size:]
        method, target, _ = first.split(" ")
        if method == "POST" or target.startswith(MOVED):
            self.body = json.loads(after[:size] or "{}")
            self.row, seconds = self.book.enter(target, headers.get("authorization", "").removeprefix("Bearer "), _text(self.body))
            if seconds:
                self.later = self.loop.call_later(seconds, self._meet)
            else:
                self._meet()
        else:
            self._tell(target)

    def _tell(self, target: str) -> None:
        """Answer the test, not the gateway."""
        url = urlsplit(target)
        if url.path == "/when":
            count = int(parse_qs(url.query)["requests"][0])
            if len(self.book.log) < count:
                self.book.waiting.append((count, lambda: self._write(_answer(200, {"requests": count}))))
                return
        elif url.path == "/reset":
            self.book.forget()
        self._write(_answer(200, self.book.log if url.path == "/log" else {}))

    def _meet(self) -> None:
        """The row's fate, now that its latency is over."""
        assert self.row
        fate, path = self.row["fate"], self.row["path"]
        good = _answer(200, _good(path, self.body))
        if fate in _BODIES:
            self._done(_answer(200, _BODIES[fate]))
        elif fate in _MISDEEDS:
            getattr(self, f"_{fate}")(good)
        elif fate in _ODD:
            self._done(good if fate == "ok" else _answer(200, _odd(path, fate, self.body)))
        elif fate == "quota":
            self._done(_answer(429, {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}))
        elif fate == "redirect":
            self._done(_answer(302, {}, f"Location: {MOVED}{path}"))
        else:
            status, _, after = fate.partition(" retry-after ")
            header = f"Retry-After: {_when(after)}" if after else ""
            # Services quote the key that they refuse.
            words = f"no luck today ({status}) for {self.row['who']}"
            self._done(_answer(int(status), {"error": {"message": words, "type": "chaos"}}, header))

    def _done(self, answer: bytes) -> None:
        self._write(answer)
        self._end("answered")
        self._next()

    def _write(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(data)

    def _end(self, how: str) -> None:
        """The request is over: `answered`, `broken` off by us, or the client has `left`."""
        if self.row:
            self.row.update(end=how, out=time.time())
            self.row = None

    def _hang(self, good: bytes) -> None:
        pass

    def _drip(self, good: bytes) -> None:
        head, _, body = good.partition(b"\r\n\r\n")
        self._write(head + b"\r\n\r\n")
        self._drop(body)

    def _drip_head(self, good: bytes) -> None:
        self._drop(good)

    def _drop(self, data: bytes) -> None:
        self._write(data[:1])
        if data[1:]:
            self.later = self.loop.call_later(1, self._drop, data[1:])
        else:
            self._end("answered")

    def _close(self, good: bytes) -> None:
        self._end("broken")
        self.transport.close()

    def _cut(self, good: bytes) -> None:
        self._write(good[: len(good) * 3 // 4])
        self._close(good)

    def _reset(self, good: bytes) -> None:
        # With no time to linger, closing is a reset.
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._end("broken")
        self.transport.abort()

    def _reset_half(self, good: bytes) -> None:
        self._write(good[: len(good) * 3 // 4])
        self._reset(good)

    def _flood(self, good: bytes) -> None:
        self._write(_head(200, "Transfer-Encoding: chunked"))
        piece = b"%x\r\n%b\r\n" % (_PIECE, b"x" * _PIECE)
        self._pour(b'1\r\n"\r\n', piece, b'1\r\n"\r\n0\r\n\r\n')

    def _flood_told(self, good: bytes) -> None:
        self._write(_head(200, f"Content-Length: {HUGE + 2}"))
        self._pour(b'"', b"x" * _PIECE, b'"')

    def _pour(self, first: bytes, piece: bytes, last: bytes) -> None:
        """Write 2 GB as fast as they are taken; the row's `sent` counts the bytes given to the connection."""
        row, pieces = self.row, iter(range(HUGE // _PIECE))
        assert row
        row["sent"] = 0
        self._write(first)

        def rest() -> None:
            while not self.full and not self.transport.is_closing():
                if next(pieces, None) is None:
                    self.rest = lambda: None
                    return self._done(last)
                self._write(piece)
                row["sent"] += _PIECE

        self.rest = rest
        rest()

    def _bomb(self, good: bytes) -> None:
        self._done(_answer(200, _bomb(), "Content-Encoding: gzip"))


_BODIES = {
    "html": b"<!DOCTYPE html><html><body><h1>Under maintenance</h1></body></html>",
    "bad_json": b'{"code": 0, "object": "chat.completion", "data": {"recall": [{"doc_id": "d1", ',
    "binary": b'{"code": 0, "data": "\xff\xfe\x80"}',
    "deep": b"[" * 200_000,
}
_MISDEEDS = {"hang", "drip", "drip_head", "close", "cut", "reset", "reset_half", "flood", "flood_told", "bomb"}
_ODD = {"wrong_form", "error_inside", "empty", "length", "max_tokens", "abort", "filtered", "no_success", "half_pair", "ok"}
_ENDS = {"length": "length", "max_tokens": "MAX_TOKENS", "abort": "abort", "filtered": "content_filter"}
_WORDS = ("OK", "Found", "Error")


def _head(status: int, *headers: str, kind: str = "application/json") -> bytes:
    word = _WORDS[0] if status == 200 else _WORDS[1] if status < 400 else _WORDS[2]
    lines = (f"HTTP/1.1 {status} {word}", f"Content-Type: {kind}", *filter(None, headers))
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _answer(status: int, value: Any, header: str = "") -> bytes:
    try:
        body = value if isinstance(value, bytes) else json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # half a surrogate pair
        body = json.dumps(value).encode()
    kind = "text/html" if body.startswith(b"<") else "application/json"
    return _head(status, f"Content-Length: {len(body)}", header, kind=kind) + body


def _when(after: str) -> str:
    return formatdate(time.time() + float(after.removeprefix("date+")), usegmt=True) if after.startswith("date+") else after


def _text(body: dict[str, Any]) -> str:
    """What a request asks about: the same however the prompt around it is worded."""
    if not body:
        return ""  # a redirect followed without it
    if "messages" in body:
        return body["messages"][-1]["content"]
    return f"{body['query']}\n{body['rewritten_query']}\n{body['tenant_id']}/{body['kb_name']}"


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")


def _good(path: str, body: dict[str, Any]) -> dict[str, Any]:
    """An answer in the form agreed that depends on the text alone."""
    if not path.endswith(CHAT):
        text, most = body.get("rewritten_query", ""), body.get("top_k", 5)
        scores = sorted((_number(f"{text}\n{i}") % 1001 / 1000 for i in range(_number(text) % (most + 1))), reverse=True)
        return {"code": 0, "data": {"recall": [{"doc_id": f"d{i}", "reranker_score": score} for i, score in enumerate(scores)]}}
    text = _text(body) or "moved"
    if text.startswith("原始问题："):  # the judge's prompt
        verdict = {"综合得分": _number(text) % 51 / 10, "评分理由": "术语准确"}
        return _said(body, json.dumps(verdict, ensure_ascii=False))
    return _said(body, f"{text.splitlines()[-1].removeprefix('问题：')} 术语{_number(text) % 10_000}")


def _said(body: dict[str, Any], text: str, finish: str = "stop") -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    tokens = sum(len(one["content"]) for one in body.get("messages", ())), len(text)
    usage = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "total_tokens": sum(tokens)}
    choices = [{"index": 0, "finish_reason": finish, "message": message}]
    return {"id": "x", "object": "chat.completion", "created": 1, "model": body.get("model"), "choices": choices, "usage": usage}


def _odd(path: str, fate: str, body: dict[str, Any]) -> dict[str, Any]:
    """A 200 whose JSON says something else than an answer."""
    chat = path.startswith(CHAT)
    if fate == "wrong_form":
        return {"id": "x", "object": "chat.completion", "model": "x"} if chat else {"code": 0, "data": {}}
    if fate == "error_inside":
        return {"error": {"message": "no worker is free", "code": 500}} if chat else {"code": 500, "message": "no index is loaded"}
    if fate == "no_success":
        return {"success": False, "message": "no worker is free", **({} if chat else {"data": {"recall": []}})}
    if not chat:
        return {"code": 0, "data": {"recall": []}}
    if fate == "half_pair":
        text = _good(path, body)["choices"][0]["message"]["content"]
        # In a verdict it stands as JSON's escape for it, which no HTTP library sees.
        return _said(body, text.replace('准确"', '准确\\ud83d"') if text.startswith("{") else f"{text}\ud83d")
    return _said(body, "话没说", _ENDS[fate]) if fate in _ENDS else _said(body, "")


def _bomb() -> bytes:
    """2 GB of zeros, gzipped: after a full flush a block can stand any number of times."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    first, block = (packer.compress(bytes(_ZEROS)) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    return first + block * (HUGE // _ZEROS - 1)


async def serve(port: int, ready: Path | None, plan: Plan) -> None:
    """Serve until killed."""
    book = Book(plan)
    server = await asyncio.get_running_loop().create_server(lambda: Connection(book), "127.0.0.1", port, backlog=1024)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    if ready:
        aside = ready.with_name(f"{ready.name}.part")
        aside.write_text(address)
        aside.replace(ready)
    print(address, flush=True)
    await server.serve_forever()


def main() -> int:
    """Run the server; killed, it is done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0, help="default: any free one")
    parser.add_argument("--ready-file", type=Path, help="where to write the address once it can be asked")
    parser.add_argument("--plan", type=lambda text: Plan(**json.loads(text)), default=Plan(), help="fields of Plan, as JSON")
    args = parser.parse_args()
    asyncio.run(serve(args.port, args.ready_file, args.plan))
    return 0


if __name__ == "__main__":
    sys.exit(main())
