"""Which completions have the form, what their answer is, and which only look so."""

import pytest
from overtake.reading.tags import last_answer, read_answer, strip_think

GOOD = [
    # (completion, answer, what is odd)
    ("<think>a</think><answer>800</answer>", "800", "plain"),
    ("\n<think>a\nb</think>\n\n<answer>\n800\n</answer>\n", "800", "white space around"),
    ("<think>a < b, 1 > 0</think><answer>x < y</answer>", "x < y", "other angle brackets"),
    ("<think>\n\n</think>\n\n<think>a</think><answer>800</answer>", "800", "ms-swift's empty block in front"),
]

BAD = [
    # (completion, what the error says, what is odd)
    ("", r"<think> stands 0 times", "nothing"),
    ("800", r"<think> stands 0 times", "no tags"),
    ("<answer>800</answer>", r"<think> stands 0 times", "no think block"),
    ("<think>\n\n</think>\n\n<answer>800</answer>", r"<think> stands 0 times", "only ms-swift's empty block"),
    ("<think></think><think> </think><answer>800</answer>", "the think block is empty", "an empty block of its own"),
    ("<think>a</think>", r"<answer> stands 0 times", "no answer"),
    ("<think>a</think><answer>800", r"</answer> stands 0 times", "cut off"),
    ("<think>a<answer>800</answer>", r"</think> stands 0 times", "think never ends"),
    ("<think>a</think><answer>800</answer><answer>900</answer>", r"<answer> stands 2 times", "two answers"),
    ("<think>a</think><think>b</think><answer>800</answer>", r"<think> stands 2 times", "two think blocks"),
    ("<think>a<think>b</think><answer>800</answer>", r"<think> stands 2 times", "nested"),
    ("<answer>800</answer><think>a</think>", "out of order", "the wrong way round"),
    ("<think>a<answer>800</answer></think>", "out of order", "the answer in the think block"),
    ("<think>a</think><answer>800</answer> so 800", "before, between or after", "text behind"),
    ("Sure! <think>a</think><answer>800</answer>", "before, between or after", "text in front"),
    ("<think>a</think> so <answer>800</answer>", "before, between or after", "text between"),
    ("\u200b<think>a</think><answer>800</answer>", "before, between or after", "a zero-width character in front"),
    ("<think>a</think><answer>  </answer>", "the answer block is empty", "a blank answer"),
    ("<think>a</think><answer>\u200b\u2060</answer>", "the answer block is empty", "an invisible answer"),
    ("<think>a</think><ANSWER>800</ANSWER>", r"<answer> stands 0 times", "other case"),
]


@pytest.mark.parametrize(("text", "answer", "odd"), GOOD)
def test_the_answer_of_a_completion_in_form_is_read(text, answer, odd):
    assert read_answer(text) == answer, odd


@pytest.mark.parametrize(("text", "message", "odd"), BAD)
def test_what_is_wrong_with_the_form_is_said(text, message, odd):
    with pytest.raises(ValueError, match=message):
        read_answer(text)


LAST = [
    ("<think>a</think><answer>800</answer>", "800", "in form"),
    ("so <answer>800</answer>\n", "800", "no think block"),
    ("a</think><answer>800</answer>", "800", "the prompt opened the think block"),
    ("<think>\n\n</think>\n\n<answer>800</answer>", "800", "ms-swift's empty block"),
    ("<answer>800</answer>.", None, "text behind"),
    ("<answer>1</answer><answer>2</answer>", None, "two answers"),
    ("<think><answer>800</answer></think>", None, "in the think block"),
    ("<think>a <answer>800</answer>", None, "in a think block that never ends"),
    ("<answer><think>800</think></answer>", None, "a think block as the answer"),
    ("<answer></answer>", None, "empty"),
    ("800", None, "no tag"),
    ("</answer>800<answer>", None, "the wrong way round"),
]


@pytest.mark.parametrize(("text", "answer", "odd"), LAST)
def test_the_last_answer_counts_alone_and_outside_the_think_block(text, answer, odd):
    assert last_answer(text) == answer, odd


def test_a_think_block_comes_off():
    assert strip_think("<think>a</think> b ") == "b"
    assert strip_think("<think>a") == ""
