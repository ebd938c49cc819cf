"""What all tests share: data that may be absent, and OVERTAKE_REQUIRE_ALL=1, under which a skipped test fails the session."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
# Real data to measure on; it is not part of a clone.
SHARED = Path(os.environ.get("OVERTAKE_SHARED", ROOT.parent / "shared"))

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
