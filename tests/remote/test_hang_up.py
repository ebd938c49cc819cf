"""A client that gives up ends the work of the server on its request; one that stays, or whose answer streams, is served as ever."""

import asyncio
import socket
import threading
import time
from types import SimpleNamespace

import pytest
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from overtake import settings
from overtake.hang_up import EndWithClient
from overtake.remote import gateway, process
from overtake.remote.chat import chat_call, chat_gateway, endpoint
from overtake.remote.gateway import Ok

from .conftest import said


@pytest.fixture
def slow(service, monkeypatch):
    """A server that ends its work with the client; `.ended` holds how each of its works ended, `.go` lets them answer."""
    known = SimpleNamespace(ended=[], began=threading.Semaphore(0), go=threading.Event())
    app = FastAPI()

    @app.post("/v1/chat/completions")
    async def complete(request: Request):
        body = await request.json()
        known.began.release()
        try:
            if body["messages"][-1]["content"] == "慢":
                while not known.go.is_set():
                    await asyncio.sleep(0.01)
            known.ended.append("answered")
            return said()[1]
        except asyncio.CancelledError:
            known.ended.append("cancelled")
            raise

    @app.get("/stream")
    async def stream():
        async def parts():
            for part in "一二三":
                yield part.encode()
                await asyncio.sleep(0)

        return StreamingResponse(parts())

    @app.middleware("http")
    async def key(request, call_next):  # as ms-swift's check of the key stands around it
        return await call_next(request)

    app.add_middleware(EndWithClient)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        known.port = taken.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=known.port, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    monkeypatch.setenv("OVERTAKE_TEACHER_BASE_URL", f"http://127.0.0.1:{known.port}/v1")
    process.forget()
    settings.load.cache_clear()
    yield known
    known.go.set()
    server.should_exit = True
    thread.join(30)


def ask(text, deadline=None):
    return chat_gateway("teacher").submit([chat_call(endpoint("teacher"), [{"role": "user", "content": text}], 10)], deadline)


def until(what):
    end = time.monotonic() + 30
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_batch_that_ends_ends_the_servers_work(slow):
    waiting = ask("慢", deadline=1.0)
    assert slow.began.acquire(timeout=30)
    assert waiting.result(timeout=30)[0].kind == "deadline"
    until(lambda: slow.ended == ["cancelled"])


def test_a_request_whose_seconds_are_over_ends_before_it_is_sent_again(slow, monkeypatch):
    monkeypatch.setenv("OVERTAKE_TEACHER_TIMEOUT", "1")
    settings.load.cache_clear()
    monkeypatch.setattr(gateway, "_backoff", lambda tries: 0.2)
    waiting = ask("慢")
    for _ in range(2):
        assert slow.began.acquire(timeout=30)
    until(lambda: slow.ended[:1] == ["cancelled"])
    slow.go.set()
    assert isinstance(waiting.result(timeout=60)[0], Ok) and slow.ended[-1] == "answered"


def test_who_stays_is_answered_and_so_is_who_streams(slow):
    assert all(isinstance(ask(text).result(timeout=30)[0], Ok) for text in "一二三")
    assert slow.ended == ["answered"] * 3
    with socket.create_connection(("127.0.0.1", slow.port)) as connection:
        connection.sendall(b"GET /stream HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        data = b""
        while part := connection.recv(4096):
            data += part
    assert all(part.encode() in data for part in "一二三")
