"""What counts as shared between a held-out question and shipped material."""

import pytest
from overtake.data.leaks import leaks, phrases, words

SHARED = [
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


@pytest.mark.parametrize(("question", "shipped", "what"), SHARED)
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
