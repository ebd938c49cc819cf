"""Retrieval quality of one question: the reward's formula and the usual measures."""

import math
from collections.abc import Sequence


def quality(relevances: Sequence[float]) -> float:
    """Return 0.6 * the first relevance + 0.4 * the mean of the first three, for relevances in rank order (reranker scores, or 1/0 of gold).

    A list shorter than three is averaged over what it holds, so cutting weak documents by a threshold is not punished; an empty
    list is 0.0. Where lists may differ in length for a reason that deserves no reward, fill them up with zeros first.

    >>> quality([0.9, 0.6, 0.3, 0.8])
    0.78
    >>> quality([0.9]), quality([])
    (0.9, 0.0)
    """
    if not relevances:
        return 0.0
    top = relevances[:3]
    return round(0.6 * top[0] + 0.4 * sum(top) / len(top), 12)


def ndcg(relevances: Sequence[float], relevant: int) -> float:
    """nDCG@10 (Järvelin and Kekäläinen, 2002) of a ranked list, each relevance 1 or 0, where there are `relevant` documents in all.

    >>> ndcg([0.0, 1.0], 1), ndcg([1.0], 1), ndcg([], 1)
    (0.630929753571, 1.0, 0.0)
    """
    gain = sum(relevance / math.log2(rank + 1) for rank, relevance in enumerate(relevances[:10], 1))
    return round(gain / sum(1 / math.log2(rank + 1) for rank in range(1, min(relevant, 10) + 1)), 12)


def evaluate_run(run: dict[str, list[str]], qrels: dict[str, dict[str, int]]) -> dict[str, dict[str, float]]:
    """Measure hit@1, recall@5, mrr@10, ndcg@10 (ir_measures) and quality of gold relevance (1/0) for each question of the run.

    `run` holds ranked document ids by question; an empty list scores 0 everywhere, and for quality a list shorter than three is filled
    up with documents that are not relevant. Questions that only the qrels hold are left out.
    Raises ValueError for a question without a relevant document and for a document that stands twice in a list.

    >>> evaluate_run({"q": ["b", "a"]}, {"q": {"a": 1}})["q"]["recall@5"]
    1.0
    """
    import ir_measures  # on use: rewards import this module for `quality` alone

    for query, ranked in run.items():
        if not any(score > 0 for score in qrels.get(query, {}).values()):
            raise ValueError(f"question {query!r} has no relevant document in the qrels: label it or leave it out of the run")
        if len(set(ranked)) < len(ranked):
            raise ValueError(f"question {query!r}: a document stands twice in {ranked[:20]}: rank each once")
    names = {
        ir_measures.Success @ 1: "hit@1",
        ir_measures.R @ 5: "recall@5",
        ir_measures.RR @ 10: "mrr@10",
        ir_measures.nDCG @ 10: "ndcg@10",
    }
    # Filled up, or finding fewer documents would be better than finding more.
    by_question = {
        query: {
            **dict.fromkeys(names.values(), 0.0),
            "quality": quality([*(float(qrels[query].get(doc, 0) > 0) for doc in ranked), 0.0, 0.0, 0.0]),
        }
        for query, ranked in run.items()
    }
    scored = {query: {doc: float(-rank) for rank, doc in enumerate(ranked)} for query, ranked in run.items() if ranked}
    for metric in ir_measures.iter_calc(list(names), {query: qrels[query] for query in scored}, scored):
        by_question[metric.query_id][names[metric.measure]] = float(metric.value)
    return by_question
