"""Near duplicates: repeats by their words, overlaps with held-out questions and groups by likeness, words shared with shipped material."""

import json
import random

import pytest
from overtake.data.near_duplicates import ALIKE, groups, is_copy, leaks, overlaps, phrases, repeats, words
from overtake.reading.normal_forms import for_likeness
from rapidfuzz import fuzz

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


def test_punctuation_width_and_a_word_more_or_less_make_no_other_question():
    texts = ["胃胀一直打嗝怎么办？", "头疼三天了", "胃胀，一直打嗝，怎么办", "胃胀一直打嗝怎么办呢？", "头痛三周了吃什么药好"]
    assert groups(texts) == [0, 1, 0, 0, 2]


def test_likeness_joins_through_a_third():
    texts = ["一二三四五六七八九十", "一二三四五六七八九十甲乙", "一二三四五六七八九十甲乙丙丁"]
    assert fuzz.ratio(texts[0], texts[2]) < ALIKE
    assert groups(texts) == [0, 0, 0]


@pytest.mark.parametrize("texts", [[], ["一"], ["", ""]])
def test_few_texts_are_no_fault(texts):
    assert groups(texts) == ([0] * len(texts) if texts != ["", ""] else groups(texts))


def test_the_window_finds_what_comparing_all_pairs_finds():
    rng = random.Random(1)
    texts = ["".join(rng.choices("甲乙丙丁", k=rng.randint(3, 30))) for _ in range(150)]
    found = groups(texts)
    for i, one in enumerate(texts):
        for j, other in enumerate(texts[:i]):
            if fuzz.ratio(for_likeness(one), for_likeness(other)) >= ALIKE:
                assert found[i] == found[j]


IN_BOTH = [
    ("夜里睡不着咋整", "孩子睡不着怎么办", "睡不着"),  # a word of both
    ("睡眠差", "睡眠质量", "睡眠"),  # a word inside a longer one
    ("他老睡不踏实", "老睡，不踏", "老睡不踏"),  # no word, but a run of four, whatever stands between
    ("吃ＶＩＴＡ行不", "Vita-min", "vita"),  # in another width and case
    ("用 v i t a 吗", "vitamin", "vita"),
]
APART = [
    ("娃半夜总醒", "孩子睡不着怎么办"),
    ("吃啥好", "吃点啥，好的"),  # single characters
    ("abc行", "abcd"),  # three in a run
    ("吃不吃", ""),
]


@pytest.mark.parametrize(("question", "shipped", "what"), IN_BOTH)
def test_a_shared_word_or_run_is_found_and_named(question, shipped, what):
    assert list(leaks([question, "无关"], ["别的", shipped])) == [(question, what)]


@pytest.mark.parametrize(("question", "shipped"), APART)
def test_what_shares_neither_is_no_leak(question, shipped):
    assert list(leaks([question], [shipped])) == []


def test_two_texts_side_by_side_make_no_run():
    assert list(leaks(["甲乙丙丁"], ["甲乙", "丙丁"])) == []


def test_words_are_of_two_han_characters_or_more():
    assert words("买 B超 的 钱") == set()
    assert phrases("三个字") == set()


# Copies that say the question again behind what nobody reads, and rewrites that do not.
QUERY = "皮肤没弹性吃啥好"
COPIES = [
    "皮肤没弹性吃啥好呢",
    "请问皮肤没弹性吃啥好？",
    "您好，想请教一下，皮肤没弹性吃啥好呀，谢谢",
    "皮肤没弹性吃啥好 请问",
    "改写：皮肤没弹性吃啥好",
    "皮\u200b肤\u3164没\u2060弹性吃啥好",
    "皮 肤 没 弹 性 吃 啥 好",
    "皮肤/没弹性+吃啥好!!",
]


@pytest.mark.parametrize("rewrite", COPIES)
def test_a_copy_is_told_behind_politeness_labels_and_invisible_signs(rewrite):
    assert is_copy(QUERY, rewrite)


def test_a_word_more_is_no_copy():
    assert not is_copy(QUERY, "皮肤没弹性吃啥好 胶原蛋白")
