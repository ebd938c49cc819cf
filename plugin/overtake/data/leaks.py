"""Leak check: which words and phrases of a held-out question already stand in shipped material."""

import re
import unicodedata
from collections.abc import Iterable, Iterator

import rjieba

_HAN_WORD = re.compile(r"[\u4e00-\u9fff]{2,}")
_PHRASE = 4


def words(text: str) -> set[str]:
    """The words of two or more Han characters in `text`, as jieba cuts them.

    >>> sorted(words("我家孩子夜里睡不着"))
    ['夜里', '孩子', '我家', '睡不着']
    """
    return {word for word in rjieba.cut(text) if _HAN_WORD.fullmatch(word)}


def phrases(text: str) -> set[str]:
    """Every run of four characters of `text`; width, case, punctuation and spaces do not count.

    >>> sorted(phrases("怎么,办呢呀"))
    ['么办呢呀', '怎么办呢']
    """
    bare = _bare(text)
    return {bare[i : i + _PHRASE] for i in range(len(bare) - _PHRASE + 1)}


def leaks(held_out: Iterable[str], shipped: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield (question, what it shares) for every held-out question that shares a word or a phrase with `shipped`.

    A word counts as shared when it occurs anywhere inside a shipped text, so that 睡眠 in a lexicon entry 睡眠质量 is found too.

    >>> list(leaks(["娃半夜总醒"], ["孩子睡不着怎么办"]))
    []
    >>> list(leaks(["夜里睡不着咋整"], ["孩子睡不着怎么办"]))
    [('夜里睡不着咋整', '睡不着')]
    """
    haystack = "\n".join(_bare(text) for text in shipped)
    for question in held_out:
        shared = sorted(found for found in words(question) | phrases(question) if found in haystack)
        if shared:
            yield question, "、".join(shared)


def _bare(text: str) -> str:
    return re.sub(r"\W", "", unicodedata.normalize("NFKC", text).casefold())
