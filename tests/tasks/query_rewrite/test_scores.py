"""The pure scores, by hand from the formula."""

import math
import subprocess
import sys

import pytest
from overtake import settings
from overtake.remote.rag import Hit
from overtake.retrieval.metrics import evaluate_run, quality
from overtake.tasks.query_rewrite.rewards import rag_competition, rag_retrieval, rag_win, teacher_judge
from overtake.tasks.query_rewrite.rewards.relevance import relevances, worth


def test_the_parts_are_those_of_the_specification():
    # Student recalls .9 .6 .3: 0.6 * .9 + 0.4 * (1.8 / 3) = .54 + .24 = .78; teacher .8 .5: .48 + .4 * .65 = .74.
    student, teacher = quality([0.9, 0.6, 0.3]), quality([0.8, 0.5])
    assert (student, teacher) == (pytest.approx(0.78), pytest.approx(0.74))
    # tanh(3 * .04) = tanh(.12) = .119427
    assert rag_retrieval.score(student, teacher) == pytest.approx(0.119427, abs=1e-6)
    # Judge 4.5 against 4: tanh(3 * (.9 - .8)) = tanh(.3) = .291313
    assert teacher_judge.score(4.5, 4) == pytest.approx(0.291313, abs=1e-6)
    assert rag_win.score(student, teacher) == 0.5
    # .35 * .291313 + .40 * .119427 + .25 * .5 = .101960 + .047771 + .125 = .274730
    assert rag_competition.score(0.291313, 0.119427, 0.5) == pytest.approx(0.274730, abs=1e-6)


def test_the_weights_left_keep_the_sum_of_all():
    # (.40 * .119427 + .25 * .5) / .65 = .172771 / .65 = .265801
    assert rag_competition.score(None, 0.119427, 0.5) == pytest.approx(0.265801, abs=1e-6)
    # Weights that sum to 2 still sum to 2: (1 * .1 + .5 * .2) * 2 / 1.5 = .266667
    assert rag_competition.score(None, 0.1, 0.2, (0.5, 1.0, 0.5)) == pytest.approx(0.266667, abs=1e-6)
    assert rag_competition.score(None, 0.1, 0.2, (1.0, 0.0, 0.0)) is None, "nothing that weighs was measured"


def test_the_total_is_clipped():
    assert rag_competition.score(1.0, 1.0, 0.5, (1.0, 1.0, 1.0)) == 1.0
    assert rag_competition.score(-1.0, -1.0, -0.3, (1.0, 1.0, 1.0)) == -1.0


def test_an_empty_recall_is_an_honest_zero():
    assert rag_retrieval.score(quality([]), 0.6) == pytest.approx(math.tanh(-1.8))
    assert rag_win.score(quality([]), 0.6) == -0.3
    assert rag_win.score(quality([]), quality([])) == 0.0, "both recall nothing: a tie"


def test_a_tie_is_equality_up_to_floating_point():
    assert rag_win.score(0.1 + 0.2, 0.3) == 0.0
    assert rag_win.score(0.3 + 1e-6, 0.3) == 0.5


def test_gold_labels_replace_the_reranker():
    hits = [Hit("a", 0.9), Hit("b", 0.8), Hit("c", 0.7)]
    assert relevances(hits, ["b", "x"]) == [0.0, 1.0, 0.0]
    assert relevances(hits) == [0.9, 0.8, 0.7]
    assert relevances([], ["b"]) == [0.0, 0.0, 0.0]


def test_recalling_less_is_not_paid_where_gold_is_known():
    hits = [Hit("b", 0.9), Hit("a", 0.8), Hit("c", 0.7), Hit("d", 0.6)]
    assert [relevances(hits[:count], ["b"]) for count in (1, 2, 3)] == [[1.0, 0.0, 0.0]] * 3
    assert relevances(hits, ["b", "d"]) == [1.0, 0.0, 0.0, 1.0]
    assert relevances(hits[:1]) == [0.9], "reranker scores are not filled up"


def test_gold_labels_without_document_names_are_refused():
    with pytest.raises(ValueError, match="doc_id"):
        relevances([Hit(None, 0.9)], ["a"])


def test_scores_import_neither_swift_nor_torch():
    rewards = "rag_competition rag_retrieval rag_win teacher_judge rewrite_rules relevance"
    modules = ["rewards.measuring", *(f"tasks.query_rewrite.rewards.{name}" for name in rewards.split())]
    modules += ["tasks.medical.book", *(f"tasks.medical.rewards.{name}" for name in ("medical_rules", "medical_answer"))]
    code = (
        "import importlib, sys\n"
        f"for name in {modules}: importlib.import_module('overtake.' + name)\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'swift', 'torch', 'transformers', 'datasets'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_with_labels_a_recall_list_may_be_worth_its_ndcg(monkeypatch):
    """A labelled document in fifth place is worth nothing by the first three; by nDCG@10 it is, as ir_measures counts it."""
    ranked = [[Hit(f"d{place}", 0.9 - place / 20) for place in order] for order in ([1, 2, 3, 4, 0, 5, 6, 7, 8, 9], [0, 1], [4, 3, 9])]
    for gold in (["d0"], ["d0", "d3", "d9"], [f"d{number}" for number in range(12)]):
        names = {str(at): [hit.doc_id for hit in hits] for at, hits in enumerate(ranked)}
        measured = evaluate_run(names, dict.fromkeys(names, dict.fromkeys(gold, 1)))
        monkeypatch.setenv("OVERTAKE_GOLD_NDCG", "1")
        settings.load.cache_clear()
        assert [worth(relevances(hits, gold), gold) for hits in ranked] == pytest.approx([measured[name]["ndcg@10"] for name in "012"])
        assert worth(relevances(ranked[0])) == quality([hit.score for hit in ranked[0]]), "without labels the reranker's scores"
        monkeypatch.setenv("OVERTAKE_GOLD_NDCG", "0")
        settings.load.cache_clear()
        assert [worth(relevances(hits, gold), gold) for hits in ranked] == pytest.approx([measured[name]["quality"] for name in "012"])
