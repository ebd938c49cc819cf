"""The finance sample: enough of every kind and type, golds that the solver's own way confirms, and a held-out side of its own."""

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml
from overtake.reading.tags import read_answer
from overtake.tasks.finance import rows as problems
from overtake.tasks.finance.rewards import finance_accuracy

from demo.mock_teacher import finance

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "datasets/finance"
SOURCE = yaml.safe_load((FOLDER / "source.yaml").read_text("utf-8"))


def rows(split):
    return [json.loads(line) for line in (FOLDER / f"{split}.jsonl").read_text("utf-8").splitlines()]


def numbers(question):
    return tuple(sorted(finance.NUMBER.findall(question)))


def frame(question):
    """A question without its numbers and units of money."""
    units = "|".join(unit for language in SOURCE["units"].values() for unit in language)
    return re.sub(units, "U", finance.NUMBER.sub("N", question))


def kind(row):
    return row["id"].split("-")[0]


def test_the_sample_is_large_enough_and_in_two_languages():
    train, test = rows("train"), rows("test")
    assert len(train) + len(test) >= 1000
    assert len(test) >= 200
    assert len({kind(row) for row in train if row["type"] == "calculation"}) >= 12
    for part in (train, test):
        assert {row["type"] for row in part} == set(problems.TYPES)
        chinese = sum(not row["question"].isascii() for row in part)
        assert 0.4 < chinese / len(part) < 0.6


def test_every_row_is_a_problem_that_can_be_asked():
    for row in rows("train") + rows("test"):
        assert tuple(row) == problems.COLUMNS
        assert problems.rejection_reason(row) is None


def test_no_id_and_no_question_stands_twice():
    everything = rows("train") + rows("test")
    assert len({row["id"] for row in everything}) == len({row["question"] for row in everything}) == len(everything)


def test_held_out_problems_share_neither_numbers_nor_sentences_with_training_problems():
    train, test = rows("train"), rows("test")
    computed = [row for row in test if row["type"] == "calculation"]
    assert not {numbers(row["question"]) for row in computed} & {numbers(row["question"]) for row in train}
    assert not {frame(row["question"]) for row in test} & {frame(row["question"]) for row in train}
    assert len({frame(row["question"]) for row in computed}) == 2 * 2 * 15


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_gold_is_one_that_the_reward_can_grade_and_gives_full_marks(split):
    for row in rows(split):
        completion = f"<think>…</think><answer>{row['gold_answer']}</answer>"
        assert finance_accuracy.score(completion, row["gold_answer"], row["type"], row["question"]) == 1.0, row


def test_the_golds_are_what_the_worked_solutions_come_to():
    """Two ways: the sample computes a formula, the mock teacher takes line after line; slips aside they agree to the last digit."""
    everything = yaml.safe_load((FOLDER / "source.yaml").read_text("utf-8"))
    for written in everything["calculation"].values():
        for language in ("zh", "en"):
            written[language]["taught"] = [one for frames in written[language].values() for one in frames]
    reader = finance.Solver(everything, slips=0)
    checked = Counter()
    for row in rows("train") + rows("test"):
        if row["type"] == "calculation":
            assert read_answer(reader.solve(row["question"])) == row["gold_answer"]
            checked[kind(row)] += 1
    assert len(checked) == 15 and set(checked.values()) == {102}


def test_the_sample_is_what_its_source_makes(tmp_path):
    shutil.copy(FOLDER / "source.yaml", tmp_path)
    subprocess.run([sys.executable, "-m", "demo.samples.make_finance_sample", str(tmp_path)], check=True, capture_output=True, cwd=ROOT)
    for name in ("train.jsonl", "test.jsonl"):
        assert (tmp_path / name).read_bytes() == (FOLDER / name).read_bytes(), name


def test_a_held_out_sentence_that_repeats_a_training_sentence_is_refused_and_nothing_is_written(tmp_path):
    source = yaml.safe_load((FOLDER / "source.yaml").read_text("utf-8"))
    source["calculation"]["margin"]["zh"]["heldout"][0] = "某店营业收入{r}{u}，销售成本{c}{u}，请计算这家店的毛利率。"
    source["calculation"]["tax"]["en"]["heldout"][0] = "So profit before tax is {b} {u} and the tax rate is {p}%. Tax?"
    (tmp_path / "source.yaml").write_text(yaml.safe_dump(source, allow_unicode=True), "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "demo.samples.make_finance_sample", str(tmp_path)], check=False, capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 1
    assert "<- and the tax rate is" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["source.yaml"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda source: source["calculation"].pop("roe"), "'roe' is missing"),
        (lambda source: source["calculation"]["tax"]["zh"]["taught"].insert(0, "利润{b}，所得税？"), "must hold {b}, {p}"),
    ],
)
def test_a_source_that_lacks_something_is_one_error(tmp_path, change, message):
    source = yaml.safe_load((FOLDER / "source.yaml").read_text("utf-8"))
    change(source)
    (tmp_path / "source.yaml").write_text(yaml.safe_dump(source, allow_unicode=True), "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "demo.samples.make_finance_sample", str(tmp_path)], check=False, capture_output=True, text=True, cwd=ROOT
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert message in done.stderr
