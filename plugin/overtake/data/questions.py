"""What counts as the same question, and as a copied one: asked by generate, convert and the reports."""

import re
import unicodedata

_NOISE = re.compile(r"[^\w+#%.]|_|(?<!\d)\.|\.(?!\d)")


def normal(text: str) -> str:
    """`text` without what does not change a question: width, case, spaces and punctuation (but 1.5 stays 1.5, and C++ is not C).

    >>> normal("胶原蛋白，怎么吃？") == normal(" 胶原蛋白 怎么吃 ")
    True
    >>> normal("ＡＢＣ　１．５ g!")
    'abc1.5g'
    """
    return _NOISE.sub("", unicodedata.normalize("NFKC", text).casefold())


def is_copy(query: str, rewrite: str) -> bool:
    """Whether the rewrite says nothing that the query does not say in the same words.

    >>> is_copy("怎么吃？", "怎么吃")
    True
    """
    return normal(query) == normal(rewrite)
