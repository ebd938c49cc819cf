"""Make the judge chain's student for the cpu profile: a Qwen3 of less than a million parameters that has learnt to compare two texts.

    python -m demo.tiny_students.tiny_judge_model OUT --texts output/judge/data/train.jsonl

It stands in for a base model that cannot run on two cores. Its lessons are made by rule of random words and numbers: words said again,
words searched for in a list, references searched for in a line; then lines that say a reference, something near it, its denial, it or
something else, or nothing, each with a sign of which. It reads no sentence of the sample, no verdict and no tag, so that the form of a
verdict is left to SFT and what follows from a comparison to both trainings.
"""

import argparse
import itertools
import math
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from overtake.cli import run
from overtake.data.tables import read_rows
from overtake.tasks.answer_judge import prompts

from demo.tiny_students.pretraining import Lesson, pretrain
from demo.tiny_students.students import chat_tokenizer, check_free, make_model, write

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<unk>"]
TAGS = ["<think>", "</think>", "<output>", "</output>"]
FIELDS = ["Question:", "Reference answer:", "Answer to grade:", "system\n", "user\n", "assistant\n"]
_WINDOW = 512
# None of these words is in a held-out sentence or in what plugin/overtake/tasks/answer_judge/negatives.py writes into one.
_DENIALS = ("never", "no", "hardly"), ("并非", "绝非")
_DOUBTS = (("", "/"), ("maybe", "maybe")), (("", "/"), ("可能是", "可能是"))
_EMPTY = ("", "-", "...", "?", "!", "*")
_FIRST = 20_000
"""Lessons before any search: what could copy learnt to tell listed words from others in 200 steps, what could not had not in 750."""
_KINDS = ("copy", "search", "find", "check", "whole")
_SHARES = ((30, 0, 0, 0, 70), (5, 25, 30, 15, 25))
"""Of the kinds of lessons, among the first and behind them."""


class Parts(NamedTuple):
    """Pieces that random words are made of."""

    latin: list[str]
    han: list[str]


class Line(NamedTuple):
    """A line to compare with references, and what is to be said of it.

    `sign`: + where it says one of them, - where it says something else or denies it, 0 where it leaves it open or is empty.
    `adds`: = where nothing stands behind, 1 for a sentence.
    """

    text: str
    sign: str
    adds: str
    fact: str
    """The reference that stands in it, denied or not; "" where none does, or beside another."""


def make_tokenizer(texts: list[str], lines: list[str], size: int) -> Any:
    """A fast tokenizer: digits, signs and Han characters alone, words by BPE over `texts`; tags, fields and prompt `lines` whole."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

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
    return chat_tokenizer(tokenizer)


def word_parts(tokenizer: Any) -> Parts:
    """Return what the lessons' words are made of: the tokenizer's English words and pieces of them, and its Han characters."""
    tokens = sorted({token.strip() for token in tokenizer.get_vocab()})
    latin = [token for token in tokens if token.isascii() and token.isalpha()]
    return Parts(latin, [token for token in tokens if len(token) == 1 and "\u4e00" <= token <= "\u9fff"])


def lessons(parts: Parts, rng: random.Random) -> Iterator[Lesson]:
    """Endless lessons of five kinds, from the easiest to what a judge does.

    Words said again, which is how comparing begins. Words searched for in a list: + where one is there, - where it is not. References
    searched for in a line that holds some of them. Several lines behind the same references, each with its sign: many comparisons in few
    tokens. And whole ones: behind the line the reference once more, words that say nothing, the sign, and what stands behind the fact.
    """
    for count in itertools.count():
        chinese = rng.random() < 0.4
        kind = rng.choices(_KINDS, _SHARES[count >= _FIRST])[0]
        if kind == "copy":
            text = rng.choice(("", " ", " ")).join(_anything(parts, rng) for _ in range(rng.randint(3, 8)))
            yield [(f"{text}\n", False), (f"{text}\n", True)]
            continue
        if kind == "search":
            yield _search(parts, chinese, rng)
            continue
        if kind == "find":
            yield _find(parts, chinese, rng)
            continue
        golds = [_fact(parts, chinese, rng)]
        while rng.random() < 0.35 and len(golds) < 3:
            golds.append(_fact(parts, chinese, rng))
        references = "".join(f"Reference answer: {gold}\n" for gold in golds)
        if kind == "check":
            checked = [_line(golds, parts, chinese, rng, 0.3) for _ in range(rng.randint(3, 5))]
            pieces = [[(f"Answer to grade: {check.text}<|im_end|>", False), (check.sign, True), ("\n", False)] for check in checked]
            yield [(references, False), *(piece for three in pieces for piece in three)]
            continue
        line = _line(golds, parts, chinese, rng, 0.5)
        asked = f"Question: {_words(1, 4, parts, chinese, rng)}{'？' if chinese else '?'}\n" if rng.random() < 0.5 else ""
        yield [
            *_shown(f"{asked}{references}Answer to grade: ", line),
            ("<|im_end|>\n<|im_start|>assistant\n", False),
            (f" {golds[0]}.", True),
            # Words between, as a sentence about the comparison will have them.
            (_words(0, 2, parts, False, rng), False),
            (line.sign, True),
            (_words(0, 2, parts, False, rng), False),
            (f"{line.adds}<|endoftext|>", True),
        ]


def _line(golds: list[str], parts: Parts, chinese: bool, rng: random.Random, more: float) -> Line:
    """A line to compare; in a share `more` of those with a fact something stands behind it."""
    gap, stop, comma = ("", "。", "，") if chinese else (" ", ".", ",")
    kind = rng.choices("+-~0e", (36, 28, 16, 14, 6))[0]
    if kind == "e":
        return Line(rng.choice(_EMPTY), "0", "=", "")
    stated = rng.choice((golds[0], *golds))
    fact = stated
    if kind == "-":
        while any(gold in fact for gold in golds):
            fact = _near(stated, parts, chinese, rng) if rng.random() < 0.4 else _fact(parts, chinese, rng)
    elif kind == "~":
        fact = rng.choice(_DENIALS[chinese]) + gap + stated
    elif kind == "0":
        pair = [stated, _fact(parts, chinese, rng)]
        rng.shuffle(pair)
        first, second = rng.choice(_DOUBTS[chinese])
        fact = gap.join(filter(None, (first, pair[0] + (comma if rng.random() < 0.5 else ""), second, pair[1])))
    before, after = _words(0, 3, parts, chinese, rng), _words(0, 2, parts, chinese, rng)
    fact += comma if after and rng.random() < 0.5 else ""
    text, adds = gap.join(filter(None, (before, fact, after))) + stop, "="
    if kind != "0" and rng.random() < more:
        text, adds = f"{text}{gap}{_words(2, 5, parts, chinese, rng)}{stop}", "1"
    return Line(text, {"~": "-"}.get(kind, kind), adds, stated if kind in "+~" else "")


def _search(parts: Parts, chinese: bool, rng: random.Random) -> Lesson:
    """A list, and words of which each is in it or not."""
    there = [rng.choice((_fact, _word))(parts, chinese, rng) for _ in range(rng.randint(3, 7))]
    pieces = [(" ".join(there) + "\n", False)]
    for _ in range(rng.randint(4, 7)):
        sought = rng.choice(there)
        if rng.random() < 0.5:
            sought = _near(sought, parts, chinese, rng) if rng.random() < 0.3 else rng.choice((_fact, _word))(parts, chinese, rng)
        pieces += [(f" {sought}", False), ("+" if sought in there else "-", True)]
    return [*pieces, ("\n", False)]


def _find(parts: Parts, chinese: bool, rng: random.Random) -> Lesson:
    """References, a line that holds some of them, and which: what stands in the prompt anyhow is no sign of what the line says."""
    gap, stop = ("", "。") if chinese else (" ", ".")
    golds = [_fact(parts, chinese, rng) for _ in range(rng.randint(2, 3))]
    golds.append(_near(rng.choice(golds), parts, chinese, rng))
    rng.shuffle(golds)
    held = rng.sample(golds, rng.randint(1, len(golds) - 1))
    denied = {name for name in held if rng.random() < 0.2}
    words = [word for name in held for word in (_words(0, 2, parts, chinese, rng), *_denial(name in denied, chinese, rng), name)]
    references = "".join(f"Reference answer: {gold}\n" for gold in golds)
    pieces = [(f"{references}Answer to grade: {gap.join(filter(None, words))}{stop}<|im_end|>\n", False)]
    for named in rng.sample(golds, len(golds)):
        pieces += [(f" {named}.", False), ("+" if named in held and named not in denied else "-", True)]
    return [*pieces, ("\n", False)]


def _denial(is_denied: bool, chinese: bool, rng: random.Random) -> list[str]:
    return [rng.choice(_DENIALS[chinese])] if is_denied else []


def _shown(before: str, line: Line) -> Lesson:
    """`before` and the line, its reference learnt: once its first token is there the others can be known."""
    at = line.text.find(line.fact) if line.fact else -1
    if at < 0:
        return [(before + line.text, False)]
    # The space before an English word is of its first token.
    whole = before + line.text
    start, end = len(before) + at, len(before) + at + len(line.fact)
    start -= whole[start - 1] == " "
    return [piece for piece in ((whole[:start], False), (whole[start:end], True), (whole[end:], False)) if piece[0]]


def _anything(parts: Parts, rng: random.Random) -> str:
    return rng.choice((_fact, _word))(parts, rng.random() < 0.4, rng)


def _words(low: int, high: int, parts: Parts, chinese: bool, rng: random.Random) -> str:
    return ("" if chinese else " ").join(_word(parts, chinese, rng) for _ in range(rng.randint(low, high)))


def _word(parts: Parts, chinese: bool, rng: random.Random) -> str:
    if rng.random() < 0.12:
        return str(rng.randint(0, 10 ** rng.randint(1, 4)))
    if chinese:
        return "".join(_han(parts, rng) for _ in range(rng.randint(1, 2)))
    word = rng.choice(parts.latin).lower()
    return word.capitalize() if rng.random() < 0.3 else word


def _han(parts: Parts, rng: random.Random) -> str:
    """A character that the tokenizer has, or one of those that GB 2312 counts as common, most of them three bytes to it."""
    if parts.han and rng.random() < 0.7:
        return rng.choice(parts.han)
    return bytes((rng.randint(0xB0, 0xD6), rng.randint(0xA1, 0xFE))).decode("gb2312")


def _fact(parts: Parts, chinese: bool, rng: random.Random) -> str:
    if rng.random() < 0.35:
        return str(rng.randint(0, 10 ** rng.randint(1, 4))) + (rng.choice(("", _han(parts, rng))) if chinese else "")
    if chinese:
        return "".join(_han(parts, rng) for _ in range(rng.randint(1, 4)))
    return " ".join("".join(rng.choices(parts.latin, k=rng.randint(1, 3))).capitalize() for _ in range(rng.choice((1, 1, 1, 2, 3))))


def _near(fact: str, parts: Parts, chinese: bool, rng: random.Random) -> str:
    """`fact` with a digit, a character or a word changed."""
    if any(char.isdigit() for char in fact):
        at = rng.choice([place for place, char in enumerate(fact) if char.isdigit()])
        return fact[:at] + rng.choice("0123456789") + fact[at + 1 :]
    if chinese:
        at = rng.randrange(len(fact))
        return fact[:at] + _han(parts, rng) + fact[at + 1 :]
    words = fact.split(" ")
    words[rng.randrange(len(words))] = "".join(rng.choices(parts.latin, k=rng.randint(1, 3))).capitalize()
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
    taught = lessons(word_parts(tokenizer), random.Random(arguments.seed))
    loss = pretrain(model, tokenizer, taught, arguments.steps, rows=4, length=256) if arguments.steps else math.nan
    write(model, tokenizer, arguments.out, f"{arguments.steps} steps, loss {loss:.2f}")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder to write; refused when it holds anything")
    parser.add_argument("--texts", type=Path, required=True, help="graded rows whose words the tokenizer should know; none is learnt")
    parser.add_argument("--steps", type=int, default=3000, help="of 4 x 256 tokens (default %(default)s)")
    parser.add_argument("--width", type=int, default=128, help="hidden size")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--seed", type=int, default=20, help="of weights and lessons")
    arguments = parser.parse_args(argv)
    return run(lambda: make(arguments))


if __name__ == "__main__":
    sys.exit(main())
