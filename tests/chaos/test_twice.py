"""Never twice, never cut, never blind: processes that want the same at once, through misdeeds and kills, and what it came to."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest
from overtake.remote import gateway
from overtake.remote.chat import chat_call, chat_gateway, endpoint
from overtake.remote.gateway import Failed, Ok
from overtake.tasks.query_rewrite.judge import judge_call, judge_gateway

from .test_generate import GENERATE

MIX = {"500": 0.04, "503": 0.04, "hang": 0.02, "html": 0.02, "wrong_form": 0.02, "reset": 0.04, "max_tokens": 0.03, "abort": 0.04}
MIX = {**MIX, "length": 0.02, "half_pair": 0.05, "429 retry-after 0": 0.05, "no_success": 0.02}


@pytest.fixture
def tell(record_property, capsys):
    """tell(tried=…, lost=…) prints a line of figures beside the test's name, and keeps them with the report."""

    def tell(**figures):
        for name, value in figures.items():
            record_property(name, value)
        with capsys.disabled():
            print(f"\n  {', '.join(f'{name} {value}' for name, value in figures.items())}", end="")

    return tell


def answered(server):
    """How often each text got an answer that was good for something, or was paid for though it was none."""
    return Counter(row["text"] for row in server.log() if server.kind(row) is None)


def doubled(server):
    return sum(count - 1 for count in answered(server).values())


# ---------------------------------------------------------------- the three cases


def start_generate(sheet, output, environment):
    command = [sys.executable, GENERATE, sheet, output, "--tenant", "fivedoctors", "--concurrency", "32"]
    return subprocess.Popen(command, env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def questions(tmp_path, count):
    path = tmp_path / "questions.jsonl"
    lines = (json.dumps({"query_id": f"q{number}", "query": f"第{number}个问题怎么吃"}, ensure_ascii=False) for number in range(count))
    path.write_text("\n".join(lines), "utf-8")
    return path


@pytest.mark.parametrize("count", [2, 4])
def test_runs_of_one_sheet_that_start_together_pay_for_each_row_once(chaos, use, tell, tmp_path, count):
    server, sheet = chaos(latency=0.05, jitter=0.05), questions(tmp_path, 300)
    environment = use(server, CACHE_DIR=tmp_path / "cache")
    together = [start_generate(sheet, tmp_path / f"out{number}.jsonl", environment) for number in range(count)]
    for one in together:
        words, _ = one.communicate(timeout=400)
        assert one.returncode == 0, words
    written = {(tmp_path / f"out{number}.jsonl").read_text("utf-8") for number in range(count)}
    assert len(written) == 1 and written.pop().count("\n") == 300
    assert len(answered(server)) == 300
    tell(processes=count, tried=count * 300, requests=len(server.log()), doubled=doubled(server))
    assert doubled(server) == 0


def test_two_batches_of_one_process_pay_for_each_call_once(chaos, use, tell):
    server = chaos(latency=0.02, jitter=0.02)
    use(server, TEACHER_CONCURRENCY=16)

    def calls():
        return [chat_call(endpoint("teacher"), [{"role": "user", "content": f"问 {number}"}], 200) for number in range(256)]

    # In another order, so that what one waits for is mostly answered, and kept, before it has a place.
    both = [chat_gateway("teacher").submit(asked) for asked in (calls(), calls()[::-1])]
    results = [result for future in both for result in future.result(timeout=200)]
    assert all(isinstance(result, Ok) for result in results) and len(answered(server)) == 256
    tell(tried=512, requests=len(server.log()), doubled=doubled(server))
    assert doubled(server) == 0


RANK = """
import os, sys
from overtake.remote.gateway import Ok
from overtake.tasks.query_rewrite.judge import judge_call, judge_gateway
calls = [judge_call(f"第{step}步的问题", f"改写 {member}") for step in range(10) for member in range(8)]
for step in range(10):
    assert all(isinstance(result, Ok) for result in judge_gateway().run(calls[8 * step : 8 * step + 8])), step
"""


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_that_hold_one_group_have_it_judged_once(chaos, use, tell, ranks):
    server = chaos(latency=0.02, jitter=0.02)
    environment = os.environ | use(server, TEACHER_CONCURRENCY=16) | {"WORLD_SIZE": str(ranks)}
    together = [
        subprocess.Popen([sys.executable, "-c", RANK], env=environment | {"RANK": str(rank)}, stderr=subprocess.PIPE, text=True)
        for rank in range(ranks)
    ]
    for one in together:
        words = one.communicate(timeout=300)[1]
        assert one.returncode == 0, words
    assert len(answered(server)) == 80
    tell(ranks=ranks, tried=80 * ranks, requests=len(server.log()), doubled=doubled(server))
    assert doubled(server) == 0


# ---------------------------------------------------------------- misdeeds and kills


def assert_true(rows, count):
    """All rows, each with the whole answer to its own question: (lost, wrong), which are to be 0."""
    by_query = {row["original_query"]: row["rewritten_query"] for row in rows}
    lost = count - len(by_query)
    wrong = sum(not rewrite.split("�")[0].startswith(f"{query} 术语") for query, rewrite in by_query.items())
    return lost, wrong


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.release)])
def test_processes_at_once_through_misdeeds_and_kills_lose_nothing_and_pay_at_most_for_calls_in_flight_again(
    chaos, use, tell, tmp_path, count
):
    server, sheet, drawn = chaos(seed=count, latency=0.02, jitter=0.03, mix=MIX), questions(tmp_path, 500), random.Random(count)
    environment = use(server, CACHE_DIR=tmp_path / "cache", TEACHER_TIMEOUT=3)
    kills = 0
    for _ in range(10):
        together = [start_generate(sheet, tmp_path / f"out{number}.jsonl", environment) for number in range(count)]
        try:
            server.when(requests=len(server.log()) + drawn.randint(20, 80))
            time.sleep(drawn.uniform(0, 0.1))
            for one in together:
                if one.poll() is None:
                    one.send_signal(signal.SIGKILL)
                    kills += 1
        finally:
            for one in together:
                one.kill()
                one.communicate()
    for _ in range(3):  # what failed for good in one run is asked again in the next
        together = [start_generate(sheet, tmp_path / f"out{number}.jsonl", environment) for number in range(count)]
        words = [one.communicate(timeout=500)[0] for one in together]
        if all(one.returncode == 0 for one in together):
            break
    assert [one.returncode for one in together] == [0] * count, words
    for number in range(count):
        rows = [json.loads(line) for line in (tmp_path / f"out{number}.jsonl").read_text("utf-8").split("\n") if line]
        assert assert_true(rows, 500) == (0, 0)
    again = doubled(server)
    tell(processes=count, kills=kills, requests=len(server.log()), lost=0, wrong=0, paid_again=again)
    assert again <= 32 * kills, "more than was under way when it was killed"


@pytest.mark.slow
@pytest.mark.release
def test_6000_calls_through_all_misdeeds_are_right_or_failed(chaos, use, tell, monkeypatch):
    monkeypatch.setattr(gateway, "_backoff", lambda tries: random.uniform(0, 0.05))
    server = chaos(seed=3, latency=0.002, jitter=0.004, mix={**MIX, "filtered": 0.02, "quota": 0.01, "422": 0.01, "empty": 0.01})
    use(server, TEACHER_CONCURRENCY=64, TEACHER_TIMEOUT=5)
    texts = [f"第{number}问" for number in range(5000)]
    calls = [chat_call(endpoint("teacher"), [{"role": "user", "content": text}], 200) for text in texts]
    verdicts = [judge_call(f"第{number}问", "改写") for number in range(1000)]
    futures = chat_gateway("teacher").submit(calls), judge_gateway().submit(verdicts)
    results, judged = (future.result(timeout=550) for future in futures)
    wrong = sum(
        isinstance(result, Ok) and result.value["text"].split("�")[0].split(" 术语")[0] != text
        for text, result in zip(texts, results, strict=True)
    )
    assert all("\ud83d" not in json.dumps(result.value, ensure_ascii=False) for result in (*results, *judged) if isinstance(result, Ok))
    last = {row["text"]: server.kind(row) for row in server.log() if row["path"].endswith("completions")}
    failed = [result for result in (*results, *judged) if isinstance(result, Failed)]
    assert len(failed) == sum(kind is not None for kind in last.values()), "whose last answer was good has it"
    asked = len(server.log())
    again = chat_gateway("teacher").run([call for call, result in zip(calls, results, strict=True) if isinstance(result, Ok)])
    assert all(isinstance(result, Ok) and result.cached for result in again) and len(server.log()) == asked, "what was paid for is readable"
    tell(tried=6000, failed=len(failed), lost=0, wrong=wrong, doubled=doubled(server), requests=asked)
    assert (wrong, doubled(server)) == (0, 0)


# ---------------------------------------------------------------- the file in the way


@pytest.mark.parametrize("when", ["in the midst", "from the start"])
def test_a_lock_that_another_holds_for_a_while_costs_no_answer(chaos, use, tell, tmp_path, when):
    server, sheet, folder = chaos(latency=0.02), questions(tmp_path, 300), tmp_path / "cache"
    environment = use(server, CACHE_DIR=folder)
    first = start_generate(questions(tmp_path, 1), tmp_path / "first.jsonl", environment)
    assert first.communicate(timeout=200) and first.returncode == 0
    sheet = questions(tmp_path, 300)
    lock = sqlite3.connect(folder / "answers.sqlite", isolation_level=None, check_same_thread=False)
    if when == "from the start":
        lock.execute("BEGIN EXCLUSIVE")
    run = start_generate(sheet, tmp_path / "out.jsonl", environment)
    server.when(requests=100)
    if when == "in the midst":
        lock.execute("BEGIN EXCLUSIVE")
    server.when(requests=300)
    freed = threading.Timer(1.0, lambda: lock.execute("ROLLBACK"))
    freed.start()
    words = run.communicate(timeout=300)[0]
    freed.join()
    assert run.returncode == 0, words
    asked = len(server.log())
    again = start_generate(sheet, tmp_path / "again.jsonl", environment)
    assert again.communicate(timeout=200) and again.returncode == 0
    tell(tried=300, paid_again=len(server.log()) - asked)
    assert len(server.log()) == asked


@pytest.mark.parametrize("after", ["0", "date+-3600", "date+3600"])
def test_a_service_that_is_too_busy_is_not_hammered_and_a_wrong_clock_fails_no_call(chaos, use, tell, after):
    server = chaos(mix={f"429 retry-after {after}": 1.0}) if after == "0" else chaos(script=[f"429 retry-after {after}"] * 2)
    use(server, TEACHER_CONCURRENCY=8)
    calls = [chat_call(endpoint("teacher"), [{"role": "user", "content": f"问 {number}"}], 200) for number in range(8)]
    results = chat_gateway("teacher").run(calls, 6 if after == "0" else 90)
    if after == "0":
        rate = len(server.log()) / 6
        tell(requests_a_second=round(rate, 1))
        assert rate < 15, "62 a second before"
    else:
        assert all(isinstance(result, Ok) for result in results)
