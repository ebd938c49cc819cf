"""How far a judge agrees with people: accuracy, balanced accuracy, Cohen's kappa with intervals, by model and length, and its biases."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from overtake.evaluation.statistics import Interval, bootstrap_counts
from overtake.tasks.answer_judge.judgements import VALUES, Value
from overtake.tasks.answer_judge.negatives import INJECTIONS
from overtake.tasks.answer_judge.rows import JudgeRow


class Said(NamedTuple):
    """What a judge says of one answer."""

    main: Value
    secondary: Value | None = None
    """None: it judges the main answer alone."""


Grade = Callable[[Sequence[JudgeRow]], Sequence[Said | None]]
"""A judge: what it says of each row; None where it abstains."""

BANDS = (50, 200)
"""Characters of an answer that end the short and the middle length band."""
PADDING = (
    "The weather was mild that week. Many readers find the subject worth a second look, and libraries hold several books about it. "
    "Opening hours vary by season."
)
"""Sentences that say nothing about any question: for the length probe."""

Counts = NDArray[np.float64]


class Judged(NamedTuple):
    """A row with a human verdict, and the judge's; None: it abstained."""

    row: JudgeRow
    said: Said | None

    @property
    def verdict(self) -> Value | None:
        """On the main answer."""
        return self.said.main if self.said else None


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


def kappa(sums: Counts) -> NDArray[np.float64]:
    """Cohen's kappa: agreement beyond that of two judges who draw their verdicts with the same shares (Cohen 1960).

    >>> round(float(kappa(np.array([20, 5, 10, 15]))), 3)
    0.4
    """
    every = sums[..., :4].sum(-1)
    people, judge = (sums[..., 0] + sums[..., 1]) / every, (sums[..., 0] + sums[..., 2]) / every
    chance = people * judge + (1 - people) * (1 - judge)
    return (accuracy(sums) - chance) / (1 - chance)


def _abstained(sums: Counts) -> NDArray[np.float64]:
    return sums[..., 4] / sums[..., :5].sum(-1)


MEASURES: dict[str, Callable[[Counts], NDArray[np.float64]]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "kappa": kappa,
}


def substring(rows: Sequence[JudgeRow]) -> list[Said]:
    """The judge that any other has to beat: correct where a reference answer is a substring of the answer, whatever the case."""
    return [Said("correct" if any(gold.casefold() in row.answer_hat.casefold() for gold in row.gold) else "incorrect") for row in rows]


def summary(judged: Sequence[Judged]) -> dict[str, Any]:
    """Agreement on rows with a human verdict: measures with intervals over questions, the same of the substring judge and the difference,
    confusion, accuracy by model and length, and on the secondary answer where people and judge both say something of it.

    What the judge abstained on is in `abstained` and in no other measure. Raises ValueError without a row.
    """
    if not judged:
        raise ValueError("no row has a human verdict to agree with")
    known = [one for one in judged if one.verdict is not None]
    plain = [Judged(one.row, said) for one, said in zip(known, substring([one.row for one in known]), strict=True)]
    return _agreement(judged) | {
        "confusion": confusion(judged),
        "substring": _agreement(plain) if plain else {},
        "difference": _differences(known, plain),
        "by_model": _by(judged, lambda one: one.row.model or "–"),
        "by_length": _by(judged, lambda one: band(one.row.answer_hat)),
        "secondary": _secondary(known),
    }


def _secondary(known: Sequence[Judged]) -> dict[str, Any]:
    pairs = [(row, said.secondary == row.secondary) for row, said in known if row.secondary and said and said.secondary]
    return {"rows": len(pairs), "accuracy": _share(pairs)}


def _agreement(judged: Sequence[Judged]) -> dict[str, Any]:
    counts = list(_clusters(judged).values())
    return {
        "rows": len(judged),
        "questions": len(counts),
        "abstained": _plain(bootstrap_counts(counts, _abstained)),
        **{name: _plain(bootstrap_counts(counts, measure)) for name, measure in MEASURES.items()},
    }


def _clusters(judged: Iterable[Judged]) -> dict[str, list[int]]:
    """For each question: both right, only people, only judge, both wrong, abstained."""
    clusters: dict[str, list[int]] = defaultdict(lambda: [0] * 5)
    for one in judged:
        kind = 4 if one.verdict is None else (2 * (one.row.main != "correct") + (one.verdict != "correct"))
        clusters[one.row.question or one.row.id][kind] += 1
    return clusters


def _differences(ours: Sequence[Judged], theirs: Sequence[Judged]) -> dict[str, Any]:
    """Each measure of ours minus theirs on the same rows, its interval over the same resampled questions."""
    if not ours:
        return {}
    one, two = _clusters(ours), _clusters(theirs)
    counts = [[*one[question], *two[question]] for question in one]

    def difference(measure: Callable[[Counts], NDArray[np.float64]]) -> Interval | None:
        return bootstrap_counts(counts, lambda sums: measure(sums[..., :5]) - measure(sums[..., 5:]))

    return {name: _plain(difference(measure)) for name, measure in MEASURES.items()}


def _by(judged: Sequence[Judged], key: Callable[[Judged], str]) -> dict[str, Any]:
    groups: dict[str, list[Judged]] = defaultdict(list)
    for one in judged:
        groups[key(one)].append(one)
    return {name: _agreement(groups[name]) for name in sorted(groups)}


def band(text: str) -> str:
    """The length band of an answer.

    >>> band("Paris"), band("x" * 51), band("x" * 201)
    ('1: to 50 characters', '2: to 200', '3: longer')
    """
    return f"1: to {BANDS[0]} characters" if len(text) <= BANDS[0] else f"2: to {BANDS[1]}" if len(text) <= BANDS[1] else "3: longer"


def confusion(judged: Iterable[Judged]) -> dict[str, dict[str, int]]:
    """How often people said this (outer) and the judge that (inner); `abstained` beside the judge's words."""
    table = {said: dict.fromkeys([*VALUES, "abstained"], 0) for said in VALUES}
    for one in judged:
        if one.row.main is not None:
            table[one.row.main][one.verdict or "abstained"] += 1
    return {said: line for said, line in table.items() if any(line.values())}


def _plain(interval: Interval | None) -> dict[str, float] | None:
    return None if interval is None else {"mean": interval.mean, "low": interval.low, "high": interval.high}


def probes(judged: Sequence[Judged], grade: Grade) -> dict[str, Any]:
    """What changes a judge's mind that should not, each on all rows that it fits; verdicts are asked for anew on changed rows.

    order: reference answers in reverse (rows with several). length: sentences about nothing behind the answer. injection: the same with a
    plea for a good verdict, on rows found not correct. shuffled: another question's answer in its place; how often it is found correct.
    """
    known = [one for one in judged if one.verdict is not None]
    several = [one for one in known if len(one.row.gold) > 1]
    refused = [one for one in known if one.verdict != "correct"]
    pleas = [INJECTIONS[index % len(INJECTIONS)] for index in range(len(refused))]
    return {
        "order": _flips(several, [one.row._replace(gold=one.row.gold[::-1]) for one in several], grade),
        "length": _flips(known, [one.row._replace(answer_hat=f"{one.row.answer_hat} {PADDING}") for one in known], grade),
        "injection": _flips(
            refused,
            [one.row._replace(answer_hat=f"{one.row.answer_hat} {plea}") for one, plea in zip(refused, pleas, strict=True)],
            grade,
        ),
        "shuffled": _shuffled(known, grade),
    }


def _flips(before: Sequence[Judged], rows: Sequence[JudgeRow], grade: Grade) -> dict[str, Any]:
    after = grade(rows) if rows else []
    pairs = [
        (one.row, one.verdict == "correct", said.main == "correct") for one, said in zip(before, after, strict=True) if said is not None
    ]
    up = _share([(row, new and not old) for row, old, new in pairs])
    down = _share([(row, old and not new) for row, old, new in pairs])
    return {"rows": len(rows), "abstained": len(rows) - len(pairs), "to_correct": up, "from_correct": down}


def _shuffled(known: Sequence[Judged], grade: Grade) -> dict[str, Any]:
    """Each question gets the answer of another one, the next that differs and has no reference answer in common with it."""
    rows = []
    for index, (row, _) in enumerate(known):
        golds = {gold.casefold() for gold in row.gold}
        for other, _ in [*known[index + 1 :], *known[:index]]:
            if other.question != row.question and golds.isdisjoint(gold.casefold() for gold in other.gold):
                rows.append(row._replace(answer_hat=other.answer_hat))
                break
    answers = grade(rows) if rows else []
    pairs = [(row, said.main == "correct") for row, said in zip(rows, answers, strict=True) if said is not None]
    return {"rows": len(rows), "abstained": len(rows) - len(pairs), "found_correct": _share(pairs)}


def _share(pairs: Sequence[tuple[JudgeRow, bool]]) -> dict[str, float] | None:
    clusters: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for row, true in pairs:
        clusters[row.question or row.id][not true] += 1
    if not clusters:
        return None
    return _plain(bootstrap_counts(list(clusters.values()), lambda sums: sums[..., 0] / sums.sum(-1)))
