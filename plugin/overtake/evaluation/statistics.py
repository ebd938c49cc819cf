"""Paired statistics: the same held-out rows for every system, so that a difference carries its own interval."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000


@dataclass(frozen=True)
class Interval:
    """A mean with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f},{self.high:.3f}]"

    @property
    def verdict(self) -> str:
        """Words for a difference: "better", "worse" or "no difference shown"."""
        return "better" if self.low > 0 else "worse" if self.high < 0 else "no difference shown"


def wins(pairs: Sequence[tuple[float, float]]) -> list[float]:
    """Return 1 for each pair whose first has more, 0 where it has less, a half where both have the same: their mean is the AUC.

    >>> wins([(2, 1), (1, 2), (1, 1)])
    [1.0, 0.0, 0.5]
    """
    return [(first > second) + (first == second) / 2 for first, second in pairs]


def bootstrap_mean(values: Sequence[float], seed: int = 0) -> Interval:
    """The mean of `values` with its 95 % percentile bootstrap interval over 10,000 resamples of the rows (Efron 1979).

    Raises ValueError without values.

    >>> bootstrap_mean([1.0, 1.0, 1.0])
    Interval(mean=1.0, low=1.0, high=1.0)
    """
    if len(values) == 0:
        raise ValueError("no values to average: no row was measured")
    from scipy.stats import bootstrap

    sample = np.asarray(values, dtype=float)
    mean = float(sample.mean())
    if np.ptp(sample) == 0:  # scipy warns about a degenerate distribution
        return Interval(mean, mean, mean)
    result = bootstrap((sample,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(seed), batch=1000)
    return Interval(mean, float(result.confidence_interval.low), float(result.confidence_interval.high))


def wilson(mean: float, count: int) -> Interval:
    """The mean of `count` values within 0 and 1 with its 95 % Wilson score interval (Wilson 1927).

    The values need not be 0 or 1: any others vary less, so that the interval is then wider than it must be, and never too narrow. Unlike
    the bootstrap it does not shrink to a point where all values are equal.

    >>> print(wilson(1.0, 10))
    1.000 [0.722,1.000]
    """
    z = 1.959963984540054
    centre, spread = mean + z * z / (2 * count), z * (mean * (1 - mean) / count + z * z / (4 * count * count)) ** 0.5
    low, high = ((centre + sign * spread) / (1 + z * z / count) for sign in (-1, 1))
    return Interval(mean, max(0.0, low), min(1.0, high))


def paired_difference(ours: dict[str, float], theirs: dict[str, float], seed: int = 0) -> Interval:
    """Mean of ours - theirs over the rows that both measured, with its paired 95 % interval.

    >>> paired_difference({"a": 1.0, "b": 0.5}, {"a": 0.5, "b": 0.0, "c": 1.0})
    Interval(mean=0.5, low=0.5, high=0.5)
    """
    return bootstrap_mean([ours[row] - theirs[row] for row in sorted(ours.keys() & theirs.keys())], seed)


def paired_p(ours: dict[str, float], theirs: dict[str, float], seed: int = 0) -> float:
    """Two-sided p of no difference, over the rows that both measured.

    McNemar's exact test where every value is 0 or 1 (McNemar 1947), else the sign-flip permutation test of the mean difference.
    Raises ValueError without such a row.

    >>> paired_p({"a": 1.0, "b": 1.0, "c": 1.0}, {"a": 0.0, "b": 0.0, "c": 1.0})
    0.5
    """
    rows = sorted(ours.keys() & theirs.keys())
    if not rows:
        raise ValueError("nothing to compare: no row was measured by both")
    from scipy.stats import binomtest, permutation_test

    pairs = np.asarray([(ours[row], theirs[row]) for row in rows], dtype=float)
    differences = pairs[:, 0] - pairs[:, 1]
    if not differences.any() or len(differences) == 1:  # one row has no other sign that is less extreme
        return 1.0
    if np.isin(pairs, (0.0, 1.0)).all():
        return float(binomtest(int((differences > 0).sum()), int((differences != 0).sum())).pvalue)
    result = permutation_test(
        (differences,),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=1000,
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)


def holm(values: Sequence[float]) -> list[float]:
    """The p values corrected for being several (Holm 1979), in their own order: at 0.05 the chance of any false claim is at most 5 %.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(values)
    raised = np.maximum.accumulate(np.asarray(values, dtype=float)[order] * np.arange(len(values), 0, -1)) if len(values) else np.array([])
    corrected = np.empty(len(values))
    corrected[order] = np.minimum(raised, 1.0)
    return [float(p) for p in corrected]


def bootstrap_counts(
    counts: Sequence[Sequence[int]], statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]], seed: int = 0
) -> Interval | None:
    """A statistic of summed counts with its 95 % percentile bootstrap interval over 10,000 resamples of the clusters.

    counts: one line for each cluster (e.g. all answers to one question, which are not independent), [clusters, kinds]. statistic: from
    sums [..., kinds] to values [...], nan where it is not defined. None where it is not defined on the counts as they are.

    >>> bootstrap_counts([[1, 0], [1, 0]], lambda sums: sums[..., 0] / sums.sum(-1))
    Interval(mean=1.0, low=1.0, high=1.0)
    """
    table = np.asarray(counts, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        whole = float(statistic(table.sum(0)))
        if np.isnan(whole):
            return None
        low, high = np.nanpercentile(statistic(_drawn(len(table), seed) @ table), [2.5, 97.5])
    return Interval(whole, float(low), float(high))


@lru_cache(maxsize=4)
def _drawn(clusters: int, seed: int) -> NDArray[np.float64]:
    """How often each resample draws each cluster, [resamples, clusters]; kept, since several statistics of the same rows need it."""
    return np.random.default_rng(seed).multinomial(clusters, np.full(clusters, 1 / clusters), size=RESAMPLES).astype(float)
