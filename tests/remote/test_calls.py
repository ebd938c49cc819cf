"""A remote call over real HTTP: bounded, shared, cached, retried, ended in time, and silent about keys."""

import asyncio
import json
import sqlite3
import subprocess
import sys
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from overtake import settings
from overtake.remote import gateway, process
from overtake.remote.chat import chat_call, chat_gateway, endpoint
from overtake.remote.gateway import ATTEMPTS, Failed, Ok
from overtake.remote.rag import hits, rag_call, rag_gateway
from overtake.tasks.query_rewrite.judge import judge_call, judge_gateway

KEY = "sk-very-secret-1"
FOUND = {"data": {"recall": [{"doc_id": "a", "reranker_score": 0.9}]}}


@pytest.fixture
def server(monkeypatch, tmp_path):
    """`server.answer(text, headers)` gives (status, JSON value or bytes, headers); `.asked` holds the texts, `.most` how many at once."""
    known = SimpleNamespace(answer=lambda text, headers: (200, FOUND, {}), asked=[], now=0, most=0)
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            text = body["rewritten_query"] if "rewritten_query" in body else body["messages"][-1]["content"]
            with lock:
                known.asked.append(text)
                known.now += 1
                known.most = max(known.most, known.now)
            try:
                status, value, headers = known.answer(text, self.headers)
            finally:
                with lock:
                    known.now -= 1
            data = value if isinstance(value, bytes) else json.dumps(value).encode()
            try:
                self.send_response(status)
                for name, header in {"content-type": "application/json", "content-length": str(len(data)), **headers}.items():
                    self.send_header(name, header)
                self.end_headers()
                self.wfile.write(data)
            except OSError:
                self.close_connection = True  # whoever asked no longer waits

        def log_message(self, *_):
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
    url = f"http://127.0.0.1:{http.server_port}"
    values = {"RAG_URL": url, "TEACHER_BASE_URL": f"{url}/v1", "TEACHER_MODEL": "m", "TEACHER_API_KEY": KEY, "CACHE_DIR": str(tmp_path)}
    for name, value in values.items():
        monkeypatch.setenv(f"OVERTAKE_{name}", value)
    known.cache = tmp_path
    known.ledger = lambda: [json.loads(line) for line in (tmp_path / "ledger.jsonl").read_text("utf-8").splitlines()]
    process.forget()
    settings.load.cache_clear()
    yield known
    process.forget()
    settings.load.cache_clear()
    http.shutdown()
    http.server_close()


@pytest.fixture
def slept(monkeypatch):
    """How long each retry would have slept; nobody sleeps."""
    seconds = []
    real = asyncio.sleep

    async def sleep(delay, *_):
        seconds.append(delay)
        await real(0)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return seconds


def ask(*texts, deadline=None):
    return rag_gateway().run([rag_call("问", text, "t") for text in texts], deadline)


def set_(monkeypatch, **values):
    for name, value in values.items():
        monkeypatch.setenv(f"OVERTAKE_{name.upper()}", str(value))
    settings.load.cache_clear()


# ---------------------------------------------------------------- bound, shared, cached


def test_never_more_at_once_than_the_setting_says(server, monkeypatch):
    set_(monkeypatch, rag_concurrency=3)
    server.answer = lambda text, headers: (time.sleep(0.05), (200, FOUND, {}))[1]
    results = ask(*map(str, range(12)))
    assert all(isinstance(result, Ok) for result in results)
    assert (len(server.asked), server.most) == (12, 3)


def test_a_call_that_backs_off_holds_up_nobody(server, monkeypatch):
    set_(monkeypatch, rag_concurrency=1)
    monkeypatch.setattr(gateway, "_backoff", lambda tries: 0.5)
    server.answer = lambda text, headers: (503 if text == "慢" and server.asked.count("慢") == 1 else 200, FOUND, {})
    assert all(isinstance(result, Ok) for result in ask("慢", "一", "二"))
    assert server.asked == ["慢", "一", "二", "慢"]


def test_results_come_in_the_order_of_the_calls_and_are_told_as_they_come(server):
    def answer(text, headers):
        time.sleep(0.3 * (text == "慢"))
        return 200, {"data": {"recall": [{"id": text, "reranker_score": 1}]}}, {}

    server.answer = answer
    told = []
    calls = [rag_call("问", text, "t") for text in ("慢", "快")]
    results = rag_gateway().run(calls, on_result=lambda index, result: told.append(index))
    assert [hits(result.value)[0].doc_id for result in results] == ["慢", "快"]
    assert told == [1, 0]
    assert rag_gateway().run([]) == []


def test_identical_calls_in_flight_are_one_call(server):
    server.answer = lambda text, headers: (time.sleep(0.2), (200, FOUND, {}))[1]
    results = ask("同", "同", "同", "别")
    assert [hits(result.value)[0].score for result in results] == [0.9] * 4
    assert sorted(server.asked) == ["别", "同"]
    meter = rag_gateway().meter
    assert (meter.calls, meter.cached, meter.shared, meter.failed) == (4, 0, 2, {})


def test_a_kept_answer_costs_no_call_in_this_process_or_another(server, monkeypatch):
    (first,) = ask("问一")
    (second,) = ask("问一")
    assert (first.cached, second.cached, first.value == second.value) == (False, True, True)
    program = """
from overtake.remote.rag import rag_call, rag_gateway
(result,) = rag_gateway().run([rag_call("问", "问一", "t")])
print(result.cached, result.value)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == f"True {first.value}\n"
    assert server.asked == ["问一"]
    # Another state of the knowledge base is another question.
    set_(monkeypatch, kb_version="2")
    assert not ask("问一")[0].cached


def test_a_failure_is_not_kept(server, slept):
    server.answer = lambda text, headers: (400, {"message": "no"}, {})
    assert isinstance(ask("问")[0], Failed)
    server.answer = lambda text, headers: (200, FOUND, {})
    assert isinstance(ask("问")[0], Ok)
    assert len(server.asked) == 2


# ---------------------------------------------------------------- retried, or not


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 529])
def test_a_fault_that_passes_is_retried(server, slept, status):
    server.answer = lambda text, headers: (status if len(server.asked) < 3 else 200, FOUND, {})
    assert isinstance(ask("问")[0], Ok)
    assert (len(server.asked), len(slept)) == (3, 2)
    assert all(0 <= seconds <= 8 for seconds in slept)
    (row,) = server.ledger()
    assert (row["service"], row["status"], row["tries"]) == ("rag", "ok", 3)


def test_a_fault_that_stays_is_an_outage_after_all_tries(server, slept):
    server.answer = lambda text, headers: (503, {"message": "overloaded"}, {})
    (result,) = ask("问")
    assert isinstance(result, Failed) and result.outage
    assert "HTTP 503" in result.reason and "overloaded" in result.reason
    assert len(server.asked) == ATTEMPTS
    (row,) = server.ledger()
    assert (row["status"], row["kind"], row["reason"], row["faults"]) == ("failed", "http_503", result.reason, {"http_503": ATTEMPTS})
    meter = rag_gateway().meter
    assert (meter.failed, meter.faults) == ({"http_503": 1}, {"http_503": ATTEMPTS})


@pytest.mark.parametrize(
    ("header", "low", "high"),
    [
        pytest.param("7", 7, 7.5, id="seconds"),
        pytest.param("1.5", 1.5, 2, id="parts of a second"),
        pytest.param(formatdate(0, usegmt=True), 0, 0.5, id="a date that is past"),
        pytest.param("soon", 0, 8, id="neither: the usual wait"),
    ],
)
def test_the_service_says_how_long_to_wait(server, slept, header, low, high):
    server.answer = lambda text, headers: (429, {}, {"Retry-After": header}) if len(server.asked) == 1 else (200, FOUND, {})
    assert isinstance(ask("问")[0], Ok)
    (seconds,) = slept
    assert low <= seconds <= high


@pytest.mark.parametrize(
    "header", ["0", "0.0", formatdate(0, usegmt=True), pytest.param(formatdate(time.time() - 3600, usegmt=True), id="an hour ago")]
)
def test_a_wait_of_nothing_is_no_reason_to_come_back_sooner_than_by_oneself(server, slept, monkeypatch, header):
    monkeypatch.setattr(gateway, "_backoff", lambda tries: float(tries))
    server.answer = lambda text, headers: (429, {}, {"Retry-After": header}) if len(server.asked) <= 5 else (200, FOUND, {})
    assert isinstance(ask("问")[0], Ok)
    assert slept == [1, 2, 3, 4, 5]


def test_half_a_surrogate_pair_that_a_service_says_is_read_kept_and_written(server):
    server.answer = lambda text, headers: (200, b'{"data": {"recall": [{"doc_id": "a\\ud83d", "reranker_score": 0.9}]}}', {})
    first, second = ask("问")[0], ask("问")[0]
    assert first.value == second.value == {"recall": [["a\ufffd", 0.9]]} and second.cached and len(server.asked) == 1
    json.dumps(first.value, ensure_ascii=False).encode()


def test_half_a_surrogate_pair_within_a_verdict_is_kept_readable(server):
    words = '{"综合得分": 4, "评分理由": "好\\ud83d"}'
    choice = {"finish_reason": "stop", "message": {"content": words}}
    server.answer = lambda text, headers: (200, {"model": "m", "choices": [choice]}, {})
    for cached in (False, True):
        (result,) = judge_gateway().run([judge_call("问", "改")])
        assert (result.value["reason"], result.cached) == ("好\ufffd", cached)
    assert len(server.asked) == 1


def test_an_answer_kept_before_with_half_a_surrogate_pair_is_readable(server):
    ask("问")
    database = sqlite3.connect(server.cache / "answers.sqlite", isolation_level=None)
    database.execute("UPDATE answers SET value = ?", (b'{"recall": [["a\\ud83d", 0.5]], "version": ""}',))
    database.close()
    assert ask("问")[0] == Ok({"recall": [["a\ufffd", 0.5]], "version": ""}, cached=True) and len(server.asked) == 1


def test_a_date_half_a_minute_away_is_waited_for(server, slept):
    date = formatdate(time.time() + 30, usegmt=True)
    server.answer = lambda text, headers: (503, {}, {"Retry-After": date}) if len(server.asked) == 1 else (200, FOUND, {})
    ask("问")
    assert 25 < slept[0] <= 30.5


@pytest.mark.parametrize("header", ["9999", pytest.param(formatdate(time.time() + 3600, usegmt=True), id="in an hour")])
def test_who_asks_for_longer_than_a_call_may_take_is_not_waited_for(server, slept, header):
    server.answer = lambda text, headers: (429, {}, {"Retry-After": header})
    (result,) = ask("问")
    assert isinstance(result, Failed) and result.outage and "past 600 s" in result.reason
    assert (len(server.asked), slept) == (1, [])


def test_the_chat_client_waits_as_the_service_says_too(server, slept):
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "好"}}
    answer = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    server.answer = lambda text, headers: (429, {}, {"Retry-After": "7"}) if len(server.asked) == 1 else (200, answer, {})
    (result,) = chat_gateway("teacher").run([chat_call(endpoint("teacher"), [{"role": "user", "content": "问"}], 10)])
    assert isinstance(result, Ok)
    assert 7 <= slept[0] <= 7.5


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_a_refusal_fails_at_once_in_the_services_words(server, slept, status):
    server.answer = lambda text, headers: (status, {"message": "top_k: 不能是零"}, {})
    (result,) = ask("问")
    assert isinstance(result, Failed) and not result.outage
    assert result.reason.startswith(f"rag: HTTP {status}: ")
    assert "top_k" in result.reason
    assert (len(server.asked), slept) == (1, [])


# What the service sends with 200.
@pytest.mark.parametrize(
    ("value", "words"),
    [
        (b"<html>busy</html>", "the answer is no JSON (17 bytes): <html>busy"),
        (b"", "the answer is no JSON"),
        ({"data": {}}, "no data.recall list"),
        ({"data": None}, "no data.recall list"),
        ({"data": []}, "no data.recall list"),
        ([], "no data.recall list"),
        ({"data": {"recall": {"a": 1}}}, "no data.recall list"),
        ({"data": {"recall": [{"doc_id": "a"}]}}, "no number from 0 to 1 as reranker_score"),
        ({"data": {"recall": [{"doc_id": "a", "reranker_score": "0.9"}]}}, "no number from 0 to 1 as reranker_score"),
        ({"data": {"recall": [{"doc_id": "a", "reranker_score": True}]}}, "no number from 0 to 1 as reranker_score"),
        ({"data": {"recall": [{"doc_id": "a", "reranker_score": None}]}}, "no number from 0 to 1 as reranker_score"),
        (b'{"data": {"recall": [{"doc_id": "a", "reranker_score": NaN}]}}', "the answer is no JSON"),
        ({"data": {"recall": [{"doc_id": "a", "reranker_score": 7.3}]}}, "no number from 0 to 1 as reranker_score"),
        ({"data": {"recall": [{"doc_id": "a", "reranker_score": -0.1}]}}, "no number from 0 to 1 as reranker_score"),
        ({"data": {"recall": ["a"]}}, "no number from 0 to 1 as reranker_score"),
    ],
)
def test_an_answer_out_of_form_is_a_failure_that_is_no_outage(server, slept, value, words):
    server.answer = lambda text, headers: (200, value, {})
    (result,) = ask("问")
    assert isinstance(result, Failed) and not result.outage
    assert words in result.reason
    assert (result.kind, result.unusable, len(server.asked)) == ("malformed", False, ATTEMPTS)


@pytest.mark.parametrize(
    "value",
    [
        {"code": 500, "message": "index not loaded", "data": {"recall": []}},
        {"error": "index not loaded", "data": {"recall": []}},
        {"code": "503", "message": "index not loaded"},
    ],
)
def test_an_error_inside_an_answer_is_an_outage_and_asked_again(server, slept, value):
    server.answer = lambda text, headers: (200, value, {})
    (result,) = ask("问")
    assert isinstance(result, Failed) and result.outage
    assert "index not loaded" in result.reason
    assert len(server.asked) == ATTEMPTS


def test_a_services_own_word_for_success_is_no_error(server):
    server.answer = lambda text, headers: (200, {"code": 200, "message": "ok", "data": {"recall": []}}, {})
    assert isinstance(ask("问")[0], Ok)


def test_an_empty_recall_is_a_measurement(server):
    server.answer = lambda text, headers: (200, {"data": {"recall": []}}, {})
    (result,) = ask("问")
    assert isinstance(result, Ok) and hits(result.value) == []


# ---------------------------------------------------------------- ended in time


def test_a_hanging_service_fails_by_the_batchs_deadline_and_the_others_are_kept(server):
    server.answer = lambda text, headers: (time.sleep(3 * (text == "挂")), (200, FOUND, {}))[1]
    ask("热身")
    started = time.monotonic()
    quick, hanging = ask("快", "挂", deadline=0.7)
    assert time.monotonic() - started < 2
    assert isinstance(quick, Ok)
    assert isinstance(hanging, Failed) and hanging.outage
    assert hanging.reason == "rag: no answer within the batch's deadline of 0.7 s"


def test_a_hanging_service_fails_each_attempt_by_its_timeout(server, slept, monkeypatch):
    set_(monkeypatch, rag_timeout=0.3)
    server.answer = lambda text, headers: (time.sleep(2), (200, FOUND, {}))[1]
    started = time.monotonic()
    (result,) = ask("问")
    assert time.monotonic() - started < ATTEMPTS * 0.3 + 1.5
    assert isinstance(result, Failed) and result.outage and result.kind == "timeout"
    assert len(server.asked) == ATTEMPTS


def test_nobody_listening_is_an_outage(server, slept, monkeypatch):
    set_(monkeypatch, rag_url="http://127.0.0.1:1")
    (result,) = ask("问")
    assert isinstance(result, Failed) and result.outage
    assert "127.0.0.1:1" in result.reason


def test_calls_from_one_event_loop_after_another(server):
    async def step(text):
        return await asyncio.wrap_future(rag_gateway().submit([rag_call("问", text, "t")]))

    for text in ("一", "二", "三"):
        (result,) = asyncio.run(step(text))
        assert isinstance(result, Ok) and not result.cached
    assert server.asked == ["一", "二", "三"]


def test_calls_from_several_threads_share_one_bound(server, monkeypatch):
    set_(monkeypatch, rag_concurrency=2)
    server.answer = lambda text, headers: (time.sleep(0.05), (200, FOUND, {}))[1]
    threads = [threading.Thread(target=ask, args=[f"{i}{j}" for j in range(4)]) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(server.asked), server.most) == (12, 2)


# ---------------------------------------------------------------- keys


@pytest.mark.parametrize("status", [200, 400, 401, 500])
def test_a_key_appears_in_no_error_ledger_or_cache(server, slept, status):
    # A service that sends back what it was sent.
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "好"}}
    answer = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    server.answer = lambda text, headers: (
        (200, answer, {}) if status == 200 else (status, {"error": {"message": f"bad {headers['Authorization']}"}}, {})
    )
    to = endpoint("teacher")
    (result,) = chat_gateway("teacher").run([chat_call(to, [{"role": "user", "content": "问"}], 10)])
    assert isinstance(result, Ok) == (status == 200)
    if isinstance(result, Failed):
        assert "bad Bearer ***" in result.reason
    assert KEY not in f"{result} {to} {settings.load()} {chat_gateway('teacher')}"
    files = [path for path in server.cache.iterdir() if path.is_file()]
    assert {"ledger.jsonl", "answers.sqlite"} <= {path.name for path in files}
    assert not [path.name for path in files if KEY.encode() in path.read_bytes()]


def test_the_key_changes_no_answer_and_the_rest_of_the_call_does(server, monkeypatch):
    def key(**values):
        set_(monkeypatch, **values)
        return chat_call(endpoint("teacher"), [{"role": "user", "content": "问"}], 10).key

    first = key()
    assert key(teacher_api_key="another-key") == first
    assert key(teacher_model="n") != first
    assert chat_call(endpoint("teacher"), [{"role": "user", "content": "别"}], 10).key != key()
    assert rag_call("问", "改", "t").key != rag_call("问", "改", "u").key != rag_call("问", "改", "u", top_k=9).key
