"""The constants against real questions (STARD). `pytest tests/retrieval/test_stard.py -s` prints docs/rag_service.md's table."""

import random
from pathlib import Path
from statistics import fmean, quantiles

import pytest
from overtake.retrieval import index
from overtake.retrieval.corpus import read_corpus, read_qrels, read_queries
from overtake.retrieval.index import Index
from overtake.retrieval.metrics import evaluate_run
from overtake.retrieval.service import KnowledgeBase

STARD = Path(__file__).parents[3] / "shared" / "data" / "query_rewrite" / "stard_zh"
pytestmark = [pytest.mark.needs_shared, pytest.mark.skipif(not STARD.is_dir(), reason=f"{STARD} is absent")]


@pytest.fixture(scope="module")
def stard():
    return KnowledgeBase.load(STARD), {query: row["text"] for query, row in read_queries(STARD).items()}, read_qrels(STARD)


def means(name, run, qrels):
    scores = evaluate_run(run, qrels).values()
    found = {measure: round(fmean(score[measure] for score in scores), 4) for measure in ("hit@1", "recall@5", "ndcg@10")}
    print(f"\n{name:32} {found}", end="")
    return found


def candidates(searcher, questions):
    return {query: [doc_id for doc_id, _ in searcher.search(text, 10)] for query, text in questions.items()}


def reranked(base, questions, found):
    documents = base.documents()
    scores = {query: base.reranker.score(questions[query], [documents[doc] for doc in ids]) for query, ids in found.items()}
    run = {query: [found[query][i] for i in sorted(range(len(found[query])), key=lambda i: -scores[query][i])] for query in found}
    return run, scores


def test_characters_beside_words_find_more(stard, monkeypatch):
    base, questions, qrels = stard
    both = means("BM25, words and characters", candidates(base.index, questions), qrels)
    monkeypatch.setattr(index, "_HAN", index.re.compile("(?!)"))
    alone = means("BM25, words alone", candidates(Index.build(read_corpus(STARD)), questions), qrels)
    assert both["ndcg@10"] > alone["ndcg@10"] + 0.03


def test_the_order_by_the_sum_beats_either_part_and_the_best_order_is_far_better(stard):
    base, questions, qrels = stard
    found = candidates(base.index, questions)
    first = means("BM25 order", found, qrels)
    second = means("reranked", reranked(base, questions, found)[0], qrels)
    served = {
        query: [hit.doc_id for hit in base.retrieve(text, text, top_k=10, score_threshold=0, candidates=10)]
        for query, text in questions.items()
    }
    both = means("sum of both (served)", served, qrels)
    best = means(
        "best order of the candidates",
        {query: sorted(ids, key=lambda doc: -qrels[query].get(doc, 0)) for query, ids in found.items()},
        qrels,
    )
    assert {query: set(ids) for query, ids in served.items()} == {query: set(ids) for query, ids in found.items()}
    assert both["ndcg@10"] > max(first["ndcg@10"], second["ndcg@10"]) + 0.005
    assert second["ndcg@10"] > first["ndcg@10"] - 0.01
    assert second["recall@5"] > first["recall@5"]
    assert best["ndcg@10"] > 0.66


def test_scores_suit_the_default_thresholds(stard):
    base, questions, _ = stard
    rng = random.Random(0)
    top = [max(scores) for scores in reranked(base, questions, candidates(base.index, questions))[1].values()]
    documents = sorted(base.documents().values(), key=lambda document: document.id)
    anything = [score for text in questions.values() for score in base.reranker.score(text, rng.sample(documents, 5))]
    success, low = fmean(score >= 0.6 for score in top), fmean(score < 0.5 for score in anything)
    print(f"\ntop-1 >= 0.6: {success:.3f}; random document < 0.5: {low:.3f}; top-1 deciles {[round(q, 2) for q in quantiles(top, n=10)]}")
    assert success == pytest.approx(0.70, abs=0.03)
    assert low > 0.95
