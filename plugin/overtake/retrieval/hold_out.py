"""Holding out questions of a BEIR folder: the corpus and the questions copied, the labels parted into train and test."""

import argparse
import shutil
from pathlib import Path

from overtake.data.splits import held_out, shuffled
from overtake.data.tables import BadInput, json_lines
from overtake.reading.normal_forms import for_likeness
from overtake.retrieval.corpus import read_corpus, read_qrels, read_queries


def work(args: argparse.Namespace) -> int:
    """Hold out, and say how many questions went where; 0 done. Raises BadInput."""
    documents, counts = hold_out(args.folder, args.out, args.share, args.seed, documents=args.documents, keep=args.keep)
    print(f"{args.out}: {documents} documents; questions: " + ", ".join(f"{count} {side}" for side, count in counts.items()))
    return 0


def hold_out(
    folder: Path, out: Path, share: float, seed: int, *, documents: bool = False, keep: tuple[int, int] | None = None
) -> tuple[int, dict[str, int]]:
    """Write OUT whole (aside, then renamed); the number of documents, and of questions on each side.

    A folder that has qrels/test.tsv keeps the split it was published with. With `documents` no document is labelled on both sides:
    questions that share one stay together. With `keep` at most so many questions of train and of test are drawn, and no others are
    written. Raises BadInput.
    """
    if not 0 < share < 1:
        raise BadInput(f"--share {share}: give a share between 0 and 1")
    if keep and min(keep) < 1:
        raise BadInput(f"--keep {keep[0]} {keep[1]}: give at least one question to either side")
    if out.exists():
        raise BadInput(f"{out} exists: remove it or choose another folder")
    published = sorted((folder / "qrels").glob("*.tsv")) if (folder / "qrels" / "test.tsv").is_file() else []
    try:
        corpus, queries = read_corpus(folder), read_queries(folder)
        sides = {file.stem: read_qrels(folder, file.stem) for file in published}
        labels = {} if published else {name: row for name, row in read_qrels(folder).items() if name in queries}
    except ValueError as error:
        raise BadInput(str(error)) from None
    if published and documents:
        raise BadInput(f"{folder}: its split is published in qrels/test.tsv and is kept: leave --documents out")
    doc_ids = {document.id for document in corpus}
    absent = sorted({doc_id for row in labels.values() for doc_id in row} - doc_ids)
    if absent:
        raise BadInput(f"{folder}: qrels name {len(absent)} documents that the corpus lacks (first: {absent[0]}): correct either file")
    if not published:
        texts = [queries[name]["text"] for name in labels]
        test_texts = _with_documents(texts, list(labels.values()), share, seed) if documents else held_out(texts, share, seed)
        together = ", and questions that share a document stay together" if documents else ""
        for side, is_test in (("train", False), ("test", True)):
            sides[side] = {name: row for (name, row), out_of in zip(labels.items(), test_texts, strict=True) if out_of == is_test}
            if not sides[side]:
                raise BadInput(
                    f"{folder}: no question is left for {side}: {len(labels)} questions have labels, --share is {share}{together}"
                )
    if keep:
        drawn = {side: set(shuffled(sorted(sides.get(side, {})), seed)[:most]) for side, most in zip(("train", "test"), keep, strict=True)}
        sides = {side: {name: row for name, row in sides[side].items() if name in drawn[side]} for side in drawn if side in sides}
    aside = out.with_name(out.name + ".aside")
    shutil.rmtree(aside, ignore_errors=True)
    (aside / "qrels").mkdir(parents=True)
    for name in ("corpus.jsonl", "lexicon.tsv", *(() if keep else ("queries.jsonl",))):
        if (folder / name).is_file():
            shutil.copy(folder / name, aside / name)
    if keep:
        kept = [row for name, row in queries.items() if any(name in rows for rows in sides.values())]
        (aside / "queries.jsonl").write_bytes(json_lines(kept))
    for side, rows in sides.items():
        lines = [f"{name}\t{doc_id}\t{score}\n" for name, row in rows.items() for doc_id, score in row.items()]
        (aside / "qrels" / f"{side}.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(lines), encoding="utf-8")
    aside.rename(out)
    return len(corpus), {side: len(rows) for side, rows in sides.items()}


def _with_documents(texts: list[str], labels: list[dict[str, int]], share: float, seed: int) -> list[bool]:
    """Whether each question is held out: at most `share` of them, those that ask the same or share a document on one side."""
    above: dict[str, str] = {}

    def top(name: str) -> str:
        while name in above:
            name = above[name]
        return name

    names = [f"question {for_likeness(text)}" for text in texts]
    for name, row in zip(names, labels, strict=True):
        for document in row:
            first, other = top(f"document {document}"), top(name)
            if first != other:
                above[first] = other
    groups: dict[str, list[int]] = {}
    for at, name in enumerate(names):
        groups.setdefault(top(name), []).append(at)
    test_places: set[int] = set()
    for group in shuffled(sorted(groups.values(), key=lambda group: min(names[at] for at in group)), seed):
        if len(test_places) + len(group) <= round(share * len(texts)):
            test_places.update(group)
    return [at in test_places for at in range(len(texts))]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the tool's options."""
    parser.add_argument("folder", type=Path, help="BEIR folder: corpus.jsonl, queries.jsonl, qrels.tsv")
    parser.add_argument("out", type=Path, help="new folder")
    parser.add_argument("--share", type=float, default=0.2, help="share of the questions to hold out (default 0.2)")
    parser.add_argument("--documents", action="store_true", help="label no document on both sides: a policy may memorise titles")
    parser.add_argument("--keep", type=int, nargs=2, metavar=("TRAIN", "TEST"), help="draw at most so many questions of each side")
    parser.add_argument("--seed", type=int, default=20)
