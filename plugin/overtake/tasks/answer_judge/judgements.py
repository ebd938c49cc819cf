"""Reading a judge's verdict on an answer: `<think>reasoning</think><output>main: correct; secondary: none</output>`, and nothing else.

main: the fact that was asked for. secondary: everything else that the answer adds. Each is `correct`, `incorrect` or `none`: of main, the
answer states no such fact (it is empty, evades, or only guesses); of secondary, it adds nothing.
"""

import re
from typing import Literal, NamedTuple, get_args

Value = Literal["correct", "incorrect", "none"]
VALUES: tuple[Value, ...] = get_args(Value)

_SYNONYMS: dict[str, Value] = {
    "正确": "correct",
    "对": "correct",
    "错误": "incorrect",
    "不正确": "incorrect",
    "错": "incorrect",
    "无": "none",
}
_TAGS = ("<think>", "</think>", "<output>", "</output>")
# What ms-swift writes in front of a hybrid model's completion.
_EMPTY_BLOCK = re.compile(r"^\s*<think>\s*</think>")
_FORM = re.compile(r"\s*(?:(?:<think>)?(?P<reason>.*)</think>)?\s*<output>(?P<verdict>.*)</output>\s*", re.DOTALL)
_VERDICT = re.compile(
    r"\s*(?:main|主要|主要答案)\s*[:：]\s*(?P<main>\w+)\s*[;；,，\n]\s*(?:secondary|次要|次要答案)\s*[:：]\s*(?P<secondary>\w+)\s*",
    re.IGNORECASE,
)


class Judgement(NamedTuple):
    """A verdict on an answer."""

    main: Value
    secondary: Value
    reason: str
    """What stands in the think block; "" without one."""


def read_judgement(text: str) -> Judgement:
    """The verdict in `text`: one output tag with both verdicts at the end, one think block at most, before it, and nothing else.

    An empty think block that ms-swift put in front is taken off, and the prompt may have opened the block. 正确 and 对, 错误 and
    不正确 and 错, 无 are read as the English words; so are 主要 and 次要 (答案). Any other word is no verdict.
    Raises ValueError that says what is wrong.

    >>> read_judgement("<think>Paris is the reference.</think><output>main: correct; secondary: none</output>")
    Judgement(main='correct', secondary='none', reason='Paris is the reference.')
    >>> read_judgement("<output>主要答案：错误；次要答案：无</output>")[:2]
    ('incorrect', 'none')
    >>> read_judgement("<output>main: correct; secondary: none</output> or rather incorrect")
    Traceback (most recent call last):
    ValueError: text stands before, between or after the think and output blocks: '…put> or rather incorrect'
    """
    text = _EMPTY_BLOCK.sub("", text, count=1)
    counts = {tag: text.count(tag) for tag in _TAGS}
    for tag in ("<output>", "</output>"):
        if counts[tag] != 1:
            raise ValueError(f"{tag} stands {counts[tag]} times, must stand once: {_end(text)}")
    if (blocks := (counts["<think>"], counts["</think>"])) not in ((0, 0), (1, 1), (0, 1)):
        raise ValueError(f"<think> stands {blocks[0]} times and </think> {blocks[1]}, must be one block at most: {_end(text)}")
    match = _FORM.fullmatch(text)
    if not match or any(tag in match["verdict"] for tag in _TAGS) or any(tag in (match["reason"] or "") for tag in _TAGS):
        raise ValueError(f"text stands before, between or after the think and output blocks: {_end(text)}")
    verdict = _VERDICT.fullmatch(match["verdict"])
    if not verdict:
        raise ValueError(f"the output is {match['verdict'].strip()[:80]!r}, must be 'main: VERDICT; secondary: VERDICT'")
    return Judgement(_value("main", verdict["main"]), _value("secondary", verdict["secondary"]), (match["reason"] or "").strip())


def write_judgement(judgement: Judgement) -> str:
    """The text that `read_judgement` reads, as the training data hold it.

    >>> write_judgement(Judgement("correct", "none", "The same city."))
    '<think>The same city.</think><output>main: correct; secondary: none</output>'
    """
    think = f"<think>{judgement.reason}</think>" if judgement.reason else ""
    return f"{think}<output>main: {judgement.main}; secondary: {judgement.secondary}</output>"


def _value(name: str, word: str) -> Value:
    word = word.casefold()
    for value in VALUES:
        if word == value:
            return value
    if word not in _SYNONYMS:
        raise ValueError(f"{name} is {word[:40]!r}, must be {', '.join(VALUES[:-1])} or {VALUES[-1]}")
    return _SYNONYMS[word]


def _end(text: str) -> str:
    return repr(text if len(text) <= 24 else "…" + text[-24:])
