"""Compose the finance sample: problems whose gold is computed, in sentences that people wrote (source.yaml).

    python -m demo.samples.make_finance_sample datasets/finance

Writes train.jsonl and test.jsonl: `id, question, gold_answer, type, source`. Held-out problems take sentences and sets of numbers
of their own; the program refuses to write a held-out sentence that shares seven Han characters or five English words in a row
with a training sentence.
"""

import argparse
import json
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from overtake.cli import run
from overtake.data.tables import BadInput

from demo.kinds import KINDS, numbers_of, plain

SEED = 20
TRAIN_PER_KIND = 80
HELD_OUT_PER_KIND = 22
_DRAWS = 10_000
_SLOT = re.compile(r"\{(\w+)\}")


def problems(source: dict[str, Any], split: str, taken: set[tuple[str, ...]]) -> Iterator[dict[str, str]]:
    """The computed problems of a split ("train" or "heldout"), no set of numbers of which is in `taken`.

    Raises BadInput for a sentence whose slots are not the kind's numbers, and when numbers run out.
    """
    rng = random.Random(f"{SEED}-{split}")
    for name, kind in KINDS.items():
        written = source["calculation"][name]
        used: set[tuple[str, ...]] = set()
        sentences = {language: frames(written[language], split) for language in ("zh", "en")}
        for at in range(TRAIN_PER_KIND if split == "train" else HELD_OUT_PER_KIND):
            language = ("zh", "en")[at % 2]
            frame = sentences[language][at // 2 % len(sentences[language])]
            for _ in range(_DRAWS):
                numbers = kind.draw(rng)
                gold = kind.gold(numbers)
                key = tuple(sorted(map(plain, numbers.values())))
                if key not in taken | used and len(set(key)) == len(key) and gold == round(gold, 2):
                    break
            else:
                raise BadInput(f"{name}: no new numbers in {_DRAWS} draws: ask for fewer problems a kind, or widen its draw")
            used.add(key)
            unit = rng.choice(source["units"][language])
            shown = {slot: plain(number) for slot, number in numbers.items()} | {"u": unit}
            if set(_SLOT.findall(frame)) | {"u"} != set(shown):
                raise BadInput(f"{name}: {frame!r} must hold {', '.join('{' + slot + '}' for slot in numbers)} and no other slot but {{u}}")
            answer = getattr(kind, language)
            yield {
                "id": f"{name}-{language}-{split}{at + 1}",
                "question": frame.format(**shown),
                "gold_answer": answer.replace("{u}", unit).replace("{}", plain(gold)),
                "type": "calculation",
                "source": "overtake-sample",
            }


def frames(written: dict[str, list[Any]], split: str) -> list[Any]:
    """The sentences of a split; training has those that the mock teacher can read and those that it cannot."""
    return written["taught"] + written["train"] if split == "train" else written["heldout"]


def questions_in_words(source: dict[str, Any], split: str) -> Iterator[dict[str, str]]:
    """The hand-written questions of a split, whose gold is the words that an answer must hold."""
    for kind, written in source["text"].items():
        for at, (question, gold) in enumerate(frames(written, split), start=1):
            yield {"id": f"{kind}-{split}{at}", "question": question, "gold_answer": gold, "type": kind, "source": "overtake-sample"}


def shared_runs(held_out: list[str], training: list[str]) -> Iterator[tuple[str, str]]:
    """(held-out sentence, what it shares) for each that has seven Han characters or five English words in a row with a training one.

    Slots and punctuation end a run; names of ratios are shorter than that, so that both sides may name them.

    >>> list(shared_runs(["How many years does {m} take to double?"], ["How many years does it take?"]))
    []
    >>> list(shared_runs(["So how many years does it take?"], ["How many years does it take?"]))
    [('So how many years does it take?', 'how many years does it')]
    """
    known = {run for sentence in training for run in _runs(sentence)}
    for sentence in held_out:
        if shared := sorted(_runs(sentence) & known):
            yield sentence, shared[0]


def _runs(sentence: str) -> set[str]:
    runs = set()
    for stretch in re.split(r"\{\w+\}|[^\w\s'-]|\d+", sentence.casefold()):
        for pieces, length, between in ((re.findall(r"[\u4e00-\u9fff]", stretch), 7, ""), (re.findall(r"[a-z'-]+", stretch), 5, " ")):
            runs |= {between.join(pieces[at : at + length]) for at in range(len(pieces) - length + 1)}
    return runs


def all_sentences(source: dict[str, Any], split: str) -> list[str]:
    """Every sentence of a split, computed problems' and others'."""
    computed = [
        sentence for written in source["calculation"].values() for language in ("zh", "en") for sentence in frames(written[language], split)
    ]
    return computed + [question for written in source["text"].values() for question, _ in frames(written, split)]


def make(folder: Path) -> int:
    """Write train.jsonl and test.jsonl beside source.yaml; 1 when a held-out sentence shares a run with a training sentence."""
    try:
        source = yaml.safe_load((folder / "source.yaml").read_text(encoding="utf-8"))
        repeated = list(shared_runs(all_sentences(source, "heldout"), all_sentences(source, "train")))
        rows = {"train": [*problems(source, "train", set()), *questions_in_words(source, "train")]}
        taken = {numbers_of(row["question"]) for row in rows["train"]}
        rows["heldout"] = [*problems(source, "heldout", taken), *questions_in_words(source, "heldout")]
    except yaml.YAMLError as error:
        raise BadInput(f"{folder / 'source.yaml'} is not readable as YAML: {error}") from None
    except (KeyError, TypeError) as error:
        raise BadInput(f"{folder / 'source.yaml'}: {error} is missing; datasets/README.md shows the form") from None
    for sentence, shared in repeated:
        print(f"leak: {sentence} <- {shared}", file=sys.stderr)
    if repeated:
        print(f"{len(repeated)} held-out sentences repeat words of training sentences: reword source.yaml", file=sys.stderr)
        return 1
    for split, name in (("train", "train.jsonl"), ("heldout", "test.jsonl")):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows[split])
        (folder / name).write_text(text, encoding="utf-8")
    print(f"{folder.name}: {len(rows['train'])} training and {len(rows['heldout'])} held-out problems of {len(KINDS)} computed kinds")
    return 0


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder that holds source.yaml")
    folder = parser.parse_args(argv).folder
    return run(lambda: make(folder))


if __name__ == "__main__":
    sys.exit(main())
