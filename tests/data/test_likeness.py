"""Which texts are nearly the same, and that the window of lengths misses none of them."""

import random

import pytest
from overtake.data.likeness import ALIKE, groups
from overtake.data.questions import normal
from rapidfuzz import fuzz


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
            if fuzz.ratio(normal(one), normal(other)) >= ALIKE:
                assert found[i] == found[j]
