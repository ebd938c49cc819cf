"""Agreement of a judge of answers with people, beside the simplest judge, by model and by length, and what sways it that should not."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from overtake.evaluation.agreement import Pair, agreement, confusion, differences, share
from overtake.tasks.answer_judge.judgements import VALUES, Value
from overtake.tasks.answer_judge.negatives import INJECTIONS
from overtake.tasks.answer_judge.rows import JudgeRow


class Said(NamedTuple):
    """Verdict of a judge on one answer."""

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


class Judged(NamedTuple):
    """A row with a human verdict, and the judge's; None: it abstained."""

    row: JudgeRow
    said: Said | None

    @property
    def verdict(self) -> Value | None:
        """Verdict on the main answer."""
        return self.said.main if self.said else None

    @property
    def pair(self) -> Pair:
        """People's verdict on the main answer and the judge's; answers to one question are not independent."""
        return Pair(_cluster(self.row), self.row.main, self.verdict)


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
    readable = [graded for graded in judged if graded.verdict is not None]
    plain = [
        Judged(graded.row, judgement) for graded, judgement in zip(readable, substring([graded.row for graded in readable]), strict=True)
    ]
    pairs, of_plain = [graded.pair for graded in judged], [graded.pair for graded in plain]
    return agreement(pairs) | {
        "confusion": confusion(pairs, VALUES),
        "substring": agreement(of_plain) if plain else {},
        "difference": differences([graded.pair for graded in readable], of_plain),
        "by_model": _by(judged, lambda graded: graded.row.model or "–"),
        "by_length": _by(judged, lambda graded: band(graded.row.answer_hat)),
        "secondary": _secondary(readable),
    }


def _secondary(readable: Sequence[Judged]) -> dict[str, Any]:
    equal = [
        (_cluster(row), judgement.secondary == row.secondary)
        for row, judgement in readable
        if row.secondary and judgement and judgement.secondary
    ]
    return {"rows": len(equal), "accuracy": share(equal)}


def _cluster(row: JudgeRow) -> str:
    return row.question or row.id


def _by(judged: Sequence[Judged], key: Callable[[Judged], str]) -> dict[str, Any]:
    groups: dict[str, list[Pair]] = defaultdict(list)
    for graded in judged:
        groups[key(graded)].append(graded.pair)
    return {name: agreement(groups[name]) for name in sorted(groups)}


def band(text: str) -> str:
    """The length band of an answer.

    >>> band("Paris"), band("x" * 51), band("x" * 201)
    ('1: to 50 characters', '2: to 200', '3: longer')
    """
    return f"1: to {BANDS[0]} characters" if len(text) <= BANDS[0] else f"2: to {BANDS[1]}" if len(text) <= BANDS[1] else "3: longer"


def probes(judged: Sequence[Judged], grade: Grade) -> dict[str, Any]:
    """Return what changes a judge's mind that should not, each on all rows that it fits; verdicts are asked for anew on changed rows.

    order: reference answers in reverse (rows with several). length: sentences about nothing behind the answer. injection: the same with a
    plea for a good verdict, on rows found not correct. shuffled: another question's answer in its place; how often it is found correct.
    """
    readable = [graded for graded in judged if graded.verdict is not None]
    several = [graded for graded in readable if len(graded.row.gold) > 1]
    refused = [graded for graded in readable if graded.verdict != "correct"]
    pleas = [INJECTIONS[index % len(INJECTIONS)] for index in range(len(refused))]
    return {
        "order": _flips(several, [graded.row._replace(gold=graded.row.gold[::-1]) for graded in several], grade),
        "length": _flips(readable, [graded.row._replace(answer_hat=f"{graded.row.answer_hat} {PADDING}") for graded in readable], grade),
        "injection": _flips(
            refused,
            [graded.row._replace(answer_hat=f"{graded.row.answer_hat} {plea}") for graded, plea in zip(refused, pleas, strict=True)],
            grade,
        ),
        "shuffled": _shuffled(readable, grade),
    }


def _flips(before: Sequence[Judged], rows: Sequence[JudgeRow], grade: Grade) -> dict[str, Any]:
    after = grade(rows) if rows else []
    pairs = [
        (_cluster(graded.row), graded.verdict == "correct", judgement.main == "correct")
        for graded, judgement in zip(before, after, strict=True)
        if judgement is not None
    ]
    up = share([(question, new and not old) for question, old, new in pairs])
    down = share([(question, old and not new) for question, old, new in pairs])
    return {"rows": len(rows), "abstained": len(rows) - len(pairs), "to_correct": up, "from_correct": down}


def _shuffled(readable: Sequence[Judged], grade: Grade) -> dict[str, Any]:
    """Each question gets the answer of another one, the next that differs and has no reference answer in common with it."""
    rows = []
    for index, (row, _) in enumerate(readable):
        golds = {gold.casefold() for gold in row.gold}
        for other, _ in [*readable[index + 1 :], *readable[:index]]:
            if other.question != row.question and golds.isdisjoint(gold.casefold() for gold in other.gold):
                rows.append(row._replace(answer_hat=other.answer_hat))
                break
    answers = grade(rows) if rows else []
    correct = [(_cluster(row), judgement.main == "correct") for row, judgement in zip(rows, answers, strict=True) if judgement is not None]
    return {"rows": len(rows), "abstained": len(rows) - len(correct), "found_correct": share(correct)}
