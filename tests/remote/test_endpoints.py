"""What is sent to a model and what an answer is worth: parameters by family, useless answers, prices, endpoints from the settings."""

import pytest
from overtake import settings
from overtake.remote.budget import price
from overtake.remote.chat import chat_call, chat_gateway, endpoint, parameters
from overtake.remote.gateway import ATTEMPTS, Failed, Ok

from .conftest import said

QUESTION = [{"role": "user", "content": "问"}]


def ask(limit=100, temperature=0.3):
    (result,) = chat_gateway("teacher").run([chat_call(endpoint("teacher"), QUESTION, limit, temperature)])
    return result


@pytest.fixture
def named(service, monkeypatch):
    def named(model):
        monkeypatch.setenv("OVERTAKE_TEACHER_MODEL", model)
        settings.load.cache_clear()

    return named


@pytest.mark.parametrize(
    ("model", "reasons"),
    [
        ("gpt-5", True),
        ("GPT-5-mini", True),
        ("gpt-5.1", True),
        ("openai/gpt-5-2025-08-07", True),  # behind a router
        ("o3", True),
        ("openai/o4-mini", True),
        ("gpt-4o", False),
        ("gpt-50", False),
        ("o30", False),
        ("Qwen/Qwen3-8B", False),
        ("my-gpt-5-distill", False),
        ("deepseek-reasoner", False),
    ],
)
def test_reasoning_families_get_their_own_limit_and_no_temperature(model, reasons):
    expected = {"max_completion_tokens": 200} if reasons else {"max_tokens": 200, "temperature": 0.0}
    assert parameters(model, 200, 0.0) == expected


@pytest.mark.parametrize(("model", "sent"), [("gpt-5-mini", {"max_completion_tokens": 64}), ("m", {"max_tokens": 64, "temperature": 0.7})])
def test_the_request_holds_the_familys_parameters_and_no_others(service, named, model, sent):
    named(model)
    bodies = []
    service.answer = lambda body: bodies.append(body) or said()
    assert isinstance(ask(64, 0.7), Ok)
    assert bodies == [{"model": model, "messages": QUESTION, **sent}]


def test_the_raised_limit_is_the_familys_too(service, named):
    named("gpt-5")
    limits = []
    service.answer = lambda body: limits.append(body["max_completion_tokens"]) or (said() if len(limits) == 2 else said("", "length"))
    assert isinstance(ask(64), Ok)
    assert limits == [64, 256]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (said(""), "empty text with finish reason 'stop'"),
        (said("  \n "), "empty text"),
        (said(None), "empty text"),
        (said("<think>想了很多</think>"), "empty text"),
        (said("", "content_filter"), "a filter of the service stopped the answer, finish reason 'content_filter'"),
        ((200, {"choices": [{"message": {}}]}), "empty text with no finish reason"),
    ],
)
def test_an_answer_without_text_fails_and_is_no_outage(service, answer, words):
    asked = []
    service.answer = lambda body: asked.append(body) or answer
    result = ask()
    assert isinstance(result, Failed) and not result.outage
    assert words in result.reason
    assert result.unusable
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("answer", "kind", "outage"),
    [
        ({"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": []}, "malformed", False),
        ({"choices": [{"index": 0}]}, "malformed", False),
        ({"choices": [{"message": {"content": 800}}]}, "malformed", False),
        (["?"], "malformed", False),
        ({"error": "busy"}, "error_inside", True),
        ({"error": {"code": 503, "message": "busy"}}, "error_inside", True),
    ],
)
def test_an_answer_of_another_form_is_asked_for_again(service, answer, kind, outage):
    asked = []
    service.answer = lambda body: asked.append(body) or (200, answer)
    result = ask()
    assert isinstance(result, Failed) and (result.kind, result.outage, result.unusable) == (kind, outage, False)
    assert len(asked) == ATTEMPTS


def test_an_error_inside_an_answer_that_means_the_request_is_not_asked_for_again(service):
    asked = []
    service.answer = lambda body: asked.append(body) or (200, {"error": {"code": 401, "message": "no such key"}})
    result = ask()
    assert isinstance(result, Failed) and not result.outage and "no such key" in result.reason
    assert len(asked) == 1


def test_the_text_comes_without_its_thoughts(service):
    service.answer = lambda body: said("<think>\n先想\n</think>\n\n 胶原蛋白肽 ")
    assert ask().value["text"] == "胶原蛋白肽"


@pytest.mark.parametrize(
    ("model", "usd"),
    [
        ("gpt-5", 1e6 * 1.25e-6 + 2e6 * 10e-6),
        ("gpt-5-2025-08-07", 1e6 * 1.25e-6 + 2e6 * 10e-6),  # a dated version
        ("gpt-5-mini-2025-08-07", 1e6 * 0.25e-6 + 2e6 * 2e-6),  # of the longest name that fits
        ("gpt-5-turbo", None),  # another model, whatever its name begins with
        ("openai/gpt-5", None),  # a router has its own prices
        ("stand-in", None),
        ("", None),
    ],
)
def test_a_price_is_known_or_said_to_be_unknown(model, usd):
    found = price(model, {"prompt_tokens": 1_000_000, "completion_tokens": 2_000_000})
    assert found == (None if usd is None else pytest.approx(usd))


@pytest.mark.parametrize(("model", "usd"), [("gpt-5", 1000 * 1.25e-6 + 100 * 10e-6), ("m", None)])
def test_tokens_and_price_are_counted_once_and_a_kept_answer_is_free(service, named, model, usd):
    named(model)
    service.answer = lambda body: said("好", tokens=(1000, 100))
    first, second = ask(), ask()
    assert first.value["usage"] == {"prompt_tokens": 1000, "completion_tokens": 100}
    assert first.value["usd"] == (None if usd is None else pytest.approx(usd))
    assert second.cached
    meter = chat_gateway("teacher").meter
    assert (meter.calls, meter.cached, meter.tokens, meter.usd) == (2, 1, 1100, pytest.approx(usd or 0.0))


def test_a_judge_that_is_not_set_is_the_teacher(service, monkeypatch):
    assert (endpoint("judge").base_url, endpoint("judge").model) == (f"{service.url}/v1", "m")
    monkeypatch.setenv("OVERTAKE_JUDGE_BASE_URL", "http://judge/v1")
    monkeypatch.setenv("OVERTAKE_JUDGE_MODEL", "j")
    monkeypatch.setenv("OVERTAKE_JUDGE_API_KEY", "k")
    settings.load.cache_clear()
    judge, teacher = endpoint("judge"), endpoint("teacher")
    assert (judge.base_url, judge.model, judge.api_key) == ("http://judge/v1", "j", "k")
    assert (teacher.model, teacher.api_key) == ("m", "")


@pytest.mark.parametrize("name", ["OVERTAKE_TEACHER_BASE_URL", "OVERTAKE_TEACHER_MODEL"])
def test_a_missing_endpoint_names_what_to_set(service, monkeypatch, name):
    monkeypatch.delenv(name)
    settings.load.cache_clear()
    with pytest.raises(settings.SettingsError, match=f"no teacher is set: export .*{name}"):
        endpoint("teacher")
