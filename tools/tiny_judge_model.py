"""Make the judge chain's student for the cpu profile: a Qwen3 of less than a million parameters that has learnt to compare two texts.

    python tools/tiny_judge_model.py OUT --texts output/judge/data/train.jsonl

It stands in for a base model that cannot run on two cores. Its lessons are made by rule of random words and numbers: a reference and a
line that says it, something near it, its denial, it or something else, or nothing; then the reference once more, whether the line says it,
and what stands behind it. It reads no sentence of the sample, no verdict and no tag, so that the form of a verdict is left to SFT and what
follows from a comparison to both trainings.
"""

import argparse
import math
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from overtake import prompts
from overtake.data.cli import run
from overtake.data.tables import read_rows
from overtake.standin.pretraining import Lesson, pretrain
from overtake.standin.students import check_free, make_model, write

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<unk>"]
TAGS = ["<think>", "</think>", "<output>", "</output>"]
FIELDS = ["Question:", "Reference answer:", "Answer to grade:", "system\n", "user\n", "assistant\n"]
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_WINDOW = 512
_DENIALS = ("not", "never", "no"), ("不是", "并非")
_DOUBTS = (
    (("", "or"), ("maybe", "or"), ("maybe", "maybe"), ("perhaps", "or perhaps")),
    (("", "或"), ("可能是", "可能是"), ("可能是", "也可能是")),
)
_EMPTY = ("", ".", "。", "-", "—", "...", "?", "!", "N/A")


def make_tokenizer(texts: list[str], lines: list[str], size: int) -> Any:
    """A fast tokenizer: digits, signs and Han characters alone, words by BPE over `texts`; tags, fields and prompt `lines` whole."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    # A character that no text has is its bytes, so that two of them are never the same unknown.
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r" ?[A-Za-z]+|[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    basic = [chr(code) for code in range(32, 127)] + ["\n"] + list("，。？！：；、“”（）《》…—")
    octets = [f"<0x{octet:02X}>" for octet in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=size, min_frequency=3, special_tokens=[*SPECIAL, *octets], initial_alphabet=basic, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in [*TAGS, *FIELDS, *lines]])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", unk_token="<unk>", clean_up_tokenization_spaces=False
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def lessons(parts: list[str], rng: random.Random) -> Iterator[Lesson]:
    """Endless comparisons; `parts` are what words are made of.

    Learnt are the reference and two signs: + where the line says it, - where it says something else or denies it, 0 where it leaves it open
    or is empty; then = where nothing stands behind, 1 for a sentence, 2 for a sentence with a colon in it.
    """
    while True:
        chinese = rng.random() < 0.4
        gap, stop, comma = ("", "。", "，") if chinese else (" ", ".", ",")

        def words(low: int, high: int, chinese: bool = chinese) -> str:
            return ("" if chinese else " ").join(_word(parts, chinese, rng) for _ in range(rng.randint(low, high)))

        gold = _fact(parts, chinese, rng)
        others = [_fact(parts, chinese, rng)] if rng.random() < 0.4 else []
        other = _near(gold, parts, chinese, rng) if rng.random() < 0.5 else _fact(parts, rng.random() < 0.4, rng)
        said = rng.choice([gold, gold, *others])
        kind = rng.choices("+-~0e", (40, 25, 14, 13, 8))[0]
        sign, fact = {"+": "+", "-": "-", "~": "-", "0": "0", "e": "0"}[kind], said
        if kind == "-":
            if other in (gold, *others):
                continue
            fact = other
        elif kind == "~":
            fact = rng.choice(_DENIALS[chinese]) + gap + said
        elif kind == "0":
            pair = [said, _fact(parts, chinese, rng)]
            rng.shuffle(pair)
            first, second = rng.choice(_DOUBTS[chinese])
            fact = gap.join(filter(None, (first, pair[0] + (comma if rng.random() < 0.5 else ""), second, pair[1])))
        line, adds = rng.choice(_EMPTY), "="
        if kind != "e":
            before, after = words(0, 4), words(0, 3)
            fact += comma if after and rng.random() < 0.5 else ""
            line = gap.join(filter(None, (before, fact, after))) + stop
            if kind != "0" and rng.random() < 0.5:
                adds = rng.choice("12")
                behind = words(2, 5) + (f"{'：' if chinese else ': '}{_fact(parts, rng.random() < 0.4, rng)}" if adds == "2" else "")
                line += gap + behind + stop
        references = "".join(f"Reference answer: {one}\n" for one in (gold, *others))
        asked = f"Question: {words(2, 7)}{'？' if chinese else '?'}\n" if rng.random() < 0.9 else ""
        # Words between, as a sentence about the comparison will have them.
        yield [
            (f"{asked}{references}Answer to grade: {line}<|im_end|>\n<|im_start|>assistant\n", False),
            (f" {gold}.", True),
            (words(0, 3, False), False),
            (sign, True),
            (words(0, 3, False), False),
            (f"{adds}<|endoftext|>", True),
        ]


def _word(parts: list[str], chinese: bool, rng: random.Random) -> str:
    if rng.random() < 0.15:
        return str(rng.randint(0, 10 ** rng.randint(1, 4)))
    if chinese:
        return "".join(_han(rng) for _ in range(rng.randint(1, 2)))
    word = "".join(rng.choices(parts, k=rng.randint(1, 2))).lower()
    return word.capitalize() if rng.random() < 0.3 else word


def _han(rng: random.Random) -> str:
    """One of the characters that GB 2312 counts as common."""
    return bytes((rng.randint(0xB0, 0xD6), rng.randint(0xA1, 0xFE))).decode("gb2312")


def _fact(parts: list[str], chinese: bool, rng: random.Random) -> str:
    if rng.random() < 0.35:
        return str(rng.randint(0, 10 ** rng.randint(1, 4))) + (rng.choice(("", _han(rng))) if chinese else "")
    if chinese:
        return "".join(_han(rng) for _ in range(rng.randint(1, 4)))
    return " ".join("".join(rng.choices(parts, k=rng.randint(1, 3))).capitalize() for _ in range(rng.choice((1, 1, 1, 2, 3))))


def _near(fact: str, parts: list[str], chinese: bool, rng: random.Random) -> str:
    """`fact` with a digit, a character or a word changed."""
    if any(char.isdigit() for char in fact):
        at = rng.choice([place for place, char in enumerate(fact) if char.isdigit()])
        return fact[:at] + rng.choice("0123456789") + fact[at + 1 :]
    if chinese:
        at = rng.randrange(len(fact))
        return fact[:at] + _han(rng) + fact[at + 1 :]
    words = fact.split(" ")
    words[rng.randrange(len(words))] = "".join(rng.choices(parts, k=rng.randint(1, 3))).capitalize()
    return " ".join(words)


def make(arguments: argparse.Namespace) -> int:
    """Write tokenizer and pre-trained weights to a new folder."""
    check_free(arguments.out)
    rows = read_rows(arguments.texts, required=("question", "answer_hat"))
    texts = [f"{row['question']}\n{row['answer_hat']}\n{row.get('judge_reason', '')}" for row in rows]
    words = "main: correct; secondary: incorrect none"
    lines = [line for line in prompts.prompt("judge_answer").splitlines() if line.strip()]
    tokenizer = make_tokenizer([*texts, *[words] * 5], lines, 1000)
    model = make_model(tokenizer, arguments.width, arguments.layers, arguments.seed)
    model.config.max_position_embeddings = _WINDOW
    parts = [token.strip() for token in tokenizer.get_vocab() if token.strip().isascii() and token.strip().isalpha()]
    taught = lessons(sorted(set(parts)), random.Random(arguments.seed))
    loss = pretrain(model, tokenizer, taught, arguments.steps, length=256) if arguments.steps else math.nan
    write(model, tokenizer, arguments.out, f"{arguments.steps} steps, loss {loss:.2f}")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder to write; refused when it holds anything")
    parser.add_argument("--texts", type=Path, required=True, help="graded rows whose words the tokenizer should know; none is learnt")
    parser.add_argument("--steps", type=int, default=1500, help="of 8 x 256 tokens (default %(default)s)")
    parser.add_argument("--width", type=int, default=128, help="hidden size")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=20, help="of weights and lessons")
    arguments = parser.parse_args(argv)
    return run(lambda: make(arguments))


if __name__ == "__main__":
    sys.exit(main())
