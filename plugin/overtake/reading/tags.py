"""Think and answer tags: the one place that takes them off, for every reward, judge, tool and client."""

import re
import unicodedata

_BLOCK = re.compile(r"^\s*<think>.*?</think>", re.DOTALL)
# What ms-swift writes in front of a hybrid model's completion (ms-swift-4.6: 2.9). Nobody can tell it from one that the model wrote.
_EMPTY_BLOCK = re.compile(r"^\s*<think>\s*</think>")
_TAGS = ("<think>", "</think>", "<answer>", "</answer>")
_WHOLE = re.compile(r"\s*<think>(.*)</think>\s*<answer>(.*)</answer>\s*", re.DOTALL)
_LAST = re.compile(r"<answer>(.*)</answer>\s*$", re.DOTALL)


def strip_think(text: str) -> str:
    """The text after the leading think block, trimmed; "" when the block never ends, for then no answer was given.

    Hybrid models get an empty block prepended to what the reward sees and to what `swift deploy` serves (ms-swift-4.6: 2.9).

    >>> strip_think("<think>\\n\\n</think>\\n\\n胶原蛋白肽 用法")
    '胶原蛋白肽 用法'
    >>> strip_think("<think>I wonder")
    ''
    >>> strip_think("plain")
    'plain'
    """
    if "<think>" not in text:
        return text.strip()
    rest = _BLOCK.sub("", text, count=1)
    return "" if rest.lstrip().startswith("<think>") else rest.strip()


def read_answer(text: str) -> str:
    """The answer of `<think>…</think><answer>…</answer>`, trimmed: each tag once, in this order, with white space alone around the blocks.

    One leading empty think block is taken off first, since ms-swift prepends it to what a hybrid model wrote. What remains must have a
    think block of its own, so the prepended one never passes for thinking, and an empty think block is none.
    Raises ValueError that says what is wrong.

    >>> read_answer("<think>1000/1.25</think>\\n<answer>800</answer>")
    '800'
    >>> read_answer("<think>\\n\\n</think>\\n\\n<think>1000/1.25</think><answer>800</answer>")
    '800'
    >>> read_answer("<think>1000/1.25</think><answer>800</answer> or 1250")
    Traceback (most recent call last):
    ValueError: text stands before, between or after the think and answer blocks: '…wer>800</answer> or 1250'
    """
    text = _EMPTY_BLOCK.sub("", text, count=1)
    for tag in _TAGS:
        if (count := text.count(tag)) != 1:
            raise ValueError(f"{tag} stands {count} times, must stand once: {_end(text)}")
    if sorted(_TAGS, key=text.index) != list(_TAGS):
        raise ValueError(f"the tags are out of order, must be {' '.join(_TAGS)}: {_end(text)}")
    found = _WHOLE.fullmatch(text)
    if not found:
        raise ValueError(f"text stands before, between or after the think and answer blocks: {_end(text)}")
    for name, part in (("think", found[1]), ("answer", found[2])):
        if is_blank(part):
            raise ValueError(f"the {name} block is empty: {_end(text)}")
    return found[2].strip()


def last_answer(text: str) -> str | None:
    """The answer, trimmed, when there is exactly one answer tag, outside any think block, and nothing after it; else None.

    The think block may be absent, or opened by the prompt and only closed here; so the accuracy of an answer does not hang on the
    form of what stands before it, which is `read_answer`'s matter.

    >>> last_answer("thus <answer> 25% </answer>")
    '25%'
    >>> last_answer("<think>it is <answer>25%</answer></think>") is last_answer("<answer>1</answer><answer>2</answer>") is None
    True
    """
    if text.count("<answer>") != 1 or text.count("</answer>") != 1:
        return None
    found = _LAST.search(text)
    if not found or is_blank(found[1]) or "think>" in found[1]:
        return None
    before = text[: found.start()]
    return None if before.rfind("<think>") > before.rfind("</think>") else found[1].strip()


def is_blank(text: str) -> bool:
    """True for a text that shows no letter, digit or sign: white space, control and zero-width characters.

    >>> is_blank(" \\u200b\\n"), is_blank("0")
    (True, False)
    """
    return not any(unicodedata.category(char)[0] in "LNPS" for char in text)


def _end(text: str) -> str:
    return repr(text if len(text) <= 24 else "…" + text[-24:])
