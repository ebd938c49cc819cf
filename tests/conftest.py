"""What all tests share: running a tool, servers that do as they are told, data that may be absent, and OVERTAKE_REQUIRE_ALL=1, under
which a skipped test fails the session.
"""

import importlib.util
import json
import os
import shutil
import sys
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import hypothesis
import pytest
from overtake import cli, settings
from overtake.remote import gateway, process
from overtake.rewards import metrics

ROOT = Path(__file__).resolve().parent.parent
# Real data to measure on; it is not part of a clone.
SHARED = Path(os.environ.get("OVERTAKE_SHARED", ROOT.parent / "shared"))

SCRIPTS = {
    path.stem: path
    for place in ("tools", "benchmarks", "demo", "demo/samples", "demo/tiny_students")
    for path in (ROOT / place).glob("*.py")
}

# Test processes beside each other have a core each, and so have the programs that they start.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# A busy machine is slow, which is no fault of what is tested.
hypothesis.settings.register_profile("overtake", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("overtake")

# A key in the tester's own environment would make a teacher of DeepSeek where a test means that there is none.
os.environ.pop("DEEPSEEK_API_KEY", None)

_skipped: list[str] = []

LONGEST_FIRST = ("recipes/test_quickstart", "recipes/test_finance", "recipes/test_real_model", "recipes/test_medical", "recipes/test_judge")
"""Chains of five minutes and more: what begins last ends last, and another process would wait for it with nothing to do."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {f"tests/{name}.py": at for at, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.nodeid.partition("::")[0], len(places)))
    for item in items:
        if item.get_closest_marker("slow") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(3000))
    if not SHARED.is_dir():
        for item in items:
            if item.get_closest_marker("needs_shared"):
                item.add_marker(pytest.mark.skip(reason=f"no shared data at {SHARED}"))


def _note(report: pytest.TestReport | pytest.CollectReport) -> None:
    expected_failure = hasattr(report, "wasxfail")
    data_absent = "needs_shared" in getattr(report, "keywords", {}) and not SHARED.is_dir()
    if report.skipped and not expected_failure and not data_absent:
        _skipped.append(report.nodeid)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _note(report)
    # At once and not only at the end, which a run that is cut off does not reach.
    if report.failed and "PYTEST_XDIST_WORKER" not in os.environ:
        print(
            f"\nFAILED {report.nodeid}, {report.when}, {report.duration:.0f} s\n{report.longreprtext[-3000:]}", file=sys.stderr, flush=True
        )


def pytest_collectreport(report: pytest.CollectReport) -> None:
    _note(report)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if os.environ.get("OVERTAKE_REQUIRE_ALL") == "1" and _skipped and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if os.environ.get("OVERTAKE_REQUIRE_ALL") == "1" and _skipped:
        terminalreporter.section("skipped although OVERTAKE_REQUIRE_ALL=1", red=True)
        for nodeid in _skipped:
            terminalreporter.line(nodeid)


def _serving():
    """serve(answer) -> a server on a free port; `answer(body)` gives (status, JSON value); `.requests` holds what was asked."""
    servers = []

    def serve(answer):
        requests, lock = [], threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    requests.append(SimpleNamespace(path=self.path, key=self.headers.get("Authorization", ""), body=body))
                status, value = answer(body)
                data = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return SimpleNamespace(url=f"http://127.0.0.1:{server.server_address[1]}", requests=requests)

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


serve = pytest.fixture(_serving, name="serve")
serve_module = pytest.fixture(_serving, name="serve_module", scope="module")


@pytest.fixture(scope="module")
def chromium():
    """The system's browser; its tests are skipped where there is none."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if not found:
        pytest.skip("no browser: apt-get install chromium fonts-wqy-microhei")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: run install.sh")
    with playwright.sync_playwright() as driver:
        # CI runs as root, for whom Chromium has no sandbox. No name resolves, and no service is phoned.
        options = ["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--disable-background-networking"]
        browser = driver.chromium.launch(executable_path=found, args=options)
        yield browser
        browser.close()


@pytest.fixture(autouse=True)
def leave_nothing():
    """What a test, or the code that it runs, sets for this project goes with it: variables and the trainer whose tables are logged into."""
    before = {name: value for name, value in os.environ.items() if name.startswith("OVERTAKE_")}
    yield
    for name in [name for name in os.environ if name.startswith("OVERTAKE_")]:
        del os.environ[name]
    os.environ.update(before)
    metrics.log_to(None)


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


def _main_of(name):
    spec = importlib.util.spec_from_file_location(f"tool_{name}", SCRIPTS[name])
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.main


@pytest.fixture
def run(capsys):
    """run(tool, *arguments) -> exit code, stdout, stderr without the progress bars; `tool` is a script's name or the module that works."""

    def run(tool, *arguments):
        main = _main_of(tool) if isinstance(tool, str) else partial(cli.main, tool, "")
        code = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        lines = [line for line in err.replace("\r", "\n").splitlines() if line.strip() and "it/s" not in line and "?it" not in line]
        return SimpleNamespace(code=code, out=out, err="\n".join(line for line in lines if "s/it" not in line))

    return run


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
def slow_rules(monkeypatch):
    """slow_rules(text): the medical rules take too long on every answer that holds it."""
    from overtake.tasks.medical.case import Case

    def slow_rules(text):
        left = Case.left

        def none_left(case):
            case._end = 0.0 if text in case.text else case._end
            return left(case)

        monkeypatch.setattr(Case, "left", none_left)

    return slow_rules
