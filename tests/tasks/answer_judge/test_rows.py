"""Rows to judge, from every kind of table that holds them."""

import json

import pytest
from overtake.data.tables import BadInput, write_rows
from overtake.tasks.answer_judge import rows as judged
from overtake.tasks.answer_judge.rows import columns_of, judge_row

TABLES = [
    # (row, question, gold, answer, main, what it is)
    (
        {"question": "who", "golden_answer": "Ann/Anne", "model": "m", "answer": "Ann", "judge": True},
        *("who", ("Ann", "Anne"), "Ann", "correct", "EVOUNA's"),
    ),
    (
        {"id": "1", "question": "who", "golden_answers": '["Ann", "Anne"]', "answer_hat": "Bob", "label": "0"},
        *("who", ("Ann", "Anne"), "Bob", "incorrect", "FlashRAG's"),
    ),
    (
        {"question": "speed", "answer": "5 km/h", "answer_hat": "5", "label": "true"},
        *("speed", ("5 km/h",), "5", "correct", "the user's own"),
    ),
    ({"问题": "谁", "标准答案": "甲", "生成答案": "乙", "标签": "错误"}, *("谁", ("甲",), "乙", "incorrect", "Chinese")),
    ({"answer": "甲", "answer_hat": ""}, *("", ("甲",), "", None, "without question, answer and label")),
    (
        {"question": "q", "answer": "a", "answer_hat": "b", "label": "", "judge_main": "correct"},
        *("q", ("a",), "b", None, "an empty human label is not filled by a judge's"),
    ),
    ({"question": "q", "answer": "a", "answer_hat": "b", "judge_main": "none"}, *("q", ("a",), "b", "none", "what tools/judge.py wrote")),
]


@pytest.mark.parametrize(("row", "question", "gold", "answer", "main", "what"), TABLES, ids=[case[-1] for case in TABLES])
def test_a_row_is_read(row, question, gold, answer, main, what):
    assert judge_row(row, columns_of(row))[1:5] == (question, gold, answer, main)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"question": "q", "answer_hat": "a"}, "no column holds the reference answer"),
        ({"question": "q", "answer": "a"}, "no column holds the generated answer: name it answer_hat or"),
        ({"question": "q", "reply": "a"}, "the columns there are question, reply"),
    ],
)
def test_a_missing_column_is_named_with_its_remedy(row, words):
    with pytest.raises(ValueError, match=words):
        columns_of(row)


@pytest.mark.parametrize(
    ("gold", "label", "words"), [("", "1", "no reference answer"), ("[]", "1", "no reference"), ("a", "maybe", "'maybe'")]
)
def test_a_row_that_cannot_be_judged_is_refused_with_its_number(tmp_path, gold, label, words):
    good = {"answer": "a", "answer_hat": "b", "label": "1"}
    write_rows(tmp_path / "rows.xlsx", [good, {**good, "answer": gold, "label": label}])
    with pytest.raises(BadInput, match=f"rows.xlsx: row 3: .*{words}"):
        judged.read(tmp_path / "rows.xlsx")


@pytest.mark.parametrize("suffix", [".xlsx", ".csv", ".jsonl"])
def test_every_table_holds_the_same_rows_and_ids_come_from_it_or_from_its_numbers(tmp_path, suffix):
    rows = [
        {"id": "x", "answer": json.dumps(["1", "一"]), "answer_hat": "一", "label": True},
        {"id": "", "answer": "NA", "answer_hat": "NA"},
    ]
    write_rows(tmp_path / f"rows{suffix}", rows)
    one, two = judged.read(tmp_path / f"rows{suffix}")
    assert (one.id, one.gold, one.main) == ("x", ("1", "一"), "correct")
    assert two.gold == ("NA",) and two.main is None and two.id != "x"
    write_rows(tmp_path / f"rows{suffix}", [{name: row[name] for name in ("answer", "answer_hat")} for row in rows])
    assert [row.id for row in judged.read(tmp_path / f"rows{suffix}")] == (["row1", "row2"] if suffix == ".jsonl" else ["row2", "row3"])
