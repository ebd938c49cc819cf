"""Second stage: how much of the user's own question a document covers.

For a question Q (its text and the lexicon's terms for the phrases found in it) and a document D, over the bigrams and single
characters g of Han text (other scripts: whole words):

    weight(g) = idf(g)^1.5, for a single character half of it
    coverage  = (weight of Q's g in D + 0.1 * weight of Q's g in D's title) / weight of all of Q's g / (1 + 0.2 * |D| / mean |D|)
    score     = coverage / (coverage + 0.108)

It sees the original question only, so a rewrite can win by finding better documents, never by quoting them. It is not BM25: no words, no
term frequency, absolute instead of relative, and it knows the tenant's lexicon. The last line maps coverage to [0, 1): 0.108 is the
coverage that scores 0.5. README.md says how the constants were measured.
"""

import math
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

import numpy as np

from overtake.retrieval.corpus import Document
from overtake.retrieval.index import normalise

IDF_POWER = 1.5
CHARACTER_WEIGHT = 0.5
TITLE_BONUS = 0.1
LENGTH_PENALTY = 0.2
HALF_COVERAGE = 0.108

_HAN_RUN = re.compile(r"[\u3400-\u9fff]+")
_OTHER_RUN = re.compile(r"[^\W_\u3400-\u9fff]+")


class Scorer(Protocol):
    """What the service needs of a reranker: relevance in [0, 1] of each document to the original question, in the given order."""

    def score(self, query: str, doc_ids: Sequence[str]) -> list[float]:
        """One number a document; higher is more relevant."""


def grams(text: str) -> set[str]:
    """Bigrams and single characters of Han text; whole runs of other letters and digits.

    >>> sorted(grams("吃Omega-3好吗"))
    ['3', 'omega', '吃', '吗', '好', '好吗']
    """
    text = normalise(text)
    found = set(_OTHER_RUN.findall(text))
    for run in _HAN_RUN.findall(text):
        found.update(run)
        found.update(run[start : start + 2] for start in range(len(run) - 1))
    return found


def expand(query: str, lexicon: dict[str, str]) -> str:
    """The question, followed by the lexicon's terms for each phrase that stands in it.

    >>> expand("老是失眠", {"失眠": "睡眠障碍 褪黑素"})
    '老是失眠 睡眠障碍 褪黑素'
    """
    return " ".join([query, *(terms for phrase, terms in lexicon.items() if phrase in query)])


class Reranker:
    """Scores documents by coverage of the original question; the formula stands at the top of this file.

    >>> documents = [Document("a", "虾青素", "抗氧化，保护皮肤"), Document("b", "叶黄素", "护眼")]
    >>> [round(score, 2) for score in Reranker(documents, {"显老": "抗氧化"}).score("脸上显老怎么办", ["a", "b"])]
    [0.66, 0.0]
    """

    def __init__(self, documents: Sequence[Document], lexicon: dict[str, str]) -> None:
        self._lexicon = lexicon
        self._number: dict[str, int] = {}  # gram -> its number
        self._documents: dict[str, tuple[np.ndarray, np.ndarray, float]] = {}  # id -> sorted grams, those of the title, length factor
        for document in documents:
            title = self._numbers(document.title)
            both = np.union1d(title, self._numbers(document.text))
            self._documents[document.id] = (both, title, 0.0)
        mean = max(1.0, sum(len(both) for both, _, _ in self._documents.values()) / max(1, len(documents)))
        frequency = np.zeros(len(self._number))
        for doc_id, (both, title, _) in self._documents.items():
            frequency[both] += 1
            self._documents[doc_id] = (both, title, 1 + LENGTH_PENALTY * len(both) / mean)
        count = len(self._documents)
        self._weight = np.log(1 + (count - frequency + 0.5) / (frequency + 0.5)) ** IDF_POWER
        # As if one document held it: in a small knowledge base the true value would drown every gram that is known.
        self._unseen = math.log(1 + max(0.0, count - 0.5) / 1.5) ** IDF_POWER
        for gram, number in self._number.items():
            if len(gram) == 1:
                self._weight[number] *= CHARACTER_WEIGHT
        # In training a question comes once for each of its rewrites.
        self._asked = lru_cache(maxsize=4096)(self._grams_asked)

    def score(self, query: str, doc_ids: Sequence[str]) -> list[float]:
        """Relevance in [0, 1) of each document to the original question. Raises KeyError for an id that was not indexed."""
        known, weight, total = self._asked(query)
        scores = []
        for both, title, length in (self._documents[doc_id] for doc_id in doc_ids):
            held = _held(weight, known, both) + TITLE_BONUS * _held(weight, known, title)
            coverage = held / total / length if total else 0.0
            scores.append(coverage / (coverage + HALF_COVERAGE))
        return scores

    def _grams_asked(self, query: str) -> tuple[np.ndarray, np.ndarray, float]:
        """Of a question: the numbers of its grams that the documents know, their weights, and the weight of all its grams."""
        asked = grams(expand(query, self._lexicon))
        known = np.array(sorted(self._number[gram] for gram in asked if gram in self._number), dtype=np.intp)
        weight = self._weight[known]
        unseen = sum(self._unseen * (CHARACTER_WEIGHT if len(gram) == 1 else 1) for gram in asked if gram not in self._number)
        return known, weight, float(weight.sum()) + unseen

    def _numbers(self, text: str) -> np.ndarray:
        return np.array(sorted(self._number.setdefault(gram, len(self._number)) for gram in grams(text)), dtype=np.uint32)


def _held(weight: np.ndarray, known: np.ndarray, sorted_grams: np.ndarray) -> float:
    """The weight of those known grams that stand in a sorted array."""
    if not len(sorted_grams):
        return 0.0
    place = sorted_grams.searchsorted(known)
    place[place == len(sorted_grams)] = 0
    return float(weight[sorted_grams[place] == known].sum())
