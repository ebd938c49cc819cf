"""MedicalAnswer: the doctor's rule book and the teacher's checklist as one reward in [0, 1], R = 0.6 rules + 0.4 teacher (spec 2)."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from overtake import settings
from overtake.reading.tags import strip_think
from overtake.remote import chat
from overtake.remote.gateway import Failed, Ok
from overtake.rewards import measuring, trace
from overtake.rewards.measuring import column
from overtake.rewards.metrics import log_metrics
from overtake.tasks.medical.judge import MEDICAL_PARTS, MedicalVerdict, medical_judge_call, medical_verdict
from overtake.tasks.medical.rewards import medical_rules
from overtake.tasks.medical.rewards.medical_rules import TOOL

Weights = tuple[float, float]
"""Of the rules and of the teacher."""
_READ = ("id", "question", "reference")


def score(rules: float, teacher: float | None, weights: Weights = (0.6, 0.4)) -> float | None:
    """The weighted sum of two parts in [0, 1]. Without the teacher's the rules take its weight, so that the scale stays the same.

    None when what was measured weighs nothing.

    >>> round(score(0.8, 0.5), 4), round(score(0.8, None), 4)
    (0.68, 0.8)
    """
    if teacher is None:
        return rules * sum(weights) if weights[0] else None
    return rules * weights[0] + teacher * weights[1] if sum(weights) else None


Judging = Callable[[], list[MedicalVerdict | Failed | None]]


class _Row(NamedTuple):
    """One answer, without its think block, and what its dataset row says."""

    med_id: str
    question: str
    reference: str
    answer: str


class MedicalAnswer:
    """The composite medical reward, its parts logged as `medical/...` when the run has `--callbacks overtake_metrics`."""

    def __init__(self, args: Any = None, **_: Any) -> None:
        self.group_size = getattr(args, "num_generations", None) or 1

    def start(self, completions: Sequence[str], **columns: Any) -> None:
        """Send what scoring these completions will ask; the same call of the reward then finds it on its way."""
        self._begin(completions, columns)

    def _begin(self, completions: Sequence[str], columns: dict[str, Any]) -> tuple[list[str], list[bool], Judging]:
        step, count = measuring.step_of(columns), len(completions)
        read = [["" if one is None else str(one) for one in column(columns, f"med_{name}", count, TOOL)] for name in _READ]
        rows = tuple(map(_Row, *read, map(strip_think, completions)))
        share = measuring.judge_share(step) if settings.value("medical_weight_teacher") else 0.0
        asked = [measuring.is_drawn(row.med_id, step, share) for row in rows]
        judging = _judging(rows, tuple(asked)) if step is None else _judging_of_step(rows, tuple(asked), step)
        return [row.answer for row in rows], asked, judging

    def __call__(self, completions: Sequence[str], **columns: Any) -> list[float | None]:
        """One score for each completion; None where the teacher gave no verdict on it but did on its siblings."""
        count = len(completions)
        weights = (settings.value("medical_weight_rules"), settings.value("medical_weight_teacher"))
        answers, asked, judging = self._begin(completions, columns)
        rules = medical_rules.verdicts(completions, columns)
        found = judging()
        grouped = bool(columns.get("prompt_id"))
        groups = column(columns, "prompt_id", count) if grouped else range(count)
        size = self.group_size if grouped else 1
        needed = measuring.verdict_needed(list(map(str, groups)), asked, [bool(answer) for answer in answers], found, size)
        points = [one.score if isinstance(one, MedicalVerdict) and need else None for one, need in zip(found, needed, strict=True)]
        scores = [
            None if need and mark is None else score(rule.total, mark, weights)
            for rule, mark, need in zip(rules, points, needed, strict=True)
        ]
        medical_rules.log_verdicts(rules)
        _log(answers, found, points, scores)
        return scores


def _judging(rows: tuple[_Row, ...], asked: tuple[bool, ...]) -> Judging:
    """Ask the teacher; the function returned waits. None for a row that is not asked about; an answer without a word is worth 0."""
    to = chat.endpoint("judge") if any(asked) else None
    calls = [
        medical_judge_call(row.question, row.answer, row.reference, to) for row, ask in zip(rows, asked, strict=True) if ask and row.answer
    ]
    future = chat.chat_gateway("judge").submit(calls, settings.load().batch_deadline) if calls else None

    def wait() -> list[MedicalVerdict | Failed | None]:
        results = future.result() if future else []
        remedy = "See to the judge, or set OVERTAKE_JUDGE_SHARE=0 to go on with the rules alone"
        measuring.stop_on_outage(results, "verdicts", remedy, most=1.0)
        waiting = iter(results)

        def one(row: _Row) -> MedicalVerdict | Failed:
            if not row.answer:
                return MedicalVerdict({part: [False] * 3 for part in MEDICAL_PARTS}, "an empty answer", "")
            result = next(waiting)
            return medical_verdict(result.value) if isinstance(result, Ok) else result

        return [one(row) if ask else None for row, ask in zip(rows, asked, strict=True)]

    return wait


@lru_cache(maxsize=1)
def _judging_of_step(rows: tuple[_Row, ...], asked: tuple[bool, ...], step: int) -> Judging:
    return _judging(rows, asked)


def _log(
    answers: Sequence[str], found: Sequence[MedicalVerdict | Failed | None], points: Sequence[float | None], scores: Sequence[float | None]
) -> None:
    given = [one for one in found if isinstance(one, MedicalVerdict)]
    why = [
        measuring.why_abstained(one.kind) if value is None and isinstance(one, Failed) else "no_weight" if value is None else ""
        for one, value in zip(found, scores, strict=True)
    ]
    log_metrics(
        {
            "medical/teacher": [value for value in points if value is not None],
            **{f"medical/teacher/{part}": [sum(one.items[part]) / len(one.items[part]) for one in given] for part in MEDICAL_PARTS},
            "medical/judged": [float(isinstance(one, MedicalVerdict)) for one in found],
            "medical/abstained": [float(value is None) for value in scores],
            **{f"abstain/{reason}": [float(one == reason) for one in why] for reason in measuring.ABSTAINED},
        }
    )
    if trace.wanted():
        trace.note(
            {
                "answer": answers,
                "teacher": list(points),
                "teacher_items": [one.items if isinstance(one, MedicalVerdict) else None for one in found],
                "teacher_says": [one.reason if isinstance(one, MedicalVerdict) else None for one in found],
                "teacher_failed": [{"kind": one.kind, "reason": one.reason} if isinstance(one, Failed) else None for one in found],
            }
        )
