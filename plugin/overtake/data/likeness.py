"""Texts that are nearly the same, so that no question and its twin fall on two sides of a split."""

from collections.abc import Sequence

import numpy as np
from rapidfuzz import fuzz, process
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from overtake.data.questions import normal

ALIKE = 85.0
"""Of 100: the share of characters that two texts have in common, in order (Indel similarity of rapidfuzz)."""
_ROWS = 512


def groups(texts: Sequence[str], alike: float = ALIKE) -> list[int]:
    """The number of each text's group: texts at least `alike`, and those alike to these in turn, have the same; width, case and
    punctuation do not count.

    >>> groups(["胃胀一直打嗝怎么办？", "肚子疼", "胃胀一直打嗝 怎么办呢"])
    [0, 1, 0]
    """
    plain = [normal(text) for text in texts]
    order = np.argsort([len(text) for text in plain], kind="stable")
    sizes = np.array([len(plain[place]) for place in order])
    # Two texts of lengths a < b have a similarity of at most 2a / (a + b), so that only a window of lengths need be compared.
    reach = sizes * (200 / alike - 1)
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(order), _ROWS):
        rows = order[start : start + _ROWS]
        end = int(np.searchsorted(sizes, reach[min(start + _ROWS, len(order)) - 1], side="right"))
        columns = order[start:end]
        found = process.cdist(
            [plain[i] for i in rows], [plain[i] for i in columns], scorer=fuzz.ratio, score_cutoff=alike, dtype=np.float32
        )
        pairs += [(int(rows[row]), int(columns[column])) for row, column in zip(*np.nonzero(found), strict=True)]
    if not pairs:
        return list(range(len(texts)))
    left, right = zip(*pairs, strict=True)
    _, labels = connected_components(csr_array((np.ones(len(pairs)), (left, right)), shape=(len(texts), len(texts))), directed=False)
    first: dict[int, int] = {}
    return [first.setdefault(int(label), len(first)) for label in labels]
