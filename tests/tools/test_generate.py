"""generate.py against a real server: what is sent, what is kept, what is refused, and what an interruption costs."""

import errno
import json
import signal
import time
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import openpyxl
import pytest
from overtake.data import tables
from overtake.data.tables import read_rows, write_rows
from overtake.remote.gateway import ATTEMPTS
from overtake.tasks.query_rewrite import prompts

pytestmark = pytest.mark.usefixtures("fresh")
QUESTIONS = ["胶原蛋白怎么吃？", "虾青素谁不能吃", "NA"]


@pytest.fixture
def sheet(tmp_path):
    path = tmp_path / "questions.xlsx"
    write_rows(path, [{"编号": f"q{i}", "问题": text, "用户画像": "", "备注": f"n{i}"} for i, text in enumerate(QUESTIONS)])
    return path


def beside(path, name):
    file = Path(f"{path}.{name}.jsonl")
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.exists() else []


def written(folder, but=()):
    """What a run left in the folder, the cache aside."""
    return sorted(path.name for path in folder.iterdir() if path.name != "cache" and path.name not in but)


def test_rewrites_become_rows_with_all_columns(run, teacher, sheet, tmp_path):
    server = teacher()
    done = run("generate", sheet, tmp_path / "out.xlsx", "--tenant", "fivedoctors")
    assert done.code == 0, done.err
    rows = read_rows(tmp_path / "out.xlsx")
    assert rows[0] == {
        "备注": "n0",
        "query_id": "q0",
        "original_query": "胶原蛋白怎么吃？",
        "rewritten_query": "胶原蛋白怎么吃？ 专业术语",
        "user_profile": "",
        "history_summary": "",
        "tenant_id": "fivedoctors",
        "teacher_model": "stand-in",
    }
    assert [row["original_query"] for row in rows] == QUESTIONS
    asked = server.requests[0]
    assert (asked.path, asked.key) == ("/v1/chat/completions", "Bearer secret-teacher-key")
    assert asked.body["messages"] == prompts.rewrite_messages("fivedoctors", QUESTIONS[0])
    assert (asked.body["max_tokens"], asked.body["temperature"], asked.body["model"]) == (200, 0.3, "stand-in")
    assert "3 rows in, 3 rewritten (0 from cache), 0 rejected, 0 failed, 0 copies; paid 330 tokens, no price known" in done.out
    assert written(tmp_path) == ["out.xlsx", "questions.xlsx"]


def test_the_model_named_is_the_one_that_answered(run, teacher, sheet, tmp_path):
    teacher(lambda question, body: {"text": "术语 用法", "model": "stand-in-2026-11"})
    assert run("generate", sheet, tmp_path / "out.csv", "--tenant", "fivedoctors").code == 0
    assert {row["teacher_model"] for row in read_rows(tmp_path / "out.csv")} == {"stand-in-2026-11"}


def test_profile_and_history_go_into_the_prompt(run, teacher, tmp_path):
    server = teacher()
    write_rows(tmp_path / "in.csv", [{"query": "怎么吃", "user_profile": "孕妇", "history_summary": "问过虾青素"}])
    assert run("generate", tmp_path / "in.csv", tmp_path / "out.jsonl", "--tenant", "fivedoctors").code == 0
    assert server.requests[0].body["messages"][1]["content"] == "用户画像：孕妇\n历史摘要：问过虾青素\n问题：怎么吃"
    (row,) = read_rows(tmp_path / "out.jsonl")
    assert (row["user_profile"], row["history_summary"]) == ("孕妇", "问过虾青素")
    assert row["query_id"].startswith("row2-") and len(row["query_id"]) == len("row2-") + 8


def test_gpt5_gets_its_own_parameters_and_a_price(run, teacher, sheet, tmp_path):
    server = teacher(
        lambda question, body: {"text": "术语 用法", "tokens": (1000, 100), "model": "gpt-5-mini-2025-08-07"}, model="gpt-5-mini"
    )
    done = run("generate", sheet, tmp_path / "out.xlsx", "--tenant", "fivedoctors")
    assert done.code == 0
    for request in server.requests:
        assert request.body["max_completion_tokens"] == 200
        assert not {"max_tokens", "temperature"} & set(request.body)
    # 3 x (1000 x 0.25 + 100 x 2) / 1e6
    assert "paid 3,300 tokens, 0.0014 USD" in done.out


def test_finish_reason_length_raises_the_limit(run, teacher, sheet, tmp_path):
    def reply(question, body):
        return {"text": "", "finish": "length"} if body["max_completion_tokens"] < 800 else "术语 用法"

    server = teacher(reply, model="gpt-5")
    assert run("generate", sheet, tmp_path / "out.xlsx", "--tenant", "fivedoctors", "--limit", 1).code == 0
    assert [request.body["max_completion_tokens"] for request in server.requests] == [200, 800]
    assert read_rows(tmp_path / "out.xlsx")[0]["rewritten_query"] == "术语 用法"


@pytest.mark.parametrize(
    ("answer", "rewrite"),
    [
        ("改写：胶原蛋白肽 食用方法", "胶原蛋白肽 食用方法"),
        ("“胶原蛋白肽 食用方法”", "胶原蛋白肽 食用方法"),
        ('改写后的问题: "胶原蛋白肽 食用方法"\n', "胶原蛋白肽 食用方法"),
        ("<think>\n想\n</think>\n胶原蛋白肽", "胶原蛋白肽"),
        ("“胶原”和“虾青素”", "“胶原”和“虾青素”"),
        ("改写规则：先看孕妇", "改写规则：先看孕妇"),
        ("胶原\t蛋白\x07肽", "胶原 蛋白 肽"),
    ],
)
def test_labels_and_quotes_come_off(run, teacher, sheet, tmp_path, answer, rewrite):
    teacher(lambda question, body: answer)
    assert run("generate", sheet, tmp_path / "out.xlsx", "--tenant", "fivedoctors", "--limit", 1).code == 0
    assert read_rows(tmp_path / "out.xlsx")[0]["rewritten_query"] == rewrite


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("第一行\n第二行", "no usable rewrite: not one line"),
        ("长" * 4001, "4,001 characters, more than 4,000"),
        ("", "empty text with finish reason 'stop'"),
        ("<think>没想完", "empty text"),
        ("改写：", "only a label"),
        ("……", "no word in it"),
        ({"text": "话没说完", "finish": "length"}, "cut off with finish reason 'length' even at 800 tokens"),
        ((400, {"error": {"message": "content filter"}}), "HTTP 400"),
        ((200, {"choices": []}), "holds no choices"),
    ],
)
def test_a_failed_call_is_never_a_row(run, again, teacher, sheet, tmp_path, answer, reason):
    broken = [True]
    server = teacher(lambda question, body: answer if broken and question == QUESTIONS[1] else f"{question} 术语")
    done = run("generate", sheet, tmp_path / "out.xlsx", "--tenant", "fivedoctors")
    assert done.code == 1
    assert "run the same command again to retry just those" in done.err
    assert ("cut off with --max-tokens 200: 1 of 1; raise it, or they fail again" in done.err) == ("cut off" in reason)
    rows = read_rows(tmp_path / "out.xlsx")
    assert [row["query_id"] for row in rows] == ["q0", "q2"]
    (failed,) = beside(tmp_path / "out.xlsx", "failed")
    assert failed["query_id"] == "q1" and reason in failed["reason"], failed

    broken.clear()
    again()
    before = len(server.requests)
    done = run("generate", sheet, tmp_path / "out.xlsx", "--tenant", "fivedoctors")
    assert done.code == 0 and "3 rewritten (2 from cache)" in done.out
    assert len(server.requests) == before + 1
    assert [row["query_id"] for row in read_rows(tmp_path / "out.xlsx")] == ["q0", "q1", "q2"]
    assert not beside(tmp_path / "out.xlsx", "failed") and written(tmp_path) == ["out.xlsx", "questions.xlsx"]


def test_a_copy_is_the_teachers_own_and_counted(run, teacher, sheet, tmp_path):
    teacher(lambda question, body: question)
    done = run("generate", sheet, tmp_path / "out.xlsx", "--tenant", "fivedoctors")
    assert done.code == 0 and "3 rewritten" in done.out and "3 copies" in done.out


def test_rows_that_cannot_be_asked_are_listed_with_number_and_reason(run, teacher, tmp_path):
    server = teacher()
    table = [
        {"query_id": "a", "query": "胶原蛋白怎么吃？", "用户画像": ""},
        {"query_id": "b", "query": "  ", "用户画像": ""},
        {"query_id": "c", "query": "胶原蛋白 怎么吃", "用户画像": ""},
        {"query_id": "d", "query": "长" * 50_000, "用户画像": ""},
        {"query_id": "e", "query": "？？", "用户画像": ""},
        {"query_id": "a", "query": "虾青素怎么吃", "用户画像": ""},
        {"query_id": "f", "query": "胶原蛋白怎么吃？", "用户画像": "孕妇"},  # another user's question is another question
        {"query_id": "g", "query": "怎么选", "用户画像": "长" * 5000},
    ]
    write_rows(tmp_path / "in.csv", table)
    done = run("generate", tmp_path / "in.csv", tmp_path / "out.xlsx", "--tenant", "fivedoctors")
    assert done.code == 0 and "8 rows in, 2 rewritten (0 from cache), 6 rejected" in done.out
    assert [row["query_id"] for row in read_rows(tmp_path / "out.xlsx")] == ["a", "f"]
    assert [(row["row"], row["reason"]) for row in beside(tmp_path / "out.xlsx", "rejected")] == [
        (3, "the question is blank"),
        (4, "the same question stands in row 2"),
        (5, "query is over 4,000 characters"),
        (6, "the question holds no word"),
        (7, "query_id 'a' stands already in row 2"),
        (9, "用户画像 is over 4,000 characters"),
    ]
    assert len(server.requests) == 2


def test_pilot_takes_the_first_rows_and_says_so(run, teacher, sheet, tmp_path):
    server = teacher()
    done = run("generate", sheet, tmp_path / "out.xlsx", "--tenant", "fivedoctors", "--limit", 2)
    assert done.code == 0 and "pilot: the first 2 of 3 usable rows" in done.err
    assert [row["query_id"] for row in read_rows(tmp_path / "out.xlsx")] == ["q0", "q1"]
    assert len(server.requests) == 2


def test_profiles_are_extracted_only_where_they_lack(run, teacher, tmp_path):
    def reply(question, body):
        if body["messages"][0]["content"] == prompts.prompt("extract_profile"):
            return "不知道" if "虾青素" in question else '{"用户画像": "孕妇", "历史摘要": ""}'
        return "术语 用法"

    server = teacher(reply)
    table = [
        {"问题": "怀孕能吃胶原吗", "用户画像": "", "历史摘要": ""},
        {"问题": "虾青素怎么吃", "用户画像": "", "历史摘要": ""},
        {"问题": "鱼油怎么吃", "用户画像": "老人", "历史摘要": "问过钙"},
        {"问题": "怀孕多久能吃钙", "用户画像": "新手妈妈", "历史摘要": ""},
    ]
    write_rows(tmp_path / "in.xlsx", table)
    done = run("generate", tmp_path / "in.xlsx", tmp_path / "out.xlsx", "--tenant", "fivedoctors", "--extract-profile")
    assert done.code == 0 and "profiles 2 of 3" in done.out
    rows = read_rows(tmp_path / "out.xlsx")
    assert [(row["user_profile"], row["history_summary"]) for row in rows] == [("孕妇", ""), ("", ""), ("老人", "问过钙"), ("新手妈妈", "")]
    sent = [request.body["messages"][1]["content"] for request in server.requests]
    assert "用户画像：孕妇\n问题：怀孕能吃胶原吗" in sent and "鱼油怎么吃" not in sent


def test_two_teachers_are_compared_on_the_same_rows(run, teacher, chat_server, sheet, tmp_path, monkeypatch):
    teacher(lambda question, body: {"text": "短", "tokens": (1000, 100), "model": "gpt-5-mini"}, model="gpt-5-mini")
    second = chat_server(lambda question, _: {"text": question if question == "NA" else "四个字的", "model": "other-1", "tokens": (50, 5)})
    monkeypatch.setenv("OVERTAKE_COMPARE_API_KEY", "second-key")
    wanted = f"other@{second.url}/v1"
    done = run("generate", sheet, tmp_path / "out.xlsx", "--tenant", "fivedoctors", "--compare-with", wanted)
    assert done.code == 0, done.err
    assert {request.key for request in second.requests} == {"Bearer second-key"} and len(second.requests) == 3
    rows = read_rows(tmp_path / "out.compare.xlsx")
    assert rows[0] == {
        "query_id": "q0",
        "original_query": QUESTIONS[0],
        "user_profile": "",
        "history_summary": "",
        "tenant_id": "fivedoctors",
        "rewritten_query": "短",
        "teacher_model": "gpt-5-mini",
        "teacher_usd": "0.00045",
        "compare_rewritten_query": "四个字的",
        "compare_teacher_model": "other-1",
        "compare_teacher_usd": "",
    }
    one, two, _ = done.out.splitlines()
    assert one == ("gpt-5-mini: 3 calls, 0 failed, 0 copies, mean length 1.0, 3,300 tokens, 0.0014 USD, about 0.0014 USD for all 3 rows")
    assert two.startswith(
        "other: 3 calls, 0 failed, 1 copies, mean length 3.3, 165 tokens, no price known, about 165 tokens for all 3 rows"
    )
    assert "compare_rewritten_query" not in read_rows(tmp_path / "out.xlsx")[0]


@pytest.mark.parametrize(
    ("model", "told"),
    [("gpt-5-mini", "about 0.0014 USD for all 3 rows"), ("other", "about 3,300 tokens for all 3 rows, whose price is not known")],
)
def test_a_pilot_says_what_the_whole_sheet_would_cost(run, teacher, sheet, tmp_path, model, told):
    teacher(lambda question, body: {"text": "短", "tokens": (1000, 100), "model": model}, model=model)
    done = run("generate", sheet, tmp_path / "out.xlsx", "--tenant", "fivedoctors", "--limit", "1")
    assert told in done.out.splitlines()[-1], done.out
    assert "for all" not in run("generate", sheet, tmp_path / "out.xlsx", "--tenant", "fivedoctors").out


def test_the_teacher_reads_profile_and_history_out_of_the_dialogue(run, teacher, tmp_path):
    def reply(question, body):
        if body["messages"][0]["content"] == prompts.prompt("extract_profile"):
            return json.dumps({"用户画像": "孕妇" if "怀孕" in question else "", "历史摘要": "问过叶酸" if "叶酸" in question else ""})
        return "术语"

    server = teacher(reply)
    dialogue = "用户：怀孕了能吃叶酸吗\n客服：可以"
    write_rows(tmp_path / "in.xlsx", [{"问题": "那鱼油呢", "对话记录": dialogue}, {"问题": "那鱼油呢", "对话记录": "用户：您好"}])
    done = run("generate", tmp_path / "in.xlsx", tmp_path / "out.csv", "--tenant", "fivedoctors", "--extract-profile")
    assert done.code == 0 and "profiles 2 of 2" in done.out, done.err
    one, two = read_rows(tmp_path / "out.csv")
    assert (one["user_profile"], one["history_summary"], one["对话记录"]) == ("孕妇", "问过叶酸", dialogue)
    assert (two["user_profile"], two["history_summary"]) == ("", "")
    sent = {request.body["messages"][1]["content"] for request in server.requests}
    assert f"对话：\n{dialogue}\n\n问题：那鱼油呢" in sent and "用户画像：孕妇\n历史摘要：问过叶酸\n问题：那鱼油呢" in sent
    refused = run("generate", tmp_path / "in.xlsx", tmp_path / "o.csv", "--tenant", "fivedoctors", "--dialogue-column", "对话记录")
    assert refused.code == 2 and "--dialogue-column is read by --extract-profile alone: add it" in refused.err


def test_the_teachers_key_never_goes_to_another_address(run, teacher, chat_server, sheet, tmp_path):
    teacher()
    second = chat_server(lambda question, body: "术语")
    assert run("generate", sheet, tmp_path / "o.xlsx", "--tenant", "fivedoctors", "--compare-with", f"other@{second.url}/v1").code == 0
    assert {request.key for request in second.requests} == {""}


def test_a_dead_second_teacher_is_found_before_the_first_is_paid(run, teacher, chat_server, sheet, tmp_path):
    server = teacher()
    second = chat_server(lambda question, body: (401, {"error": {"message": "bad key"}}))
    done = run("generate", sheet, tmp_path / "o.xlsx", "--tenant", "fivedoctors", "--compare-with", f"other@{second.url}/v1")
    assert done.code == 2 and done.err.startswith("error: the first call to the compared teacher failed") and "bad key" in done.err
    assert server.requests == [] and written(tmp_path) == ["questions.xlsx"]


def bad_inputs():
    good = [{"问题": "怎么吃"}]
    excel = {"columns": [{"列": "x"}], "blank": [{"问题": " "}, {"问题": ""}, {"问题": "？"}, {"问题": " ", "备注": "x"}], "good": good}
    return [
        (excel["columns"], "in.xlsx", [], "no column 问题, original_query, query, text, question; the columns there are 列"),
        (good, "in.xlsx", ["--question-column", "提问"], "no column 提问; the columns there are 问题"),
        (excel["blank"], "in.xlsx", [], "none of 4 rows can be asked; row 2: the question is blank"),
        (good, "in.xlsx", ["--tenant", "nobody"], "--tenant 'nobody': there are"),
        (None, "in.xlsx", [], "in.xlsx: the table holds no rows"),
        (None, "absent.csv", [], "absent.csv: no such file"),
        (None, "broken.jsonl", [], "broken.jsonl: line 1"),
        ([{"问题": "怎么吃", "备注": "长" * 50_000}], "in.csv", [], "out.xlsx: row 2, column 备注: 50,000 characters"),
        (good, "in.xlsx", ["--compare-with", "stand-in"], "is the teacher itself"),
        (good, "in.xlsx", ["--compare-with", "other@localhost:8000"], "write MODEL or MODEL@BASE_URL"),
    ]


@pytest.mark.parametrize(("table", "name", "options", "message"), bad_inputs())
def test_bad_input_is_one_line_and_costs_nothing(run, teacher, tmp_path, table, name, options, message):
    server = teacher()
    if table:
        write_rows(tmp_path / name, table)
    elif name == "in.xlsx":
        openpyxl.Workbook().save(tmp_path / name)
    elif name == "broken.jsonl":
        (tmp_path / name).write_text('{"问题": \n')
    before = written(tmp_path)
    done = run("generate", tmp_path / name, tmp_path / "out.xlsx", "--tenant", "fivedoctors", *options)
    assert done.code == 2 and done.err.startswith("error: ") and "\n" not in done.err and message in done.err, done.err
    assert server.requests == [] and written(tmp_path) == before and done.out == ""


def test_bad_outputs_are_refused_before_anything_is_paid(run, teacher, sheet, tmp_path):
    server = teacher()
    for output, message in ((tmp_path / "out.parquet", "use .xlsx, .csv or .jsonl"), (sheet, "is the input itself")):
        done = run("generate", sheet, output, "--tenant", "fivedoctors")
        assert done.code == 2 and message in done.err
    assert server.requests == []


def test_no_teacher_set_is_said(run, sheet, tmp_path):
    done = run("generate", sheet, tmp_path / "out.xlsx", "--tenant", "fivedoctors")
    assert done.code == 2 and done.err.startswith("error: no teacher is set: export OVERTAKE_TEACHER_BASE_URL") and "\n" not in done.err


def test_a_wrong_key_is_found_by_one_call(run, teacher, sheet, tmp_path):
    server = teacher(lambda question, body: (401, {"error": {"message": "Incorrect API key provided: secret-teacher-key"}}))
    done = run("generate", sheet, tmp_path / "out.xlsx", "--tenant", "fivedoctors")
    assert done.code == 2 and "\n" not in done.err
    assert "nothing more was sent: teacher: HTTP 401" in done.err and "secret-teacher-key" not in done.err
    assert len(server.requests) == 1 and written(tmp_path) == ["questions.xlsx"]


@pytest.mark.parametrize("kind", ["refuses connections", "answers 503"])
def test_a_dead_teacher_is_found_by_one_call(run, teacher, sheet, tmp_path, monkeypatch, kind):
    server = teacher(lambda question, body: (503, {"error": {"message": "overloaded"}}))
    if kind == "refuses connections":
        monkeypatch.setenv("OVERTAKE_TEACHER_BASE_URL", "http://127.0.0.1:9/v1")
    done = run("generate", sheet, tmp_path / "out.xlsx", "--tenant", "fivedoctors")
    assert done.code == 2 and done.err.startswith("error: the first call to the teacher failed") and "\n" not in done.err
    assert len(server.requests) == (ATTEMPTS if kind == "answers 503" else 0)  # one call, all its tries
    assert written(tmp_path) == ["questions.xlsx"]


def test_a_transient_fault_is_retried(run, teacher, sheet, tmp_path):
    seen = set()

    def reply(question, body):
        if question in seen:
            return "术语 用法"
        seen.add(question)
        return 429, {"error": {"message": "slow down"}}

    teacher(reply)
    assert run("generate", sheet, tmp_path / "out.xlsx", "--tenant", "fivedoctors").code == 0
    assert len(read_rows(tmp_path / "out.xlsx")) == 3


def test_many_failures_among_the_first_stop_the_run(run, teacher, tmp_path):
    write_rows(tmp_path / "in.csv", [{"query": f"问题{i}"} for i in range(100)])
    server = teacher(lambda question, body: "术语" if question in ("问题0", "问题7") else (400, {"error": {"message": "content filter"}}))
    done = run("generate", tmp_path / "in.csv", tmp_path / "out.csv", "--tenant", "fivedoctors")
    assert done.code == 2 and "\n" not in done.err
    assert done.err.startswith("error: 18 of the first 20 calls failed, most often so: teacher: HTTP 400") and "content filter" in done.err
    assert len(server.requests) == 20 and written(tmp_path) == ["in.csv"]


def test_no_rewrite_at_all_writes_no_sheet(run, teacher, sheet, tmp_path):
    teacher(lambda question, body: "两\n行")
    done = run("generate", sheet, tmp_path / "out.xlsx", "--tenant", "fivedoctors")
    assert done.code == 1 and "no row was rewritten, nothing written" in done.out
    assert "paid 330 tokens" in done.out  # useless answers are billed too
    assert len(beside(tmp_path / "out.xlsx", "failed")) == 3 and not (tmp_path / "out.xlsx").exists()


def test_full_disk_is_one_line_and_the_answers_are_kept(run, again, teacher, sheet, tmp_path, monkeypatch):
    server = teacher()

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(tables.os, "fsync", full)
        done = run("generate", sheet, tmp_path / "out.xlsx", "--tenant", "fivedoctors")
    assert done.code == 2 and "\n" not in done.err and "No space left on device" in done.err
    assert written(tmp_path) == ["questions.xlsx"]
    again()
    assert run("generate", sheet, tmp_path / "out.xlsx", "--tenant", "fivedoctors").code == 0
    assert len(server.requests) == 3 and len(read_rows(tmp_path / "out.xlsx")) == 3


def slow_reply(question, body):
    time.sleep(0.05)
    return f"{question} 术语"


def half_way(process, server, rows):
    end = time.monotonic() + 60
    while len(server.requests) < rows // 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "not half-way after 60 s"
        time.sleep(0.005)


def test_killed_half_way_and_started_again_nothing_is_paid_twice(start, teacher, tmp_path):
    rows, at_once = 60, 4
    write_rows(tmp_path / "in.csv", [{"query": f"问题{i}"} for i in range(rows)])
    server = teacher(slow_reply)
    command = ("generate", tmp_path / "in.csv", tmp_path / "out.csv", "--tenant", "fivedoctors", "--concurrency", at_once)
    first = start(*command)
    half_way(first, server, rows)
    first.kill()
    first.communicate()
    assert written(tmp_path) == ["in.csv"]
    second = start(*command)
    out, err = second.communicate(timeout=60)
    assert second.returncode == 0, err
    assert rows <= len(server.requests) <= rows + at_once
    assert "Traceback" not in err and "60 rewritten" in out
    assert [row["rewritten_query"] for row in read_rows(tmp_path / "out.csv")] == [f"问题{i} 术语" for i in range(rows)]


def test_ctrl_c_says_what_is_kept(start, teacher, tmp_path):
    write_rows(tmp_path / "in.csv", [{"query": f"问题{i}"} for i in range(60)])
    server = teacher(slow_reply)
    process = start("generate", tmp_path / "in.csv", tmp_path / "out.csv", "--tenant", "fivedoctors", "--concurrency", 4)
    half_way(process, server, 60)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "interrupted: answers so far are kept in the cache" in err and "Traceback" not in err
    assert written(tmp_path) == ["in.csv"]


def test_concurrency_is_bounded(run, teacher, tmp_path):
    write_rows(tmp_path / "in.csv", [{"query": f"问题{i}"} for i in range(40)])
    now, most = [], []

    def reply(question, body):
        now.append(1)
        most.append(len(now))
        time.sleep(0.02)
        now.pop()
        return "术语"

    teacher(reply)
    assert run("generate", tmp_path / "in.csv", tmp_path / "out.csv", "--tenant", "fivedoctors", "--concurrency", 3).code == 0
    assert max(most) == 3


def send(server, requests, results, lines=slice(None)):
    """What a batch service does: ask for some lines of the requests and write the results, in an order of its own."""
    made = []
    for line in requests.read_text("utf-8").splitlines()[lines]:
        one = json.loads(line)
        asked = Request(
            server.url + one["url"], json.dumps(one["body"]).encode(), {"Content-Type": "application/json"}, method=one["method"]
        )
        try:
            with urlopen(asked) as answer:
                status, body = answer.status, json.load(answer)
        except HTTPError as error:
            status, body = error.code, json.load(error)
        response = {"status_code": status, "request_id": "r", "body": body}
        made.append(json.dumps({"id": f"batch_req_{len(made)}", "custom_id": one["custom_id"], "response": response, "error": None}))
    results.write_text("\n".join(reversed(made)) + "\n", "utf-8")
    return results


@pytest.fixture
def questions(run, tmp_path):
    """questions(output, *options) runs the tool on ten questions with that output."""
    write_rows(tmp_path / "in.csv", [{"query_id": f"q{i}", "query": f"问题{i}", "备注": f"n{i}"} for i in range(10)])
    return lambda output, *options: run("generate", tmp_path / "in.csv", tmp_path / output, "--tenant", "fivedoctors", *options)


def test_a_batch_gives_the_very_sheet_of_a_live_run(questions, again, teacher, tmp_path, monkeypatch):
    server = teacher(
        lambda question, body: {"text": f"{question} 术语", "tokens": (2000, 200), "model": "gpt-5-2025-08-07"}, model="gpt-5-mini"
    )
    live = questions("live.csv")
    sent = [request.body for request in server.requests]
    again()
    monkeypatch.setenv("OVERTAKE_CACHE_DIR", str(tmp_path / "other" / "cache"))
    done = questions("batch.csv", "--batch-write", tmp_path / "requests.jsonl")
    assert done.code == 0, done.err
    assert done.out.startswith(f"10 rows to rewrite, 0 answered already, 10 requests in {tmp_path / 'requests.jsonl'}: send it, then give")
    assert len(server.requests) == 10 and written(tmp_path) == ["in.csv", "live.csv", "other", "requests.jsonl"]

    send(server, tmp_path / "requests.jsonl", tmp_path / "results.jsonl")
    assert sorted(sent, key=str) == sorted((request.body for request in server.requests[10:]), key=str)
    again()
    done = questions("batch.csv", "--batch-read", tmp_path / "results.jsonl")
    assert done.code == 0 and done.err == "", done.err
    assert (tmp_path / "batch.csv").read_bytes() == (tmp_path / "live.csv").read_bytes()
    assert len(server.requests) == 20
    # 10 x (2000 x 0.25 + 200 x 2) / 1e6, and half of it.
    assert "10 rewritten (0 from cache)" in live.out and "paid 22,000 tokens, 0.0090 USD" in live.out
    assert "10 rewritten (0 from cache)" in done.out and "paid 22,000 tokens, 0.0045 USD" in done.out


def test_half_a_batch_and_a_live_run_merge_and_nothing_is_asked_twice(questions, again, teacher, tmp_path):
    server = teacher()
    questions("out.csv", "--limit", 2)
    again()
    assert "2 answered already, 8 requests" in questions("out.csv", "--batch-write", tmp_path / "requests.jsonl").out
    send(server, tmp_path / "requests.jsonl", tmp_path / "results.jsonl", slice(4))
    again()
    done = questions("out.csv", "--batch-read", tmp_path / "results.jsonl")
    assert done.code == 1 and "10 rows in, 6 rewritten (2 from cache), 0 rejected, 4 failed" in done.out
    assert done.err == "some rows have no answer: run without --batch-read to ask just those live, the others come from the cache"
    failed = beside(tmp_path / "out.csv", "failed")
    assert [row["query_id"] for row in failed] == ["q6", "q7", "q8", "q9"]
    assert {row["reason"] for row in failed} == {"not in the batch's results; run without --batch-read to ask live"}
    assert [row["query_id"] for row in read_rows(tmp_path / "out.csv")] == [f"q{i}" for i in range(6)] and len(server.requests) == 6

    again()
    done = questions("out.csv")
    assert done.code == 0 and "10 rewritten (6 from cache)" in done.out and beside(tmp_path / "out.csv", "failed") == []
    assert sorted(request.body["messages"][1]["content"] for request in server.requests) == [f"问题{i}" for i in range(10)]
    again()
    done = questions("out.csv", "--batch-write", tmp_path / "requests.jsonl")
    assert done.code == 0 and "10 answered already, 0 requests in no file: run without --batch-write" in done.out
    assert not (tmp_path / "requests.jsonl").exists() and len(read_rows(tmp_path / "out.csv")) == 10


def test_what_a_batch_could_not_answer_is_counted_named_and_no_row(questions, again, teacher, tmp_path):
    def reply(question, body):
        return {"问题1": (400, {"error": {"message": "content filter"}}), "问题2": "", "问题3": "两\n行"}.get(question, f"{question} 术语")

    server = teacher(reply)
    questions("out.csv", "--batch-write", tmp_path / "requests.jsonl")
    results = send(server, tmp_path / "requests.jsonl", tmp_path / "results.jsonl")
    lines = results.read_text("utf-8").splitlines()
    other = json.dumps({**json.loads(lines[0]), "custom_id": "another"})
    results.write_text("\n".join([*lines, '{"custom_id": ', other, lines[0], "x"]), "utf-8")
    again()
    done = questions("out.csv", "--batch-read", results)
    assert done.code == 1 and "7 rewritten (0 from cache), 0 rejected, 3 failed" in done.out
    assert set(done.err.splitlines()[:-1]) == {
        f"batch results: 2 x unusable, the first at {results}:7: no usable rewrite: not one line: '两\\n行'",
        f'batch results: 2 x broken line, the first at {results}:11: not of the form {{"custom_id", "response", "error"}}',
        f'batch results: 1 x http_400, the first at {results}:9: HTTP 400: {{"error":{{"message":"content filter"}}}}',
        f"batch results: 1 x unknown custom_id, the first at {results}:12: 'another' is no request of these rows",
        f"batch results: 1 x duplicate, the first at {results}:13: {json.loads(lines[0])['custom_id']} has an answer from a line before",
    }
    failed = {row["query_id"]: row["reason"] for row in beside(tmp_path / "out.csv", "failed")}
    assert list(failed) == ["q1", "q2", "q3"]
    for query_id, words in (("q1", "HTTP 400"), ("q2", "empty text"), ("q3", "not one line")):
        assert failed[query_id].startswith("teacher's batch: ") and words in failed[query_id]


def test_a_second_read_changes_nothing(questions, again, teacher, tmp_path):
    server = teacher(lambda question, body: "" if question == "问题5" else f"{question} 术语")
    questions("out.csv", "--batch-write", tmp_path / "requests.jsonl")
    results = send(server, tmp_path / "requests.jsonl", tmp_path / "results.jsonl")
    files = [tmp_path / name for name in ("out.csv", "out.csv.failed.jsonl", "cache/ledger.jsonl")]
    seen = []
    for _ in range(2):
        again()
        done = questions("out.csv", "--batch-read", results)
        assert done.code == 1 and "9 rewritten" in done.out
        seen.append((done.err, [file.read_bytes() for file in files]))
    assert seen[0] == seen[1] and "paid 0 tokens" in done.out
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"secret-teacher-key" in path.read_bytes()]


def test_rows_that_cannot_be_asked_are_listed_before_a_batch_is_sent(run, teacher, tmp_path):
    server = teacher()
    write_rows(tmp_path / "in.csv", [{"query": "怎么吃"}, {"query": "？？"}])
    command = ("generate", tmp_path / "in.csv", tmp_path / "out.xlsx", "--tenant", "fivedoctors")
    done = run(*command, "--batch-write", tmp_path / "requests.jsonl")
    assert done.code == 0 and "1 rejected, rejected: " in done.out and server.requests == []
    assert beside(tmp_path / "out.xlsx", "rejected")[0]["reason"] == "the question holds no word"
    assert written(tmp_path) == ["in.csv", "out.xlsx.rejected.jsonl", "requests.jsonl"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--batch-write", "r.jsonl", "--extract-profile"], "--extract-profile changes the requests that a batch holds"),
        (["--batch-read", "r.jsonl", "--extract-profile"], "--extract-profile changes the requests that a batch holds"),
        (["--batch-write", "r.jsonl", "--compare-with", "other"], "--compare-with asks a second teacher, and a batch has one"),
        (["--batch-read", "r.jsonl", "--compare-with", "other"], "--compare-with asks a second teacher, and a batch has one"),
        (["--batch-write", "r.csv"], "--batch-write r.csv: batch services take .jsonl only"),
        (["--batch-write", "r"], "--batch-write r: batch services take .jsonl only"),
        (["--batch-write", "out.jsonl"], "out.jsonl is the sheet itself: name another file for the batch"),
        (["--batch-read", "good.jsonl", "in.jsonl"], "in.jsonl is the sheet itself: name another file for the batch"),
        (["--batch-read", "absent.jsonl"], "No such file or directory: absent.jsonl"),
        (["--batch-read", "r.jsonl"], "r.jsonl: no line is a batch's result"),
        (["--batch-read", "empty.jsonl"], "empty.jsonl: none of 0 results belongs to these rows"),
        (["--batch-read", "good.jsonl", "--max-tokens", "100"], "good.jsonl: none of 1 results belongs to these rows"),
    ],
)
def test_a_batch_that_cannot_be_is_refused_in_one_line(run, teacher, tmp_path, monkeypatch, options, message):
    server = teacher()
    monkeypatch.chdir(tmp_path)
    write_rows("in.jsonl", [{"query": "怎么吃"}])
    command = ("generate", "in.jsonl", "out.jsonl", "--tenant", "fivedoctors")
    assert run(*command, "--batch-write", "r.jsonl").code == 0
    send(server, Path("r.jsonl"), Path("good.jsonl"))
    Path("empty.jsonl").touch()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    done = run(*command, *options)
    assert done.code == 2 and done.err.startswith("error: ") and "\n" not in done.err and message in done.err, done.err
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before and len(server.requests) == 1
