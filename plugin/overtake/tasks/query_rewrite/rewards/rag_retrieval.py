"""RagRetrieval: how much better the student's rewrite retrieves than the teacher's, in (-1, 1)."""

import math
from collections.abc import Sequence
from typing import Any

from overtake.rewards import measuring


def score(student: float, teacher: float) -> float:
    """tanh(3 * (student - teacher)) of two retrieval qualities in [0, 1] (spec 1.5).

    >>> round(score(0.8, 0.6), 4)
    0.537
    """
    return math.tanh(3 * (student - teacher))


class RagRetrieval:
    """The retrieval part alone; None where a recall list could not be had."""

    score = staticmethod(score)

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
        return [self.score(pair.student_quality, pair.teacher_quality) if isinstance(pair, measuring.Retrieval) else None for pair in pairs]
