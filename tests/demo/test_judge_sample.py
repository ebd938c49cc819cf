"""The judge's sample: made again it is the same, its sides share nothing to be remembered, its verdicts are those it was made for."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from overtake.tasks.answer_judge import rule_judge
from overtake.tasks.answer_judge.dataset import to_sample

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "datasets/judge"
FILES = ("train.jsonl", "test.jsonl", "questions.jsonl")


def rows(name):
    return [json.loads(line) for line in (FOLDER / name).read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def source():
    return yaml.safe_load((FOLDER / "source.yaml").read_text("utf-8"))


def test_the_files_are_what_the_source_makes(tmp_path):
    shutil.copy(FOLDER / "source.yaml", tmp_path)
    subprocess.run([sys.executable, "-m", "demo.samples.make_judge_sample", tmp_path], check=True, capture_output=True, cwd=ROOT)
    assert {name: (tmp_path / name).read_bytes() for name in FILES} == {name: (FOLDER / name).read_bytes() for name in FILES}


def test_a_folder_without_a_readable_source_is_refused(tmp_path):
    (tmp_path / "source.yaml").write_text("train: []\n")
    ended = subprocess.run(
        [sys.executable, "-m", "demo.samples.make_judge_sample", tmp_path], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert (ended.returncode, ended.stdout) == (2, "") and "is no source of a judge's sample" in ended.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source.yaml"]


def test_both_sides_are_large_enough_and_no_verdict_is_rare():
    for name, least in (("train.jsonl", 400), ("test.jsonl", 200)):
        found = rows(name)
        assert len(found) >= least
        for column in ("label", "label_secondary"):
            counts = [sum(row[column] == verdict for row in found) for verdict in ("correct", "incorrect", "none")]
            assert min(counts) >= len(found) / 10, (name, column, counts)


def test_the_sides_share_no_fact_no_sentence_and_no_text(source):
    for part in ("frames", "hedges"):
        for language in ("en", "zh"):
            assert not set(source["train"][part][language]) & set(source["test"][part][language])
    train, test = rows("train.jsonl"), rows("test.jsonl")
    for column in ("question", "answer_hat", "id"):
        assert not {row[column] for row in train} & {row[column] for row in test}, column
    facts = [{(row["question"], tuple(row["answer"])) for row in side} for side in (train, test)]
    assert not facts[0] & facts[1]
    assert {row["question"] for row in rows("questions.jsonl")} == {row["question"] for row in train}


def test_right_answers_state_a_reference_by_the_rules_and_changed_ones_do_not():
    for row in [*rows("train.jsonl"), *rows("test.jsonl")]:
        said = rule_judge.judge(row["question"], row["answer"], row["answer_hat"]).main
        if row["made_by"] in ("right", "right_more", "right_other_spelling", "detail", "added_claim"):
            assert (said, row["label"]) == ("correct", "correct"), row
        elif row["made_by"] in ("entity_swap", "number", "negation"):
            assert (said, row["label"]) == ("incorrect", "incorrect"), row


def test_every_row_is_one_for_the_rewards():
    for row in rows("train.jsonl"):
        sample = to_sample(row)
        assert sample and (sample["judge_main"], sample["judge_secondary"]) == (row["label"], row["label_secondary"])
