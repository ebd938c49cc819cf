"""Seeded draws: which rows are held out, with all rows of one question on one side, and samples in which each kind keeps its share."""

import random
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

from overtake.reading.normal_forms import for_likeness

T = TypeVar("T")


def split(questions: Sequence[str], shares: Mapping[str, float], seed: int) -> list[str]:
    """The side of each row by its question; `shares` are each side's, of the distinct questions, and sum to 1.

    Rows whose questions differ only in width, case, punctuation or spaces go to the same side. The order of rows changes nothing.

    >>> sides = split([f"q{i // 2}" + "?" * (i % 2) for i in range(20)], {"train": 0.8, "val": 0.1, "test": 0.1}, seed=20)
    >>> sorted(Counter(sides).items()), sides[::2] == sides[1::2]
    ([('test', 2), ('train', 16), ('val', 2)], True)
    """
    keys = [for_likeness(question) for question in questions]
    order = shuffled(sorted(set(keys)), seed)
    side_of: dict[str, str] = {}
    reached = 0.0
    for side, share in shares.items():
        reached += share
        for key in order[: round(len(order) * reached)]:
            side_of.setdefault(key, side)
    return [side_of.get(key, side) for key in keys]  # shares that sum to a hair less than 1 leave the rest to the last side


def held_out(questions: Sequence[str], share: float, seed: int, kinds: Sequence[Hashable] | None = None) -> list[bool]:
    """Return whether each row is held out: `share` of the distinct questions, of each kind (that of a question's first row) where kinds
    are given.

    Rows whose questions differ only in width, case, punctuation or spaces go to the same side. The order of questions changes nothing.

    >>> held_out(["a", "b", "A?", "c"], 1 / 3, seed=1)
    [True, False, True, False]
    """
    keys = [for_likeness(question) for question in questions]
    order = sorted(set(keys))
    kind_of: dict[str, Hashable] = {}
    if kinds is not None:
        for key, kind in zip(keys, kinds, strict=True):
            kind_of.setdefault(key, kind)
        order = shuffled(order, seed)  # or the alphabet would tell which of equally large kinds gets what does not divide
    places = draw([kind_of.get(key) for key in order], round(len(order) * share), seed)
    drawn_keys = {order[place] for place in places}
    return [key in drawn_keys for key in keys]


def shuffled(things: Sequence[T], seed: int | str) -> list[T]:
    """Return `things` in an order that the seed decides.

    >>> shuffled("abcde", 20) == shuffled("abcde", 20) != shuffled("abcde", 21)
    True
    """
    order = list(things)
    random.Random(seed).shuffle(order)
    return order


def draw(kinds: Sequence[Hashable], count: int, seed: int) -> list[int]:
    """Places of `count` of the rows whose kinds are given, in their order, from each kind in proportion to how many there are of it.

    What does not divide goes to the kinds with the largest remainders; a kind gets one at least where `count` allows.

    >>> kinds = ["calculation"] * 8 + ["concept"] * 4
    >>> [kinds[place] for place in draw(kinds, 3, seed=20)]
    ['calculation', 'calculation', 'concept']
    """
    if count >= len(kinds):
        return list(range(len(kinds)))
    places: dict[Hashable, list[int]] = defaultdict(list)
    for place, kind in enumerate(kinds):
        places[kind].append(place)
    shares = _shares(Counter(kinds), count)
    rng = random.Random(seed)
    return sorted(place for kind, share in shares.items() for place in rng.sample(places[kind], share))


def _shares(sizes: Counter[Hashable], count: int) -> dict[Hashable, int]:
    """Largest remainders (Hamilton's method)."""
    total, least = sizes.total(), int(count >= len(sizes))
    exact = {kind: size * count / total for kind, size in sizes.items()}
    shares = {kind: max(int(quota), least) for kind, quota in exact.items()}
    by_remainder = sorted(sizes, key=lambda kind: exact[kind] - shares[kind], reverse=True)
    while sum(shares.values()) < count:
        for kind in by_remainder:
            if sum(shares.values()) < count and shares[kind] < sizes[kind]:
                shares[kind] += 1
    while sum(shares.values()) > count:  # the least of one was more than the quota of some
        for kind in reversed(by_remainder):
            if sum(shares.values()) > count and shares[kind] > least:
                shares[kind] -= 1
    return shares
