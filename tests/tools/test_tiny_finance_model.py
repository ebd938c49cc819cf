"""tiny_finance_model.py: a tokenizer with one token a digit, ms-swift's chat form, lessons that hold nothing of the sample's problems."""

import importlib.util
import itertools
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from overtake.tasks.finance.prompts import finance_messages

from demo.kinds import KINDS, numbers_of
from demo.mock_teacher.finance import NUMBER

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "demo/tiny_students/tiny_finance_model.py"
SAMPLE = ROOT / "datasets/finance"
spec = importlib.util.spec_from_file_location("tiny_finance_model", TOOL)
tiny_finance_model = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tiny_finance_model)

pytestmark = pytest.mark.usefixtures("fresh")
ARGUMENTS = ["--sample", str(SAMPLE), "--texts", str(SAMPLE / "train.jsonl"), "--width", "32"]
SOLUTION = "<think>\n毛利率\n800-600=200\n200/800=25%\n</think>\n<answer>25%</answer>"


def rows(split):
    return [json.loads(line) for line in (SAMPLE / f"{split}.jsonl").read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def lessons():
    source = yaml.safe_load((SAMPLE / "source.yaml").read_text("utf-8"))
    return list(itertools.islice(tiny_finance_model.lessons(source, tiny_finance_model.taken_numbers(SAMPLE), random.Random(1)), 3000))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny") / "model"
    assert tiny_finance_model.main([str(folder), *ARGUMENTS, "--steps", "0"]) == 0
    return folder


def test_every_digit_and_sign_is_a_token_and_a_tag_is_one(model):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    assert tokenizer.tokenize("1250.5*20%=</think>") == [*"1250.5*20%=", "</think>"]
    for row in rows("train"):
        text = f"{row['question']}\n{row['gold_answer']}"
        assert tokenizer.decode(tokenizer(text).input_ids) == text


def test_a_prompt_takes_the_tokens_of_ms_swifts_template(model, same_as_ms_swift):
    same_as_ms_swift(model, finance_messages("营业收入800万元，营业成本600万元，求毛利率。"), SOLUTION)


def test_lessons_hold_no_sentence_no_set_of_numbers_and_no_tag(lessons):
    questions = [row["question"] for row in rows("train") + rows("test")]
    asked = {numbers_of(question) for question in questions}
    runs = {part for question in questions for part in re.findall(r"[\u4e00-\u9fff]{9,}", question)}
    for pieces in lessons:
        text = "".join(piece for piece, _ in pieces)
        assert not [tag for tag in tiny_finance_model.TAGS if tag in text]
        assert not [run for run in runs if run in text]
    # In a table the numbers of the problem stand above its name and its lines.
    tables = [pieces[0][0] for pieces in lessons if pieces[1][0].endswith("<|endoftext|>")]
    assert len(tables) > 500
    assert not {tuple(sorted(NUMBER.findall(table))) for table in tables} & asked


def test_lessons_are_right_and_of_every_kind(lessons):
    from demo.mock_teacher import finance

    lines = [line for pieces in lessons for line in "".join(piece for piece, _ in pieces).splitlines()]
    calculations = [found.groups() for line in lines if (found := finance.LINE.fullmatch(line))]
    assert len(calculations) > 2000 and all(finance.is_right(*one) for one in calculations)
    names = {way.zh for way in finance.WAYS.values()} | {way.en for way in finance.WAYS.values()}
    assert names <= set(lines) and len(finance.WAYS) == len(KINDS)


@pytest.mark.slow
def test_the_same_seed_makes_the_same_files_in_any_process(tmp_path):
    env = os.environ | {"PYTHONHASHSEED": "1"}
    subprocess.run(
        [sys.executable, "-m", "demo.tiny_students.tiny_finance_model", str(tmp_path / "a"), *ARGUMENTS, "--steps", "2"],
        cwd=ROOT,
        env=env,
        check=True,
        capture_output=True,
    )
    assert tiny_finance_model.main([str(tmp_path / "b"), *ARGUMENTS, "--steps", "2"]) == 0
    one, other = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in "ab")
    assert one == other


def test_training_changes_every_weight(tmp_path, model):
    from safetensors.torch import load_file

    assert tiny_finance_model.main([str(tmp_path / "two"), *ARGUMENTS, "--steps", "2"]) == 0
    before, after = (load_file(folder / "model.safetensors") for folder in (model, tmp_path / "two"))
    assert before.keys() == after.keys() and not any(before[name].equal(after[name]) for name in before)


def test_a_folder_that_holds_something_is_refused_and_left_alone(run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/config.json").write_text("mine")
    done = run("tiny_finance_model", tmp_path / "out", *ARGUMENTS)
    assert (done.code, done.err) == (2, f"error: {tmp_path / 'out'} is there already: choose another folder or remove it")
    assert (tmp_path / "out/config.json").read_text() == "mine"
