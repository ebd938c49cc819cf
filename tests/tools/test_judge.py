"""judge.py against a real server: verdicts with reasons, nothing made up, nothing paid twice."""

import json
import re

import pytest
from overtake import settings
from overtake.data.tables import read_rows, write_rows

pytestmark = pytest.mark.usefixtures("fresh")

ROWS = [
    {"编号": "a", "问题": "法国首都", "标准答案": '["巴黎", "Paris"]', "生成答案": "巴黎，人口千万", "备注": "x"},
    {"编号": "b", "问题": "意大利首都", "标准答案": "罗马", "生成答案": "米兰", "备注": ""},
    {"编号": "c", "问题": "德国首都", "标准答案": "柏林", "生成答案": "", "备注": ""},
    {"编号": "d", "问题": "无答案", "标准答案": "", "生成答案": "某地", "备注": ""},
]


def verdict(question, body):
    right = "巴黎" in question.split("Answer to grade: ")[1]
    return (
        f"<think>{'同一城市' if right else '两座城市'}</think><output>main: {'correct' if right else 'incorrect'}; secondary: none</output>"
    )


@pytest.fixture
def judge(chat_server, monkeypatch):
    def judge(reply=verdict):
        server = chat_server(reply)
        monkeypatch.setenv("OVERTAKE_JUDGE_BASE_URL", server.url + "/v1")
        monkeypatch.setenv("OVERTAKE_JUDGE_MODEL", "small")
        settings.load.cache_clear()
        return server

    return judge


@pytest.fixture
def sheet(tmp_path):
    write_rows(tmp_path / "in.xlsx", ROWS)
    return tmp_path / "in.xlsx"


def beside(path, name):
    file = path.with_name(f"{path.name}.{name}.jsonl")
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.exists() else []


@pytest.mark.parametrize("suffix", [".xlsx", ".csv", ".jsonl"])
def test_a_sheet_is_graded_with_reasons(run, judge, sheet, tmp_path, suffix):
    server = judge()
    out = tmp_path / f"out{suffix}"
    done = run("judge", sheet, out)
    assert done.code == 0, done.err
    names = ("编号", "备注", "judge_main", "judge_secondary", "judge_reason", "judge_model")
    assert [tuple(row[name] for name in names) for row in read_rows(out)] == [
        ("a", "x", "correct", "none", "同一城市", "stand-in"),
        ("b", "", "incorrect", "none", "两座城市", "stand-in"),
        ("c", "", "none", "none", "the answer is empty", ""),
    ]
    assert len(server.requests) == 2, "an empty answer needs no call"
    (rejected,) = beside(out, "rejected")
    assert rejected == {"row": 5, "reason": "there is no reference answer to judge by", "question": "无答案"}
    assert "4 rows in, 3 graded, 1 rejected, 0 failed; 2 calls" in done.out
    assert re.search(r"main correct 0\.333 \[0\.000,", done.out)


def test_an_outage_and_an_unreadable_verdict_are_listed_and_never_a_grade(run, again, judge, sheet, tmp_path):
    broken = [True]
    server = judge(lambda question, body: "well, wrong I think" if broken and "意大利" in question else verdict(question, body))
    done = run("judge", sheet, tmp_path / "out.csv", "--task", "rag")
    assert done.code == 1 and "run the same command again" in done.err
    assert [row["编号"] for row in read_rows(tmp_path / "out.csv")] == ["a", "c"]
    (failed,) = beside(tmp_path / "out.csv", "failed")
    assert failed["id"] == "b" and "no usable verdict" in failed["reason"]
    broken.clear()
    again()
    before = len(server.requests)
    assert run("judge", sheet, tmp_path / "out.csv").code == 0
    assert len(server.requests) == before + 1, "what was answered is not asked again"
    assert [row["编号"] for row in read_rows(tmp_path / "out.csv")] == ["a", "b", "c"] and not beside(tmp_path / "out.csv", "failed")


def test_a_dead_judge_is_one_line_and_nothing_is_written(run, judge, sheet, tmp_path):
    judge(lambda question, body: (503, {}))
    done = run("judge", sheet, tmp_path / "out.csv")
    assert done.code == 2 and "\n" not in done.err and "the first call to the judge failed" in done.err
    assert not (tmp_path / "out.csv").exists()


def test_bad_input_is_refused_before_anything_is_asked(run, judge, sheet, tmp_path):
    server = judge()
    write_rows(tmp_path / "other.csv", [{"question": "q", "reply": "a"}])
    for arguments, words in [
        ((tmp_path / "other.csv", tmp_path / "out.csv"), "no column holds the reference answer"),
        ((sheet, sheet), "is the input itself"),
        ((sheet, tmp_path / "out.pdf"), ".pdf is no table"),
        ((tmp_path / "absent.csv", tmp_path / "out.csv"), "no such file"),
    ]:
        done = run("judge", *arguments)
        assert done.code == 2 and words in done.err
    assert server.requests == []


def test_no_judge_set_is_said(run, sheet, tmp_path):
    done = run("judge", sheet, tmp_path / "out.csv")
    assert done.code == 2 and done.err.startswith("error: no judge is set: export OVERTAKE_TEACHER_BASE_URL")


def test_a_pilot_grades_the_first_rows(run, judge, sheet, tmp_path):
    server = judge()
    assert run("judge", sheet, tmp_path / "out.csv", "--limit", 1).code == 0
    assert len(read_rows(tmp_path / "out.csv")) == len(server.requests) == 1
