"""Worth of a medical judge: it has to prefer a row's reference to another row's answer; where it does not, tool and doctor say so."""

import json

import pytest
from overtake import settings, tasks
from overtake.data import tables
from overtake.doctor import live
from overtake.doctor.command import Command

YES, NO = [True] * 3, [False] * 3
ROWS = [
    {
        **{"med_id": f"m{at}", "med_question": f"第{at}种不舒服怎么办？", "med_risk": "", "med_keywords": "", "med_source": ""},
        **{"med_reference": f"第{at}种办法，两周不好请就医。", "med_rubrics": "", "med_history": "", "messages": "[]"},
    }
    for at in range(50)
]


def line(question, name):
    return next((text for text in question.splitlines() if text.startswith(name)), "").partition("：")[2]


def verdict(*parts):
    keys = ("准确性", "安全性", "完整性", "清晰度")
    return json.dumps({**dict(zip(keys, parts, strict=True)), "评语": ""}, ensure_ascii=False)


def able(question, body):
    same = line(question, "待评回答") == line(question, "参考答案")
    return verdict(YES, YES, YES if same else NO, YES)


def generous(question, body):
    return verdict(YES, YES, YES, YES)


def coin(question, body):
    return verdict(YES, YES, YES if sum(map(ord, question)) % 2 else NO, YES)


def silent(question, body):
    return "好"


@pytest.fixture
def rows(tmp_path):
    tables.write_rows(tmp_path / "train.jsonl", ROWS)
    return tmp_path / "train.jsonl"


def validate(run, rows, *more):
    done = run("validate", rows, rows.with_name("worth.json"), "--task", "medical", *more)
    return done, json.loads(rows.with_name("worth.json").read_text("utf-8")) if done.code == 0 else {}


def test_a_judge_that_prefers_the_references_is_worth_asking(run, teacher, rows):
    server = teacher(able)
    done, worth = validate(run, rows)
    assert done.code == 0, done.err
    assert (worth["model"], worth["rows"], worth["pairs"], worth["faults"]) == ("stand-in", 40, 40, [])
    assert worth["auc"] == {"mean": 1.0, "low": 1.0, "high": 1.0} and len(server.requests) == 80
    assert "prefers a row's reference to another row's answer in 1.000 [1.000,1.000] of 40 pairs: it is worth asking" in done.out
    validate(run, rows)
    assert len(server.requests) == 80, "what was judged is kept"


WORTHLESS = [
    (generous, "all 80 verdicts are 1.00"),
    (coin, "where 0.5 is chance"),
    (silent, "only 0 of 40 rows got both verdicts"),
]


@pytest.mark.parametrize(("reply", "why"), WORTHLESS)
def test_a_judge_that_does_not_is_said_to_be_worthless_with_what_to_do(run, teacher, rows, reply, why):
    teacher(reply)
    done, worth = validate(run, rows)
    assert done.code == 0 and why in worth["faults"][0]
    assert "the judge stand-in is worthless and left out" in done.out and "Set OVERTAKE_MEDICAL_WEIGHT_TEACHER=0" in done.out


def test_too_few_rows_say_nothing_of_a_judge(run, teacher, tmp_path):
    teacher(generous)
    tables.write_rows(tmp_path / "train.jsonl", ROWS[:5])
    done, worth = validate(run, tmp_path / "train.jsonl")
    assert worth["faults"] == [] and "5 rows have a reference, at least 20 are needed" in done.out


def test_a_judge_that_is_down_is_no_verdict_on_its_worth(run, rows, fresh, monkeypatch):
    monkeypatch.setenv("OVERTAKE_TEACHER_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("OVERTAKE_TEACHER_MODEL", "m")
    monkeypatch.setenv("OVERTAKE_OUTAGE_PATIENCE", "0")
    settings.load.cache_clear()
    done, worth = validate(run, rows)
    assert done.code == 2 and "nothing more was sent" in done.err and not worth
    done = run("validate", rows, rows.with_name("worth.xlsx"), "--task", "medical")
    assert done.code == 2 and "name a .json file" in done.err


@pytest.mark.parametrize(("reply", "level"), [(able, "ok"), (generous, "error")])
def test_the_doctor_says_what_the_judge_is_worth_on_the_rows_of_the_run(teacher, rows, reply, level):
    teacher(reply)
    command = Command({}, "rlhf", {"dataset": [str(rows)], "reward_funcs": ["medical_answer"]})
    (found,) = [found for found in live.services(command, [tasks.find("medical")]) if found.what == "judge's worth"]
    assert found.level == level and ("OVERTAKE_MEDICAL_WEIGHT_TEACHER=0" in found.remedy) == (level == "error")
