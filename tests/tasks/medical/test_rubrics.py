"""Rubrics of a row: the forms they come in, the cell that a doctor edits, and what is wrong with some of them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from overtake.data import tables
from overtake.data.cells import cell
from overtake.tasks.medical import rows as medical
from overtake.tasks.medical import rubric_check, rubrics
from overtake.tasks.medical.rubrics import Criterion

from ...conftest import SHARED

CHECKLIST = (
    "一、核心需求：\n1. 内容要求：说明夜间咳嗽的常见原因，\n如鼻涕倒流。\n2. 提醒何时就医。\n\n二、次要需求\n1. 语言易懂。\n语气温和。"
)
TURNS = [
    {"role": "user", "content": "I am pregnant."},
    {"role": "assistant", "content": "How many weeks?"},
    {"role": "user", "content": "20. May I take ibuprofen?"},
]
HEALTHBENCH = {
    "prompt_id": "x",
    "prompt": TURNS,
    "rubrics": [
        {"criterion": "Advises against ibuprofen from week 20 on.", "points": 8, "tags": ["axis:accuracy"]},
        {"criterion": "Names a dose.", "points": -5},
    ],
    "ideal_completions_data": {"ideal_completion": "Better not: ask your midwife about paracetamol.", "ideal_completions_group": "Group 2"},
}
LLMEVAL = {"id": "l1", "round": 1, "problem": "夜里咳嗽怎么办？", "sanswer": "侧卧，多喝温水；两周不好请就医。", "checklist": CHECKLIST}
CRITERIA = [Criterion("先安抚", 5), Criterion("说明：\n  两周后复查\n\n- 带上记录", 2.5), Criterion("[给出] 剂量", -8)]


def test_a_checklist_gives_two_points_for_a_core_need_and_one_for_another():
    assert rubrics.read(CHECKLIST) == (
        Criterion("内容要求：说明夜间咳嗽的常见原因，\n如鼻涕倒流。", 2),
        Criterion("提醒何时就医。", 2),
        Criterion("语言易懂。\n语气温和。", 1),
    )


def test_healthbench_and_llmeval_are_read_by_one_loader_with_their_turns_and_points(tmp_path):
    tables.write_rows(tmp_path / "rows.jsonl", []) if False else (tmp_path / "rows.jsonl").write_bytes(
        tables.json_lines([HEALTHBENCH, LLMEVAL, {"question": "胃胀怎么办？", "answer": "少吃。"}])
    )
    english, chinese, plain = medical.read(str(tmp_path / "rows.jsonl")).items
    assert [criterion.points for criterion in english.criteria] == [8, -5]
    assert (english.history, english.question) == (tuple(TURNS[:2]), "20. May I take ibuprofen?")
    assert english.asked == "I am pregnant.\n20. May I take ibuprofen?" and english.risk == "pregnancy"
    assert english.answer.startswith("Better not") and [criterion.points for criterion in chinese.criteria] == [2, 2, 1]
    assert (plain.criteria, plain.history) == ((), ())
    sample = medical.sample(english, (), answered=True)
    system, *spoken = sample["messages"]
    assert system["role"] == "system" and [turn["content"] for turn in spoken] == [*(turn["content"] for turn in TURNS), english.answer]
    assert [turn.get("loss") for turn in spoken] == [None, False, None, None], "nobody learns the answers before"
    assert medical.MedicalRow.from_columns(sample).criteria == english.criteria
    assert medical.MedicalRow.from_columns(sample).history == english.history
    assert medical.read_row({name: cell(value) for name, value in sample.items()}).asked == english.asked, "a prepared row is read again"


@pytest.mark.parametrize(
    "prompt",
    [
        [{"role": "assistant", "content": "Hello"}],
        [*TURNS, {"role": "assistant", "content": "No."}],
        [{"role": "user", "content": ""}],
        [TURNS[0], TURNS[0]],
    ],
)
def test_turns_that_do_not_end_in_a_question_are_left_out(tmp_path, prompt):
    (tmp_path / "rows.jsonl").write_bytes(tables.json_lines([HEALTHBENCH | {"prompt": prompt}]))
    assert medical.read(str(tmp_path / "rows.jsonl")).left_out == {"no_conversation": 1}


@pytest.mark.parametrize("ending", ["xlsx", "csv", "jsonl"])
def test_a_sheet_brings_back_every_item_and_begins_with_no_formula(tmp_path, ending):
    path = tmp_path / f"rows.{ending}"
    written = rubrics.written(CRITERIA)
    tables.write_rows(path, [{"问题": "胃胀怎么办？", "评分项": written, "备注": "=1+1"}])
    (row,) = tables.read_rows(path)
    assert rubrics.read(row["评分项"]) == tuple(CRITERIA) and row["备注"] == "=1+1"
    assert written.startswith("[+5] "), "Excel takes a cell that begins with + or - for a formula when it is edited"


texts = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")) | st.just("\n"), max_size=40)
weights = st.floats(-100, 100).map(lambda points: round(points, 2)).filter(bool)


@given(st.lists(st.tuples(texts, weights), min_size=1, max_size=5))
def test_what_can_be_read_is_written_and_read_back_the_same(items):
    try:
        criteria = rubrics.read(json.dumps([{"criterion": text, "points": points} for text, points in items]))
    except ValueError:
        return
    assert rubrics.read(rubrics.written(criteria)) == criteria
    assert rubrics.read(rubrics.to_json(criteria)) == criteria


BROKEN = [
    ("要就医", "'要就医' has no points: begin each item with them in brackets, e.g. [+5]"),
    ("5. 要就医", "'5. 要就医' has no points"),
    ("[+5] 要就医\n还有", "'还有' has no points"),
    ("[+5]", "'[+5]' says nothing"),
    ("[+0] 要就医", "'[+0] 要就医' has 0 points"),
    ("[+500] 要就医", "'[+500] 要就医' has 500 points: give up to 100"),
    ("[-5] 给出剂量", "no item has points above 0, so no answer could earn any"),
    ("[+5] 要就医\n[+2] 要就医。", "'要就医。' stands there twice: delete one of the two"),
    ('[{"criterion": "x"}]', "item 1, 'x', has points None: write a number"),
    ('[{"points": 5}]', 'item 1 has no text under "criterion"'),
    ('["要就医"]', "item 1, '要就医', is no object"),
    ("先说\n核心需求：\n1. 要就医", "'先说' stands above 核心需求 and 次要需求"),
]


@pytest.mark.parametrize(("cell", "says"), BROKEN)
def test_a_broken_cell_is_one_error_that_names_row_column_value_and_remedy(run, tmp_path, cell, says):
    from overtake.tasks.medical import prepare

    rows = [{"问题": "胃胀怎么办？", "回答": "少吃。", "评分项": ""}, {"问题": "咳嗽怎么办？", "回答": "多喝水。", "评分项": cell}]
    tables.write_rows(tmp_path / "rows.xlsx", rows)
    done = run(prepare, tmp_path / "rows.xlsx", tmp_path / "out")
    assert done.code == 2 and f"rows.xlsx: row 3, column 评分项: {says}" in done.err and done.err.count("\n") == 0
    assert not (tmp_path / "out").exists()


def test_points_are_earned_by_those_above_0_and_never_leave_0_to_1():
    assert rubrics.score([5, 3, 2], [True, False, True]) == 0.7
    assert rubrics.score([5, -8], [True, True]) == 0 and rubrics.score([1, -8], [True, False]) == 1


CONTRADICTIONS = [
    (("建议立即就医", 5), ("建议过几天就医", 5), "contradicts item 1: no answer can meet both"),
    (("建议就医", 5), ("不建议就医", 5), "contradicts item 1"),
    (("给出具体剂量", 5), ("给出具体的剂量", -5), "contradicts item 1: an answer earns and loses by the same words"),
    (("字数不少于800字", 2), ("字数不超过500字", 2), "at least 800 and at most 500"),
    (("Recommends calling 911", 5), ("Does not recommend calling 911.", 5), "contradicts item 1"),
    (("建议就医", 5), ("没有建议就医", -5), "says the same as item 1"),
]
HARMONY = [
    (("说明血压目标低于140", 3), ("说明血压目标低于130", 3)),
    (("说明感冒多由病毒引起", 2), ("说明感冒一般不需要抗生素", 2)),
    (("字数不少于300字", 2), ("字数不超过500字", 2)),
    (("让患者立即拨打120", 5), ("让患者自己开车去医院", -5)),
]
UNJUDGED = ["回答专业", "内容准确、全面", "患者服药后好转", "Is accurate and helpful.", "见附件的表格", "待补充", "响应时间短"]
JUDGED = ["说明病因", "问孩子多大", "提醒服药后好转也要复查", "语言准确，没有错别字", "Asks how old the child is", "说明头痛以及呕吐的原因"]


@pytest.mark.parametrize(("first", "second", "says"), CONTRADICTIONS)
def test_items_that_contradict_or_repeat_each_other_are_found(first, second, says):
    (fault,) = rubric_check.faults([Criterion(*first), Criterion(*second)])
    assert fault.number == 2 and says in fault.why


@pytest.mark.parametrize(("first", "second"), HARMONY)
def test_items_that_agree_are_left_alone(first, second):
    assert rubric_check.faults([Criterion(*first), Criterion(*second)]) == []


def test_what_no_answer_can_be_held_against_is_found_and_the_rest_is_not():
    assert [bool(rubric_check.faults([Criterion(text, 2)])) for text in UNJUDGED + JUDGED] == [True] * len(UNJUDGED) + [False] * len(JUDGED)


@pytest.mark.needs_shared
def test_experts_items_are_read_whole_and_hardly_one_is_found_fault_with():
    folder, read, wrong = SHARED / "data/medical", [], 0
    for name, column in (("llmeval_checklists_zh", "checklist"), ("healthbench_104_en", "rubrics")):
        for row in tables.read_rows(folder / f"{name}.jsonl"):
            criteria = rubrics.read(row[column])
            assert rubrics.read(rubrics.written(criteria)) == criteria
            wrong += len(rubric_check.faults(criteria))
            read += criteria
    assert (len(read), wrong) == (611, 1)
    english = medical.read(str(folder / "healthbench_104_en.jsonl"), needed=False)
    assert len(english.items) == 104 and sum(bool(item.history) for item in english.items) == 53
