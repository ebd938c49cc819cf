"""A judge is worth its price where its verdicts differ, agree with retrieval and do not pay copies; the doctor says so of a file's."""

import json

import pytest
from overtake.remote.rag import Hit
from overtake.tasks.query_rewrite import attacks, judge_worth
from overtake.tasks.query_rewrite.rows import RewriteRow

pytestmark = pytest.mark.usefixtures("fresh")
GAINS = [at / 100 for at in range(50)]
COPIES = [(1.0, 4.0)] * 25


def test_a_judge_that_agrees_with_retrieval_has_no_fault():
    assert judge_worth.faults([at / 10 for at in range(50)], GAINS, COPIES) == []


@pytest.mark.parametrize(
    ("honest", "copies", "fault"),
    [
        ([4.0, 4.5] * 25, COPIES, "2 distinct verdicts in 50"),
        ([at / 10 for at in range(50)], [(4.0, 4.0)] * 25, "copies of the question get 4.00 of 5 points, rewrites 4.00"),
        ([at % 7 / 2 for at in range(50)], COPIES, "correlation with the gain in retrieval 0.0"),
    ],
)
def test_each_fault_is_named(honest, copies, fault):
    wrong = judge_worth.faults(honest, GAINS, copies)
    assert any(one.startswith(fault) for one in wrong), wrong


def test_of_too_few_verdicts_and_of_equal_gains_nothing_is_said():
    assert judge_worth.faults([5.0] * 19, GAINS[:19], [(5.0, 1.0)] * 19) == []
    assert judge_worth.faults([at / 10 for at in range(50)], [0.0] * 50, []) == []


def rows(tmp_path, points):
    made = [
        RewriteRow(
            f"q{at}",
            f"第{at}个问题",
            "default",
            teacher_rewrite=f"术语 {at}",
            teacher_recall=(Hit("d", at / 100),),
            teacher_judge=points(at),
            original_recall=(Hit("d", 0.1),),
        )
        for at in range(40)
    ]
    path = tmp_path / "rl_train.jsonl"
    path.write_text("".join(json.dumps(row.to_columns(), ensure_ascii=False) + "\n" for row in made), encoding="utf-8")
    return path


def test_the_doctor_names_a_worthless_judge_and_asks_it_for_copies_only(tmp_path, teacher):
    server = teacher(lambda question, body: json.dumps({"综合得分": 5, "评分理由": "好"}))
    (finding,) = attacks.judged(rows(tmp_path, lambda at: 5.0 if at % 2 else 4.0))
    assert (finding.level, finding.what) == ("error", "judge")
    assert "2 distinct verdicts in 40" in finding.value and "copies of the question get 5.00" in finding.value
    assert "OVERTAKE_JUDGE_SHARE=0" in finding.remedy
    assert len(server.requests) == 40


def test_the_doctor_is_content_with_a_judge_that_is_worth_it_and_silent_without_one(tmp_path, teacher, monkeypatch, again):
    teacher(lambda question, body: json.dumps({"综合得分": 0, "评分理由": "照抄"}, ensure_ascii=False))
    path = rows(tmp_path, lambda at: at / 10)
    assert [finding.level for finding in attacks.judged(path)] == ["ok"]
    monkeypatch.setenv("OVERTAKE_JUDGE_SHARE", "0")
    again()
    assert attacks.judged(path) == []
