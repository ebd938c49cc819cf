"""The benchmark of serving modes over a few documents, where better, same and worse can be counted by hand."""

import json

QUESTIONS = {"q1": ("脸上松垮", "a"), "q2": ("视疲劳怎么办", "b"), "q3": ("脸上松垮 视疲劳", "b")}


def test_each_way_has_its_shares(run, tmp_path):
    documents = {"a": "胶原蛋白肽 皮肤", "b": "叶黄素 视疲劳", "c": "褪黑素 入睡"}
    files = {
        "corpus.jsonl": [{"_id": name, "text": text} for name, text in documents.items()],
        "queries.jsonl": [{"_id": name, "text": text} for name, (text, _) in QUESTIONS.items()],
    }
    for name, rows in files.items():
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (tmp_path / "lexicon.tsv").write_text("脸上松垮\t胶原蛋白肽\n", encoding="utf-8")
    (tmp_path / "qrels").mkdir()
    for side, names in {"train": ["q1", "q3"], "test": ["q2"]}.items():
        (tmp_path / "qrels" / f"{side}.tsv").write_text("".join(f"{name}\t{QUESTIONS[name][1]}\t1\n" for name in names), encoding="utf-8")
    done = run("bench_modes", tmp_path, "--disagree", "0.1", "0.5")
    assert (done.code, done.err) == (0, "")
    rows = [line.split("  ") for line in done.out.splitlines() if ", lexicon" in line]
    cells = {words[1]: [cell.strip() for cell in words[2:] if cell.strip()] for words in ([*filter(None, row)] for row in rows)}
    # Of the two training questions the lexicon finds the first's document, which the question alone cannot.
    assert cells["as it is"][:2] == ["2", "50.0%"]
    assert {"fused", "fallback at 0.1", "fallback at 0.5"} <= cells.keys()


def test_a_folder_without_labels_is_named(run, tmp_path):
    done = run("bench_modes", tmp_path)
    assert done.code == 2 and done.err.startswith("error: ") and "corpus.jsonl" in done.err
