"""Set questions of a BEIR folder aside: OUT gets the corpus, the questions, and qrels/train.tsv and qrels/test.tsv.

    python tools/hold_out.py kb/statutes output/statutes/kb --share 0.2

For folders whose labels are one qrels.tsv; one that has qrels/test.tsv already is copied with the split it was published with.
The draw is seeded, and questions that differ only in width, case, punctuation or spaces stay on one side.
"""

import argparse
import random
import shutil
import sys
from pathlib import Path

from overtake.cli import run
from overtake.data.tables import BadInput
from overtake.reading.normal_forms import for_likeness
from overtake.retrieval.corpus import read_corpus, read_qrels, read_queries


def hold_out(folder: Path, out: Path, share: float, seed: int) -> int:
    """Write OUT whole (aside, then renamed) and say how many questions went where."""
    if not 0 < share < 1:
        raise BadInput(f"--share {share}: give a share between 0 and 1")
    if out.exists():
        raise BadInput(f"{out} exists: remove it or choose another folder")
    published = sorted((folder / "qrels").glob("*.tsv")) if (folder / "qrels" / "test.tsv").is_file() else []
    try:
        documents, queries = read_corpus(folder), read_queries(folder)
        sides = {file.stem: read_qrels(folder, file.stem) for file in published}
        labels = {} if published else {name: row for name, row in read_qrels(folder).items() if name in queries}
    except ValueError as error:
        raise BadInput(str(error)) from None
    known = {document.id for document in documents}
    absent = sorted({doc_id for row in labels.values() for doc_id in row} - known)
    if absent:
        raise BadInput(f"{folder}: qrels name {len(absent)} documents that the corpus lacks (first: {absent[0]}): correct either file")
    if not published:
        groups = sorted({for_likeness(queries[name]["text"]) for name in labels})
        held = set(random.Random(seed).sample(groups, round(len(groups) * share)))
        for side, chosen in (("train", False), ("test", True)):
            sides[side] = {name: row for name, row in labels.items() if (for_likeness(queries[name]["text"]) in held) == chosen}
            if not sides[side]:
                raise BadInput(f"{folder}: no question is left for {side}: {len(labels)} questions have labels, --share is {share}")
    aside = out.with_name(out.name + ".aside")
    shutil.rmtree(aside, ignore_errors=True)
    (aside / "qrels").mkdir(parents=True)
    for name in ("corpus.jsonl", "queries.jsonl", "lexicon.tsv"):
        if (folder / name).is_file():
            shutil.copy(folder / name, aside / name)
    for side, rows in sides.items():
        lines = [f"{name}\t{doc_id}\t{score}\n" for name, row in rows.items() for doc_id, score in row.items()]
        (aside / "qrels" / f"{side}.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(lines), encoding="utf-8")
    aside.rename(out)
    print(f"{out}: {len(documents)} documents; questions: " + ", ".join(f"{len(rows)} {side}" for side, rows in sides.items()))
    return 0


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="BEIR folder: corpus.jsonl, queries.jsonl, qrels.tsv")
    parser.add_argument("out", type=Path, help="new folder")
    parser.add_argument("--share", type=float, default=0.2, help="share of the questions to hold out (default 0.2)")
    parser.add_argument("--seed", type=int, default=20)
    arguments = parser.parse_args(argv)
    return run(lambda: hold_out(arguments.folder, arguments.out, arguments.share, arguments.seed))


if __name__ == "__main__":
    sys.exit(main())
