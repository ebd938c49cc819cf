"""Seeded draws in which each kind keeps its share: a sample of rows, and the held-out side of a split."""

import random
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence


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
