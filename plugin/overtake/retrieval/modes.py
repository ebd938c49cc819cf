"""Ways to use a rewrite so that it does less harm: both lists fused, or the question's own where the rewrite is in doubt.

Reciprocal rank fusion (Cormack, Clarke, Buettcher, SIGIR 2009): a document's score is the sum of 1 / (60 + its rank) over the orders that
hold it. Ranks need no common scale, which BM25 and a cosine do not have; 60 is the paper's constant.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, Protocol, TypeVar

from overtake.data.near_duplicates import is_copy
from overtake.reading.refusals import is_refusal

_RANK = 60
Mode = Literal["fused", "fallback"]
LONGEST = 150
"""Characters of a rewrite at most; a search line needs no more."""
DISAGREE = 0.1
"""By so much may the question score the rewrite's first document below its own first one. Measured (docs/rag_service.md): at 0.1 rewrites
that help keep what they gain and some of those that harm are caught; nearer to 0 more are caught, and help is lost with them."""


def fuse(orders: Iterable[Sequence[str]], k: int) -> list[tuple[str, float]]:
    """The k best ids of several orders and their scores, equal scores by id.

    >>> [(doc_id, round(score, 4)) for doc_id, score in fuse([["a", "b"], ["b", "c"]], 2)]
    [('b', 0.0325), ('a', 0.0164)]
    """
    scores: dict[str, float] = {}
    for order in orders:
        for rank, doc_id in enumerate(order, 1):
            scores[doc_id] = scores.get(doc_id, 0.0) + 1 / (_RANK + rank)
    return sorted(scores.items(), key=lambda item: (-item[1], item[0]))[:k]


class Scored(Protocol):
    """A document of a recall list."""

    @property
    def doc_id(self) -> str:
        """Its name."""

    @property
    def reranker_score(self) -> float:
        """Relevance to the question."""


H = TypeVar("H", bound=Scored)


def fused(of_question: Sequence[H], of_rewrite: Sequence[H]) -> list[H]:
    """All documents of both lists by reciprocal rank fusion; one that stands in both is the rewrite's."""
    documents = {hit.doc_id: hit for hit in (*of_question, *of_rewrite)}
    orders = [[hit.doc_id for hit in hits] for hits in (of_rewrite, of_question)]
    return [documents[doc_id] for doc_id, _ in fuse(orders, len(documents))]


def doubt(query: str, rewrite: str, of_question: Sequence[Scored], of_rewrite: Sequence[Scored]) -> str:
    """Why the question's own list is the safer one: copy, refusal, too long or disagreement; "" where the rewrite may be used.

    A rewrite that finds nothing, where the question finds something, disagrees.

    >>> doubt("皮肤没弹性吃啥", "皮肤没弹性吃啥？", [], []), doubt("皮肤没弹性吃啥", "我无法回答这个问题。", [], [])
    ('copy', 'refusal')
    """
    if is_copy(query, rewrite):
        return "copy"
    if is_refusal(rewrite):
        return "refusal"
    if len(rewrite) > LONGEST:
        return "too long"
    if not of_question:
        return ""
    first = of_rewrite[0].reranker_score if of_rewrite else -1.0
    return "disagreement" if of_question[0].reranker_score - first > DISAGREE else ""
