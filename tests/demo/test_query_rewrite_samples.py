"""The shipped tenants: enough of everything, labels that hold, and held-out questions that nothing shipped gives away."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from overtake.data.near_duplicates import leaks
from overtake.data.tables import read_rows
from overtake.reading.normal_forms import for_likeness
from overtake.retrieval.corpus import read_corpus, read_lexicon, read_qrels, read_queries

ROOT = Path(__file__).parents[2]
TENANTS = sorted(path.parent for path in (ROOT / "datasets/query_rewrite").glob("*/source.yaml"))
# Code, recipes, prompts and rule files: whatever a system could have been taught the held-out questions by.
SHIPPED = sorted(
    path
    for folder in ("plugin", "tools", "demo", "recipes")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in (".py", ".sh", ".yaml", ".yml", ".toml", ".tsv", ".txt", ".md", ".json")
    # The word lists of the other tasks and of what reads answers, cells and errors (平方, 麻烦您, 异常) hold much of everyday Chinese, and
    # nothing of query rewriting is taught by them.
    and path.name not in ("medical_rules.yaml", "medical_risks.yaml")
    and not (
        path.suffix == ".py" and {"reading", "remote", "data", "medical", "finance", "answer_judge"} & set(path.relative_to(ROOT).parts)
    )
)


@pytest.fixture(params=TENANTS, ids=lambda folder: folder.name)
def folder(request):
    return request.param


def held_out(folder):
    queries = read_queries(folder)
    return [queries[key]["text"] for key in read_qrels(folder, "test")]


def training_texts(folder):
    """What a system may read of a tenant: training questions, profiles, histories, the lexicon, and the training part of source.yaml."""
    test = read_qrels(folder, "test")
    rows = [row for key, row in read_queries(folder).items() if key not in test]
    texts = [str(text) for row in rows for name, text in row.items() if name != "_id"]
    texts += [text for pair in read_lexicon(folder / "lexicon.tsv").items() for text in pair]
    source = yaml.safe_load((folder / "source.yaml").read_text("utf-8"))
    texts += source["profiles"] + source["histories"] + source["frames"]["train"]
    return texts + [phrase for holder in [*source["concepts"], *source["aspects"].values()] for phrase in holder["lexicon"] + holder["lay"]]


def test_two_tenants_are_shipped():
    assert [folder.name for folder in TENANTS] == ["chengla", "fivedoctors"]


def test_a_tenant_is_large_enough(folder):
    train, test = read_qrels(folder, "train"), read_qrels(folder, "test")
    assert len(read_corpus(folder)) >= 200
    assert len(train) + len(test) >= 1000
    assert len(test) >= 200
    assert len(read_lexicon(folder / "lexicon.tsv")) >= 50


def test_every_question_has_a_gold_document_that_exists_and_stands_on_one_side(folder):
    train, test = read_qrels(folder, "train"), read_qrels(folder, "test")
    known = {document.id for document in read_corpus(folder)}
    assert not train.keys() & test.keys()
    assert train.keys() | test.keys() == read_queries(folder).keys()
    for gold in [*train.values(), *test.values()]:
        assert [score for doc_id, score in gold.items() if doc_id in known] == [1]


def test_no_question_stands_twice(folder):
    texts = [for_likeness(row["text"]) for row in read_queries(folder).values()]
    assert len(set(texts)) == len(texts)


def test_the_sheet_holds_the_same_questions(folder):
    names = {"_id": "query_id", "text": "问题", "user_profile": "用户画像", "history_summary": "历史摘要"}
    expected = [{shown: row.get(name, "") for name, shown in names.items()} for row in read_queries(folder).values()]
    assert read_rows(folder / "questions.xlsx") == expected


def test_held_out_questions_share_nothing_with_any_tenants_training_material(folder):
    assert list(leaks(held_out(folder), [text for tenant in TENANTS for text in training_texts(tenant)])) == []


def test_held_out_questions_share_nothing_with_prompts_code_and_recipes(folder):
    some = {"rewrite_chengla.txt", "judge_rewrite.txt", "rewriting.py", "evaluate.py", "lib.sh", "prices.toml"}
    assert {path.name for path in SHIPPED} >= some
    texts = [path.read_text("utf-8") for path in SHIPPED]
    found = list(leaks(held_out(folder), texts))
    assert found == [], [path for path, text in zip(SHIPPED, texts, strict=True) if any(leaks([question for question, _ in found], [text]))]


@pytest.mark.parametrize("place", ["lexicon.tsv", "queries.jsonl", "source.yaml"])
def test_a_planted_leak_is_found(folder, tmp_path, place):
    copy = shutil.copytree(folder, tmp_path / folder.name)
    question = held_out(folder)[7]
    if place == "lexicon.tsv":
        with (copy / place).open("a", encoding="utf-8") as file:
            file.write(f"{question}\t术语\n")
    elif place == "queries.jsonl":
        rows = [json.loads(line) for line in (copy / place).read_text("utf-8").splitlines()]
        rows[0]["user_profile"] = f"常说“{question}”"
        (copy / place).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    else:
        source = yaml.safe_load((copy / place).read_text("utf-8"))
        source["histories"].append(question)
        (copy / place).write_text(yaml.safe_dump(source, allow_unicode=True), "utf-8")
    assert question in dict(leaks(held_out(copy), training_texts(copy)))


def test_the_sample_is_what_its_source_makes(folder, tmp_path):
    copy = tmp_path / folder.name
    copy.mkdir()
    shutil.copy(folder / "source.yaml", copy)
    subprocess.run([sys.executable, "-m", "demo.samples.make_sample", str(copy)], check=True, capture_output=True, cwd=ROOT)
    for name in ("corpus.jsonl", "queries.jsonl", "qrels/train.tsv", "qrels/test.tsv", "lexicon.tsv"):
        assert (copy / name).read_bytes() == (folder / name).read_bytes(), name
    assert read_rows(copy / "questions.xlsx") == read_rows(folder / "questions.xlsx")
