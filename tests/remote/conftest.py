"""A service on a real port that answers as both a RAG service and a chat model, and settings that name it."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from overtake import settings
from overtake.remote import gateway, process


def said(text="好", finish="stop", tokens=(10, 1)):
    """A chat answer, as an OpenAI-compatible server words it."""
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}
    usage = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "total_tokens": sum(tokens)}
    return 200, {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}


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
