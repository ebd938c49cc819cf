"""Retrieval quality of each way to cut text: `python quality.py JOB`; JOB.result gets nDCG@10 of a labelled folder's raw questions, all
splits."""

import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import fmean

import rjieba
from overtake.retrieval import index
from overtake.retrieval.corpus import read_corpus, read_qrels, read_queries
from overtake.retrieval.metrics import evaluate_run

_RUN = re.compile(r"[^\W_]+")
_HAN = re.compile(r"[\u3400-\u9fff]+")


def _other(text: str) -> list[str]:
    """Runs of letters and digits of other scripts, whole."""
    return _RUN.findall(_HAN.sub(" ", text))


def characters(text: str) -> list[str]:
    """Single Han characters."""
    text = index.normalise(text)
    return [*"".join(_HAN.findall(text)), *_other(text)]


def bigrams(text: str) -> list[str]:
    """Every two Han characters that stand together."""
    text = index.normalise(text)
    return [run[at : at + 2] for run in _HAN.findall(text) for at in range(max(1, len(run) - 1))] + _other(text)


def words(text: str) -> list[str]:
    """Words alone."""
    return [part for word in rjieba.cut(index.normalise(text)) for part in _RUN.findall(word)]


def shorter(text: str) -> list[str]:
    """Words, and the shorter words inside them."""
    return [part for word in rjieba.cut_for_search(index.normalise(text)) for part in _RUN.findall(word)]


WAYS: dict[str, Callable[[str], list[str]]] = {
    "characters": characters,
    "character bigrams": bigrams,
    "bigrams and characters": lambda text: bigrams(text) + [character for run in _HAN.findall(index.normalise(text)) for character in run],
    "words (rjieba)": words,
    "words, the shorter ones in them too (rjieba's cut_for_search)": shorter,
    "words and bigrams": lambda text: words(text) + [two for two in bigrams(text) if _HAN.match(two)],
    "**words and their characters (ours)**": index.words,
}


def main(job: Path) -> None:
    """Measure every way."""
    folder = Path(json.loads(job.read_text(encoding="utf-8"))["corpus"])
    documents, qrels = read_corpus(folder), read_qrels(folder)
    asked = {query: row["text"] for query, row in read_queries(folder).items() if query in qrels}
    by_cut = {}
    for name, way in WAYS.items():
        index.words = way
        built = index.Index.build(documents)
        run = {query: [doc_id for doc_id, _ in built.search(text, 10)] for query, text in asked.items()}
        scores = evaluate_run(run, qrels).values()
        start = time.perf_counter()
        terms = sum(len(way(text)) for text in asked.values()) / len(asked)
        seconds = time.perf_counter() - start
        measures = {name: fmean(score[name] for score in scores) for name in ("ndcg@10", "recall@5", "hit@1")}
        by_cut[name] = {**measures, "terms": terms, "cut": 1e6 * seconds / len(asked), "questions": len(asked)}
    job.with_suffix(".result").write_text(json.dumps(by_cut), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
