"""RagWin: +0.5 when the student's rewrite retrieves better than the teacher's, -0.3 when worse, 0.0 on a tie."""

from collections.abc import Sequence
from typing import Any

from overtake.rewards import measuring

_TIE = 1e-9


def score(student: float, teacher: float) -> float:
    """Who wins, from two retrieval qualities (spec 1.5). Equal up to the noise of floating point is a tie.

    >>> score(0.8, 0.6), score(0.6, 0.8), score(0.1 + 0.2, 0.3)
    (0.5, -0.3, 0.0)
    """
    if abs(student - teacher) <= _TIE:
        return 0.0
    return 0.5 if student > teacher else -0.3


class RagWin:
    """The win part alone; None where a recall list could not be had."""

    def __init__(self, args: Any = None, **_: Any) -> None:
        self.args = args

    def start(self, completions: Sequence[str], **columns: Any) -> None:
        """Send what scoring these completions will ask; the same call of the reward then finds it on its way."""
        measuring.retrievals(measuring.read_rows(completions, columns), measuring.step_of(columns))

    def __call__(self, completions: Sequence[str], **columns: Any) -> list[float | None]:
        """One score for each completion."""
        rows = measuring.read_rows(completions, columns)
        pairs = measuring.retrievals(rows, measuring.step_of(columns))()
        measuring.trace_retrievals(rows, pairs)
        return [score(pair.student_quality, pair.teacher_quality) if isinstance(pair, measuring.Retrieval) else None for pair in pairs]
