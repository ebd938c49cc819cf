"""KeywordAnswer: the share of a gold's keywords that an answer says, from 0 to 1; less for an answer that says everything.

Keywords of a gold are its items where it is a list (市盈率、市净率; with "/" between names of one thing), the gold itself where it is a
short term, and else its content words, as jieba cuts them. One that the question says too does not count, unless all are. A gold of a
closed set (options, 是 and 否, 上升 and 下降) has no keywords: an answer that chooses just what it does is worth 1, any other 0
(reading/closed_sets.py). What would win by form alone is worth nothing, or less:

| an answer that                                        | is worth                                                                  |
|-------------------------------------------------------|---------------------------------------------------------------------------|
| is empty, only thought, or the question again         | 0                                                                         |
| denies what the gold affirms, or says its opposite too | that keyword is not said                                                 |
| is longer than 200 characters and 4 times the gold    | (limit / length) squared of its share                                     |
| lists more than 8 items and twice the keywords        | limit / items of its share                                                |
"""

import re
from functools import lru_cache

from overtake.data.near_duplicates import is_copy
from overtake.reading import closed_sets
from overtake.reading.normal_forms import for_rules, half_width, visible
from overtake.reading.tags import last_answer
from overtake.tasks.finance.rewards.numeric_answer import NumericAnswer

_LONGEST = 20_000
_LIMIT = 200
_TIMES_GOLD = 4
_MOST_ITEMS = 8
_MOST_KEYWORDS = 30
_SHORT = 10
"""Characters of a Chinese item of a list; a longer one is a sentence."""
_FEW = 3
"""Words of an English one."""

_SEPARATORS = re.compile(r"[;、|\n]|,(?!\d)")
_HAN = re.compile(r"[\u4e00-\u9fff]")
_WORD = re.compile(r"[a-z][a-z'&-]{2,}|\d[\d.,]*%?|[\u4e00-\u9fff]{2,}", re.IGNORECASE)
_STOP = re.compile(
    r"the|and|that|this|with|from|for|are|was|were|has|have|had|not|but|its|they|their|which|than|then|also|into|more|most|such|can|will|"
    r"would|could|should|may|about|over|under|between|because|due|when|where|while|each|other|some|any|all|our|your|his|her|"
    r"因为|所以|因此|由于|如果|但是|可以|这个|那个|我们|他们|以及|或者|并且|需要|通过|进行|主要|一个|一种|等等|就是|也就是|能够|应该|"
    r"对于|关于|其中|没有|不是|不会|不能|同时|为了|原因"
)
_NEGATION = re.compile(
    r"(?:(?:不(?![仅但断同只过论])|非(?!常|流动|经常)|无(?![论形])|没(?!错)|未(?!来)|勿|别(?!的))[^,.;:!?。但而却]{0,10}"
    r"|\b(?:not|no|never|without|neither|nor|cannot|[a-z]+n't)\s+(?:[\w-]+\s+){0,4})$"
)

Keyword = tuple[str, ...]
"""The names of one thing, in NFKC and lower case."""


@lru_cache(maxsize=4096)
def keywords(gold: str, question: str = "") -> tuple[Keyword, ...]:
    """Return what an answer has to say: the names of each keyword, at most 30. () for a gold without a word.

    >>> keywords("折现/贴现；现金流")
    (('折现', '贴现'), ('现金流',))
    >>> keywords("Gross margin rose because raw materials were cheaper.", "Why did the gross margin rise?")
    (('rose',), ('raw',), ('materials',), ('cheaper',))
    """
    text = _plain(gold)
    items = [item.strip(" .。") for item in _SEPARATORS.split(text) if item.strip(" .。")]
    if all(len(item) <= _SHORT if _HAN.search(item) else len(item.split()) <= _FEW for item in items):
        names_by_item = [tuple(name.strip() for name in item.split("/") if re.search(r"\w", name)) for item in items]
    else:
        names_by_item = [(word,) for word in _words(text)]
    question_text = _plain(question)
    unique = list(dict.fromkeys(item for item in names_by_item if item))
    new = [names for names in unique if not any(_places(name, question_text) for name in names)]
    return tuple((new or unique)[:_MOST_KEYWORDS])


def score(completion: str, gold: str, question: str = "") -> float | None:
    """The weighted share in [0, 1]; None for a gold without a keyword, which is so for all of its group. Only the answer tag is read.

    >>> score("<answer>原材料降价，毛利率上升</answer>", "原材料降价"), score("<answer>不是原材料降价</answer>", "原材料降价")
    (1.0, 0.0)
    >>> score("<answer>ABD</answer>", "A,B,D"), score("<answer>上升或下降</answer>", "下降")
    (1.0, 0.0)
    """
    answer = last_answer(completion)
    if closed_sets.is_closed(gold):
        return float(bool(closed_sets.grade((answer or "")[:_LONGEST], gold, question)))
    expected = keywords(gold, question)
    if not expected:
        return None
    if answer is None or len(answer) > _LONGEST or is_copy(question, answer):
        return 0.0
    text, gold_text = _plain(answer), _plain(gold)
    share = sum(any(_is_said(name, text, gold_text) for name in names) for names in expected) / len(expected)
    limit, items = max(_LIMIT, _TIMES_GOLD * len(gold_text)), _items(half_width(visible(answer)))
    most = max(_MOST_ITEMS, 2 * len(expected))
    return share * min(1.0, limit / max(len(text), 1)) ** 2 * min(1.0, most / max(items, 1))


def _plain(text: str) -> str:
    return half_width(for_rules(text)).casefold().strip()


def _words(text: str) -> list[str]:
    import rjieba  # its dictionary takes memory that a run without this reward can do without

    pieces = (word for piece in _WORD.findall(text) for word in (rjieba.cut(piece) if _HAN.search(piece) else [piece.rstrip(".,")]))
    return [word for word in pieces if (len(word) > 1 or word.isdigit()) and not _STOP.fullmatch(word)]


def _places(name: str, text: str) -> list[int]:
    """Where a keyword stands: English ones as words, numbers as whole numbers, Chinese ones anywhere."""
    if not name:
        return []
    before = r"(?<![a-z])" if name[0].isascii() and name[0].isalpha() else r"(?<!\d)(?<!\d[.,])" if name[0].isdigit() else ""
    after = r"(?:s|es)?(?![a-z])" if name[-1].isascii() and name[-1].isalpha() else r"(?![.,]?\d)" if name[-1].isdigit() else ""
    return [match.start() for match in re.finditer(before + re.escape(name) + after, text)]


def _is_said(name: str, text: str, gold: str) -> bool:
    """Whether the answer says it at all, and everywhere as the gold does: affirmed or denied."""
    places, gold_places = _places(name, text), _places(name, gold)
    denied = bool(gold_places) and _is_denied(gold, gold_places[0])
    return bool(places) and all(_is_denied(text, place) == denied for place in places) and not closed_sets.contradicted(name, text)


def _is_denied(text: str, place: int) -> bool:
    return bool(_NEGATION.search(text[max(0, place - 40) : place]))


def _items(text: str) -> int:
    """How many items a text lists; blanks separate items of Chinese too."""
    return len([item for item in re.split(r"[,;、/|\n\s]+" if _HAN.search(text) else r"[,;、/|\n]+", text) if item.strip()])


class KeywordAnswer(NumericAnswer):
    """The keywords as a reward, logged as `finance/keywords`."""

    score = staticmethod(score)
    part = "keywords"
