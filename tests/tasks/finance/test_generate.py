"""What becomes of a teacher's text: every shape that teachers are known to write, by the form that the student learns."""

import pytest
from overtake.tasks.finance.generate import tagged

SHAPES = [
    pytest.param("<think>a</think><answer>8</answer>", "<think>\na\n</think>\n<answer>8</answer>", id="the tags as asked for"),
    pytest.param("a</think>\n<answer>8</answer>", "<think>\na\n</think>\n<answer>8</answer>", id="a template opened the block"),
    pytest.param("<think>a</think>\n8 万元", "<think>\na\n</think>\n<answer>8 万元</answer>", id="plain text after the thought"),
    pytest.param("<think>a</think>即\\boxed{8}", "<think>\na\n\n即\\boxed{8}\n</think>\n<answer>8</answer>", id="one box is the answer"),
    pytest.param("<think>a</think>\\boxed{8}\\boxed{9}", "<think>\na\n</think>\n<answer>\\boxed{8}\\boxed{9}</answer>", id="two boxes"),
    pytest.param("<think>a</think>b<answer>8</answer>", "<think>\na\n\nb\n</think>\n<answer>8</answer>", id="an explanation between"),
    pytest.param("b<answer>8</answer>", "<think>\nb\n</think>\n<answer>8</answer>", id="an explanation without a block"),
    pytest.param("<think></think>b<answer>8</answer>", "<think>\nb\n</think>\n<answer>8</answer>", id="an empty block first"),
    pytest.param("<answer>8</answer>", "<answer>8</answer>", id="no thought at all stays as it is"),
    pytest.param("<think>a</think><answer>8", "<think>a</think><answer>8", id="an open answer stays as it is"),
    pytest.param("<think>a</think><answer>8</answer>c", "<think>a</think><answer>8</answer>c", id="text after the answer stays"),
    pytest.param(
        "<think>a</think><answer>8</answer><answer>9</answer>",
        "<think>\na\n</think>\n<answer>8</answer><answer>9</answer>",
        id="two answers stay two",
    ),
]


@pytest.mark.parametrize(("text", "form"), SHAPES)
def test_a_text_is_put_into_the_tags_and_what_cannot_be_told_is_left(text, form):
    assert tagged(text) == form
    assert tagged(form) == form
