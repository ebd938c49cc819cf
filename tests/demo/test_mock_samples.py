"""The mock teacher on the shipped samples. `pytest tests/demo/test_mock_samples.py -s` prints demo/README.md's numbers of them."""

from pathlib import Path
from statistics import fmean

import pytest
from overtake.data.near_duplicates import leaks
from overtake.retrieval.corpus import read_qrels, read_queries
from overtake.retrieval.metrics import evaluate_run
from overtake.retrieval.service import KnowledgeBase
from overtake.tasks.query_rewrite.prompts import prompt

import demo.mock_teacher
from demo.mock_teacher.judging import judge
from demo.mock_teacher.rewriting import Rewriter, read_labels

SAMPLES = Path(__file__).parents[2] / "datasets" / "query_rewrite"


@pytest.fixture(scope="module", params=["fivedoctors", "chengla"])
def sample(request):
    folder = SAMPLES / request.param
    kb = KnowledgeBase.load(folder)
    return folder, Rewriter(kb, read_labels(folder)), {key: row["text"] for key, row in read_queries(folder).items()}


def means(name, rewriter, questions, rewrites, qrels):
    run = {key: [hit.doc_id for hit in rewriter.kb.retrieve(questions[key], text, 10, 0)] for key, text in rewrites.items()}
    scores = evaluate_run(run, qrels).values()
    found = {measure: round(fmean(score[measure] for score in scores), 3) for measure in ("hit@1", "recall@5", "ndcg@10", "quality")}
    verdict = fmean(judge(rewriter, questions[key], text)[0] for key, text in rewrites.items())
    print(f"\n{name:32} {found} verdict {verdict:.2f}", end="")
    return found, verdict


@pytest.mark.slow
@pytest.mark.release
def test_on_training_questions_the_pick_beats_the_question_in_retrieval_and_verdict(sample):
    folder, rewriter, questions = sample
    qrels = read_qrels(folder, "train")
    raw, copied = means(f"{folder.name} train, raw", rewriter, questions, {key: questions[key] for key in qrels}, qrels)
    picked = {key: rewriter.rewrite(questions[key]) for key in qrels}
    found, verdict = means(f"{folder.name} train, pick", rewriter, questions, picked, qrels)
    texts = list(picked.values())
    others = dict(zip(picked, texts[28:] + texts[:28], strict=True))  # of the next concept's next aspect
    _, wrong = means("  rewrites of other questions", rewriter, questions, others, qrels)
    assert found["quality"] > raw["quality"] + 0.2
    assert verdict > copied + 1 > wrong + 1
    held_out = read_qrels(folder, "test")
    means(f"{folder.name} held out, raw", rewriter, questions, {key: questions[key] for key in held_out}, held_out)
    means(f"{folder.name} held out, mock", rewriter, questions, {key: rewriter.rewrite(questions[key]) for key in held_out}, held_out)


def test_held_out_questions_share_no_word_with_the_stand_in(sample):
    folder, _, questions = sample
    held_out = [questions[key] for key in read_qrels(folder, "test")]
    sources = [path.read_text(encoding="utf-8") for path in Path(demo.mock_teacher.__file__).parent.iterdir() if path.is_file()]
    assert len(held_out) > 100
    assert list(leaks(held_out, [*sources, prompt("rewrite_default")])) == []
