"""Think and answer tags: the one place that takes them off, for every reward, judge, tool and client."""

import re
import unicodedata

from overtake.reading.normal_forms import for_rules

# What ms-swift writes in front of a hybrid model's completion. Nobody can tell it from one that the model wrote.
_EMPTY_BLOCK = re.compile(r"^\s*<think>\s*</think>")
_TAGS = ("<think>", "</think>", "<answer>", "</answer>")
_WHOLE = re.compile(r"\s*(?:<think>)?(.*)</think>\s*<answer>(.*)</answer>\s*", re.DOTALL)
_LAST = re.compile(r"<answer>(.*)</answer>\s*$", re.DOTALL)


def split_think(text: str) -> tuple[str, str]:
    """Return (thought, the rest), both trimmed: the think blocks that `text` begins with, of which the prompt may have opened the first.

    Chat templates of reasoning models end the prompt with the opening tag, so that the text holds the closing one alone. Where a block
    never ends, or nothing that shows follows, the rest is "": no answer was given. A tag further on is none of the thought's.

    >>> split_think("<think>\\n\\n</think>\\n\\nVitamin D 用量"), split_think("The user asks</think>Vitamin D 用量")
    (('', 'Vitamin D 用量'), ('The user asks', 'Vitamin D 用量'))
    >>> split_think("<think>I wonder"), split_think("plain")
    (('I wonder', ''), ('', 'plain'))
    """
    thoughts: list[str] = []
    rest = text.strip()
    while rest.startswith("<think>"):
        thought, _, rest = rest[len("<think>") :].partition("</think>")
        thoughts.append(thought.strip())
        rest = rest.strip()
    if not any(thoughts) and "</think>" in rest and "<think>" not in rest.partition("</think>")[0]:
        thought, _, rest = rest.partition("</think>")
        thoughts.append(thought.strip())
    return "\n\n".join(filter(None, thoughts)), "" if is_blank(rest) else rest.strip()


def strip_think(text: str) -> str:
    """The text after its thought (see `split_think`), trimmed; "" where no answer was given.

    >>> strip_think("<think>\\n\\n</think>\\n\\n胶原蛋白肽 用法"), strip_think("想一想</think>胶原蛋白肽"), strip_think("<think>I wonder")
    ('胶原蛋白肽 用法', '胶原蛋白肽', '')
    """
    return split_think(text)[1]


def read_answer(text: str) -> str:
    """The answer of `<think>…</think><answer>…</answer>`, trimmed: each tag once, in this order, with white space alone around the blocks.

    One leading empty think block is taken off first, since ms-swift prepends it to what a hybrid model wrote. What remains must have a
    think block of its own, so the prepended one never passes for thinking, and an empty think block is none. The prompt may have opened
    it, as the templates of reasoning models do: then the text begins inside it.
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
    tags = _TAGS if "<think>" in text or "</think>" not in text else _TAGS[1:]
    for tag in tags:
        if (count := text.count(tag)) != 1:
            raise ValueError(f"{tag} stands {count} times, must stand once: {_end(text)}")
    if sorted(tags, key=text.index) != list(tags):
        raise ValueError(f"the tags are out of order, must be {' '.join(_TAGS)}: {_end(text)}")
    match = _WHOLE.fullmatch(text)
    if not match or "<think>" in match[1]:
        raise ValueError(f"text stands before, between or after the think and answer blocks: {_end(text)}")
    for name, part in (("think", match[1]), ("answer", match[2])):
        if is_blank(part):
            raise ValueError(f"the {name} block is empty: {_end(text)}")
    return match[2].strip()


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
    match = _LAST.search(text)
    if not match or is_blank(match[1]) or "think>" in match[1]:
        return None
    before = text[: match.start()]
    return None if before.rfind("<think>") > before.rfind("</think>") else match[1].strip()


def is_blank(text: str) -> bool:
    """Return True for a text that shows no letter, digit or sign: white space, control, zero-width and filling characters.

    >>> is_blank(" \\u200b\\u3164\\n"), is_blank("0")
    (True, False)
    """
    return not any(unicodedata.category(char)[0] in "LNPS" for char in for_rules(text))


def _end(text: str) -> str:
    return repr(text if len(text) <= 24 else "…" + text[-24:])
