"""Verdicts: exactly one object with a number from 0 to 5, or an error; never a guess."""

import pytest
from overtake.tasks.query_rewrite.generate import read_profile
from overtake.tasks.query_rewrite.judge import read_verdict

GOOD = [
    ('{"综合得分": 4.5, "评分理由": "准确"}', (4.5, "准确")),
    ('  {"评分理由": " 一般 ", "综合得分": 3}\n', (3.0, "一般")),
    ('```json\n{"综合得分": 0, "评分理由": ""}\n```', (0.0, "")),
    ('```\n{\n "综合得分": 5,\n "评分理由": "好"\n}\n```', (5.0, "好")),
    ('{"综合得分": 2, "评分理由": "提到{\\"综合得分\\": 5}"}', (2.0, '提到{"综合得分": 5}')),
    ('{"综合得分": 4, "评分理由": "好", "建议": "无"}', (4.0, "好")),  # more than was asked for, but nothing unclear
]
BAD = [
    "",
    "4.5",
    "综合得分：4.5",
    "null",
    '[{"综合得分": 4, "评分理由": "好"}]',
    '{"综合得分": 4}',
    '{"评分理由": "好"}',
    '{"综合得分": true, "评分理由": "好"}',
    '{"综合得分": "4", "评分理由": "好"}',
    '{"综合得分": null, "评分理由": "好"}',
    '{"综合得分": NaN, "评分理由": "好"}',
    '{"综合得分": Infinity, "评分理由": "好"}',
    '{"综合得分": 5.01, "评分理由": "好"}',
    '{"综合得分": -0.1, "评分理由": "好"}',
    '{"综合得分": 1' + "0" * 400 + ', "评分理由": "好"}',
    '{"综合得分": 4, "评分理由": 5}',
    '{"综合得分": 1, "综合得分": 5, "评分理由": "好"}',  # a second score smuggled in
    '{"综合得分": 4, "评分理由": "好"} {"综合得分": 5, "评分理由": "好"}',
    '评分如下：{"综合得分": 4, "评分理由": "好"}',
    '{"综合得分": 4, "评分理由": "好"}\n以上',
    '{"综合得分": 4, "评分理由": "好"',
    '```json\n{"综合得分": 4, "评分理由": "好"}\n```\n```json\n{"综合得分": 5, "评分理由": "好"}\n```',
    "[" * 100_000,
]


@pytest.mark.parametrize(("text", "expected"), GOOD)
def test_a_clear_verdict_is_read(text, expected):
    assert tuple(read_verdict(text).values()) == expected


@pytest.mark.parametrize("text", BAD)
def test_anything_else_is_an_error(text):
    with pytest.raises(ValueError):
        read_verdict(text)


def test_profiles_are_two_texts():
    assert tuple(read_profile('{"用户画像": " 孕妇 ", "历史摘要": ""}').values()) == ("孕妇", "")
    for text in ('{"用户画像": null, "历史摘要": ""}', '{"用户画像": "孕妇"}', "孕妇", '{"用户画像": ["孕妇"], "历史摘要": ""}'):
        with pytest.raises(ValueError):
            read_profile(text)
