"""TeacherJudge: how much better the judge likes the student's rewrite than the teacher's, in (-1, 1); for a sample of the groups."""

import math
from collections.abc import Sequence
from typing import Any

from overtake.rewards import measuring
from overtake.tasks.query_rewrite.judge import Verdict


def score(student: float, teacher: float) -> float:
    """tanh(3 * (student - teacher)) of two verdicts of 0 to 5 points, each divided by 5 (spec 1.5).

    >>> round(score(5, 4), 4)
    0.537
    """
    return math.tanh(3 * (student / 5 - teacher / 5))


class TeacherJudge:
    """The judge part alone; None where the group was not sampled, the judge gave no verdict, or the teacher's own score is unknown."""

    def __init__(self, args: Any = None, **_: Any) -> None:
        self.args = args

    def start(self, completions: Sequence[str], **columns: Any) -> None:
        """Send what scoring these completions will ask; the same call of the reward then finds it on its way."""
        self._begin(completions, columns)

    def _begin(self, completions: Sequence[str], columns: dict[str, Any]) -> tuple[list[measuring.Row], measuring.Judging]:
        rows, step = measuring.read_rows(completions, columns), measuring.step_of(columns)
        return rows, measuring.verdicts(rows, measuring.to_judge(rows, step, measuring.judge_share(step)), step)

    def __call__(self, completions: Sequence[str], **columns: Any) -> list[float | None]:
        """One score for each completion."""
        rows, judging = self._begin(completions, columns)
        verdicts = judging()
        measuring.trace_verdicts(rows, verdicts)
        return [
            score(verdict.score, row.teacher_judge) if isinstance(verdict, Verdict) and row.teacher_judge is not None else None
            for row, verdict in zip(rows, verdicts, strict=True)
        ]
