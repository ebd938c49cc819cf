"""Relevances of a recall list: the gold documents where labels exist, else the reranker. One rule for filter, rewards, evaluation."""

from collections.abc import Collection, Sequence

from overtake import settings
from overtake.remote.rag import Hit
from overtake.retrieval.metrics import ndcg, quality

_JUDGED = 3


def relevances(hits: Sequence[Hit], gold: Collection[str] = ()) -> list[float]:
    """Return 1.0 or 0.0 for each recalled document where gold documents are known, else the reranker scores; in the recall's order.

    With gold documents a list shorter than three is filled with 0.0: `quality` averages over what is there, so a rewrite would
    otherwise be paid for recalling less.

    Raises ValueError when there are gold documents and a hit has no name: it could be gold, so 0.0 would be invented.

    >>> relevances([Hit("a", 0.9), Hit("b", 0.7)], gold=["b"])
    [0.0, 1.0, 0.0]
    >>> relevances([Hit("a", 0.9), Hit(None, 0.7)])
    [0.9, 0.7]
    """
    if not gold:
        return [hit.score for hit in hits]
    if any(hit.doc_id is None for hit in hits):
        raise ValueError(
            "a recalled document has no doc_id, so gold relevance cannot be told: let the RAG service return doc_id, "
            "or leave rag_gold empty to use its reranker scores"
        )
    return [1.0 if hit.doc_id in gold else 0.0 for hit in hits] + [0.0] * (_JUDGED - len(hits))


def worth(scores: Sequence[float], gold: Collection[str] = ()) -> float:
    """Worth of a recall list by its relevances, in [0, 1]: their `quality`; with labels nDCG@10, if OVERTAKE_GOLD_NDCG says so."""
    return ndcg(scores, len(gold)) if gold and settings.load().gold_ndcg else quality(scores)
