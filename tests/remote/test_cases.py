"""Answers and settings as others' services and files had them (F1, F3, F4, F7; F8, F9; F33, F34, F35), and many more of each kind."""

import json
import random
from pathlib import Path

import pytest
from overtake import settings
from overtake.remote.chat import chat_call, chat_gateway, endpoint, read_usage
from overtake.remote.faults import Fault
from overtake.remote.gateway import Failed, Ok
from overtake.remote.rag import rag_call, rag_gateway, read_recall

from .conftest import said

CASES = Path(__file__).parents[1] / "data" / "cases"
LIMIT = 60


def cases(kind):
    lines = (CASES / f"{kind}.jsonl").read_text("utf-8").split("\n")
    return [pytest.param(case := json.loads(line), id=f"{case['id']}-{number}") for number, line in enumerate(lines) if line]


# ---------------------------------------------------------------- F1, F3, F4, F7: chat


def ask():
    gateway = chat_gateway("teacher")
    (result,) = gateway.run([chat_call(endpoint("teacher"), [{"role": "user", "content": "问"}], LIMIT)])
    return result, gateway.meter


@pytest.mark.parametrize("case", cases("chat_answer"))
def test_an_answer_of_another_form_is_read_or_fails_in_the_services_own_words_and_is_billed(service, case):
    billed = []

    def answer(body):
        told = (case.get("status", 200), case["answer"])
        over = body["max_tokens"] > case.get("while_max_tokens", 10**9) or len(service.limits) > case.get("first", 10**9)
        status, value = said("好的改写") if over else told
        billed.append(read_usage(value) if status == 200 else {})
        return status, value

    service.answer = answer
    result, meter = ask()
    if "want" in case:
        assert isinstance(result, Ok) and result.value["text"] == case["want"], result
    else:
        assert isinstance(result, Failed) and case["fails"] in result.reason, result
        assert not result.outage
    assert len(service.limits) == len(case["limits"]) if "limits" in case else case["requests"]
    assert service.limits == case.get("limits", [LIMIT] * len(service.limits))
    assert meter.tokens == sum(sum(usage.values()) for usage in billed)


WHOLE = ["stop", "STOP", "Stop", " stop ", "", None]
CUT = ["length", "LENGTH", "max_tokens", "MAX_TOKENS", "maxTokens", "max-tokens", "max_output_tokens", "FINISH_REASON_MAX_TOKENS"]
CUT += [
    "model_length",
    "max_new_tokens",
    "token_limit",
    "model_context_window_exceeded",
    "truncated",
    "incomplete",
    "MaxTokensReached",
    "超长截断",
]
BROKEN = [
    "abort",
    "ABORT",
    "aborted",
    "insufficient_system_resource",
    "error",
    "ERROR",
    "engine_error",
    "cancelled",
    "timeout",
    "timed_out",
]
BROKEN += ["overloaded", "server_shutdown", "preempted", "internal_error", "connection_error", "服务异常"]
FILTERED = ["content_filter", "CONTENT_FILTER", "SAFETY", "RECITATION", "PROHIBITED_CONTENT", "SPII", "BLOCKLIST", "refusal", "sensitive"]
FILTERED += ["guardrail_intervened", "moderation", "policy_violation", "内容过滤"]
OTHER = ["tool_calls", "function_call", "TOOL_USE", "weird", "7", "pause_turn", "UNEXPECTED", "end_turn", "eos", "eos_token", "Completed"]
OTHER += ["stop_sequence", "FINISH_REASON_STOP", "stopped", "null", "None", "stop?", "正常"]


def chat_answers(count, seed=17):
    """(what the services say first, what is to come of it) for so many draws: endings, forms of content, wrappers and names of usage."""
    drawn = random.Random(seed)
    for number in range(count):
        kind, reasons = drawn.choice([("whole", WHOLE), ("cut", CUT), ("broken", BROKEN), ("filtered", FILTERED), ("other", OTHER)])
        text = f"改写{number} 术语"
        thought = drawn.choice(["", "先想一想"])
        parts = [{"type": drawn.choice(["text", "output_text"]), "text": part} for part in (text[:3], text[3:])]
        if thought:
            parts.insert(0, drawn.choice([{"type": "thinking", "thinking": thought}, {"type": "reasoning", "text": thought}]))
        content = drawn.choice([text, parts, [text], {"type": "text", "text": text}])
        message = {"role": "assistant", "content": content} | ({"reasoning_content": thought} if thought and content == text else {})
        choice = {"index": 0, "message": message}
        reason = drawn.choice(reasons)
        choice |= drawn.choice([{"finish_reason": reason}, {"finish_reason": reason, "stop_reason": None}, {"finishReason": reason}])
        tokens = drawn.randint(1, 900), drawn.randint(1, 900)
        names = drawn.choice([("prompt_tokens", "completion_tokens"), ("input_tokens", "output_tokens")])
        usage = dict(zip(names, drawn.choice([tokens, tuple(map(float, tokens)), tuple(map(str, tokens))]), strict=True))
        answer = {"model": "m", "choices": [choice], "usage": usage}
        answer = drawn.choice(
            [answer, answer | {"error": None, "code": 0, "msg": "ok"}, {"code": 200, "message": "success", "data": answer}]
        )
        yield {"answer": answer, "kind": kind, "text": text, "thought": thought, "tokens": sum(tokens)}


def test_of_600_drawn_answers_each_is_read_as_what_it_says_and_its_tokens_are_counted(service):
    drawn = list(chat_answers(600))
    asked = {}

    def answer(body):
        number = int(body["messages"][-1]["content"])
        asked.setdefault(number, []).append(body["max_tokens"])
        return (200, drawn[number]["answer"]) if len(asked[number]) == 1 else said(f"第二 {number}", tokens=(2, 1))

    service.answer = answer
    to = endpoint("teacher")
    calls = [chat_call(to, [{"role": "user", "content": str(number)}], LIMIT) for number in range(len(drawn))]
    results = chat_gateway("teacher").run(calls)
    for number, (case, result) in enumerate(zip(drawn, results, strict=True)):
        again = {"cut": [LIMIT, 4 * LIMIT], "broken": [LIMIT] * 2}.get(case["kind"], [LIMIT])
        assert asked[number] == again, case
        if case["kind"] in ("filtered", "other"):
            assert isinstance(result, Failed) and result.unusable and not result.outage, (case, result)
        else:
            assert isinstance(result, Ok), (case, result)
            assert result.value["text"] == (case["text"] if case["kind"] == "whole" else f"第二 {number}")
            assert sum(result.value["usage"].values()) == case["tokens"] + 3 * (len(again) - 1)
    expected = sum(case["tokens"] + 3 * (case["kind"] in ("cut", "broken")) for case in drawn)
    assert chat_gateway("teacher").meter.tokens == expected
    assert {case["kind"] for case in drawn} == {"whole", "cut", "broken", "filtered", "other"}


@pytest.mark.parametrize(
    ("eats", "limits"),
    [
        pytest.param({"text": "半句"}, [60, 240], id="a text that runs on"),
        pytest.param({"text": ""}, [60, 240, 960], id="empty text"),
        pytest.param({"text": "<think>想"}, [60, 240, 960], id="an open think block"),
        pytest.param({"text": "半句", "details": {"reasoning_tokens": 200}}, [60, 240, 960], id="reasoning tokens"),
        pytest.param({"text": "半句", "details": {"reasoning_tokens": 0}}, [60, 240], id="no reasoning tokens"),
        pytest.param({"text": "半句", "reasoning": "想了很久"}, [60, 240, 960], id="a thought told apart"),
    ],
)
def test_a_second_raise_is_for_reasoning_that_ate_the_first(service, eats, limits):
    def answer(body):
        status, told = said(eats["text"], "length")
        told["choices"][0]["message"]["reasoning_content"] = eats.get("reasoning")
        told["usage"]["completion_tokens_details"] = eats.get("details")
        return status, told

    service.answer = answer
    result, _ = ask()
    assert isinstance(result, Failed) and f"even at {limits[-1]} tokens: raise the token limit" in result.reason
    assert service.limits == limits


# ---------------------------------------------------------------- F33, F34, F35: retrieval


@pytest.mark.parametrize("case", cases("rag_answer"))
def test_what_is_no_success_is_no_measurement_and_a_list_that_is_there_is_one(case):
    if case["want"] == "failed":
        with pytest.raises(Fault):
            read_recall(case["answer"])
    else:
        assert [list(hit) for hit in read_recall(case["answer"])] == case["want"]


DONE = [("success", True), ("success", "true"), ("code", 0), ("code", 200), ("code", "200"), ("code", "0000"), ("code", "SUCCESS")]
DONE += [("code", "S000"), ("status", "ok"), ("status", "SUCCESS"), ("status", 200), ("status", "completed"), ("state", "成功"), ("ok", 1)]
DONE += [("errcode", 0), ("errno", "0"), ("error", None), ("error", ""), ("error", False), ("errors", []), ("err", 0), ("isSuccess", True)]
DONE += [("msg", "success"), ("message", "OK"), ("msg", "操作成功"), ("message", "查询完成"), ("status", {"code": 0, "msg": "ok"})]
BAD = [("success", False), ("success", "false"), ("success", 0), ("isSuccess", False), ("ok", False), ("code", 500), ("code", "503")]
BAD += [
    ("code", -1),
    ("code", 404),
    ("code", "FAILED"),
    ("code", "INTERNAL_ERROR"),
    ("status", "error"),
    ("status", "FAIL"),
    ("status", 502),
]
BAD += [("status", "timeout"), ("status", "unavailable"), ("state", "失败"), ("errcode", 40013), ("errno", 7), ("error", "no index")]
BAD += [
    ("error", True),
    ("error", {"message": "boom"}),
    ("errors", ["boom"]),
    ("err", "boom"),
    ("exception", "NullPointer"),
    ("timed_out", True),
]
BAD += [("status", {"code": 500, "msg": "boom"}), ("base_resp", {"status_code": 500, "status_msg": "too busy"})]
BAD_WHEN_EMPTY = [("msg", "es timeout"), ("message", "knowledge base not found"), ("msg", "服务异常"), ("detail", "Internal Server Error")]
BAD_WHEN_EMPTY += [
    ("message", "系统繁忙，请稍后再试"),
    ("msg", "向量库连接失败"),
    ("message", "tenant does not exist"),
    ("info", "无权访问"),
]
UNCLEAR = [("code", 10086), ("code", "A0201"), ("status", "loading"), ("status", "pending"), ("ret", 3), ("result", "queued")]


def rag_answers(count, seed=23):
    """(answer, what it measures, None for nothing) for so many draws of signs, of places for them, and of scores that rounding moved."""
    drawn = random.Random(seed)
    for _ in range(count):
        scores = [round(drawn.uniform(0.1, 0.9), 6) for _ in range(drawn.choice([0, 0, 1, 3]))]
        if scores and drawn.random() < 0.3:
            scores[0] = drawn.choice([1.0, 0.0])
        off = drawn.choice([0.0, 1.2e-7, 2.0**-10])
        sent = [score + off if score == 1.0 else score - off if score == 0.0 else score for score in scores]
        kinds = [DONE] * drawn.randint(0, 2) + [kind for kind in (BAD, BAD_WHEN_EMPTY, UNCLEAR) if drawn.random() < 0.25]
        signs = {}
        for kind in kinds:
            name, value = drawn.choice([sign for sign in kind if sign[0] not in signs] or kind)
            signs.setdefault(name, (value, kind))
        data = {"recall": [{"doc_id": f"d{place}", "reranker_score": score} for place, score in enumerate(sent)]}
        answer = {"data": data}
        for name, (value, _) in signs.items():
            place = data if drawn.random() < 0.2 else answer
            place[drawn.choice([name, name.upper(), name.replace("_", "")])] = value
        found = [kind for _, kind in signs.values()]
        told = [(name, value) for name, (value, _) in signs.items()]
        says_done = any(sign in DONE and sign[1] not in (None, "", False, []) and sign not in NO_ERROR for sign in told)
        fails = BAD in found or (not sent and (BAD_WHEN_EMPTY in found or (UNCLEAR in found and not says_done)))
        yield answer, None if fails else [[f"d{place}", score] for place, score in enumerate(scores)]


NO_ERROR = [("err", 0)]
"""That there is no error is no word about success."""


def test_of_800_drawn_answers_no_failure_is_measured_and_every_list_is():
    drawn = list(rag_answers(800))
    for answer, want in drawn:
        try:
            found = [list(hit) for hit in read_recall(answer)]
        except Fault as fault:
            assert fault.kind == "error_inside", answer
            found = None
        assert found == want, answer
    assert 150 < sum(want is None for _, want in drawn) < 650 and sum(want == [] for _, want in drawn) > 50


@pytest.mark.parametrize("case", [case for case in cases("rag_answer") if case.values[0]["want"] == "failed"])
def test_what_is_no_success_is_asked_again_and_nothing_of_it_is_kept(service, case):
    service.recall = case["answer"]
    (result,) = rag_gateway().run([rag_call("问", "改", "t")])
    assert isinstance(result, Failed) and result.kind in ("error_inside", "malformed")
    service.recall = {"data": {"recall": [{"doc_id": "a", "reranker_score": 0.9}]}}
    (result,) = rag_gateway().run([rag_call("问", "改", "t")])
    assert isinstance(result, Ok) and not result.cached and result.value == {"recall": [["a", 0.9]]}


# ---------------------------------------------------------------- F8, F9: keys and addresses out of .env files


@pytest.mark.parametrize("case", cases("setting"))
def test_a_key_or_an_address_out_of_an_env_file_works_or_is_refused_by_name(service, monkeypatch, case):
    monkeypatch.setenv(case["name"], case["value"])
    settings.load.cache_clear()
    if "want" in case:
        found = getattr(settings.load(), case["name"].removeprefix("OVERTAKE_").lower())
        assert (found.get_secret_value() if "KEY" in case["name"] else found) == case["want"]
        return
    with pytest.raises(settings.SettingsError) as refused:
        settings.load()
    words = str(refused.value)
    assert words.startswith(f"{case['name']}=") and case["refused"] in words and "\n" not in words
    assert "7f3a91" not in words and "pass-word" not in words, "what is secret stays so"
    assert service.limits == []


@pytest.mark.parametrize("name", ["DEEPSEEK_API_KEY", "OVERTAKE_TEACHER_API_KEY"])
def test_f8_a_key_with_the_end_of_its_line_is_sent_without_it(service, monkeypatch, name):
    if name == "DEEPSEEK_API_KEY":
        for setting in ("BASE_URL", "MODEL", "API_KEY"):
            monkeypatch.delenv(f"OVERTAKE_TEACHER_{setting}", raising=False)
    monkeypatch.setenv(name, "sk-7f3a91\r\n")
    settings.load.cache_clear()
    assert endpoint("teacher").api_key == "sk-7f3a91"
    monkeypatch.setenv(name, "sk-7f 3a91")
    settings.load.cache_clear()
    with pytest.raises(settings.SettingsError, match=f"^{name}=…: .*holds a blank"):
        endpoint("teacher")
