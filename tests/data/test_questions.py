"""Same question, copied question: what may differ and what may not."""

import pytest
from overtake.data.questions import is_copy, normal

SAME = [
    ("胶原蛋白，怎么吃？", " 胶原蛋白 怎么吃 "),
    ("ＡＢＣ 怎么用", "abc怎么用!"),
    ("Vitamin C", "vitamin　c。"),
    ("孩子\n睡不着…", "孩子睡不着"),
    ("a_b", "ab"),
]
OTHER = [("1.5g够吗", "15g够吗"), ("学C++", "学C"), ("5%浓度", "5浓度"), ("能吃吗", "不能吃吗"), ("三年级", "四年级")]


@pytest.mark.parametrize(("one", "two"), SAME)
def test_width_case_spaces_and_punctuation_do_not_make_another_question(one, two):
    assert normal(one) == normal(two)
    assert is_copy(one, two)


@pytest.mark.parametrize(("one", "two"), OTHER)
def test_what_changes_the_question_stays(one, two):
    assert normal(one) != normal(two)
    assert not is_copy(one, two)


def test_no_word_is_nothing():
    assert normal("？！… 😀") == ""
