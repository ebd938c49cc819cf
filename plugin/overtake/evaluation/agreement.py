"""Agreement of a judge with people: accuracy, balanced accuracy and Cohen's kappa, with intervals over clusters of verdicts."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from overtake.evaluation.statistics import Interval, bootstrap_counts

Counts = NDArray[np.float64]

POSITIVE = "correct"
"""The verdict that the measures are about; every other one is the opposite."""


class Pair(NamedTuple):
    """Two verdicts on one thing."""

    cluster: str
    """What the things have in common that are not independent, e.g. their question."""
    people: str | None
    judge: str | None
    """None: it abstained."""


def accuracy(sums: Counts) -> NDArray[np.float64]:
    """Share of equal verdicts, from [..., (both right, only people, only judge, both wrong, ...)].

    >>> float(accuracy(np.array([8, 1, 1, 0])))
    0.8
    """
    return (sums[..., 0] + sums[..., 3]) / sums[..., :4].sum(-1)


def balanced_accuracy(sums: Counts) -> NDArray[np.float64]:
    """Mean of the shares of right answers found right and of wrong answers found wrong.

    >>> float(balanced_accuracy(np.array([8, 0, 1, 1])))
    0.75
    """
    return (sums[..., 0] / (sums[..., 0] + sums[..., 1]) + sums[..., 3] / (sums[..., 2] + sums[..., 3])) / 2


def kappa(sums: Counts, verdicts: int = 2) -> NDArray[np.float64]:
    """Cohen's kappa: agreement beyond that of two judges who draw their verdicts with the same shares (Cohen 1960).

    sums: [..., kinds], of which the first verdicts x verdicts count what both said, the first judge's verdict before the second's.

    >>> round(float(kappa(np.array([20, 5, 10, 15]))), 3), round(float(kappa(np.array([20, 5, 0, 10, 15, 0, 0, 0, 0]), 3)), 3)
    (0.4, 0.4)
    """
    said = sums[..., : verdicts * verdicts]
    table = (said / said.sum(-1)[..., None]).reshape(*said.shape[:-1], verdicts, verdicts)
    equal, chance = np.trace(table, axis1=-2, axis2=-1), (table.sum(-1) * table.sum(-2)).sum(-1)
    return (equal - chance) / (1 - chance)


def _abstained(sums: Counts) -> NDArray[np.float64]:
    return sums[..., 4] / sums[..., :5].sum(-1)


MEASURES: dict[str, Callable[[Counts], NDArray[np.float64]]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "kappa": kappa,
}


def agreement(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Rows, clusters (`questions`), the share on which the judge abstained, and each measure on the others, with intervals."""
    counts = list(_clusters(pairs).values())
    return {
        "rows": len(pairs),
        "questions": len(counts),
        "abstained": _plain(bootstrap_counts(counts, _abstained)),
        **{name: _plain(bootstrap_counts(counts, measure)) for name, measure in MEASURES.items()},
    }


def differences(ours: Sequence[Pair], theirs: Sequence[Pair]) -> dict[str, Any]:
    """Each measure of ours minus theirs on the same things, its interval over the same resampled clusters; {} without any."""
    if not ours:
        return {}
    of_ours, of_theirs = _clusters(ours), _clusters(theirs)
    counts = [[*of_ours[cluster], *of_theirs[cluster]] for cluster in of_ours]

    def difference(measure: Callable[[Counts], NDArray[np.float64]]) -> Interval | None:
        return bootstrap_counts(counts, lambda sums: measure(sums[..., :5]) - measure(sums[..., 5:]))

    return {name: _plain(difference(measure)) for name, measure in MEASURES.items()}


def confusion(pairs: Iterable[Pair], verdicts: Sequence[str]) -> dict[str, dict[str, int]]:
    """Counts of how often people gave this verdict (outer) and the judge that one (inner, with `abstained`); what people never gave is
    left out."""
    table = {verdict: dict.fromkeys([*verdicts, "abstained"], 0) for verdict in verdicts}
    for pair in pairs:
        if pair.people is not None:
            table[pair.people][pair.judge or "abstained"] += 1
    return {verdict: line for verdict, line in table.items() if any(line.values())}


def share(marked: Sequence[tuple[str, bool]]) -> dict[str, float] | None:
    """The share of things that hold, of (cluster, whether it holds), with its interval; None without any."""
    clusters: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for cluster, holds in marked:
        clusters[cluster][not holds] += 1
    if not clusters:
        return None
    return _plain(bootstrap_counts(list(clusters.values()), lambda sums: sums[..., 0] / sums.sum(-1)))


def _clusters(pairs: Iterable[Pair]) -> dict[str, list[int]]:
    """For each cluster: both right, only people, only judge, both wrong, abstained."""
    clusters: dict[str, list[int]] = defaultdict(lambda: [0] * 5)
    for pair in pairs:
        kind = 4 if pair.judge is None else 2 * (pair.people != POSITIVE) + (pair.judge != POSITIVE)
        clusters[pair.cluster][kind] += 1
    return clusters


def _plain(interval: Interval | None) -> dict[str, float] | None:
    return None if interval is None else {"mean": interval.mean, "low": interval.low, "high": interval.high}
