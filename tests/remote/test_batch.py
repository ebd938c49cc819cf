"""Batch mode: the file of requests, and results that become what live answers would be, each of them paid for once."""

import json

import pytest
from overtake import settings
from overtake.data.tables import BadInput
from overtake.remote import batch, budget, process
from overtake.remote.chat import chat_call, chat_gateway, endpoint
from overtake.remote.gateway import Failed, Ok

from .conftest import said

LIMIT = 100
ABSENT = "not in the batch's results; run without --batch-read to ask live"


@pytest.fixture(autouse=True)
def asked(service):
    """The bodies that were sent to the service."""
    found, answer = [], service.answer
    service.answer = lambda body: found.append(body) or answer(body)
    return found


@pytest.fixture
def use(monkeypatch):
    """use(TEACHER_MODEL="gpt-5-mini") sets settings for a process that has done nothing yet; the cache on disk stays."""

    def use(**values):
        for name, value in values.items():
            monkeypatch.setenv(f"OVERTAKE_{name}", str(value))
        process.forget()
        settings.load.cache_clear()
        budget._rate.cache_clear()

    yield use
    budget._rate.cache_clear()


def calls(*questions):
    def read(text):
        if "\n" in text:
            raise ValueError("not one line")
        if text == "坏":
            raise KeyError("a reader's own mistake")
        return {"rewrite": text}

    to = endpoint("teacher")
    return [chat_call(to, [{"role": "user", "content": question}], LIMIT, parse=read, form="rewrite") for question in questions]


def line(call, response=None, error=None):
    return json.dumps({"id": "batch_req_1", "custom_id": getattr(call, "key", call), "response": response, "error": error})


def answered(call, text="好", **others):
    return line(call, {"status_code": 200, "request_id": "r", "body": said(text, **others)[1]})


def written(path, *lines):
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def requests(path):
    return [json.loads(row) for row in path.read_text("utf-8").splitlines()]


def ledger(tmp_path):
    return [json.loads(row) for row in (tmp_path / "ledger.jsonl").read_text("utf-8").splitlines()]


def live(*questions):
    return chat_gateway("teacher").run(calls(*questions))


@pytest.mark.parametrize("model", ["m", "gpt-5-mini"])
def test_a_line_holds_the_key_and_the_very_body_that_is_sent_live(use, asked, tmp_path, model):
    use(TEACHER_MODEL=model)
    one, two = calls("一", "二")
    made = batch.write([one, two], tmp_path / "requests.jsonl")
    assert made == ([tmp_path / "requests.jsonl"], 2, 0)
    first, second = requests(tmp_path / "requests.jsonl")
    assert asked == []
    live("一")
    assert first == {"custom_id": one.key, "method": "POST", "url": "/v1/chat/completions", "body": asked[0]}
    assert second["custom_id"] == two.key


def test_what_is_kept_is_not_written_and_identical_calls_are_one_line(tmp_path):
    live("一")
    made = batch.write(calls("一", "二", "二", "三"), tmp_path / "requests.jsonl")
    assert (made.requests, made.kept) == (2, 1)
    assert [row["body"]["messages"][0]["content"] for row in requests(tmp_path / "requests.jsonl")] == ["二", "三"]


def test_no_requests_of_before_are_left_when_nothing_is_to_be_asked(tmp_path):
    batch.write(calls("一"), tmp_path / "requests.jsonl")
    live("一")
    assert batch.write(calls("一"), tmp_path / "requests.jsonl") == ([], 0, 1)
    assert not (tmp_path / "requests.jsonl").exists()


@pytest.mark.parametrize(("limit", "lines"), [("_MOST_REQUESTS", 2), ("_MOST_BYTES", 2.5)])
def test_more_than_a_file_may_hold_goes_into_numbered_ones(tmp_path, monkeypatch, limit, lines):
    batch.write(calls("0"), tmp_path / "one.jsonl")
    size = (tmp_path / "one.jsonl").stat().st_size
    monkeypatch.setattr(batch, limit, lines if limit == "_MOST_REQUESTS" else int(lines * size))
    (tmp_path / "r.jsonl").touch()
    made = batch.write(calls(*"12345"), tmp_path / "r.jsonl")
    assert [path.name for path in made.files] == ["r.1.jsonl", "r.2.jsonl", "r.3.jsonl"]
    assert [[row["body"]["messages"][0]["content"] for row in requests(path)] for path in made.files] == [["1", "2"], ["3", "4"], ["5"]]
    assert not (tmp_path / "r.jsonl").exists()


@pytest.mark.parametrize(
    ("model", "live_usd", "share"),
    [("gpt-5-mini", (1000 * 0.25 + 100 * 2) / 1e6, 0.5), ("deepseek-chat", (1000 * 0.56 + 100 * 1.68) / 1e6, 1), ("m", None, 1)],
)
def test_a_result_is_worth_what_a_live_answer_is_at_the_batch_price(service, use, asked, tmp_path, model, live_usd, share):
    use(TEACHER_MODEL=model, BUDGET_RUN="r", BUDGET_SOFT=1 if live_usd else 0)
    to, (call,) = chat_gateway("teacher"), calls("一")
    path = written(tmp_path / "results.jsonl", answered(call, "<think>\n想\n</think>\n术语", tokens=(1000, 100)))
    (result,), problems = batch.read(to, [call], [path])
    paid, counted = (None, 0.0) if live_usd is None else (pytest.approx(live_usd * share),) * 2
    usage = {"prompt_tokens": 1000, "completion_tokens": 100}
    assert result == Ok({"rewrite": "术语", "model": "m", "usage": usage, "usd": paid}) and problems == [] and asked == []
    assert (to.meter.tokens, to.meter.usd, to.meter.requests) == (1100, counted, 0)
    (row,) = ledger(tmp_path)
    assert row.items() >= {"service": "teacher", "key": call.key[:16], "status": "ok", "batch": True, "model": "m", "usage": usage}.items()
    assert row["usd"] == paid
    assert batch._on_loop(spent()) == counted

    use()
    service.answer = lambda body: said("<think>\n想\n</think>\n术语", tokens=(1000, 100))
    assert live("一") == [Ok(result.value, cached=True)]
    use(CACHE_DIR=tmp_path / "another")
    (asked_live,) = live("一")
    assert {**asked_live.value, "usd": None} == {**result.value, "usd": None}


async def spent():
    return budget._spent()


def test_results_and_live_calls_share_what_is_kept(asked, tmp_path):
    one, two, three = calls(*"一二三")
    live("三")
    results, problems = batch.read(chat_gateway("teacher"), [one, two, three], [written(tmp_path / "r.jsonl", answered(one, "批"))])
    assert [isinstance(result, Ok) and result.cached for result in results] == [False, False, True] and problems == []
    assert results[1] == Failed(ABSENT, "absent", outage=False)
    found = live(*"一二三")
    assert [(result.value["rewrite"], result.cached) for result in found] == [("批", True), ("好", False), ("好", True)]
    assert [body["messages"][0]["content"] for body in asked] == ["三", "二"]


def test_what_came_live_stays_and_the_batch_is_billed_all_the_same(use, tmp_path):
    live("一")
    use()
    to, (call,) = chat_gateway("teacher"), calls("一")
    (result,), problems = batch.read(to, [call], [written(tmp_path / "r.jsonl", answered(call, "批", tokens=(20, 2)))])
    assert (result.value["rewrite"], result.cached, problems) == ("好", True, [])
    assert to.meter.tokens == 22


REFUSED = {"error": {"message": "content filter", "type": "invalid_request_error", "code": None}}
NO_ANSWERS = [
    (answered("0" * 64), "unknown custom_id", ABSENT),
    (line("KEY", {"status_code": 400, "request_id": "r", "body": REFUSED}), "http_400", "content filter"),  # OpenAI's
    (
        line("KEY", {"status_code": 404, "body": None}, {"error": {"message": "no model x", "code": 404}}),
        "http_404",
        "no model x",
    ),  # vLLM's
    (line("KEY", None, {"code": "batch_expired", "message": "too late"}), "error_inside", "batch_expired"),
    (line("KEY", {"status_code": 200, "body": {"error": {"code": 500, "message": "inner"}}}), "error_inside", "inner"),
    (line("KEY", {"status_code": 200, "body": None}), "malformed", "holds no choices"),
    (line("KEY"), "malformed", "neither an answer nor an error"),
    (line("KEY", said()[1]).replace('"response"', '"request"'), "malformed", "neither an answer nor an error"),
    (line("KEY", {"status_code": "so", "body": None}), "http_500", "HTTP 500"),
    (line("KEY", {"status_code": 200, "body": {"choices": [{"message": {"content": 7}}]}}), "malformed", "content is no text"),
    (answered("KEY", ""), "unusable", "empty text"),
    (answered("KEY", "话没说完", finish="length"), "unusable", "cut off with finish reason 'length' at 100 tokens"),
    (answered("KEY", "两\n行"), "unusable", "no usable rewrite: not one line"),
    (answered("KEY", "坏"), "bug", "KeyError"),
]


@pytest.mark.parametrize(("text", "kind", "reason"), NO_ANSWERS)
def test_a_line_that_brings_no_answer_is_named_by_kind_and_nothing_is_kept_of_it(asked, tmp_path, text, kind, reason):
    call, other = calls("一", "二")
    path = written(tmp_path / "r.jsonl", answered(other), "", text.replace("KEY", call.key))
    (result, _), problems = batch.read(chat_gateway("teacher"), [call, other], [path])
    assert isinstance(result, Failed) and reason in result.reason and not result.outage, result
    assert [(problem.kind, problem.where) for problem in problems] == [(kind, f"{path}:3")]
    assert [row["custom_id"] for row in requests_left(tmp_path, call, other)] == [call.key] and asked == []


def requests_left(tmp_path, *these):
    batch.write(these, tmp_path / "left.jsonl")
    return requests(tmp_path / "left.jsonl")


@pytest.mark.parametrize("text", ["{", "[]", "7", "null", '"x"', "{}", '{"custom_id": "x"}', '{"response": {}}', "[" * 5000, "\udcff"])
def test_a_broken_line_costs_none_of_the_others(tmp_path, text):
    one, two = calls("一", "二")
    path = tmp_path / "r.jsonl"
    path.write_bytes("\n".join([answered(one), text, answered(two)]).encode(errors="surrogateescape"))
    results, problems = batch.read(chat_gateway("teacher"), [one, two], [path])
    assert all(isinstance(result, Ok) for result in results)
    assert [(problem.kind, problem.where) for problem in problems] == [("broken line", f"{path}:2")]


def test_the_first_usable_of_several_lines_is_kept_and_all_are_billed(tmp_path):
    to, (call,) = chat_gateway("teacher"), calls("一")
    same = answered(call, "再")
    paths = [written(tmp_path / "a.jsonl", answered(call, "")), written(tmp_path / "b.jsonl", answered(call, "先"), same, same)]
    (result,), problems = batch.read(to, [call], paths)
    assert result.value["rewrite"] == "先"
    assert [problem.kind for problem in problems] == ["unusable", "duplicate", "duplicate"]
    assert to.meter.tokens == 3 * 11 and len(ledger(tmp_path)) == 3  # the same line twice is one answer


def test_a_second_read_changes_nothing_and_is_paid_by_nobody(use, tmp_path):
    use(TEACHER_MODEL="gpt-5", BUDGET_RUN="r", BUDGET_SOFT=1)
    one, two, three = calls(*"一二三")
    lines = answered(one, "好"), answered(two, ""), line(three, None, {"code": "batch_expired"}), answered(one, "再")
    path = written(tmp_path / "r.jsonl", *lines)
    first, _ = batch.read(chat_gateway("teacher"), [one, two, three], [path])
    before = batch._on_loop(spent())
    assert before == pytest.approx(3 * (10 * 1.25 + 10) / 1e6 / 2)
    use()
    rows = ledger(tmp_path)
    assert [row["status"] for row in rows] == ["ok", "failed", "failed", "ok"]
    to = chat_gateway("teacher")
    again, _ = batch.read(to, calls(*"一二三"), [path])
    assert [getattr(result, "value", None) for result in again] == [getattr(result, "value", None) for result in first]
    assert [result.kind for result in again[1:]] == ["unusable", "error_inside"] and again[0].cached
    assert (to.meter.tokens, to.meter.usd, batch._on_loop(spent()), ledger(tmp_path)) == (0, 0.0, before, rows)


def test_the_budget_counts_results_and_lets_no_batch_be_written_when_it_is_spent(use, asked, tmp_path):
    use(TEACHER_MODEL="gpt-5", BUDGET_HARD=1, BUDGET_RUN="r")
    (call,) = calls("一")
    # 1.25 USD live: within the budget at the batch price only.
    batch.read(chat_gateway("teacher"), [call], [written(tmp_path / "r.jsonl", answered(call, "", tokens=(1_000_000, 0)))])
    assert len(requests_left(tmp_path, call)) == 1
    batch.read(chat_gateway("teacher"), [call], [written(tmp_path / "s.jsonl", answered(call, " ", tokens=(1_000_000, 0)))])
    use()
    with pytest.raises(settings.SettingsError, match=r"the budget is spent: 1\.25 of OVERTAKE_BUDGET_HARD=1 USD by r"):
        batch.write(calls("一"), tmp_path / "left.jsonl")
    (result,) = live("一")
    assert result.kind == "budget" and asked == []


def test_a_batch_share_of_ones_own_is_used_and_must_be_a_number(use, tmp_path):
    own = tmp_path / "own.toml"
    own.write_text("[m]\ninput = 1\noutput = 2\nbatch = 0.25\n[n]\ninput = 1\noutput = 2\n")
    use(PRICES=own)
    assert [budget.batch_share(model) for model in "mno"] == [0.25, 1.0, 1.0]
    own.write_text("[m]\ninput = 1\noutput = 2\nbatch = 'half'\n")
    use(PRICES=own)
    with pytest.raises(settings.SettingsError, match="batch =, the share"):
        budget.batch_share("m")


def test_no_key_stands_in_any_file_or_word(use, tmp_path):
    use(TEACHER_API_KEY="sk-very-secret-1")
    one, two = calls("一", "二")
    batch.write([one, two], tmp_path / "requests.jsonl")
    refused = {"error": {"message": "Incorrect API key provided: sk-very-secret-1"}}
    path = written(tmp_path.with_name(f"{tmp_path.name}-r.jsonl"), line(one, {"status_code": 401, "body": refused}), answered(two))
    results, problems = batch.read(chat_gateway("teacher"), [one, two], [path])
    assert "Incorrect API key provided: ***" in results[0].reason and "sk-very" not in f"{results} {problems}"
    process.forget()
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert {"requests.jsonl", "ledger.jsonl", "answers.sqlite"} <= {file.name for file in files}
    assert not [file.name for file in files if b"sk-very" in file.read_bytes()]


def test_files_that_hold_no_results_of_these_calls_are_refused_and_nothing_is_kept(tmp_path):
    one, two = calls("一", "二")
    batch.write([one], tmp_path / "requests.jsonl")
    good = written(tmp_path / "good.jsonl", answered(one))
    with pytest.raises(BadInput, match=r"requests.jsonl: no line is a batch's result: name the file of results"):
        batch.read(chat_gateway("teacher"), [one], [good, tmp_path / "requests.jsonl"])
    with pytest.raises(BadInput, match=r"good.jsonl: none of 1 results belongs to these rows"):
        batch.read(chat_gateway("teacher"), [two], [good])
    assert len(requests_left(tmp_path, one)) == 1
