"""The forms that texts are compared in: what makes no other question, what does, and what a reader sees."""

import random

import pytest
from overtake.data.near_duplicates import is_copy
from overtake.reading.normal_forms import for_likeness, for_rules, half_width

SAME = [
    ("胶原蛋白，怎么吃？", " 胶原蛋白 怎么吃 "),
    ("ＡＢＣ 怎么用", "abc怎么用!"),
    ("Vitamin C", "vitamin　c。"),
    ("孩子\n睡不着…", "孩子睡不着"),
    ("a_b", "ab"),
    ("COVID-19疫苗", "covid19 疫苗"),
    ("1,000元", "1000元"),
    ("+5度", "5度"),
    ("5℃", "5°C"),
    ("10～15岁", "10~15岁"),
    ("10–15岁", "10 - 15岁"),
    ("- 5个方法", "5个方法"),
    ("——5个方法", "5个方法"),
    ("您好，想问一下，孩子发烧怎么办呢，谢谢医生", "孩子发烧怎么办"),
    ("Could you please tell me how to sleep?", "how to sleep"),
    ("嗯，那个，孩子发烧怎么办啊", "孩子发烧怎么办"),
    ("问题：孩子发烧怎么办", "孩子发烧怎么办"),
    ("孩\u200b子\u3164发\u00ad烧", "孩子发烧"),
]
OTHER = [
    ("1.5g够吗", "15g够吗"),
    ("学C++", "学C"),
    ("学C#", "学C"),
    ("5%浓度", "5浓度"),
    ("5‰浓度", "5%浓度"),
    ("能吃吗", "不能吃吗"),
    ("三年级", "四年级"),
    ("≥60岁", "≤60岁"),
    ("60+能吃吗", "60能吃吗"),
    ("8:30吃", "830吃"),
    ("3、5片", "35片"),
    ("3，5片", "35片"),
    ("3 5片", "35片"),
    ("三、五片", "三五片"),
    ("1:2稀释", "1/2稀释"),
    ("$5", "¥5"),
    ("±2度", "2度"),
    ("√4", "4"),
    ("10⁶个", "106个"),
    ("½片", "1/2片"),
    ("①是什么", "1是什么"),
    ("x>y吗", "x<y吗"),
    ("R&D费用", "RD费用"),
    ("问题肌肤怎么办", "肌肤怎么办"),
    ("附近的酒吧", "附近的酒"),
    (".5片", "5片"),
]


@pytest.mark.parametrize(("one", "two"), SAME)
def test_width_case_spaces_politeness_and_punctuation_do_not_make_another_question(one, two):
    assert for_likeness(one) == for_likeness(two)
    assert is_copy(one, two)


@pytest.mark.parametrize(("one", "two"), OTHER)
def test_what_changes_the_question_stays(one, two):
    assert for_likeness(one) != for_likeness(two)
    assert not is_copy(one, two)


def test_no_word_is_nothing_and_politeness_alone_is_something():
    assert for_likeness("？！… 😀 + % #") == for_likeness("\u200b\u3164\u2800") == ""
    assert for_likeness("请问") == "请问" and for_likeness("谢谢！") == "谢谢"


def test_what_a_reader_does_not_see_is_out_of_the_form_for_rules():
    assert for_rules("每日\u200b1\u206020\u3164 mg\ufe0f") == "每日120 mg"
    assert for_rules("布 洛　芬 400 mg\n一日 三次") == "布洛芬 400 mg\n一日三次", "lines stay lines"
    assert for_rules("e\u0301 Ａ") == "é Ａ", "composed, and no compatibility form"
    assert for_rules("\ud800a").encode() == "\ufffda".encode()


def test_no_number_is_made_of_a_sign_that_is_none():
    assert [half_width(sign) for sign in "１⁶½①⒈㈠㎡"] == ["1", "⁶", "½", "①", "⒈", "㈠", "㎡"]


SIGNS = [(">", "<"), ("-", ""), ("≥", "≤"), ("±", ""), ("$", "€"), ("√", ""), (".", "")]
BETWEEN = ["/", "-", ":", "~", "、", " ", ".", "×", "*", "^", "="]
NOISE = ["，", "。", "！", " ", "\u200b", "\u3164", "\ufeff", "…", "“", "”", "—", "\n", "\t"]


def test_seeded_signs_beside_numbers_stay_and_noise_goes():
    """1,000 questions: with another sign it is another question, with noise between its words it is the same one."""
    rng = random.Random(12)
    words = ["老人", "孩子", "能吃", "胶原蛋白", "穿什么", "怎么办", "浓度", "vitamin", "用量", "多大"]
    for _ in range(500):
        before, behind = rng.choice(words), rng.choice(words)
        one, two = rng.choice(SIGNS)
        number = rng.randint(1, 99)
        assert for_likeness(f"{before}{one}{number}{behind}") != for_likeness(f"{before}{two}{number}{behind}") or before == "vitamin"
        sign, first, second = rng.choice(BETWEEN), rng.randint(1, 99), rng.randint(1, 99)
        assert for_likeness(f"{before}{first}{sign}{second}片") != for_likeness(f"{before}{first}{second}片"), sign
        noisy = "".join(f"{rng.choice(NOISE)}{word}{rng.choice(NOISE)}" for word in (before, behind))
        assert for_likeness(f"请问{noisy}呢？") == for_likeness(before + behind), repr(noisy)
