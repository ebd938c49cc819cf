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
from overtake.hang_up import EndWithClient, end_with_task
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
    assert isinstance(ask("一").result(timeout=60)[0], Ok)  # whose connection the next one takes
    assert slow.began.acquire(timeout=30)
    waiting = ask("慢", deadline=1.0)
    assert slow.began.acquire(timeout=30)
    assert waiting.result(timeout=30)[0].kind == "deadline"
    until(lambda: slow.ended == ["answered", "cancelled"])


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


@pytest.fixture
def engine(tmp_path):
    """ms-swift's TransformersEngine as `swift deploy` serves it, two requests a batch, with a tiny model that answers without end.

    `.rows` holds how many rows each step of the model had.
    """
    import torch
    from swift.infer_engine import TransformersEngine
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    symbols = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *map(chr, range(97, 123))]
    spelling = Tokenizer(models.WordLevel({symbol: at for at, symbol in enumerate(symbols)}, unk_token="a"))
    spelling.pre_tokenizer = pre_tokenizers.Split(Regex("[\\s\\S]"), "isolated")
    PreTrainedTokenizerFast(tokenizer_object=spelling, eos_token="<|im_end|>", pad_token="<|endoftext|>").save_pretrained(tmp_path)
    torch.manual_seed(0)
    size = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1}
    Qwen3ForCausalLM(Qwen3Config(vocab_size=len(symbols), head_dim=8, max_position_embeddings=20000, **size)).save_pretrained(tmp_path)
    engine = TransformersEngine(
        str(tmp_path), model_type="qwen3", template_type="qwen2_5", torch_dtype=torch.float32, device_map="cpu", max_batch_size=2
    )
    engine.rows = []
    forward = engine.model.forward

    def counted(*args, **kwargs):
        engine.rows.append(len(kwargs["input_ids"]))
        return forward(*args, **kwargs)

    engine.model.forward = counted
    end_with_task(engine)
    return engine


def test_the_transformers_engine_gives_up_what_nobody_waits_for(engine):
    from swift.infer_engine import InferRequest, RequestConfig

    def ask(tokens, stream=False):
        request = InferRequest(messages=[{"role": "user", "content": "abc"}])
        return engine.infer_async(request, RequestConfig(max_tokens=tokens, temperature=0.0, stream=stream))

    async def steps(count):
        while len(engine.rows) < count:
            await asyncio.sleep(0.001)

    async def leave():
        asked = [asyncio.ensure_future(ask(10_000)) for _ in range(6)]  # two are worked on, four wait
        await steps(10)
        for task in (asked[0], *asked[2:]):
            task.cancel()
        await steps(len(engine.rows) + 10)
        assert not asked[1].done(), "who stays is not given up with its neighbour"
        asked[1].cancel()
        await asyncio.gather(*asked, return_exceptions=True)
        answer = await ask(5)
        assert (answer.usage.completion_tokens, answer.choices[0].finish_reason) == (5, "length")
        before = len(engine.rows)
        assert before < 5_000, "the first batch was given up, and of the queue nothing was begun"
        parts = await ask(10_000, stream=True)
        async for _ in parts:
            break
        await parts.aclose()
        assert (await ask(5)).usage.completion_tokens == 5
        assert len(engine.rows) - before < 5_000
        text = "".join([part.choices[0].delta.content async for part in await ask(7, stream=True)])
        assert len(text) > 0
        await ask(1)  # the engine's thread has told the last of the stream

    asyncio.run(leave())
    assert set(engine.rows) == {1, 2}
