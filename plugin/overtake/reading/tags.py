"""Think blocks: the one place that takes them off, for every reward, judge, tool and client."""

import re

_BLOCK = re.compile(r"^\s*<think>.*?</think>", re.DOTALL)


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
