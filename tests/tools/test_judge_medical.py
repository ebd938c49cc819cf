"""judge --task medical: a readable line for each answer, none asked for twice, and what fails is listed and no score."""

import json

import pytest
from overtake.data import tables
from overtake.tasks.medical.grade import NAME

YES = [True, True, True]
ROWS = [{"question": f"第{number}个问题怎么办？", "answer": f"第{number}个回答，请到医院检查。"} for number in range(6)]


def checklist(question, body):
    safe = [True, True, "第1个" not in question]
    return json.dumps({"准确性": YES, "安全性": safe, "完整性": YES, "清晰度": YES, "评语": "尚可"}, ensure_ascii=False)


@pytest.fixture
def answers(tmp_path):
    path = tmp_path / "answers.jsonl"
    tables.write_rows(path, ROWS)
    return path


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def judge(run, *arguments):
    return run("judge", "--task", "medical", *arguments)


def test_judgements_stand_beside_the_input_readable_and_with_reasons(run, teacher, answers):
    teacher(checklist)
    done = judge(run, "--input", answers)
    assert done.code == 0, done.err
    found = lines(answers.with_name(NAME))
    assert [row["answer"] for row in found] == [row["answer"] for row in ROWS]
    assert (found[0]["score"], found[1]["score"], found[1]["safety"]) == (1.0, round(11 / 12, 4), round(2 / 3, 4))
    assert (found[0]["reason"], found[0]["model"], found[0]["asked"]) == ("尚可", "stand-in", "stand-in")
    assert 0 <= found[0]["rules"] <= 1
    assert "6 answers in, 6 judged, 0 failed" in done.out and "(stand-in)" in done.out


def test_a_pilot_is_paid_once_and_the_rest_is_added(run, teacher, answers, again, monkeypatch, tmp_path):
    server = teacher(checklist)
    assert judge(run, "--input", answers, "--limit", "2").code == 0
    assert len(server.requests) == 2
    again()
    monkeypatch.setenv("OVERTAKE_CACHE_DIR", str(tmp_path / "another"))  # so that only the file knows
    done = judge(run, "--input", answers)
    assert done.code == 0 and "2 had their line" in done.out
    assert len(server.requests) == 6 and len(lines(answers.with_name(NAME))) == 6
    judge(run, "--input", answers)
    assert len(server.requests) == 6


def test_another_answer_reference_or_model_is_another_judgement(run, teacher, answers, again, monkeypatch):
    server = teacher(checklist)
    judge(run, "--input", answers, "--limit", "1")
    tables.write_rows(answers, [{**ROWS[0], "reference": "参考"}])
    judge(run, "--input", answers)
    monkeypatch.setenv("OVERTAKE_JUDGE_MODEL", "other")
    again()
    judge(run, "--input", answers)
    assert len(server.requests) == 3
    assert [(row["reference"], row["asked"]) for row in lines(answers.with_name(NAME))] == [
        ("", "stand-in"),
        ("参考", "stand-in"),
        ("参考", "other"),
    ]


def test_a_failed_call_is_listed_and_asked_again(run, teacher, answers):
    broken = ["第3个"]
    teacher(
        lambda question, body: (422, {"error": {"message": "no"}}) if any(one in question for one in broken) else checklist(question, body)
    )
    done = judge(run, "--input", answers)
    output = answers.with_name(NAME)
    assert done.code == 1 and "5 judged, 1 failed" in done.out
    assert len(lines(output)) == 5 and lines(output.with_name(f"{NAME}.failed.jsonl"))[0]["question"].startswith("第3个")
    broken.clear()
    assert judge(run, "--input", answers).code == 0
    assert len(lines(output)) == 6 and not output.with_name(f"{NAME}.failed.jsonl").exists()


def test_rows_of_a_prepared_file_are_judged_with_their_reference_and_without_the_thought(run, teacher, tmp_path):
    server = teacher(checklist)
    row = {"messages": [{"role": "user", "content": "问"}, {"role": "assistant", "content": "<think>想</think>\n\n答。"}]}
    tables.write_rows(tmp_path / "test.jsonl", [{**row, "med_question": "问什么", "med_reference": "参考答案"}])
    assert judge(run, "--input", tmp_path / "test.jsonl").code == 0
    assert server.requests[0].body["messages"][1]["content"] == "患者问题：问什么\n参考答案：参考答案\n待评回答：答。"


REFUSED = [
    ([{"question": "问", "answer": ""}], [], "row 1: answer is blank"),
    (ROWS, ["--output", "out.xlsx"], "verdicts are kept as JSON lines"),
    (ROWS, ["--output", "answers.jsonl"], "is the input itself"),
]


@pytest.mark.parametrize(("rows", "more", "words"), REFUSED)
def test_what_cannot_be_judged_is_refused_before_anything_is_asked(run, teacher, tmp_path, monkeypatch, rows, more, words):
    server = teacher(checklist)
    monkeypatch.chdir(tmp_path)
    tables.write_rows("answers.jsonl", rows)
    done = judge(run, "--input", "answers.jsonl", *more)
    assert done.code == 2 and words in done.err and server.requests == []


def test_a_file_that_holds_no_judgements_is_not_written_over(run, teacher, answers):
    teacher(checklist)
    output = answers.with_name(NAME)
    output.write_text('{"mine": 1}\n', encoding="utf-8")
    done = judge(run, "--input", answers)
    assert done.code == 2 and "line 1 is no judgement" in done.err
    assert output.read_text(encoding="utf-8") == '{"mine": 1}\n'


def test_the_offline_judge_asks_nobody_and_says_what_it_is(run, fresh, answers):
    done = judge(run, "--input", answers, "--mock")
    assert done.code == 0, done.err
    found = lines(answers.with_name(NAME))
    assert {(row["model"], row["asked"]) for row in found} == {("overtake-mock-judge", "overtake-mock-judge")}
    assert all(row["reason"].startswith("按规则评定，不是模型。") and 0 < row["score"] <= 1 for row in found)
    assert "6 answers in, 6 judged, 0 failed" in done.out and "0 calls" in done.out


def test_an_answer_on_which_the_rules_take_too_long_is_no_verdict_of_theirs(run, teacher, answers, slow_rules):
    slow_rules("")
    done = judge(run, "--input", answers, "--mock")
    assert done.code == 1 and "6 answers in, 0 judged, 6 failed" in done.out
    assert "the rules took more than 2 s" in lines(answers.with_name(f"{NAME}.failed.jsonl"))[0]["reason"]
    teacher(checklist)
    done = judge(run, "--input", answers)
    assert done.code == 0 and "6 judged" in done.out, "the teacher's verdict holds without the book's"
    assert {(row["rules"], *row["rules_broken"]) for row in lines(answers.with_name(NAME))} == {(None, "rules_timed_out")}


def test_rows_with_rubrics_are_judged_by_them_and_edited_ones_again(run, teacher, tmp_path, again):
    def reply(question, body):
        if "评分项" not in question:
            return checklist(question, body)
        return json.dumps({"判定": {"1": True, "2": True}, "评语": "好"}, ensure_ascii=False)

    server, path = teacher(reply), tmp_path / "rows.xlsx"
    for rubrics in ("[+5] 建议就医\n[-2] 给出剂量", "[+5] 建议就医\n[-3] 给出剂量"):
        tables.write_rows(path, [{**ROWS[0], "rubrics": rubrics}, ROWS[1]])
        done = judge(run, "--input", path)
        assert done.code == 0, done.err
        again()
    first, plain, second = lines(path.with_name(NAME))
    assert (first["score"], first["rubrics"], second["score"], plain["safety"]) == (0.6, 0.6, 0.4, round(2 / 3, 4))
    assert first["items"][1] == {"criterion": "给出剂量", "points": -2.0, "met": True} and "rubrics 0.40" in done.out
    assert len(server.requests) == 2, "other points are another score, and no other question"


def test_rubrics_out_of_form_are_named_before_anything_is_asked(run, teacher, tmp_path):
    server = teacher(checklist)
    tables.write_rows(tmp_path / "rows.xlsx", [{**ROWS[0], "rubrics": "建议就医"}])
    done = judge(run, "--input", tmp_path / "rows.xlsx")
    assert done.code == 2 and "row 2: med_rubrics of '': '建议就医' has no points" in done.err and server.requests == []
