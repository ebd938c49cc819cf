"""Which questions are one question: repeats by their words, overlaps with held-out ones by likeness."""

import json

import pytest
from overtake.data.duplicates import overlaps, repeats

from ..conftest import SHARED

TABLE = "收入100亿元，成本60亿元，费用20亿元，税率25%，净资产400亿元。"


def test_other_numbers_are_another_problem_however_alike_the_words():
    asked = ["去年收入800万元，今年1000万元，增长率？", "去年收入800万元，今年1200万元，增长率？"]
    assert repeats(asked) == [] and overlaps(asked[:1], asked[1:]) == []


@pytest.mark.parametrize(
    "frame",
    ["请计算{}", "{}是多少？", "请问：{}等于多少"],
)
def test_a_frame_makes_no_new_question(frame):
    asked = ["去年收入800万元，今年1000万元，增长率", frame.format("去年收入８００万元,今年1,000万元，增长率")]
    (twin,) = repeats(asked)
    assert (twin.place, twin.of, twin.exact) == (1, 0, False)


def test_questions_on_one_table_that_differ_in_a_word_stay_apart():
    assert repeats([f"{TABLE}毛利率是多少？", f"{TABLE}净利率是多少？", f"{TABLE}费用率是多少？"]) == []


def test_a_question_on_a_held_out_table_is_too_near_to_train_on():
    held_out = ["什么是贝塔系数？", f"{TABLE}毛利率是多少？"]
    found = overlaps([f"{TABLE}净利率是多少？", "什么是阿尔法系数？", "什么是贝塔系数"], held_out)
    assert [(twin.place, twin.of, twin.exact) for twin in found] == [(0, 1, False), (2, 0, True)]


def test_the_order_of_numbers_counts():
    assert overlaps(["收入100万元，成本60万元"], ["收入60万元，成本100万元"]) == []


def test_a_repeat_names_the_first_of_its_kind():
    assert [(twin.place, twin.of) for twin in repeats(["甲是什么", "甲是什么？", "甲是什么。"])] == [(1, 0), (2, 0)]


@pytest.mark.needs_shared
def test_real_questions_are_left_whole():
    """200 calculation questions of DISC-FinLLM and 718 of TAT-QA with their tables: only one is asked twice."""
    zh = [json.loads(line)["instruction"] for line in (SHARED / "data/finance/disc_finllm_computing_zh.jsonl").open(encoding="utf-8")]
    en = [json.loads(line) for line in (SHARED / "data/finance/tatqa_arithmetic_en.jsonl").open(encoding="utf-8")]
    assert repeats(zh) == []
    assert [twin.exact for twin in repeats([json.dumps(row["table"]) + row["question"] for row in en])] == [True]
