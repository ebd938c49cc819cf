"""Chat over HTTP: every raise of the token limit has the whole timeout, and what was billed is counted once."""

import json
import time

import openai  # noqa: F401 - the seconds of its import are no request's
import pytest
from overtake import settings
from overtake.remote.chat import chat_call, chat_gateway, endpoint
from overtake.remote.gateway import ATTEMPTS, Failed, Ok
from overtake.tasks.query_rewrite.judge import judge_call, judge_gateway

from .conftest import said

LIMIT = 100
TIMEOUT = 3


@pytest.fixture(autouse=True)
def short(service, monkeypatch):
    monkeypatch.setenv("OVERTAKE_TEACHER_TIMEOUT", str(TIMEOUT))
    settings.load.cache_clear()


def ask(service):
    to = chat_gateway("teacher")
    (result,) = to.run([chat_call(endpoint("teacher"), [{"role": "user", "content": "问"}], LIMIT)])
    return result, to.meter


def test_a_slow_model_is_not_asked_again_because_its_limit_was_raised(service):
    def answer(body):
        time.sleep(0.35 * TIMEOUT)  # three of them last longer than one timeout
        return said("好" if body["max_tokens"] == 16 * LIMIT else "", "stop" if body["max_tokens"] == 16 * LIMIT else "length")

    service.answer = answer
    result, meter = ask(service)
    assert isinstance(result, Ok) and result.value["text"] == "好"
    assert service.limits == [LIMIT, 4 * LIMIT, 16 * LIMIT]
    assert (result.value["usage"], meter.tokens) == ({"prompt_tokens": 30, "completion_tokens": 3}, 33)


def test_one_request_still_has_one_timeout(service, monkeypatch):
    short = 0.3
    monkeypatch.setenv("OVERTAKE_TEACHER_TIMEOUT", str(short))
    settings.load.cache_clear()
    service.answer = lambda body: (time.sleep(short + 1), said())[1]
    started = time.monotonic()
    result, _ = ask(service)
    assert isinstance(result, Failed) and result.outage
    assert service.limits == [LIMIT] * ATTEMPTS
    assert time.monotonic() - started < ATTEMPTS * (short + 0.9)


def test_a_retry_goes_on_at_the_limit_that_was_reached(service):
    broken = [True]

    def answer(body):
        if body["max_tokens"] == LIMIT:
            return said("", "length")
        return (503, {}) if broken and broken.pop() else said()

    service.answer = answer
    result, meter = ask(service)
    assert isinstance(result, Ok)
    assert service.limits == [LIMIT, 4 * LIMIT, 4 * LIMIT]
    # The answer that was cut off and the one that came; nobody bills the 503.
    assert (result.value["usage"], meter.tokens) == ({"prompt_tokens": 20, "completion_tokens": 2}, 22)


@pytest.mark.parametrize(("characters", "asked"), [(LIMIT, [LIMIT]), (LIMIT // 4, [LIMIT, 4 * LIMIT])])
def test_a_short_answer_that_runs_on_is_not_asked_for_again_and_one_whose_tokens_went_elsewhere_is(service, characters, asked):
    service.answer = lambda body: said("长" * characters, "length")
    call = chat_call(endpoint("teacher"), [{"role": "user", "content": "问"}], LIMIT, short=True)
    (result,) = chat_gateway("teacher").run([call])
    assert isinstance(result, Failed) and not result.outage and f"even at {asked[-1]} tokens" in result.reason
    assert service.limits == asked


def test_an_answer_cut_off_at_every_limit_fails_and_asks_no_more(service):
    service.answer = lambda body: said("", "length")
    result, meter = ask(service)
    assert isinstance(result, Failed) and not result.outage and "even at 1600 tokens" in result.reason
    assert service.limits == [LIMIT, 4 * LIMIT, 16 * LIMIT]
    assert meter.tokens == 33


def test_the_judges_second_try_has_timeouts_of_its_own_and_starts_at_the_limit_that_sufficed(service):
    verdicts = iter(["不是 JSON", json.dumps({"综合得分": 4, "评分理由": "好"}, ensure_ascii=False)])

    def answer(body):
        time.sleep(0.35 * TIMEOUT)
        return said("", "length") if body["max_tokens"] == 300 else said(next(verdicts))

    service.answer = answer
    (result,) = judge_gateway().run([judge_call("问", "改")])
    assert isinstance(result, Ok) and result.value["score"] == 4.0
    assert service.limits == [300, 1200, 1200]
    assert result.value["usage"] == {"prompt_tokens": 30, "completion_tokens": 3}


def test_samples_are_kept_apart_and_the_first_where_it_always_was(service):
    messages = [{"role": "user", "content": "问"}]
    keys = [chat_call(endpoint("teacher"), messages, LIMIT, sample=sample).key for sample in range(3)]
    assert len(set(keys)) == 3 and keys[0] == chat_call(endpoint("teacher"), messages, LIMIT).key


def test_a_thought_told_apart_comes_back_in_its_tags(service):
    def answer(body):
        status, told = said("800")
        told["choices"][0]["message"]["reasoning_content"] = "1000/1.25\n"
        return status, told

    service.answer = answer
    messages = [{"role": "user", "content": "问"}]
    calls = [chat_call(endpoint("teacher"), messages, LIMIT, thinking=thinking) for thinking in (True, False)]
    whole, bare = chat_gateway("teacher").run(calls)
    assert (whole.value["text"], bare.value["text"]) == ("<think>\n1000/1.25\n</think>\n\n800", "800")


def test_a_model_that_is_measured_is_taken_at_its_word_when_it_is_cut_off(service):
    service.answer = lambda body: said("<think>想了很久", "length")
    call = chat_call(endpoint("teacher"), [{"role": "user", "content": "问"}], LIMIT, thinking=True, raise_token_limit_on_cutoff=False)
    (result,) = chat_gateway("teacher").run([call])
    assert result.value["text"] == "<think>想了很久" and service.limits == [LIMIT]
