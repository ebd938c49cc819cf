"""Chat through the openai SDK: what leaves is ours alone, streams are put together, Azure is asked by its own form."""

import json

import pytest
from overtake import settings
from overtake.remote import process
from overtake.remote.chat import chat_call, chat_gateway, endpoint
from overtake.remote.completions import joined
from overtake.remote.faults import Fault
from overtake.remote.gateway import Failed, Ok

from .conftest import head, said, says, whole
from .test_http import KEY, chat, send


def stream(*pieces, end="data: [DONE]\n\n", **headers):
    """A whole answer of server-sent events."""
    return whole(
        "".join([*(f"data: {json.dumps(piece)}\n\n" for piece in pieces), end]).encode(), Content_Type="text/event-stream", **headers
    )


def piece(finish=None, **delta):
    return {"model": "m-1", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


USAGE = {"model": "m-1", "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}}


@pytest.fixture
def teacher(monkeypatch):
    """teacher(address, STREAM=1) -> the teacher is at this address, asked so."""

    def teacher(address, **others):
        values = {"BASE_URL": address, "API_KEY": KEY, **others}
        for name, value in values.items():
            monkeypatch.setenv(f"OVERTAKE_TEACHER_{name}", str(value))
        settings.load.cache_clear()

    return teacher


# ---------------------------------------------------------------- what leaves


def test_no_variable_of_another_service_leaves_with_a_request(peer, monkeypatch):
    for name in ("API_KEY", "ADMIN_KEY", "ORG_ID", "PROJECT_ID"):
        monkeypatch.setenv(f"OPENAI_{name}", "not-for-this-host")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: Bearer not-for-this-host\napi-key: not-for-this-host")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://not-for-this-host.invalid/v1")
    url = peer(says(whole(b"{}")))
    assert send(url, way="chat") == send(url, KEY, way="chat") == {}
    without, with_key = peer.heads
    assert "not-for-this-host" not in without + with_key and "Authorization" not in without and f"Bearer {KEY}" in with_key
    assert "stainless" not in with_key.lower(), "nor what machine this is"


def test_the_sdk_asks_once_where_it_would_by_itself_ask_again(peer):
    assert send(peer(says(whole(b"busy", "503 Busy", Retry_After="0"))), way="chat").kind == "http_503"
    assert len(peer.heads) == 1


def test_half_a_surrogate_pair_in_a_question_is_sent_as_u_fffd(service):
    asked = []
    service.answer = lambda body: asked.append(body["messages"][0]["content"]) or said()
    (result,) = chat_gateway("teacher").run([chat_call(endpoint("teacher"), [{"role": "user", "content": "问\ud83d"}], 10)])
    assert isinstance(result, Ok) and asked == ["问\ufffd"]


def test_a_login_in_the_address_is_sent_alone_and_refused_beside_a_key(peer):
    url = peer(says(whole(b"{}"))).replace("//", "//me:pass@")
    assert send(url, way="chat") == {} and "Authorization: Basic bWU6cGFzcw==" in peer.heads[0]
    came = send(url, KEY, way="chat")
    assert (came.kind, came.again, len(peer.heads)) == ("bug", False, 1) and "pass" not in str(came)


def test_no_client_is_kept_under_a_key_or_with_one(peer):
    url = peer(says(whole(b"{}")))
    send(url, KEY, way="chat")
    send(url, f"{KEY}-another", way="chat")
    assert f"Bearer {KEY}-another" in peer.heads[1]
    names = [name for name in process._of_process if name.startswith("client-chat")]
    assert names == [f"client-chat {url} "] and process._of_process[names[0]].api_key == "none"


# ---------------------------------------------------------------- Azure


def test_azure_is_asked_for_its_deployment_with_its_own_header(peer, teacher, monkeypatch):
    monkeypatch.setenv("AZURE_OPENAI_AD_TOKEN", "not-for-this-host")
    teacher(peer(says(whole(json.dumps(said("在")[1]).encode()))), API_VERSION="2024-10-21", MODEL="my-gpt")
    assert chat().value["text"] == "在"
    (asked,) = peer.heads
    assert asked.startswith("POST /openai/deployments/my-gpt/chat/completions?api-version=2024-10-21 ")
    assert f"api-key: {KEY}" in asked and "Authorization" not in asked and "not-for-this-host" not in asked


def test_without_a_key_azure_is_sent_none(peer, monkeypatch):
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "not-for-this-host")
    assert send(peer(says(whole(b"{}"))), way="chat", api_version="2024-10-21") == {}
    assert "api-key" not in peer.heads[0].lower() and "Authorization" not in peer.heads[0]


def test_a_judge_of_its_own_address_is_not_asked_as_the_teacher_is(service, monkeypatch):
    monkeypatch.setenv("OVERTAKE_TEACHER_API_VERSION", "2024-10-21")
    monkeypatch.setenv("OVERTAKE_TEACHER_STREAM", "1")
    settings.load.cache_clear()
    assert (endpoint("judge").api_version, endpoint("judge").stream) == ("2024-10-21", True)
    monkeypatch.setenv("OVERTAKE_JUDGE_BASE_URL", "http://judge/v1")
    settings.load.cache_clear()
    assert (endpoint("judge").api_version, endpoint("judge").stream) == ("", False)


def test_how_an_endpoint_is_asked_leaves_the_key_of_a_kept_answer_as_it_was(service, monkeypatch):
    messages = [{"role": "user", "content": "问"}]
    keys = [chat_call(endpoint("teacher"), messages, 10).key]
    for name, value in {"STREAM": "1", "API_VERSION": "2024-10-21"}.items():
        monkeypatch.setenv(f"OVERTAKE_TEACHER_{name}", value)
        settings.load.cache_clear()
        keys.append(chat_call(endpoint("teacher"), messages, 10).key)
    assert keys[0] == keys[1] != keys[2], "another version may be another model"


# ---------------------------------------------------------------- streams


def test_a_stream_is_the_answer_that_would_have_come_without_one(peer, teacher):
    parts = [piece(role="assistant", content=""), piece(reasoning_content="想"), piece(content="你"), ": alive", piece(content="好")]
    text = "".join(f"{part}\n\n" if isinstance(part, str) else f"data: {json.dumps(part)}\n\n" for part in [*parts, piece("stop"), USAGE])
    teacher(peer(says(head(Transfer_Encoding="chunked"), *chunks(f"{text}data: [DONE]\n\n".encode(), 7))), STREAM=1)
    call = chat_call(endpoint("teacher"), [{"role": "user", "content": "问"}], 10, thinking=True)
    (result,) = chat_gateway("teacher").run([call])
    assert isinstance(result, Ok), result
    assert result.value["text"] == "<think>\n想\n</think>\n\n你好" and result.value["model"] == "m-1"
    assert result.value["usage"] == {"prompt_tokens": 7, "completion_tokens": 3}


def chunks(data, size):
    return [b"%x\r\n%b\r\n" % (len(part), part) for part in (data[at : at + size] for at in range(0, len(data), size))] + [b"0\r\n\r\n"]


@pytest.mark.parametrize(
    ("answer", "kind", "again"),
    [
        pytest.param(stream(piece(content="你"), end=""), "connection", True, id="ends without a reason"),
        pytest.param(head(Content_Length=999) + b'data: {"choices": []}\n\n', "connection", True, id="breaks off"),
        pytest.param(stream({"error": {"message": "busy", "code": 503}}), "error_inside", True, id="tells of an error"),
        pytest.param(stream({"error": {"message": "no such model", "code": 404}}), "error_inside", False, id="refuses"),
        pytest.param(stream(piece(content="你"), end='data: {"choi\n\n'), "malformed", True, id="half a piece"),
        pytest.param(stream(["no", "piece"]), "malformed", True, id="a piece that is a list"),
        pytest.param(stream({"choices": [{"delta": "no"}]}), "malformed", True, id="a piece of another form"),
        pytest.param(stream({"choices": "no"}), "malformed", True, id="choices that are none"),
        pytest.param(whole(b"data: \xff\n\n"), "malformed", True, id="no UTF-8"),
        pytest.param(whole(b"<html>busy</html>"), "connection", True, id="no stream"),
        pytest.param(whole(b"data: " + b"x" * (17 << 20)), "too_large", False, id="without end"),
        pytest.param(whole(b"busy", "429 Too Many"), "http_429", True, id="refused"),
    ],
)
def test_a_stream_that_is_no_answer_is_a_fault_of_its_kind(peer, answer, kind, again):
    came = send(peer(says(answer)), way="chat", stream=True)
    assert isinstance(came, Fault) and (came.kind, came.again) == (kind, again), came


def test_a_refusal_to_answer_without_a_stream_names_the_setting(peer):
    answer = whole(b"This model only supports stream mode, please enable the stream parameter", "400 Bad Request")
    came = send(peer(says(answer)), way="chat")
    assert (came.kind, came.again) == ("http_400", False) and "set OVERTAKE_TEACHER_STREAM=1" in str(came)
    assert "OVERTAKE" not in str(send(peer(says(answer)), way="chat", stream=True))


@pytest.mark.parametrize(("finish", "kind"), [("length", "unusable"), ("content_filter", "unusable"), ("stop", "")])
def test_the_last_pieces_reason_is_the_reason(peer, teacher, finish, kind):
    teacher(peer(says(stream(piece(content="半"), piece(finish), USAGE))), STREAM=1)
    result = chat()
    assert (result.kind if isinstance(result, Failed) else "") == kind


def test_parts_of_a_content_are_put_together_too():
    said = joined([piece(content=[{"type": "text", "text": "你"}]), piece("stop", content=[{"type": "text", "text": "好"}])])
    assert [part["text"] for part in said["choices"][0]["message"]["content"]] == ["你", "好"]
