"""Which texts are a verdict on an answer, and which are none: the strict form, its synonyms, and every way to cheat at it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from overtake.tasks.answer_judge.judgements import VALUES, Judgement, read_judgement, write_judgement

GOOD = [
    # (text, verdict, what is odd)
    ("<think>a</think><output>main: correct; secondary: none</output>", ("correct", "none", "a"), "as the prompt asks"),
    (
        "\n<think>\na\n</think>\n\n<output>\nMain: Correct; Secondary: INCORRECT\n</output>\n",
        ("correct", "incorrect", "a"),
        "white space, case",
    ),
    ("<output>main: none; secondary: none</output>", ("none", "none", ""), "without a think block"),
    (
        "<think>\n\n</think>\n\n<think>a</think><output>main: none; secondary: none</output>",
        ("none", "none", "a"),
        "the empty block",
    ),
    ("<think>a</think><output>主要答案：正确；次要答案：不正确</output>", ("correct", "incorrect", "a"), "Chinese"),
    ("<think>a</think><output>主要: 错，次要: 无</output>", ("incorrect", "none", "a"), "short Chinese"),
    ("<think>a</think><output>main: correct\nsecondary: none</output>", ("correct", "none", "a"), "two lines"),
    ("<think>main: incorrect; secondary: none</think><output>main: correct; secondary: none</output>", None, "a verdict thought about"),
]
BAD = [
    # (text, words of the error, what is odd)
    ("", "<output> stands 0 times", "nothing"),
    ("main: correct; secondary: none", "<output> stands 0 times", "no tag"),
    ("<think>a</think>", "<output> stands 0 times", "no verdict"),
    ("<think>a</think><output>main: correct; secondary: none", "</output> stands 0 times", "cut off"),
    ("<output>main: correct; secondary: none</output>" * 2, "<output> stands 2 times", "two tags"),
    ("<output>main: correct; secondary: none</output><output>main: incorrect; secondary: none</output>", "2 times", "both verdicts"),
    ("<think>a</think><output>main: correct; secondary: none</output> really", "text stands", "text behind"),
    ("Sure. <think>a</think><output>main: correct; secondary: none</output>", "text stands", "text before"),
    ("<think>a</think> so <output>main: correct; secondary: none</output>", "text stands", "text between"),
    ("<output>main: correct; secondary: none</output><think>a</think>", "text stands", "the wrong order"),
    ("<think><output>main: correct; secondary: none</output></think>", "text stands", "inside the think block"),
    ("<think>a<output>main: correct; secondary: none</output>", "<think> stands 1 times and </think> 0", "a think block that never ends"),
    ("<think>a</think><think>b</think><output>main: correct; secondary: none</output>", "2 times", "two think blocks"),
    ("<think>a</think><output></output>", "the output is ''", "an empty verdict"),
    ("<think>a</think><output>correct</output>", "the output is 'correct'", "one verdict for two"),
    ("<think>a</think><output>main: correct, incorrect; secondary: none</output>", "the output is", "two words for one"),
    ("<think>a</think><output>main: correct; secondary: none; main: incorrect</output>", "the output is", "a third part"),
    ("<think>a</think><output>secondary: none; main: correct</output>", "the output is", "the other way round"),
    ("<think>a</think><output>main: maybe; secondary: none</output>", "main is 'maybe'", "no verdict"),
    ("<think>a</think><output>main: correct; secondary: 部分正确</output>", "secondary is '部分正确'", "half a verdict"),
    ("<think>a</think><output>main: 1; secondary: 0</output>", "main is '1'", "a number"),
]


@pytest.mark.parametrize(("text", "expected", "odd"), GOOD, ids=[case[2] for case in GOOD])
def test_a_verdict_in_form_is_read(text, expected, odd):
    assert read_judgement(text) == (expected or ("correct", "none", "main: incorrect; secondary: none")), odd


@pytest.mark.parametrize(("text", "words", "odd"), BAD, ids=[case[2] for case in BAD])
def test_anything_else_is_refused_with_the_reason(text, words, odd):
    with pytest.raises(ValueError) as refusal:
        read_judgement(text)
    assert words in str(refusal.value), odd


@given(st.sampled_from(VALUES), st.sampled_from(VALUES), st.text(st.characters(exclude_characters="<>", codec="utf-8")))
def test_what_is_written_is_read_again(main, secondary, reason):
    judgement = Judgement(main, secondary, reason.strip())
    assert read_judgement(write_judgement(judgement)) == judgement
