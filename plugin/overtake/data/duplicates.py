"""Questions that are asked twice: repeats within a file, and what comes too near to questions that are held out."""

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import rjieba
from rapidfuzz import fuzz, process

from overtake.data.questions import normal

_TOKEN = re.compile(r"[a-z]+|\d+(?:[.,]\d+)*|[%‰]|[\u4e00-\u9fff]+")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_FRAME = """
请 请问 问 试 试问 试求 求 求出 算出 计算 一下 是 为 等于 多少 的 了 吗 呢 则 那么 结果 答案 回答 下列 以下 问题
please calculate compute find determine what is was the a an answer following question
"""
_FRAME_WORDS = frozenset(_FRAME.split())  # around a question they do not change what it asks


class Twin(NamedTuple):
    """A question that another one makes superfluous."""

    place: int
    of: int
    """Place of that other one."""
    exact: bool
    """The same but for width, case, spaces and punctuation; else nearly the same."""


def repeats(questions: Sequence[str]) -> list[Twin]:
    """The questions that repeat one before them; nearly the same are those with the same words in the same order, framing aside.

    Likeness of characters would not do here: questions about one table differ in a word ("gross", "net") and are two problems.

    >>> asked = ["收入9万，成本6万，毛利率？", "收入9万、成本6万，毛利率"]
    >>> repeats([*asked, "请计算：收入9万，成本6万，毛利率是多少？", "收入9万，成本6万，净利率？"])
    [Twin(place=1, of=0, exact=True), Twin(place=2, of=0, exact=False)]
    """
    exact: dict[str, int] = {}
    near: dict[tuple[str, ...], int] = {}
    found = []
    for place, question in enumerate(questions):
        text, words = normal(question), _words(question)
        if text in exact:
            found.append(Twin(place, exact[text], True))
        elif words and words in near:
            found.append(Twin(place, near[words], False))
        else:
            exact[text] = near[words] = place
    return found


def overlaps(questions: Sequence[str], held_out: Sequence[str], alike: float = 90.0) -> list[Twin]:
    """The questions too near to a held-out one (`of` is its place): the same, or alike with the very same numbers in the same order.

    Alike is a rapidfuzz ratio (Indel similarity of the characters, 0 to 100) of at least `alike`: better to lose a row than to train on
    what is measured. With other numbers it is another problem.

    >>> overlaps(["收入9万，成本6万，净利率？", "收入9万，成本7万，毛利率？"], held_out=["什么是贝塔", "收入9万，成本6万，毛利率？"])
    [Twin(place=0, of=1, exact=False)]
    """
    exact = {normal(question): place for place, question in enumerate(held_out)}
    by_numbers: dict[tuple[str, ...], dict[int, str]] = {}
    for place, question in enumerate(held_out):
        by_numbers.setdefault(_numbers(question), {})[place] = normal(question)
    found = []
    for place, question in enumerate(questions):
        text = normal(question)
        if text in exact:
            found.append(Twin(place, exact[text], True))
        elif near := process.extractOne(text, by_numbers.get(_numbers(question), {}), scorer=fuzz.ratio, score_cutoff=alike):
            found.append(Twin(place, near[2], False))
    return found


def _words(question: str) -> tuple[str, ...]:
    tokens = _TOKEN.findall(unicodedata.normalize("NFKC", question).casefold())
    cut = (word for token in tokens for word in (rjieba.cut(token) if "\u4e00" <= token[0] <= "\u9fff" else [token]))
    return tuple(word.replace(",", "") for word in cut if word not in _FRAME_WORDS)


def _numbers(question: str) -> tuple[str, ...]:
    return tuple(number.replace(",", "") for number in _NUMBER.findall(unicodedata.normalize("NFKC", question)))
