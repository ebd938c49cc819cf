"""Make the finance chain's student for the cpu profile: a Qwen3 of about a million parameters that has learnt arithmetic and tables.

    python -m demo.tiny_students.tiny_finance_model OUT --sample datasets/finance --texts output/finance/raw/raw.jsonl

It stands in for a base model that cannot run on two cores. Every digit is a token. Its pre-training text is made by rule: short
calculations of the sizes that the sample's problems need, copies, words that stand for numbers, and tables of figures (source.yaml: labels)
with an indicator worked out below, its unit last. It reads no sentence of the sample, and no text with a problem's set of numbers but bare
calculations, which hold the whole table; and it never sees a tag, so that the form of an answer is left to SFT.
"""

import argparse
import math
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from overtake.cli import run
from overtake.data.tables import read_objects
from overtake.tasks.finance import prompts

from demo.kinds import KINDS, numbers_of, plain
from demo.mock_teacher import finance
from demo.tiny_students.pretraining import Lesson, pretrain
from demo.tiny_students.students import chat_tokenizer, check_free, make_model, write

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<unk>"]
TAGS = ["<think>", "</think>", "<answer>", "</answer>"]
_WINDOW = 256
"""Tokens of a question and its solution; what has not ended by then will not."""


def make_tokenizer(texts: list[str], lines: list[str]) -> Any:
    """A fast tokenizer: digits, signs and Han characters alone, English words by BPE over `texts`; tags and prompt `lines` whole."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r" ?[A-Za-z]+|[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    basic = [chr(code) for code in range(32, 127)] + ["\n"] + list("，。？！：；、“”（）《》…—")
    trainer = trainers.BpeTrainer(vocab_size=1600, min_frequency=3, special_tokens=SPECIAL, initial_alphabet=basic, show_progress=False)
    tokenizer.train_from_iterator([*texts, *lines], trainer)
    whole = [*TAGS, "system\n", "user\n", "assistant\n", *lines]
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in whole])
    return chat_tokenizer(tokenizer)


def taken_numbers(sample: Path) -> set[tuple[str, ...]]:
    """The sets of numbers of the sample's problems, which no lesson may hold."""
    return {numbers_of(row["question"]) for name in ("train", "test") for row in read_objects(sample / f"{name}.jsonl")}


def lessons(source: dict[str, Any], taken: set[tuple[str, ...]], rng: random.Random) -> Iterator[Lesson]:
    """Endless lessons as (text, whether it is to be learnt) pieces: calculations, copies, words that stand for numbers, tables."""
    everything = [
        label for written in source["labels"].values() for language in written.values() for texts in language.values() for label in texts
    ]
    money = {
        name: set(
            re.findall(
                r"\{(\w+)\} ?\{u\}", "".join(frame for language in written.values() for frames in language.values() for frame in frames)
            )
        )
        for name, written in source["calculation"].items()
    }
    while True:
        name = rng.choice(list(KINDS))
        numbers = {slot: plain(number) for slot, number in KINDS[name].draw(rng).items()}
        language = rng.choice(("zh", "en"))
        unit = rng.choice(source["units"][language])
        thought, _, answer = finance.worked(name, language, numbers | {"u": unit}).removeprefix("<think>").partition("</think><answer>")
        lines = [*thought.split("\n"), answer.removesuffix("</answer>")]
        which = rng.random()
        # A bare calculation may be one that a problem needs, as a times table is whole; one with words around it may not.
        if which < 0.42:
            for line in lines[1:-1]:
                asked, _, result = line.partition("=")
                yield [(f"{asked}=", False), (f"{result}\n", True)]
            continue
        if tuple(sorted(numbers.values())) in taken:
            continue
        if which < 0.5:
            # Said again word for word: how copying is learnt soonest.
            parts = [rng.choice((rng.choice(everything), str(rng.randint(2, 999)), *numbers.values())) for _ in range(rng.randint(3, 6))]
            yield [(" ".join(parts) + "\n", False), (" ".join(parts) + "\n", True)]
            continue
        if which < 0.55:
            asked, _, result = rng.choice(lines[1:-1]).partition("=")
            sign = next(operator for operator in "+-*/" if operator in asked)
            left, right = asked.split(sign)
            names = rng.sample(everything, 3)
            parts = [f"{names[0]}{left}", f"{names[1]}{right}", f"{names[2]}{rng.choice((left, right, '7', '300'))}"]
            rng.shuffle(parts)
            yield [(f"{_joined(parts, rng)} {names[0]}{sign}{names[1]}\n", False), (f"{asked}={result}\n", True)]
            continue
        labels = source["labels"][name][language]
        parts = [
            _entry(rng.choice(labels[slot]), number + _unit(name, slot, money[name], unit, rng), rng) for slot, number in numbers.items()
        ]
        rng.shuffle(parts)
        ask = rng.choice(labels["ask"])
        parts.insert(0 if rng.random() < 0.2 else len(parts), ask)
        yield [(_joined(parts, rng) + "\n", False), ("\n".join(lines) + "\n" + SPECIAL[0], True)]


def _unit(name: str, slot: str, money: set[str], unit: str, rng: random.Random) -> str:
    if slot == "p" or (name, slot) == ("share_points", "q"):
        return "%"
    return rng.choice(("", " ")) + unit if slot in money else ""


def _entry(label: str, figure: str, rng: random.Random) -> str:
    return rng.choice(
        (f"{label}{figure}", f"{label} {figure}", f"{label}：{figure}", f"{label}为{figure}", f"{label} of {figure}", f"{figure} {label}")
    )


def _joined(parts: list[str], rng: random.Random) -> str:
    return "".join(part + rng.choice("，。；\n ") for part in parts)


def make(arguments: argparse.Namespace) -> int:
    """Write tokenizer and pre-trained weights to a new folder."""
    check_free(arguments.out)
    source = yaml.safe_load((arguments.sample / "source.yaml").read_text(encoding="utf-8"))
    rows = list(read_objects(arguments.texts))
    ways = [f"{way.zh}{way.unit_zh} {way.en}{way.unit_en}\n" for way in finance.WAYS.values()]
    texts = [f"{row['question']}\n{row['gold_answer']}" for row in rows] + ways * 3
    lines = [line for line in prompts.prompt("solve_finance").splitlines() if line.strip()]
    tokenizer = make_tokenizer(texts, lines)
    model = make_model(tokenizer, arguments.width, arguments.layers, arguments.seed)
    model.config.max_position_embeddings = _WINDOW
    pieces = lessons(source, taken_numbers(arguments.sample), random.Random(arguments.seed))
    loss = pretrain(model, tokenizer, pieces, arguments.steps) if arguments.steps else math.nan
    # It ends where a text of its pre-training ended, as a base model does.
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, tokenizer.pad_token_id]
    write(model, tokenizer, arguments.out, f"{arguments.steps} steps, loss {loss:.2f}")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder to write; refused when it holds anything")
    parser.add_argument("--sample", type=Path, required=True, help="folder of the finance sample")
    parser.add_argument(
        "--texts", type=Path, required=True, help="raw.jsonl whose words the tokenizer should know; no text of it is learnt"
    )
    parser.add_argument("--steps", type=int, default=2800, help="of 8 x 128 tokens (default %(default)s)")
    parser.add_argument("--width", type=int, default=128, help="hidden size")
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--seed", type=int, default=20, help="of weights and lessons")
    arguments = parser.parse_args(argv)
    return run(lambda: make(arguments))


if __name__ == "__main__":
    sys.exit(main())
