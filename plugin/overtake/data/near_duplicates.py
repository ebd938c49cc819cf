"""Questions and texts that are nearly the same: copies, repeats in a file, what comes too near to held-out rows, groups, shared words.

They are compared in the forms of reading/normal_forms.py. The libraries that cut words and match in bulk are imported where they are
used, since the rewards import this module for `is_copy` alone.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from overtake.reading.normal_forms import for_likeness, for_rules, half_width, visible

ALIKE = 85.0
"""Of 100: the share of characters that two texts of one group have in common, in order (Indel similarity of rapidfuzz)."""
_ROWS = 512
_PHRASE = 4
_TOKEN = re.compile(r"[a-z]+|\d+(?:[.,]\d+)*|[%‰<>≤≥±√]|(?<![a-z\d])-(?=\d)|(?<=\d)[-/:~^](?=\d)|[\u4e00-\u9fff]+")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_HAN_WORD = re.compile(r"[\u4e00-\u9fff]{2,}")
_FRAME = """
请 请问 问 试 试问 试求 求 求出 算出 计算 一下 是 为 等于 多少 的 了 吗 呢 则 那么 结果 答案 回答 下列 以下 问题
please calculate compute find determine what is was the a an answer following question
"""
_FRAME_WORDS = frozenset(_FRAME.split())  # around a question they do not change what it asks


def is_copy(query: str, rewrite: str) -> bool:
    """Return whether the rewrite asks nothing that the query does not ask in the same words.

    >>> is_copy("怎么吃？", "请问怎么吃呢"), is_copy(">60岁能吃吗", "<60岁能吃吗")
    (True, False)
    """
    return for_likeness(query) == for_likeness(rewrite)


class Duplicate(NamedTuple):
    """A question that another one makes superfluous."""

    place: int
    of: int
    """Place of that other one."""
    exact: bool
    """The same in the form for likeness; else nearly the same."""


def repeats(questions: Sequence[str]) -> list[Duplicate]:
    """The questions that repeat one before them; nearly the same are those with the same words in the same order, framing aside.

    Likeness of characters would not do here: questions about one table differ in a word ("gross", "net") and are two problems.

    >>> asked = ["收入9万，成本6万，毛利率？", "收入9万、成本6万，毛利率"]
    >>> repeats([*asked, "请计算：收入9万，成本6万，毛利率是多少？", "收入9万，成本6万，净利率？"])
    [Duplicate(place=1, of=0, exact=True), Duplicate(place=2, of=0, exact=False)]
    """
    exact: dict[str, int] = {}
    near: dict[tuple[str, ...], int] = {}
    duplicates = []
    for place, question in enumerate(questions):
        text, framed = for_likeness(question), _framed_words(question)
        if text in exact:
            duplicates.append(Duplicate(place, exact[text], True))
        elif framed and framed in near:
            duplicates.append(Duplicate(place, near[framed], False))
        else:
            exact[text] = near[framed] = place
    return duplicates


def overlaps(questions: Sequence[str], held_out: Sequence[str], alike: float = 90.0) -> list[Duplicate]:
    """The questions too near to a held-out one (`of` is its place): the same, or alike with the very same numbers in the same order.

    Alike is a rapidfuzz ratio (Indel similarity of the characters, 0 to 100) of at least `alike`: better to lose a row than to train on
    what is measured. With other numbers it is another problem.

    >>> overlaps(["收入9万，成本6万，净利率？", "收入9万，成本7万，毛利率？"], held_out=["什么是贝塔", "收入9万，成本6万，毛利率？"])
    [Duplicate(place=0, of=1, exact=False)]
    """
    from rapidfuzz import fuzz, process

    exact = {for_likeness(question): place for place, question in enumerate(held_out)}
    by_numbers: dict[tuple[str, ...], dict[int, str]] = {}
    for place, question in enumerate(held_out):
        by_numbers.setdefault(_numbers(question), {})[place] = for_likeness(question)
    duplicates = []
    for place, question in enumerate(questions):
        text = for_likeness(question)
        if text in exact:
            duplicates.append(Duplicate(place, exact[text], True))
        elif near := process.extractOne(text, by_numbers.get(_numbers(question), {}), scorer=fuzz.ratio, score_cutoff=alike):
            duplicates.append(Duplicate(place, near[2], False))
    return duplicates


def groups(texts: Sequence[str], alike: float = ALIKE) -> list[int]:
    """The number of each text's group, so that no question and its twin fall on two sides of a split: texts at least `alike`, and those
    alike to these in turn, have the same.

    >>> groups(["胃胀一直打嗝怎么办？", "肚子疼", "胃胀一直打嗝 怎么办呢"])
    [0, 1, 0]
    """
    import numpy as np
    from rapidfuzz import fuzz, process
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    plain = [for_likeness(text) for text in texts]
    order = np.argsort([len(text) for text in plain], kind="stable")
    sizes = np.array([len(plain[place]) for place in order])
    # Two texts of lengths a < b have a similarity of at most 2a / (a + b), so that only a window of lengths need be compared.
    reach = sizes * (200 / alike - 1)
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(order), _ROWS):
        rows = order[start : start + _ROWS]
        end = int(np.searchsorted(sizes, reach[min(start + _ROWS, len(order)) - 1], side="right"))
        columns = order[start:end]
        likeness = process.cdist(
            [plain[i] for i in rows], [plain[i] for i in columns], scorer=fuzz.ratio, score_cutoff=alike, dtype=np.float32
        )
        pairs += [(int(rows[row]), int(columns[column])) for row, column in zip(*np.nonzero(likeness), strict=True)]
    if not pairs:
        return list(range(len(texts)))
    left, right = zip(*pairs, strict=True)
    _, labels = connected_components(csr_array((np.ones(len(pairs)), (left, right)), shape=(len(texts), len(texts))), directed=False)
    first: dict[int, int] = {}
    return [first.setdefault(int(label), len(first)) for label in labels]


def words(text: str) -> set[str]:
    """The words of two or more Han characters in `text`, as jieba cuts them.

    >>> sorted(words("我家孩子夜里睡不着"))
    ['夜里', '孩子', '我家', '睡不着']
    """
    import rjieba

    return {word for word in rjieba.cut(visible(text)) if _HAN_WORD.fullmatch(word)}


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
        shared = sorted(run for run in words(question) | phrases(question) if run in haystack)
        if shared:
            yield question, "、".join(shared)


def _bare(text: str) -> str:
    return re.sub(r"\W", "", half_width(for_rules(text)).casefold())


def _framed_words(question: str) -> tuple[str, ...]:
    import rjieba

    tokens = _TOKEN.findall(half_width(for_rules(question)).casefold())
    cut = (word for token in tokens for word in (rjieba.cut(token) if "\u4e00" <= token[0] <= "\u9fff" else [token]))
    return tuple(word.replace(",", "") for word in cut if word not in _FRAME_WORDS)


def _numbers(question: str) -> tuple[str, ...]:
    return tuple(number.replace(",", "") for number in _NUMBER.findall(half_width(for_rules(question))))
