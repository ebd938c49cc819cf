"""Second stage: how much of the user's own question a document covers.

For a question Q (its text and the lexicon's terms for the phrases found in it) and a document D, over the bigrams and single
characters g of Han text (other scripts: whole words, English ones as their stems):

    weight(g) = idf(g)^1.5, for a single character half of it
    coverage  = (weight of Q's g in D + 0.1 * weight of Q's g in D's title) / weight of all of Q's g / (1 + 0.2 * |D| / mean |D|)
    score     = coverage / (coverage + 0.108)

It sees the original question only, so a rewrite can win by finding better documents, never by quoting them. It is not BM25: no words, no
term frequency, absolute instead of relative, and it knows the tenant's lexicon. The last line maps coverage to [0, 1): 0.108 is the
coverage that scores 0.5. docs/rag_service.md says how the constants were measured.
"""

import math
import re
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Protocol

from overtake.retrieval.corpus import Document
from overtake.retrieval.index import normalise, stemmed

IDF_POWER = 1.5
CHARACTER_WEIGHT = 0.5
TITLE_BONUS = 0.1
LENGTH_PENALTY = 0.2
HALF_COVERAGE = 0.108

_HAN_RUN = re.compile(r"[\u3400-\u9fff]+")
_OTHER_RUN = re.compile(r"[^\W_\u3400-\u9fff]+")


class Scorer(Protocol):
    """Interface of a reranker: relevance in [0, 1] of each document to the original question, in the given order."""

    def score(self, query: str, documents: Sequence[Document]) -> list[float]:
        """One number a document; higher is more relevant."""


def grams(text: str) -> set[str]:
    """Bigrams and single characters of Han text; whole runs of other letters and digits, English words as their stems.

    >>> sorted(grams("吃Omega-3好吗"))
    ['3', 'omega', '吃', '吗', '好', '好吗']
    """
    text = normalise(text)
    units = set(stemmed(list(set(_OTHER_RUN.findall(text)))))
    for run in _HAN_RUN.findall(text):
        units.update(run)
        units.update(run[start : start + 2] for start in range(len(run) - 1))
    return units


def expand(query: str, lexicon: dict[str, str]) -> str:
    """The question, followed by the lexicon's terms for each phrase that stands in it.

    >>> expand("老是失眠", {"失眠": "睡眠障碍 褪黑素"})
    '老是失眠 睡眠障碍 褪黑素'
    """
    return " ".join([query, *(terms for phrase, terms in lexicon.items() if phrase in query)])


class Reranker:
    """Scores documents by coverage of the original question; the formula stands at the top of this file.

    >>> documents = [Document("a", "虾青素", "抗氧化，保护皮肤"), Document("b", "叶黄素", "护眼")]
    >>> [round(score, 2) for score in Reranker(documents, {"显老": "抗氧化"}).score("脸上显老怎么办", documents)]
    [0.66, 0.0]
    """

    def __init__(self, documents: Iterable[Document], lexicon: dict[str, str]) -> None:
        self._lexicon = lexicon
        self._turn = threading.Lock()  # counting may come while another thread scores
        self._frequency: Counter[str] = Counter()  # gram -> documents that hold it
        self._count = 0
        self._lengths = 0  # grams of all documents together
        # In training a question comes once for each of its rewrites, and popular documents come with most questions.
        self._asked = lru_cache(maxsize=4096)(self._weights)
        self._held = lru_cache(maxsize=4096)(_document_grams)
        self.count(documents)

    def count(self, added: Iterable[Document] = (), removed: Iterable[Document] = ()) -> None:
        """Follow a change of the documents: what was added, what went, a replaced one in both. Costs their length, not the corpus's."""
        with self._turn:
            for document in added:
                _, both = _document_grams(document)
                self._frequency.update(both)
                self._count, self._lengths = self._count + 1, self._lengths + len(both)
            for document in removed:
                _, both = _document_grams(document)
                self._frequency.subtract(both)
                for gram in both:
                    if not self._frequency[gram]:
                        del self._frequency[gram]
                self._count, self._lengths = self._count - 1, self._lengths - len(both)
            self._asked.cache_clear()

    def score(self, query: str, documents: Sequence[Document]) -> list[float]:
        """Relevance in [0, 1) of each document to the original question; a document that was not counted is scored like the others."""
        with self._turn:
            weights, total = self._asked(query)
            mean = max(1.0, self._lengths / max(1, self._count))
        scores = []
        for title, both in map(self._held, documents):
            shared = sum(weight * (1 + TITLE_BONUS * (gram in title)) for gram, weight in weights if gram in both)
            coverage = shared / total / (1 + LENGTH_PENALTY * len(both) / mean) if total else 0.0
            scores.append(coverage / (coverage + HALF_COVERAGE))
        return scores

    def _weights(self, query: str) -> tuple[list[tuple[str, float]], float]:
        """The grams of a question, each with its weight, and the weight of all."""
        weights = []
        for gram in sorted(grams(expand(query, self._lexicon))):
            # A gram that no document holds counts as if one did: in a small knowledge base the true value would drown every known one.
            frequency = max(1, self._frequency.get(gram, 0))
            idf = math.log(1 + max(0.0, self._count - frequency + 0.5) / (frequency + 0.5)) ** IDF_POWER
            weights.append((gram, idf * (CHARACTER_WEIGHT if len(gram) == 1 else 1)))
        return weights, sum(weight for _, weight in weights)


def _document_grams(document: Document) -> tuple[frozenset[str], frozenset[str]]:
    """The grams of a document's title, and of its title and text."""
    title = frozenset(grams(document.title))
    return title, title | grams(document.text)
