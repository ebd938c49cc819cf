"""Which column of a file of labels is which is told by a header or by the form, in any order; what cannot be told is an error."""

import json
import random
from pathlib import Path

import pytest
from overtake.retrieval.corpus import read_qrels

CASES = [json.loads(line) for line in (Path(__file__).parents[1] / "data/cases/labels.jsonl").read_text("utf-8").split("\n") if line]
HEADS = [
    ("query-id", "corpus-id", "score"),
    ("qid", "pid", "label"),
    ("Query_ID", "DocID", "Relevance"),
    ("问题编号", "文档编号", "相关性"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['id']} {case['text'][:40]!r}")
def test_labels_are_read_by_their_form_or_refused(tmp_path, case):
    (tmp_path / "qrels.tsv").write_bytes(case["text"].encode())
    if "want" in case:
        assert read_qrels(tmp_path) == case["want"]
    else:
        with pytest.raises(ValueError, match=r"qrels\.tsv:\d+: ") as told:
            read_qrels(tmp_path)
        assert case["error"] in str(told.value)


def test_f36_f37_random_labels_come_back_whatever_their_form(tmp_path):
    """800 files: three or four columns, with a header in any order or none, ids of digits or not, blanks, CRLF and BOM."""
    rng = random.Random(36)
    for _ in range(800):
        numeric, pad = rng.random() < 0.5, rng.random() < 0.5
        ids = [str(rng.randint(1, 10**7)) if numeric else f"{rng.choice('aq文')}-{rng.randint(1, 99)}号" for _ in range(12)]
        wanted = {}
        for query in ids[: rng.randint(1, 4)]:
            wanted.setdefault(query, {}).update({doc: rng.randint(0, 3) for doc in rng.sample(ids, rng.randint(1, 4))})
        form = rng.choice(["three", "trec", "named", "named and more"])
        names = dict(zip("qds", rng.choice(HEADS), strict=True)) | {"x": "remark", "0": "iter"}
        order = {"three": "qds", "trec": "q0ds", "named": "qds", "named and more": "qds0x"}[form]
        if form.startswith("named"):
            order = "".join(rng.sample(order, len(order)))
        rows = [
            {"q": query, "d": doc, "s": str(score), "0": "0", "x": "7"} for query, found in wanted.items() for doc, score in found.items()
        ]
        rng.shuffle(rows)
        blank = " " if pad else ""
        lines = [[blank + row[column] + blank for column in order] for row in rows + rows[: rng.randint(0, 1)]]
        if form.startswith("named"):
            lines.insert(0, [names[column] + blank for column in order])
        end = rng.choice(["\n", "\r\n"])
        text = end.join("\t".join(line) for line in lines) + rng.choice(["", end, end + end])
        (tmp_path / "qrels.tsv").write_bytes(rng.choice([b"", b"\xef\xbb\xbf"]) + text.encode())
        assert read_qrels(tmp_path) == wanted, text
