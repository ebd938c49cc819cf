"""RagRetrieval: how much better the student's rewrite retrieves than the teacher's, in (-1, 1)."""

import math

from overtake.rewards.reward import Batch, Reward, Scored
from overtake.tasks.query_rewrite import measuring
from overtake.tasks.query_rewrite.columns import MEASURED_BY, TOOL
from overtake.tasks.query_rewrite.measuring import Retrieval, Retrieving
from overtake.tasks.query_rewrite.rows import RewriteRow


def score(student: float, teacher: float) -> float:
    """Return tanh(3 * (student - teacher)) of two retrieval qualities in [0, 1].

    >>> round(score(0.8, 0.6), 4)
    0.537
    """
    return math.tanh(3 * (student - teacher))


class RagRetrieval(Reward[Retrieving]):
    """The retrieval part alone; None where a recall list could not be had."""

    columns = MEASURED_BY
    tool = TOOL
    score = staticmethod(score)

    def begin(self, batch: Batch) -> Retrieving:
        """Send all retrievals."""
        return measuring.retrievals(batch)

    def finish(self, batch: Batch, pending: Retrieving) -> list[Scored]:
        """One score for each completion."""
        return [
            Scored(
                self.score(pair.student_quality, pair.teacher_quality) if isinstance(pair, Retrieval) else None,
                measuring.retrieval_parts(row, text, pair),
            )
            for row, text, pair in zip(batch.rows(RewriteRow), batch.texts, pending(), strict=True)
        ]
