"""Compose the English sample (knowledge base, questions, gold labels, lexicon) from its hand-written source.yaml.

    python -m demo.samples.make_clinic_sample datasets/clinic

A training concept's phrases are in the lexicon but for the last; a held-out concept's are in nothing else. The program refuses to write a
held-out question that shares a word with a training question, the lexicon or the prompt, frame words aside.
"""

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from overtake.cli import run
from overtake.data.tables import BadInput
from overtake.tasks.query_rewrite import prompts

from demo.samples.make_sample import write_tenant

_FRAME = frozenset(
    {"a", "an", "and", "the", "of", "on", "in", "my", "i", "is", "it", "to", "with", "for", "when", "what", "am", "me", "over", "being"}
)
_ENDINGS = ("ing", "ed", "es", "s")


def words(text: str) -> set[str]:
    """The words of an English text that carry meaning, without their endings.

    >>> sorted(words("My ears are ringing; the EAR rings"))
    ['are', 'ear', 'ring']
    """
    return {_stem(word) for word in re.findall(r"[a-z]+", text.casefold()) if word not in _FRAME}


def _stem(word: str) -> str:
    ending = next((suffix for suffix in _ENDINGS if word.endswith(suffix) and len(word) - len(suffix) >= 3), "")
    return word.removesuffix(ending)


def questions(source: dict[str, Any], split: str) -> Iterator[dict[str, str]]:
    """The questions of one split ("train" or "heldout"), each with the id of the document that answers it."""
    frames = source["frames"][split]
    for concept in source["concepts"]:
        for number, lay in enumerate(concept.get(split, [])):
            for at, frame in enumerate(frames):
                # Training phrases stand in two frames each, taken in turn.
                if split == "heldout" or (number + at) % 2 == 0:
                    yield {"_id": f"{concept['id']}-{split}{number}{at}", "text": frame.format(lay=lay), "gold": concept["id"]}


def lexicon(source: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(patient's phrase, the handbook's term) pairs: all but the last phrase of each training concept."""
    for concept in source["concepts"]:
        for lay in concept.get("train", [])[:-1]:
            yield lay, concept["term"].replace(",", "")


def shared(held_out: Sequence[str], shipped: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield (held-out question, a word of it that `shipped` holds too)."""
    known = set[str]().union(*map(words, shipped))
    for question in held_out:
        for word in sorted(words(question) & known):
            yield question, word


def make(folder: Path) -> int:
    """Write corpus.jsonl, queries.jsonl, qrels/ and lexicon.tsv beside source.yaml; 1 when a held-out question shares a word."""
    try:
        source = yaml.safe_load((folder / "source.yaml").read_text(encoding="utf-8"))
        docs = [{"_id": concept["id"], "title": concept["term"], "text": concept["text"]} for concept in source["concepts"]]
        train, held_out, pairs = list(questions(source, "train")), list(questions(source, "heldout")), list(lexicon(source))
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise BadInput(f"{folder / 'source.yaml'} is not readable as such a source ({error!r}): the shipped one shows the form") from None
    shipped = [row["text"] for row in train] + [text for pair in pairs for text in pair] + [prompts.rewrite_prompt("default", "?")]
    leaks = list(shared([row["text"] for row in held_out], shipped))
    for question, word in leaks:
        print(f"leak: {question} <- {word}", file=sys.stderr)
    if leaks:
        return 1
    write_tenant(folder, docs, train, held_out, pairs)
    return 0


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder that holds source.yaml")
    folder = parser.parse_args(argv).folder
    return run(lambda: make(folder))


if __name__ == "__main__":
    sys.exit(main())
