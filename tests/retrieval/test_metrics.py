"""Hand-worked values of the retrieval measures."""

import math
import subprocess
import sys

import pytest
from overtake.retrieval.metrics import evaluate_run, quality


@pytest.mark.parametrize(
    ("relevances", "expected"),
    [
        pytest.param([], 0.0, id="an empty list is 0"),
        pytest.param([0.5], 0.5, id="one item is both the first and the mean"),
        pytest.param([1.0, 0.0], 0.8, id="two items are averaged over two"),
        pytest.param([1.0, 0.0, 0.0], 0.6 + 0.4 / 3, id="three items are averaged over three"),
        pytest.param([0.0, 1.0, 1.0], 0.4 * 2 / 3, id="the first item carries most of the weight"),
        pytest.param([0.9, 0.6, 0.3, 1.0], 0.78, id="the fourth item does not count"),
    ],
)
def test_quality(relevances, expected):
    assert quality(relevances) == pytest.approx(expected)


def test_a_run_scores_as_worked_by_hand():
    run = {"q1": ["x", "a", "b"], "q2": ["c"], "q3": []}
    qrels = {"q1": {"a": 1, "b": 1}, "q2": {"c": 1, "d": 1}, "q3": {"a": 1}, "not asked": {"a": 1}}
    ideal = 1 + 1 / math.log2(3)
    assert evaluate_run(run, qrels) == {
        "q1": {
            "hit@1": 0.0,
            "recall@5": 1.0,
            "mrr@10": 0.5,
            "ndcg@10": pytest.approx((1 / math.log2(3) + 1 / 2) / ideal),
            "quality": pytest.approx(0.4 * 2 / 3),
        },
        # Quality of [1, 0, 0], as the list is filled up: 0.6 * 1 + 0.4 * 1 / 3.
        "q2": {
            "hit@1": 1.0,
            "recall@5": 0.5,
            "mrr@10": 1.0,
            "ndcg@10": pytest.approx(1 / ideal),
            "quality": pytest.approx(0.6 + 0.4 / 3),
        },
        "q3": {"hit@1": 0.0, "recall@5": 0.0, "mrr@10": 0.0, "ndcg@10": 0.0, "quality": 0.0},
    }


def test_rank_six_is_past_recall_at_5_and_within_ndcg_at_10():
    (found,) = evaluate_run({"q": ["u", "v", "w", "x", "y", "a"]}, {"q": {"a": 1, "x": 0}}).values()
    assert found == {
        "hit@1": 0.0,
        "recall@5": 0.0,
        "mrr@10": pytest.approx(1 / 6),
        "ndcg@10": pytest.approx(1 / math.log2(7)),
        "quality": 0.0,
    }


def test_finding_fewer_documents_is_not_better_than_finding_more():
    few, more = (evaluate_run({"q": ranked}, {"q": {"a": 1}})["q"]["quality"] for ranked in (["a"], ["a", "x", "y"]))
    assert few == more == pytest.approx(0.6 + 0.4 / 3)


def test_an_empty_run_gives_an_empty_result():
    assert evaluate_run({}, {"q": {"a": 1}}) == {}


@pytest.mark.parametrize(
    ("run", "message"),
    [
        pytest.param({"new": ["a"]}, "question 'new' has no relevant document", id="a question without labels is refused, not scored 0"),
        pytest.param({"zero": ["a"]}, "question 'zero' has no relevant document", id="a question whose labels are all 0 is refused"),
        pytest.param({"q": ["a", "b", "a"]}, "stands twice", id="a document ranked twice is refused"),
    ],
)
def test_a_run_that_cannot_be_scored(run, message):
    with pytest.raises(ValueError, match=message):
        evaluate_run(run, {"q": {"a": 1}, "zero": {"a": 0}})


def test_quality_is_imported_without_tantivy_fastapi_or_ir_measures():
    code = "import sys; from overtake.retrieval.metrics import quality; print({'tantivy', 'fastapi', 'ir_measures'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
