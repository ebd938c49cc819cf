"""Serving a rewrite as it is, fused with the question, or the question where it is in doubt: how many questions find better, worse.

    python benchmarks/bench_modes.py datasets/query_rewrite/fivedoctors datasets/query_rewrite/chengla
    python benchmarks/bench_modes.py FOLDER --disagree 0 0.05 0.1 0.2    # other thresholds of fallback, too

FOLDER is a labelled BEIR folder. Rewrites cost no training: `teacher` is the mock teacher's with the labels of the training questions,
`lexicon` has the terms of the folder's lexicon, `rare` the question's rarer words, `rm3` these and terms of the first documents found
(pseudo-relevance feedback, which harms as often as it helps). Measured is nDCG@10 of held-out questions (qrels/test.tsv, else every fifth
question), for `lexicon` of the training questions, whose phrases it holds. `--no-lexicon` takes the lexicon from the service, so that
its reranker knows only words. Retrieval is in this process: no service, some seconds a folder.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from overtake import text_table
from overtake.cli import run
from overtake.data.splits import held_out
from overtake.data.tables import BadInput
from overtake.retrieval import modes
from overtake.retrieval.corpus import read_qrels, read_queries
from overtake.retrieval.metrics import evaluate_run
from overtake.retrieval.modes import doubt, fused
from overtake.retrieval.service import Hit, KnowledgeBase

from demo.mock_teacher.rewriting import Rewriter

SHARE, SEED, DEPTH = 0.2, 20, 10
KINDS = {"lexicon": "lexicon", "rare": "rare", "rm3": "rm3-10-3"}
Labels = Mapping[str, Mapping[str, int]]


def sides(folder: Path, questions: Mapping[str, str]) -> tuple[Labels, Labels]:
    """(labels of the training questions, of the held-out ones)."""
    if (folder / "qrels" / "test.tsv").is_file():
        return read_qrels(folder, "train"), read_qrels(folder, "test")
    labels = read_qrels(folder)
    held = held_out([questions[name] for name in labels], SHARE, SEED)
    parts: tuple[dict[str, Mapping[str, int]], dict[str, Mapping[str, int]]] = ({}, {})
    for (name, gold), out in zip(labels.items(), held, strict=True):
        parts[out][name] = gold
    return parts


def rows(folder: Path, thresholds: Sequence[float], lexicon: bool) -> list[list[str]]:
    """A row for each kind of rewrite and way to serve it. Raises BadInput for a folder that cannot be read."""
    try:
        base, questions = KnowledgeBase.load(folder), {key: row["text"] for key, row in read_queries(folder).items()}
        train, test = sides(folder, questions)
    except ValueError as error:
        raise BadInput(str(error)) from None
    taught, untaught = Rewriter(base, {questions[name]: set(gold) for name, gold in train.items()}), Rewriter(base)
    served = base if lexicon else KnowledgeBase.build(base.documents().values(), {})
    table = []
    for kind in ("teacher", *KINDS):
        labels = train if kind == "lexicon" else test
        texts = {}
        for name in labels:
            of_kind = taught.rewrite(questions[name]) if kind == "teacher" else dict(untaught.candidates(questions[name])).get(KINDS[kind])
            if of_kind:
                texts[name] = of_kind
        if texts:
            table += _of_kind(f"{folder.name}, {kind}", served, questions, texts, labels, thresholds)
    return table


def _of_kind(
    title: str, base: KnowledgeBase, questions: Mapping[str, str], texts: Mapping[str, str], labels: Labels, thresholds: Sequence[float]
) -> list[list[str]]:
    gold = {name: dict(labels[name]) for name in texts}

    def found(name: str, text: str) -> list[Hit]:
        return base.retrieve(questions[name], text, DEPTH, 0, DEPTH)

    def ndcg(lists: Mapping[str, Sequence[Hit]]) -> dict[str, float]:
        run = {name: [hit.doc_id for hit in hits[:DEPTH]] for name, hits in lists.items()}
        return {name: scores["ndcg@10"] for name, scores in evaluate_run(run, gold).items()}

    of_question = {name: found(name, questions[name]) for name in texts}
    as_it_is = {name: found(name, text) for name, text in texts.items()}
    ways = {"as it is": as_it_is, "fused": {name: fused(of_question[name], as_it_is[name]) for name in texts}}
    for threshold in thresholds:
        modes.DISAGREE = threshold
        ways[f"fallback at {threshold:g}"] = {
            name: of_question[name] if doubt(questions[name], text, of_question[name], as_it_is[name]) else as_it_is[name]
            for name, text in texts.items()
        }
    before = ndcg(of_question)
    lines = []
    for way, lists in ways.items():
        after = ndcg(lists)
        better, worse = (fmean(sign * (after[name] - before[name]) > 1e-9 for name in texts) for sign in (1, -1))
        shares = (f"{share:.1%}" for share in (better, 1 - better - worse, worse))
        lines.append([title, way, str(len(texts)), *shares, *(f"{fmean(scores.values()):.3f}" for scores in (before, after))])
    return lines


def work(args: argparse.Namespace) -> int:
    """Measure and print; 0 done."""
    head = ["rewrites", "served", "questions", "better", "same", "worse", "nDCG@10 of the question", "so served"]
    print("\n".join(text_table.fitted([head, *(row for folder in args.folders for row in rows(folder, args.disagree, args.lexicon))], "<")))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0 done, 2 bad input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--disagree", nargs="+", type=float, default=[modes.DISAGREE], help="of fallback (default: the service's)")
    parser.add_argument("--no-lexicon", dest="lexicon", action="store_false", help="serve without the folder's lexicon")
    args = parser.parse_args(argv)
    return run(lambda: work(args))


if __name__ == "__main__":
    raise SystemExit(main())
