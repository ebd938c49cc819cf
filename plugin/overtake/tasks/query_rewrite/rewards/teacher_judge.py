"""TeacherJudge: how much better the judge likes the student's rewrite than the teacher's, in (-1, 1); for a sample of the groups."""

import math

from overtake import settings
from overtake.rewards.measuring import share_to_judge
from overtake.rewards.reward import Batch, Reward, Scored
from overtake.tasks.query_rewrite import measuring
from overtake.tasks.query_rewrite.columns import MEASURED_BY, TOOL
from overtake.tasks.query_rewrite.judge import Verdict
from overtake.tasks.query_rewrite.measuring import Judging
from overtake.tasks.query_rewrite.rows import RewriteRow


def score(student: float, teacher: float) -> float:
    """Return tanh(3 * (student - teacher)) of two verdicts of 0 to 5 points, each divided by 5.

    >>> round(score(5, 4), 4)
    0.537
    """
    return math.tanh(3 * (student / 5 - teacher / 5))


class TeacherJudge(Reward[Judging]):
    """The judge part alone; None where the group was not sampled, the judge gave no verdict, or the teacher's own score is unknown."""

    columns = MEASURED_BY
    tool = TOOL

    def begin(self, batch: Batch) -> Judging:
        """Send the groups that are sampled to the judge."""
        share = share_to_judge(settings.load().judge_share, batch.step)
        return measuring.verdicts(batch, measuring.to_judge(batch.rows(RewriteRow), batch.step, share))

    def finish(self, batch: Batch, pending: Judging) -> list[Scored]:
        """One score for each completion."""
        scored = []
        for row, text, verdict in zip(batch.rows(RewriteRow), batch.texts, pending(), strict=True):
            given = verdict if isinstance(verdict, Verdict) else None
            teacher = measuring.teacher_points(row, given)
            value = None if given is None or teacher is None else score(given.score, teacher)
            scored.append(Scored(value, measuring.verdict_parts(row, text, verdict)))
        return scored
