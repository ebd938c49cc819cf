"""The retrieval benchmark at sizes that say nothing: every part runs, the tables have their rows, what is absent or wrong is named."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location("bench_retrieval_tool", ROOT / "benchmarks" / "bench_retrieval.py")
tool = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tool)
QUICK = ["--seconds", "0.1", "--threads", "2"]


@pytest.fixture
def corpus(tmp_path):
    texts = ["胶原蛋白肽改善皮肤弹性", "叶黄素缓解视疲劳", "褪黑素帮助入睡", "虾青素抗氧化 omega-3"]
    rows = [{"_id": f"d{number}", "title": "产品", "text": text} for number, text in enumerate(texts)]
    asked = [{"_id": f"q{number}", "text": text} for number, text in enumerate(["皮肤不好", "眼睛视疲劳", "怎么入睡", "抗氧化吃什么"])]
    for name, lines in {"corpus": rows, "queries": asked}.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    (tmp_path / "qrels.tsv").write_text("".join(f"q{number}\td{number}\t1\n" for number in range(4)), encoding="utf-8")
    return tmp_path


def tables(text):
    """The rows of each table, without the line below the head."""
    found = [[]]
    for line in text.splitlines():
        if line.startswith("|"):
            found[-1].append([cell.strip() for cell in line.strip("|").split("|")])
        elif found[-1]:
            found.append([])
    return [[row for row in rows if "---" not in row] for rows in found if rows]


@pytest.mark.slow
@pytest.mark.release
def test_engines_growth_and_service_have_their_rows(corpus, capsys):
    names = ["ours", "ours_cut", "tantivy", "fts5", "rank_bm25", "bm25s", "qdrant_edge"]
    assert tool.main(["--corpus", str(corpus), "--sizes", "20", "60", "--engines", *names, *QUICK]) == 0
    said = capsys.readouterr().out
    first, second, growth, service = tables(said)
    for rows, size in ((first, "20 documents"), (second, "60 documents")):
        assert rows[0] == [size, "index s", "memory MB", "questions/s", "p99 ms", "questions/s, 2 threads", "p99 ms", "100 more, ms"]
        assert [row[0] for row in rows[1:]] == [tool.NAMES[name][0] for name in names]
        assert all(float(row[3].replace(",", "")) > 0 and float(row[4].replace(",", "")) > 0 for row in rows[1:])
    assert [row[7] for row in first[1:] if row[7] == "anew"] == ["anew", "anew"]
    assert growth[0] == ["ms a question, one client", "20", "60"] and len(growth) == 1 + len(names)
    assert [row[0] for row in service] == ["HTTP service", "20", "60"] and len(service[1]) == len(service[0]) == 9
    assert "of bare tantivy's rate" in said


def test_the_quality_of_each_way_to_cut_has_its_row(corpus, capsys):
    assert tool.main(["--quality", str(corpus)]) == 0
    (rows,) = tables(capsys.readouterr().out)
    assert rows[0][0] == "4 raw questions, BM25 of" and len(rows) == 8
    assert all(0 <= float(row[1]) <= 1 for row in rows[1:]) and rows[-1][0] == "**words and their characters (ours)**"
    assert float(rows[-1][1]) == 1.0


def test_an_engine_that_is_absent_is_left_out_by_name(corpus, capsys, monkeypatch):
    monkeypatch.setattr(tool.importlib.util, "find_spec", lambda name: None)
    assert tool.main(["--corpus", str(corpus), "--sizes", "5", "--engines", "fts5", "milvus_lite", "--no-service", *QUICK]) == 0
    said = capsys.readouterr().out
    assert "- milvus-lite is left out: pip install milvus-lite pymilvus jieba" in said
    assert [row[0] for row in tables(said)[0][1:]] == ["SQLite FTS5"]


def test_an_engine_that_breaks_or_takes_too_long_is_named_and_the_rest_is_measured(corpus, capsys):
    arguments = ["--corpus", str(corpus), "--sizes", "5", "--engines", "fts5", "--no-service", *QUICK]
    assert tool.main([*arguments, "--limit", "0.01"]) == 1
    said = capsys.readouterr().out
    assert "- SQLite FTS5 at 5 documents: not done after 0.01 s" in said
    assert tables(said)[0][1] == ["SQLite FTS5", *"–––––––"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--corpus", "nowhere"], "nowhere: no corpus.jsonl there: give a folder", id="no corpus"),
        pytest.param(["--sizes", "0"], "--sizes, --threads, --seconds and --workers: give numbers above 0", id="no documents"),
    ],
)
def test_bad_input_is_one_line(capsys, arguments, message):
    assert tool.main(arguments) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")


def test_copies_differ_from_the_corpus_and_keep_its_words(corpus, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks" / "retrieval"))
    sys.modules.pop("texts", None)
    from texts import documents

    made = documents(corpus, 40)
    assert [text for _, text in made[:4]] != [text for _, text in made[4:8]]
    assert made[0][1] == "产品 胶原蛋白肽改善皮肤弹性" and len({key for key, _ in made}) == 40
    assert set("".join(text for _, text in made)) <= set("".join(text for _, text in made[:4]))
    assert documents(corpus, 40) == made
