"""Real sockets for the data tools: a chat server and a RAG server that do as they are told, and fresh settings for each test."""

import importlib.util
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from overtake import settings
from overtake.remote import gateway, process

ROOT = Path(__file__).parents[2]
_SCRIPTS = {
    path.stem: path
    for place in ("tools", "benchmarks", "demo", "demo/samples", "demo/tiny_students")
    for path in (ROOT / place).glob("*.py")
}


def command(name, *arguments):
    """The words that start a tool, a benchmark or a script of the demo as a process of its own."""
    path = _SCRIPTS[name].relative_to(ROOT)
    script = ["-m", ".".join(path.with_suffix("").parts)] if path.parts[0] == "demo" else [str(ROOT / path)]
    return [sys.executable, *script, *map(str, arguments)]


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """No setting from outside, a cache of its own, no gateway of another test; retries do not wait and outages do not last."""
    for name in [name for name in os.environ if name.startswith("OVERTAKE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OVERTAKE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("OVERTAKE_OUTAGE_PATIENCE", "1")
    process.forget()
    monkeypatch.setattr(gateway, "_backoff", lambda tries: 0)
    settings.load.cache_clear()
    yield
    process.forget()
    settings.load.cache_clear()


@pytest.fixture
def again(monkeypatch):
    """Forget what a process remembers, as a second start does; the cache on disk stays."""

    def again():
        process.forget()
        settings.load.cache_clear()

    return again


@pytest.fixture
def run(capsys):
    """run("generate", *arguments) -> exit code, stdout, stderr without the progress bars."""

    def run(name, *arguments):
        spec = importlib.util.spec_from_file_location(f"tool_{name}", _SCRIPTS[name])
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        code = module.main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        lines = [line for line in err.replace("\r", "\n").splitlines() if line.strip() and "it/s" not in line and "?it" not in line]
        return SimpleNamespace(code=code, out=out, err="\n".join(line for line in lines if "s/it" not in line))

    return run


@pytest.fixture
def start():
    """start("generate", *arguments) -> the tool as a process of its own."""
    running = []

    def start(name, *arguments):
        # Where the tests run in the background SIGINT is ignored, and a child would inherit that.
        heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        running.append(
            subprocess.Popen(
                command(name, *arguments), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed
            )
        )
        return running[-1]

    yield start
    for one in running:
        one.kill()
        one.communicate()


def said(text, finish="stop", tokens=(100, 10), model="stand-in"):
    """A chat answer, as an OpenAI-compatible server words it."""
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text}}
    usage = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "total_tokens": sum(tokens)}
    return 200, {"id": "x", "object": "chat.completion", "created": 1, "model": model, "choices": [choice], "usage": usage}


@pytest.fixture
def chat_server(fresh, serve):
    """chat_server(reply): `reply(question, body)` gives a text, the arguments of `said` as a dict, or (status, JSON value)."""

    def chat_server(reply):
        def answer(body):
            made = reply(body["messages"][-1]["content"], body)
            return said(made) if isinstance(made, str) else said(**made) if isinstance(made, dict) else made

        return serve(answer)

    return chat_server


@pytest.fixture
def teacher(chat_server, monkeypatch):
    """As chat_server, and the settings name it as the teacher."""

    def teacher(reply=lambda question, body: f"{question.splitlines()[-1]} 专业术语", model="stand-in"):
        server = chat_server(reply)
        monkeypatch.setenv("OVERTAKE_TEACHER_BASE_URL", server.url + "/v1")
        monkeypatch.setenv("OVERTAKE_TEACHER_MODEL", model)
        monkeypatch.setenv("OVERTAKE_TEACHER_API_KEY", "secret-teacher-key")
        settings.load.cache_clear()
        return server

    return teacher


@pytest.fixture
def rag(fresh, serve, monkeypatch):
    """rag(recall) -> a RAG server that the settings name; `recall(sent, body)` gives [(doc_id, score), …] or a whole answer."""

    def rag(recall):
        def answer(body):
            made = recall(body["rewritten_query"], body)
            if not isinstance(made, list):
                return made
            return 200, {"data": {"recall": [{"doc_id": doc_id, "reranker_score": score} for doc_id, score in made]}}

        server = serve(answer)
        monkeypatch.setenv("OVERTAKE_RAG_URL", server.url)
        settings.load.cache_clear()
        return server

    return rag


@pytest.fixture
def start_tool(tmp_path):
    """start_tool(tool, *arguments, **environment) -> its process, URL and ready file, once it is ready; what runs at the end is killed."""
    running = []

    def start(tool, *arguments, **environment):
        ready = tmp_path / f"url{len(running)}"
        words = command(tool, *arguments, "--port", "0", "--ready-file", ready)
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        # A test run in the background ignores SIGINT, and so would its children.
        heed = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
        started = subprocess.Popen(words, cwd=ROOT, text=True, env=os.environ | environment, **pipes, **heed)
        running.append(started)
        end = time.monotonic() + 60
        while not ready.exists():
            assert started.poll() is None, started.communicate()
            assert time.monotonic() < end, "not ready after 60 s"
            time.sleep(0.02)
        return started, ready.read_text(), ready

    yield start
    for one in running:
        one.kill()
        one.communicate()


@pytest.fixture
def same_as_ms_swift():
    """same_as_ms_swift(folder, messages, answer): a tiny student's prompt and row are, token for token, those of ms-swift's template."""
    from swift.model import get_processor
    from swift.template import get_template
    from transformers import AutoTokenizer

    def check(folder, messages, answer):
        template = get_template(get_processor(str(folder), model_type="qwen3", download_model=False), template_type="qwen2_5")
        own = AutoTokenizer.from_pretrained(folder)
        given = own(own.apply_chat_template(messages, tokenize=False, add_generation_prompt=True), add_special_tokens=False).input_ids
        template.set_mode("transformers")
        assert template.encode({"messages": messages})["input_ids"] == given
        template.set_mode("train")
        trained = template.encode({"messages": [*messages, {"role": "assistant", "content": answer}]})
        wanted = [*own(answer).input_ids, own.eos_token_id]
        assert trained["input_ids"][: len(given + wanted)] == given + wanted
        assert trained["labels"][len(given) : len(given + wanted)] == wanted

    return check
