"""The defaults against real questions (STARD). `pytest tests/demo/test_mock_stard.py -s` prints every STARD number of demo/README.md."""

import random
from pathlib import Path
from statistics import fmean

import pytest
from overtake.retrieval.corpus import read_qrels, read_queries
from overtake.retrieval.metrics import evaluate_run
from overtake.retrieval.service import KnowledgeBase

from demo.mock_teacher.rewriting import Rewriter

STARD = Path(__file__).parents[3] / "shared" / "data" / "query_rewrite" / "stard_zh"
KINDS = ("learned1", "plain", "rare", "learned3", "rm3-3-2", "rm3-10-3")
pytestmark = [pytest.mark.needs_shared, pytest.mark.skipif(not STARD.is_dir(), reason=f"{STARD} is absent")]


@pytest.fixture(scope="module")
def stard():
    """(knowledge base, questions, qrels, 1,000 ids for labels, 235 held out)."""
    questions = {key: row["text"] for key, row in read_queries(STARD).items()}
    ids = sorted(questions, key=int)
    random.Random(0).shuffle(ids)
    return KnowledgeBase.load(STARD), questions, read_qrels(STARD), ids[:1000], ids[1000:]


def teach(stard, ids):
    kb, questions, qrels, *_ = stard
    return Rewriter(kb, {questions[key]: set(qrels[key]) for key in ids})


def means(stard, name, rewrites):
    kb, questions, qrels, *_ = stard
    run = {key: [hit.doc_id for hit in kb.retrieve(questions[key], text, 10, 0)] for key, text in rewrites.items()}
    first = {key: [doc for doc, _ in kb.index.search(text, 10)] for key, text in rewrites.items()}
    scores = evaluate_run(run, qrels).values()
    found = {name: round(fmean(score[name] for score in scores), 3) for name in ("hit@1", "ndcg@10", "quality")}
    found["first stage"] = round(fmean(score["ndcg@10"] for score in evaluate_run(first, qrels).values()), 3)
    print(f"\n{name:24} {found}", end="")
    return found


def by_kind(stard, pairs):
    """{kind: {id: rewrite}}; a question without the kind gets its default."""
    rewrites = {kind: {} for kind in KINDS}
    for rewriter, ids in pairs:
        for key in ids:
            found = dict(rewriter.candidates(stard[1][key]))
            for kind in KINDS:
                rewrites[kind][key] = found.get(kind) or rewriter.rewrite(stard[1][key])
    return rewrites


def test_the_default_is_the_best_kind_on_questions_it_was_not_taught(stard):
    _, questions, _, labelled, held_out = stard
    folds = [labelled[start::5] for start in range(5)]
    pairs = [(teach(stard, [key for other in folds if other is not fold for key in other]), fold) for fold in folds]
    print("\n1,000 questions in 5 folds", end="")
    raw = means(stard, "raw question", {key: questions[key] for key in labelled})
    found = {kind: means(stard, kind, rewrites) for kind, rewrites in by_kind(stard, pairs).items()}
    assert max(found, key=lambda kind: found[kind]["ndcg@10"]) == "learned1"
    assert found["learned1"]["ndcg@10"] > raw["ndcg@10"] + 0.005
    print("\n235 held out", end="")
    means(stard, "raw question", {key: questions[key] for key in held_out})
    for kind, rewrites in by_kind(stard, [(teach(stard, labelled), held_out)]).items():
        means(stard, kind, rewrites)


def test_the_pick_of_labelled_questions_is_better_than_the_questions(stard):
    _, questions, _, labelled, _ = stard
    rewriter = teach(stard, labelled)
    print("\n1,000 labelled", end="")
    raw = means(stard, "raw question", {key: questions[key] for key in labelled})
    picked = means(stard, "pick", {key: rewriter.rewrite(questions[key]) for key in labelled})
    assert picked["quality"] > raw["quality"] + 0.02
    assert not any(rewriter.rewrite(questions[key]) == questions[key] for key in labelled[:100])
