"""tools/generate.py over 2,000 rows: through a seeded mix of everything that goes wrong, and through 20 kills."""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

GENERATE = Path(__file__).parents[2] / "tools" / "generate.py"
ROWS, AT_ONCE = 2000, 64
QUESTIONS = {f"q{number:04}": f"第{number}个问题怎么吃" for number in range(ROWS)}
# 20 % 5xx, 10 % hangs, 5 % malformed, 5 % resets; the storms come on top.
MIX = {"500": 0.05, "502": 0.05, "503": 0.05, "504": 0.05, "hang": 0.1, "html": 0.02, "bad_json": 0.02, "wrong_form": 0.01, "reset": 0.05}
STORMS = [[300, 420], [1500, 1700], [2500, 2550]]


@pytest.fixture
def sheet(tmp_path):
    path = tmp_path / "questions.jsonl"
    write = "".join(json.dumps({"query_id": key, "query": text}, ensure_ascii=False) + "\n" for key, text in QUESTIONS.items())
    path.write_text(write, "utf-8")
    return path


@pytest.fixture
def start(sheet, use):
    """start(server, key="…", TEACHER_TIMEOUT=3) -> generate.py at work on the sheet; the server's log tells the key as `who`."""
    running = []

    def start(server, key="first", **others):
        environment = {**os.environ, **use(server, TEACHER_API_KEY=key, **others)}
        command = [sys.executable, GENERATE, sheet, output(sheet), "--tenant", "fivedoctors", "--concurrency", str(AT_ONCE)]
        running.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


def output(sheet):
    return sheet.with_name("rewrites.jsonl")


def rows(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


def questions(log):
    """The question of each request, in order of arrival."""
    return [row["text"].splitlines()[-1].removeprefix("问题：") for row in log]


def most_at_once(log):
    """How many of these requests were under way together, at most."""
    moments = sorted([(row["in"], 1) for row in log] + [(row["out"], -1) for row in log])
    return max(itertools.accumulate(step for _, step in moments))


def assert_rewritten(found, wanted):
    """The rows wanted, in the sheet's order, each with the answer to its own question."""
    assert [row["query_id"] for row in found] == wanted
    for row in found:
        assert row["original_query"] == QUESTIONS[row["query_id"]]
        assert row["rewritten_query"].split(" 术语")[0] == row["original_query"]


@pytest.mark.slow
def test_a_mix_of_everything_loses_no_row_and_pays_for_none_twice(chaos, start, sheet, ledger, tmp_path):
    server = chaos(seed=114, latency=0.02, jitter=0.03, mix=MIX, storms=STORMS)
    settings = {"CACHE_DIR": tmp_path / "cache", "TEACHER_TIMEOUT": 3}
    first = start(server, **settings)
    words, _ = first.communicate(timeout=500)
    assert first.returncode == 1, words

    failed, done, log = rows(Path(f"{output(sheet)}.failed.jsonl")), rows(output(sheet)), server.log()
    lost = {row["query_id"] for row in failed}
    assert_rewritten(done, [key for key in QUESTIONS if key not in lost])
    assert len(failed) == len(lost) > 0 and [row["query_id"] for row in failed] == sorted(lost)
    asked = dict(zip(questions(log), (server.kind(row) for row in log), strict=True))  # the last kind for each question
    assert {QUESTIONS[key] for key in lost} == {text for text, kind in asked.items() if kind}
    noted, faults = ledger(tmp_path / "cache")
    assert Counter(row["status"] for row in noted) == {"ok": ROWS - len(lost), "failed": len(lost)}
    assert Counter(row["kind"] for row in noted if row["status"] == "failed") == Counter(filter(None, asked.values()))
    assert faults == server.dealt()
    assert {"timeout", "connection", "malformed", "http_429", "http_500", "http_502", "http_503", "http_504"} == set(faults)
    for kind, fates in {"timeout": ["hang"], "connection": ["reset"], "malformed": ["html", "bad_json", "wrong_form"]}.items():
        assert faults[kind] >= sum(row["fate"] in fates for row in log) > 100

    second = start(server, **settings)
    words, _ = second.communicate(timeout=500)
    assert second.returncode == 0, words
    assert_rewritten(rows(output(sheet)), list(QUESTIONS))
    assert not Path(f"{output(sheet)}.failed.jsonl").exists()
    assert set(questions(server.log()[len(log) :])) == {QUESTIONS[key] for key in lost}, "only what failed is asked again"
    answered = Counter(row["text"] for row in server.log() if server.kind(row) is None)
    assert len(answered) == answered.total() == ROWS, "none is paid for twice"
    noted, faults = ledger(tmp_path / "cache")
    assert faults == server.dealt() and Counter(row["status"] for row in noted)["ok"] == ROWS


@pytest.mark.slow
def test_20_kills_lose_no_row_and_cost_at_most_the_calls_in_flight(chaos, start, sheet, tmp_path):
    server, drawn = chaos(latency=0.05, jitter=0.05), random.Random(11)
    for number in range(20):
        process = start(server, key=f"start-{number}", CACHE_DIR=tmp_path / "cache")
        server.when(requests=len(server.log()) + drawn.randint(30, 150))
        time.sleep(drawn.uniform(0, 0.1))
        assert process.poll() is None, process.communicate()
        process.send_signal(signal.SIGKILL)
        process.wait()
    last = start(server, key="start-20", CACHE_DIR=tmp_path / "cache")
    words, _ = last.communicate(timeout=500)
    assert last.returncode == 0, words
    assert_rewritten(rows(output(sheet)), list(QUESTIONS))
    assert not Path(f"{output(sheet)}.failed.jsonl").exists()

    log = server.log()
    by_start = [[row for row in log if row["who"] == f"start-{number}"] for number in range(21)]
    asked = [set(questions(part)) for part in by_start]
    assert sum(map(len, by_start)) == len(log) and set.union(*asked) == set(QUESTIONS.values())
    again = []
    for number, part in enumerate(by_start):
        assert len(asked[number]) == len(part), "one start never asks twice"
        again.append(len(asked[number] & set.union(set(), *asked[number + 1 :])))
        assert most_at_once(part) <= AT_ONCE
        if number < 20:
            assert again[-1] or any(row["end"] == "left" for row in part), "this kill came in the middle of the work"
    # An answer under way when its asker dies is in flight too, so the server's own count of those would be too low a bound.
    assert 0 < max(again) <= AT_ONCE, again
    assert not again[20], "the last start was left in peace"
