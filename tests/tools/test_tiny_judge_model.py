"""tiny_judge_model.py: a token a digit, tag and field, ms-swift's chat form, comparisons that are right and hold nothing of the sample."""

import importlib.util
import itertools
import json
import random
import re
from collections import Counter
from pathlib import Path

import pytest
import yaml
from overtake.tasks.answer_judge.prompts import judge_messages, prompt

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "datasets/judge"
spec = importlib.util.spec_from_file_location("tiny_judge_model", ROOT / "demo/tiny_students/tiny_judge_model.py")
tiny_judge_model = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tiny_judge_model)

pytestmark = pytest.mark.usefixtures("fresh")
VERDICT = "<think>Reference: 1901. The answer states it.</think><output>main: correct; secondary: none</output>"
ASKED = ("Wann？", ["1901", "广州"], "It was in 1901.")
WHOLE = re.compile(
    r"(Question: [^\n]+[?？]\n)?(Reference answer: [^\n]+\n)+Answer to grade: [^\n]*<\|im_end\|>\n<\|im_start\|>assistant\n"
    r" [^\n]+\.[^\n]*[-+0][^\n]*[=1]<\|endoftext\|>"
)


def rows(split):
    return [json.loads(line) for line in (SAMPLE / f"{split}.jsonl").read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """make(name, *options) -> (exit code, folder) of the tool on the sample's words."""
    folder = tmp_path_factory.mktemp("tiny")

    def make(name, *options):
        words = [str(folder / name), "--texts", str(SAMPLE / "train.jsonl"), "--width", "32", "--layers", "1", *options]
        return tiny_judge_model.main(words), folder / name

    return make


@pytest.fixture(scope="module")
def model(make):
    code, folder = make("model", "--steps", "0")
    assert code == 0
    return folder


@pytest.fixture(scope="module")
def lessons(model):
    from transformers import AutoTokenizer

    parts = tiny_judge_model.word_parts(AutoTokenizer.from_pretrained(model))
    start = tiny_judge_model._FIRST - 2000
    return list(itertools.islice(tiny_judge_model.lessons(parts, random.Random(1)), start, start + 4000))


def test_digits_tags_and_fields_are_a_token_each_and_no_character_is_unknown(model):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    assert tokenizer.tokenize("Reference answer: 1901</think>") == ["Reference answer:", " ", *"1901", "</think>"]
    for line in filter(str.strip, prompt("judge_answer").splitlines()):
        assert len(tokenizer(line).input_ids) == 1, line
    for row in (*rows("train"), *rows("test")):
        text = f"{row['question']}\n{row['answer_hat']}"
        ids = tokenizer(text).input_ids
        assert tokenizer.decode(ids) == text and tokenizer.unk_token_id not in ids


def test_a_prompt_takes_the_tokens_of_ms_swifts_template(model, same_as_ms_swift):
    same_as_ms_swift(model, judge_messages(*ASKED), VERDICT)


def test_lessons_hold_no_question_of_the_sample_no_held_out_sentence_and_no_tag(lessons):
    source = yaml.safe_load((SAMPLE / "source.yaml").read_text("utf-8"))
    frames = [text for name in ("frames", "hedges") for texts in source["test"][name].values() for text in texts]
    pieces = {piece.strip(" ,.;，。；") for frame in frames for piece in re.split(r"\{[ab]\}", frame)}
    # A single word may be made by chance.
    known = {piece for piece in pieces if " " in piece or re.search(r"[\u4e00-\u9fff]{3}", piece)} | {
        row["question"] for split in ("train", "test") for row in rows(split)
    }
    for lesson in lessons:
        text = "".join(piece for piece, _ in lesson)
        assert not [found for found in (*known, *tiny_judge_model.TAGS) if found in text]


def test_denials_and_doubts_are_in_words_that_no_held_out_answer_has():
    doubts = [word for pairs in tiny_judge_model._DOUBTS for pair in pairs for word in pair if word]
    held_out = " ".join(row["answer_hat"] for row in rows("test"))
    words = set(re.findall(r"[a-z]+", held_out.casefold()))
    for word in [*doubts, *(word for denials in tiny_judge_model._DENIALS for word in denials)]:
        assert word not in words if word.isascii() else word not in held_out, word


def test_every_sign_of_a_lesson_is_right(lessons):
    kinds, signs = Counter(), Counter()
    for lesson in lessons:
        text, learnt = "".join(piece for piece, _ in lesson), [piece for piece, is_learnt in lesson if is_learnt]
        golds = re.findall(r"Reference answer: ([^\n]+)", text)
        lines = re.findall(r"Answer to grade: (.*?)<\|im_end\|>", text)
        asked = [(before.strip(), sign) for (before, _), (sign, is_learnt) in itertools.pairwise(lesson) if is_learnt]
        if not golds and text == learnt[0] * 2:
            kinds["copy"] += 1
        elif not golds:
            kinds["search"] += 1
            assert all((f" {sought} " in f" {lesson[0][0].strip()} ") or sign == "-" for sought, sign in asked), text
        elif learnt[-1].endswith("<|endoftext|>"):
            kinds["whole"] += 1
            assert WHOLE.fullmatch(text), text
            *said, gold, sign, adds = learnt
            assert gold == f" {golds[0]}." and adds[0] in "=1" and {one.strip() for one in said} <= set(golds)
            signs[sign, any(one in lines[0] for one in golds)] += 1
        elif len(lines) == 1:
            kinds["find"] += 1
            assert all(sought.removesuffix(".") in lines[0] or sign == "-" for sought, sign in asked), text
        else:
            kinds["check"] += 1
            signs.update((sign, any(one in line for one in golds)) for line, sign in zip(lines, learnt, strict=True))
    assert min(kinds[kind] for kind in tiny_judge_model._KINDS) > 200, kinds
    assert not signs["+", False]
    assert min(signs["+", True], signs["-", True], signs["-", False], signs["0", True], signs["0", False]) > 50, signs


def test_the_weights_follow_the_seed_and_the_lessons(make, model):
    from safetensors.torch import load_file

    runs = {"a": ("--steps", "2"), "b": ("--steps", "2"), "c": ("--steps", "0", "--seed", "5")}
    same, again, other = (load_file(make(name, *options)[1] / "model.safetensors") for name, options in runs.items())
    before = load_file(model / "model.safetensors")
    assert all(same[name].equal(again[name]) for name in same)
    assert not any(same[name].equal(before[name]) for name in same)
    assert any(not other[name].equal(before[name]) for name in other)


def test_a_folder_that_holds_something_is_refused_and_left_alone(make, model, capsys):
    before = (model / "config.json").read_bytes()
    assert make("model", "--steps", "0")[0] == 2
    assert "is there already: choose another folder or remove it" in capsys.readouterr().err
    assert (model / "config.json").read_bytes() == before
