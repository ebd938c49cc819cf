"""What all tests share: servers, data that may be absent, and OVERTAKE_REQUIRE_ALL=1, under which a skipped test fails the session."""

import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Real data to measure on; it is not part of a clone.
SHARED = Path(os.environ.get("OVERTAKE_SHARED", ROOT.parent / "shared"))

# A key in the tester's own environment would make a teacher of DeepSeek where a test means that there is none.
os.environ.pop("DEEPSEEK_API_KEY", None)

_skipped: list[str] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
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
