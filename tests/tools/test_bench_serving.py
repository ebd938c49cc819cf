"""bench_serving.py: how many are asked, how many at once, with what, and the arithmetic of its table; never how fast."""

import importlib.util
import json
import threading
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
from overtake.data.tables import json_lines
from overtake.remote.gateway import Failed, Ok

pytestmark = pytest.mark.usefixtures("fresh")


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("bench_serving_tested", Path(__file__).parents[2] / "benchmarks/bench_serving.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def questions(tmp_path):
    (tmp_path / "prompts.txt").write_text("one\n\ntwo\nthree\n", encoding="utf-8")
    return tmp_path / "prompts.txt"


def test_both_systems_get_the_same_prompts_and_never_more_at_once_than_clients(run, chat_server, questions, tmp_path):
    lock, counts = threading.Lock(), SimpleNamespace(now=0, most=0)
    full = threading.Barrier(3, timeout=30)

    def answer(question, body):
        with lock:
            counts.now += 1
            counts.most = max(counts.most, counts.now)
        if body["model"] == "small" and next(turn) > 1:  # all but the one before the clock come in threes
            full.wait()
        with lock:
            counts.now -= 1
        return {"text": "ja", "tokens": (10, 2)}

    turn = iter(range(1, 100))
    server = chat_server(answer)
    systems = ("--system", f"small={server.url}/v1", "--system", f"large={server.url}/v1,gpt-5-mini")
    done = run("bench_serving", questions, *systems, "--requests", 9, "--concurrency", 3, "--summary", tmp_path / "found.json")
    assert done.code == 0, done.err
    asked = Counter((call.body["model"], call.body["messages"][0]["content"]) for call in server.requests)
    assert {key: asked[key] for key in asked if key[0] == "small"} == {("small", "one"): 4, ("small", "two"): 3, ("small", "three"): 3}
    assert sum(count for (model, _), count in asked.items() if model == "gpt-5-mini") == 10
    assert counts.most == 3
    found = json.loads((tmp_path / "found.json").read_text("utf-8"))["systems"]
    assert [(one["answered"], one["failed"]) for one in found.values()] == [(9, 0), (9, 0)]
    assert found["small"]["tokens_s"] == pytest.approx(18 / found["small"]["wall"])
    assert found["large"]["usd_1000"] == pytest.approx(1000 * (10 * 0.25 + 2 * 2.0) / 1e6) and "usd_1000" not in found["small"]


def test_latency_rate_tokens_and_cost_are_of_the_answered_ones(bench, monkeypatch):
    monkeypatch.setenv("OVERTAKE_GPU_HOUR_USD", "3.6")
    usage = {"prompt_tokens": 1, "completion_tokens": 30}
    results = [Ok({"usage": usage, "usd": None}, seconds=float(at)) for at in range(1, 5)] + [Failed("late", "timeout")]
    found = bench.measured(results, 2.0)
    assert found == {
        "answered": 4,
        "failed": 1,
        "reasons": {"timeout": 1},
        "wall": 2.0,
        "latency_median": 2.5,
        "latency_p95": pytest.approx(3.85),
        "requests_s": 2.0,
        "tokens_s": 60.0,
        "gpu_usd_1000": pytest.approx(1000 * 2.0 * 0.001 / 4),
    }
    assert bench.measured(results[4:], 2.0) == {"answered": 0, "failed": 1, "reasons": {"timeout": 1}, "wall": 2.0}


def test_the_ratios_are_to_the_first_system(bench):
    small = {"answered": 4, "failed": 0, "latency_median": 0.5, "usd_1000": 0.25}
    large = {"answered": 4, "failed": 0, "latency_median": 2.0, "usd_1000": 0.125, "requests_s": 3.0}
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in bench.table({"S": small, "T": large}).splitlines()]
    assert lines[0] == ["system", "answered", "failed", "latency s, median", "requests a second", "USD per 1,000"]
    assert lines[2:] == [["S", "4", "0", "0.5", "–", "0.25"], ["T", "4", "0", "2 (4.00 x)", "3", "0.125 (0.50 x)"]]


def test_a_system_that_refuses_some_is_exit_1_and_says_how_many(run, chat_server, questions):
    server = chat_server(lambda question, body: (400, {"error": {"message": "no"}}) if question == "two" else "ja")
    done = run("bench_serving", questions, "--system", f"S={server.url}/v1", "--requests", 6)
    assert done.code == 1 and "| S | 4 | 2 |" in done.out


def test_training_rows_are_asked_without_their_answers(bench, tmp_path):
    turns = [{"role": role, "content": role} for role in ("system", "user", "assistant")]
    (tmp_path / "rows.jsonl").write_bytes(json_lines([{"messages": turns}]))
    assert bench.prompts_of(tmp_path / "rows.jsonl") == [turns[:2]]


@pytest.mark.parametrize(
    ("rows", "system", "words"),
    [
        ("one\n", "S=127.0.0.1:1", "--system S=127.0.0.1:1: give NAME=URL,MODEL"),
        ("\n", "S=http://127.0.0.1:1/v1", "holds no prompt"),
        ("one\n", "S=http://127.0.0.1:1/v1", "the first call to the serving S failed"),
    ],
)
def test_what_cannot_be_measured_is_one_line_and_exit_2(run, tmp_path, rows, system, words):
    (tmp_path / "prompts.txt").write_text(rows, encoding="utf-8")
    done = run("bench_serving", tmp_path / "prompts.txt", "--system", system)
    assert (done.code, done.out) == (2, "") and words in done.err and "\n" not in done.err
