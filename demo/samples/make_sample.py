"""Compose a tenant's sample (knowledge base, questions, gold labels, lexicon, Excel sheet) from its hand-written source.yaml.

    python -m demo.samples.make_sample datasets/query_rewrite/fivedoctors

Every document and every phrase is written by hand in source.yaml; this program only puts phrases into frames. Training
and held-out questions draw on separate lists of frames, laymen's phrases and ways to ask, and the program refuses to write
a held-out question that shares a word of two characters or a run of four with a training question or the lexicon.
"""

import argparse
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from overtake.cli import run
from overtake.data.near_duplicates import leaks
from overtake.data.tables import BadInput

TRAIN_PER_DOCUMENT = 4
HELD_OUT_PER_DOCUMENT = 2
SEED = 20
_DRAWS = 1000


def documents(source: dict[str, Any]) -> Iterator[dict[str, str]]:
    """One document for each (concept, aspect): `_id`, `title`, `text`."""
    for concept in source["concepts"]:
        for aspect in source["aspects"]:
            title = f"{concept['name']}：{source['aspects'][aspect]['title']}"
            yield {"_id": f"{concept['id']}-{aspect}", "title": title, "text": concept["docs"][aspect]}


def questions(source: dict[str, Any], split: str) -> Iterator[dict[str, str]]:
    """The questions of one split ("train" or "heldout"), each with the id of the document that answers it.

    Training phrases are those of the lexicon and those that only training rows know.
    Raises BadInput for a frame without {lay} or {ask}, and when there are too few frames and phrases for distinct questions.
    """
    rng = random.Random(f"{SEED}-{split}")
    frames = source["frames"][split]
    for frame in frames:
        if "{lay}" not in frame or "{ask}" not in frame:
            raise BadInput(f"frame {frame!r} of {split} must hold both {{lay}} and {{ask}}")
    per_document = TRAIN_PER_DOCUMENT if split == "train" else HELD_OUT_PER_DOCUMENT
    texts: set[str] = set()
    for concept in source["concepts"]:
        for position, aspect in enumerate(source["aspects"]):
            lay = _phrases(concept, split)
            ask = _phrases(source["aspects"][aspect], split)
            for number in range(per_document):
                # The lay phrase is rotated so that each is used about equally often; the rest is drawn.
                phrase = lay[(position * per_document + number) % len(lay)]
                for _ in range(_DRAWS):
                    text = rng.choice(frames).format(lay=phrase, ask=rng.choice(ask))
                    if text not in texts:
                        break
                else:
                    raise BadInput(f"{concept['id']}, {aspect}: no new {split} question in {_DRAWS} draws: write more frames or phrases")
                texts.add(text)
                row = {"_id": f"{concept['id']}-{aspect}-{split}{number + 1}", "text": text, "gold": f"{concept['id']}-{aspect}"}
                if split == "train" and source.get("profiles") and rng.random() < 0.15:
                    row["user_profile"] = rng.choice(source["profiles"])
                if split == "train" and source.get("histories") and rng.random() < 0.1:
                    row["history_summary"] = rng.choice(source["histories"])
                yield row


def _phrases(holder: dict[str, Any], split: str) -> list[str]:
    return holder["lexicon"] + holder["lay"] if split == "train" else holder["heldout"]


def lexicon(source: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(layman's phrase, the documents' terms) pairs that the shipped lexicon knows: only a part of the training phrases."""
    for concept in source["concepts"]:
        for phrase in concept["lexicon"]:
            yield phrase, " ".join(concept["terms"])
    for aspect in source["aspects"].values():
        for phrase in aspect["lexicon"]:
            yield phrase, " ".join(aspect["terms"])


def make(folder: Path) -> int:
    """Write corpus.jsonl, queries.jsonl, qrels/, lexicon.tsv and questions.xlsx beside source.yaml; 1 when a held-out question leaks."""
    try:
        source = yaml.safe_load((folder / "source.yaml").read_text(encoding="utf-8"))
        docs, pairs = list(documents(source)), list(lexicon(source))
        train, held_out = list(questions(source, "train")), list(questions(source, "heldout"))
    except yaml.YAMLError as error:
        raise BadInput(f"{folder / 'source.yaml'} is not readable as YAML: {error}") from None
    except KeyError as error:
        raise BadInput(f"{folder / 'source.yaml'}: {error} is missing; the shipped tenants' files show the form") from None
    shipped = [row["text"] for row in train] + [text for pair in pairs for text in pair]
    shipped += [text for row in train for text in (row.get("user_profile", ""), row.get("history_summary", ""))]
    leaked = list(leaks([row["text"] for row in held_out], shipped))
    for question, what in leaked[:200]:
        print(f"leak: {question} <- {what}", file=sys.stderr)
    if leaked:
        print(f"{len(leaked)} of {len(held_out)} held-out questions share words with shipped material: reword source.yaml", file=sys.stderr)
        return 1
    write_tenant(folder, docs, train, held_out, pairs)
    _write_sheet(folder / "questions.xlsx", train + held_out)
    return 0


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder that holds source.yaml")
    folder = parser.parse_args(argv).folder
    return run(lambda: make(folder))


def write_tenant(
    folder: Path, docs: list[dict[str, str]], train: list[dict[str, str]], held_out: list[dict[str, str]], pairs: list[tuple[str, str]]
) -> None:
    """Write corpus.jsonl, queries.jsonl, qrels/ and lexicon.tsv, and say how much; a question's `gold` is the document that answers it."""

    def jsonl(rows: list[dict[str, str]]) -> str:
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)

    def qrels(rows: list[dict[str, str]]) -> str:
        return "query-id\tcorpus-id\tscore\n" + "".join(f"{row['_id']}\t{row['gold']}\t1\n" for row in rows)

    (folder / "qrels").mkdir(exist_ok=True)
    queries = [{key: value for key, value in row.items() if key != "gold"} for row in train + held_out]
    (folder / "corpus.jsonl").write_text(jsonl(docs), encoding="utf-8")
    (folder / "queries.jsonl").write_text(jsonl(queries), encoding="utf-8")
    (folder / "qrels" / "train.tsv").write_text(qrels(train), encoding="utf-8")
    (folder / "qrels" / "test.tsv").write_text(qrels(held_out), encoding="utf-8")
    (folder / "lexicon.tsv").write_text("".join(f"{lay}\t{terms}\n" for lay, terms in pairs), encoding="utf-8")
    print(
        f"{folder.name}: {len(docs)} documents, {len(train)} training and {len(held_out)} held-out questions, {len(pairs)} lexicon entries"
    )


def _write_sheet(path: Path, queries: list[dict[str, str]]) -> None:
    names = {"_id": "query_id", "text": "问题", "user_profile": "用户画像", "history_summary": "历史摘要"}
    pd.DataFrame(queries).rename(columns=names)[list(names.values())].fillna("").to_excel(path, index=False)


if __name__ == "__main__":
    sys.exit(main())
