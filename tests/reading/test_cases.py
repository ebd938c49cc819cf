"""What users of others' software ran into, put to our readers: a table a kind (tests/data/cases), each line with the case it stands for."""

import json
from decimal import Decimal
from pathlib import Path

import pytest
from overtake.data.near_duplicates import is_copy
from overtake.reading.numbers import read_quantity, same_quantity
from overtake.reading.tags import read_answer, strip_think
from overtake.tasks.answer_judge import rule_judge
from overtake.tasks.answer_judge.judgements import read_judgement
from overtake.tasks.finance import rows as problems
from overtake.tasks.finance.rewards import finance_accuracy
from overtake.tasks.medical import book as medical_book
from overtake.tasks.medical import rows as medical_rows
from overtake.tasks.medical.rewards import medical_rules
from overtake.tasks.query_rewrite.rewards.rewrite_rules import rejection_reason
from overtake.tasks.query_rewrite.unwrapping import clean

TABLES = Path(__file__).resolve().parents[1] / "data" / "cases"


def cases(name):
    lines = (TABLES / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    read = [json.loads(line) for line in lines]
    return pytest.mark.parametrize("case", read, ids=[f"{name} {place} {case['id']}" for place, case in enumerate(read)])


def medical_answer(text):
    made = medical_rows.to_sample({"question": "感冒三天了还在咳嗽怎么办", "answer": text})
    if made is None:
        raise ValueError("left out")
    thought, _, answer = made["messages"][-1]["content"].rpartition("</think>")
    return [thought.removeprefix("<think>").strip(), answer.strip()]


READERS = {
    "rewrite": lambda text: clean(strip_think(text)),
    "judgement": lambda text: list(read_judgement(text)),
    "medical": medical_answer,
    "finance": problems.gold_answer,
    "format": read_answer,
}


@cases("thought")
def test_thought_that_ends_without_having_begun_is_thought_to_every_reader(case):
    if case["want"] is None:
        with pytest.raises(ValueError, match=r"\S"):
            READERS[case["reader"]](case["text"])
    else:
        assert READERS[case["reader"]](case["text"]) == case["want"]


@cases("unwrapping")
def test_a_teachers_rewrite_is_unwrapped_or_refused_with_a_reason(case):
    if case["want"] is None:
        with pytest.raises(ValueError, match=r"\S"):
            clean(case["text"])
    else:
        assert clean(case["text"]) == case["want"]


@cases("unwrapping")
def test_what_a_teacher_is_spared_is_a_students_fault(case):
    """Labels, fences and refusals are never taken off a student's completion; quotes around all of it may be meant."""
    wrapped = case["want"] != case["text"] and case["text"].strip("“”") != case["want"]
    assert bool(rejection_reason(case["text"], "睡不着吃什么好")) == wrapped


@cases("boxes")
@pytest.mark.parametrize("spaced", ["{}", "所以{}", "{}。"])
def test_what_stands_around_a_box_belongs_to_it(case, spaced):
    assert same_quantity(spaced.format(case["answer"]), case["gold"], case["question"]) is case["want"]


@cases("golds")
def test_a_gold_keeps_its_unit_and_loses_its_working(case):
    of = {"question": "q", "gold_answer": "a"}
    assert problems.problem({"q": case["question"], "a": case["text"]}, of, "x")["gold_answer"] == case["want"]


@cases("numbers")
def test_numbers_as_people_write_them(case):
    assert same_quantity(case["answer"], case["gold"], case["question"]) is case["want"]


@cases("question_units")
def test_a_bare_gold_is_in_the_unit_that_the_questions_figures_share(case):
    assert same_quantity(case["answer"], case["gold"], case["question"]) is case["want"]
    score = finance_accuracy.score(f"<answer>{case['answer']}</answer>", case["gold"], "calculation", case["question"])
    assert score == float(case["want"]), "the reward and the filter say the same"


@cases("stay_numbers")
def test_numbers_that_were_read_are_read(case):
    found = read_quantity(case["text"])
    assert found is not None and (found.value, found.unit) == (Decimal(case["value"]), case["unit"])


@cases("closed_sets")
def test_a_closed_set_is_graded_as_a_set(case):
    assert finance_accuracy.score(f"<answer>{case['answer']}</answer>", case["gold"], case["type"]) == float(case["want"])


@cases("signs")
def test_signs_that_carry_meaning_stay(case):
    if case["id"] == "F32":
        assert not is_copy(case["one"], case["two"])
    else:
        assert rule_judge.judge("Which one is it?", [case["gold"]], case["answer"]).main == case["want"]


@cases("doses")
def test_a_dose_is_not_excused_by_a_word_that_stands_beside_it(case):
    verdict = medical_rules.score("孩子发烧，退烧药要吃多少？", case["answer"], medical_book.shipped())
    assert ("invented_dose" in verdict.broken) is case["want"]


def test_ranges_that_were_read_are_read_and_a_percent_is_no_number():
    found = read_quantity("20%-30%")
    assert found is not None and (found.lower, found.upper) == (Decimal("0.2"), Decimal("0.3"))
    assert not same_quantity("28", "28%")
