"""A service on a real port that answers as both a RAG service and a chat model, settings that name it, and peers that misbehave."""

import contextlib
import json
import shutil
import socket
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from overtake import settings
from overtake.remote import gateway, process

from . import virtual_time


def said(text="好", finish="stop", tokens=(10, 1)):
    """A chat answer, as an OpenAI-compatible server words it."""
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}
    usage = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "total_tokens": sum(tokens)}
    return 200, {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}


def head(status="200 OK", **headers):
    lines = [f"HTTP/1.1 {status}", "Connection: close", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def whole(data, status="200 OK", **headers):
    return head(status, Content_Length=len(data), **headers) + data


def says(*parts, pause=0.0, end=lambda connection: None):
    def talk(connection):
        for part in parts:
            connection.sendall(part.encode() if isinstance(part, str) else part)
            time.sleep(pause)
        end(connection)

    return talk


@pytest.fixture
def virtually(monkeypatch):
    """virtually(module, main): run the coroutine function on a clock that jumps, which `module` reads, too."""

    def virtually(module, main):
        async def timed(loop):
            monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=loop.time))
            return await main(loop)

        return virtual_time.run(timed)

    return virtually


class RedisServer:
    """A redis-server of this test's own on a free port, with a password; what it was told survives its end (`kill`, `start`)."""

    def __init__(self, folder):
        import redis

        self.program = shutil.which("redis-server") or pytest.skip("no redis-server: apt-get install redis-server")
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.folder = folder
        self.url = f"redis://:a-pass%2Fword-4-tests@127.0.0.1:{self.port}/0"
        self.client = redis.Redis.from_url(self.url)
        self.start()

    def start(self):
        rules = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder), "--requirepass", "a-pass/word-4-tests"]
        rules += ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        self.process = subprocess.Popen([self.program, *rules], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(Exception):
                if self.client.ping():
                    return
            assert time.monotonic() < deadline and self.process.poll() is None, "redis-server does not start"
            time.sleep(0.02)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def forget_owners(self):
        """As if the leases of all processes had run out."""
        self.client.delete(*self.client.keys("overtake:owner:*"), "-")


@pytest.fixture(scope="session")
def one_redis(tmp_path_factory):
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.client.close()
    server.kill()


@pytest.fixture
def redis_server(one_redis, monkeypatch):
    """An empty Redis that the settings name as the store."""
    one_redis.client.flushall()
    monkeypatch.setenv("OVERTAKE_STORE", one_redis.url)
    return one_redis


@pytest.fixture
def service(monkeypatch, tmp_path):
    """`service.answer(body)` gives (status, JSON value) of a chat; `.limits` holds the token limit of each such request.

    Retrievals are answered with `.recall`, and `.recalls` counts them. Retries do not wait.
    """
    recall = {"data": {"recall": [{"doc_id": "a", "reranker_score": 0.9}]}}
    known = SimpleNamespace(answer=lambda body: said(), limits=[], recall=recall, recalls=0)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            known.limits += [body["max_tokens"]] if "max_tokens" in body else []
            known.recalls += "messages" not in body
            status, value = known.answer(body) if "messages" in body else (200, known.recall)
            data = json.dumps(value).encode()
            try:
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
            except OSError:
                self.close_connection = True  # whoever asked no longer waits

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    known.url = f"http://127.0.0.1:{server.server_port}"
    for name, value in {
        "RAG_URL": known.url,
        "TEACHER_BASE_URL": f"{known.url}/v1",
        "TEACHER_MODEL": "m",
        "CACHE_DIR": str(tmp_path),
    }.items():
        monkeypatch.setenv(f"OVERTAKE_{name}", value)
    process.forget()
    monkeypatch.setattr(gateway, "_backoff", lambda tries: 0)
    settings.load.cache_clear()
    yield known
    process.forget()
    settings.load.cache_clear()
    server.shutdown()
    server.server_close()


@pytest.fixture
def peer(service):
    """peer(talk) -> the address of a server that reads a request and leaves the rest to talk(connection); `.heads` are the requests'."""
    listening = []

    def peer(talk):
        server = socket.create_server(("127.0.0.1", 0))
        listening.append(server)

        def one(connection):
            with connection:
                data = b""
                while b"\r\n\r\n" not in data:
                    data += connection.recv(65536)
                first, _, body = data.partition(b"\r\n\r\n")
                length = int(first.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                while len(body) < length:
                    body += connection.recv(65536)
                peer.heads.append(first.decode())
                with contextlib.suppress(OSError):  # whoever asked has left
                    talk(connection)

        def accept():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=one, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        return f"http://127.0.0.1:{server.getsockname()[1]}"

    peer.heads = []
    yield peer
    for server in listening:
        server.close()
