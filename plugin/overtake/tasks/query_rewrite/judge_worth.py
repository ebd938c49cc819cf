"""Worth of a judge of rewrites: told on a pilot, by the spread of its verdicts, by copies and by what retrieval measured.

A small model as judge always answers in form, and gives nearly everything the same points; a reward from it is noise that is paid for.
"""

from collections.abc import Sequence
from statistics import StatisticsError, correlation, fmean

FEWEST = 20
"""Verdicts, below which nothing is said of a judge."""
PILOT = 100
"""Rewrites that are judged first; their verdicts count, so only those on copies are paid besides."""
COPIES = 50
"""Of the pilot's questions, judged as if they were rewrites of themselves."""
LEAST_DISTINCT = 3
LEAST_CORRELATION = 0.3


def faults(honest: Sequence[float], gains: Sequence[float], copies: Sequence[tuple[float, float]]) -> list[str]:
    """Return what is wrong with a judge, in words; nothing for one that is worth its price, or that too little is known of.

    `honest` and `gains`: points of each rewrite that is no copy, and how much better it retrieved than its question. `copies`: for some of
    the questions the points of the question itself and of its rewrite.

    >>> faults([5.0, 4.5] * 25, [0.1, -0.1] * 25, [(5.0, 5.0)] * 25)
    ['2 distinct verdicts in 50', 'copies of the question get 5.00 of 5 points, rewrites 5.00']
    """
    wrong = []
    if len(honest) >= FEWEST and (distinct := len(set(honest))) < LEAST_DISTINCT:
        wrong.append(f"{distinct} distinct verdict{'s' * (distinct > 1)} in {len(honest)}")
    if len(copies) >= FEWEST:
        of_copies, of_rewrites = (fmean(points) for points in zip(*copies, strict=True))
        if of_copies >= of_rewrites:
            wrong.append(f"copies of the question get {of_copies:.2f} of 5 points, rewrites {of_rewrites:.2f}")
    if len(honest) >= FEWEST and len(set(gains)) > 1:
        try:
            agreement = correlation(honest, gains)
        except StatisticsError:  # one verdict for all
            agreement = 0.0
        if agreement < LEAST_CORRELATION:
            wrong.append(f"correlation with the gain in retrieval {agreement:.2f}, at least {LEAST_CORRELATION:g} is wanted")
    return wrong
