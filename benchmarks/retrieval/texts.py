"""Any number of documents from a small corpus: its own first, then copies in which three words of ten are drawn anew."""

import random
from collections import Counter
from itertools import accumulate
from pathlib import Path

import rjieba
from overtake.data.tables import read_objects

_CHANGED = 0.3
QUESTIONS = 1000


def documents(folder: Path, count: int, seed: int = 0) -> list[tuple[str, str]]:
    """(id, title and text) of `count` documents. New words are drawn as often as the corpus has them, so frequencies stay as they are."""
    rows = list(filter(None, read_objects(folder / "corpus.jsonl")))
    cut = [rjieba.cut(f"{row.get('title', '')} {row['text']}".replace("\n", " ")) for row in rows]
    counts = Counter(word for words in cut for word in words if word.strip())
    names, weights = list(counts), list(accumulate(counts.values()))
    rng, texts = random.Random(seed), []
    for number in range(count):
        words = cut[number % len(cut)]
        if number >= len(cut):
            drawn = iter(rng.choices(names, cum_weights=weights, k=len(words)))
            words = [next(drawn) if word.strip() and rng.random() < _CHANGED else word for word in words]
        texts.append((f"d{number}", "".join(words)))
    return texts


def questions(folder: Path) -> list[str]:
    """The corpus's questions, QUESTIONS at most."""
    return [row["text"] for row in read_objects(folder / "queries.jsonl") if row][:QUESTIONS]
