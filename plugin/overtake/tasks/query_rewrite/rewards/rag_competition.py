"""RagCompetition: student against teacher on retrieval, judge and win, as one reward in [-1, 1]."""

from typing import NamedTuple

from overtake import settings
from overtake.remote.gateway import Failed
from overtake.rewards.measuring import abstain_metrics, share_to_judge, verdict_needed
from overtake.rewards.reward import Batch, Reward, Scored
from overtake.tasks.query_rewrite import measuring
from overtake.tasks.query_rewrite.columns import MEASURED_BY, TOOL
from overtake.tasks.query_rewrite.judge import Verdict
from overtake.tasks.query_rewrite.measuring import Judging, Retrieval, Retrieving, sent
from overtake.tasks.query_rewrite.rewards import rag_retrieval, rag_win, teacher_judge
from overtake.tasks.query_rewrite.rows import RewriteRow

Weights = tuple[float, float, float]
"""Of judge, retrieval and win."""


def score(judge: float | None, retrieval: float, win: float, weights: Weights = (0.35, 0.40, 0.25)) -> float | None:
    """The weighted sum of the parts, clipped to [-1, 1]. Without the judge part the other weights grow to the same sum.

    None when the parts that were measured weigh nothing.

    >>> round(score(0.5, 0.5, 0.5), 4)
    0.5
    >>> round(score(None, 0.2, 0.5), 4)  # (0.40 * 0.2 + 0.25 * 0.5) / 0.65
    0.3154
    """
    parts = [(part, weight) for part, weight in zip((judge, retrieval, win), weights, strict=True) if part is not None]
    there = sum(weight for _, weight in parts)
    if there == 0:
        return None
    total = sum(part * weight for part, weight in parts) * sum(weights) / there
    return max(-1.0, min(1.0, total))


class Parts(NamedTuple):
    """Parts of one rewrite's score; None for what was not measured."""

    judge: float | None
    retrieval: float | None
    win: float | None

    def score(self, weights: Weights, judge_needed: bool) -> float | None:
        """The weighted sum; None without a recall list, or without a verdict where the siblings are scored with theirs."""
        if self.retrieval is None or self.win is None or (judge_needed and weights[0] and self.judge is None):
            return None
        return score(self.judge if judge_needed else None, self.retrieval, self.win, weights)


def parts(pair: Retrieval | None, points: float | None, teacher_points: float | None) -> Parts:
    """The parts of a score from recall lists and verdicts of 0 to 5 points, as far as there are any."""
    judge = None if points is None or teacher_points is None else teacher_judge.score(points, teacher_points)
    if pair is None:
        return Parts(judge, None, None)
    student, teacher = pair.student_quality, pair.teacher_quality
    return Parts(judge, rag_retrieval.score(student, teacher), rag_win.score(student, teacher))


class Pending(NamedTuple):
    """Calls under way for a batch."""

    asked: list[bool]
    retrieving: Retrieving
    judging: Judging


class RagCompetition(Reward[Pending]):
    """The composite reward, its parts logged as `rag/...` when the run has `--callbacks overtake_metrics`."""

    columns = MEASURED_BY
    tool = TOOL

    def begin(self, batch: Batch) -> Pending:
        """Send all retrievals and verdicts: both are on their way before either is waited for."""
        config = settings.load()
        share = share_to_judge(config.judge_share, batch.step) if config.weight_judge else 0.0
        to_judge = measuring.to_judge(batch.rows(RewriteRow), batch.step, share)
        return Pending(to_judge, measuring.retrievals(batch), measuring.verdicts(batch, to_judge))

    def finish(self, batch: Batch, pending: Pending) -> list[Scored]:
        """One score for each completion; None where it could not be measured."""
        pairs, verdicts = pending.retrieving(), pending.judging()
        size = self.group_size if batch.grouped else 1
        needed = verdict_needed(batch.groups, pending.asked, list(map(bool, sent(batch))), verdicts, size)
        return list(map(_scored, batch.rows(RewriteRow), batch.texts, pairs, verdicts, needed))


def _scored(row: RewriteRow, text: str, pair: Retrieval | Failed, verdict: Verdict | Failed | None, need: bool) -> Scored:
    config = settings.load()
    retrieval, given = (pair if isinstance(pair, Retrieval) else None), (verdict if isinstance(verdict, Verdict) else None)
    scores = parts(retrieval, given and given.score, measuring.teacher_points(row, given))
    value = scores.score((config.weight_judge, config.weight_retrieval, config.weight_win), need)
    noted = measuring.retrieval_parts(row, text, pair) | measuring.verdict_parts(row, text, verdict)
    metrics: dict[str, float | None] = {
        "rag/win_rate": None if scores.win is None else float(scores.win > 0),
        "rag/judge": scores.judge,
        "rag/retrieval": scores.retrieval,
        "rag/win": scores.win,
        "rag/student_quality": retrieval.student_quality if retrieval else None,
        "rag/teacher_quality": retrieval.teacher_quality if retrieval else None,
        "rag/student_top1": (retrieval.student or [0.0])[0] if retrieval else None,
        "rag/teacher_top1": (retrieval.teacher or [0.0])[0] if retrieval else None,
        "rag/judged": float(isinstance(verdict, Verdict)),
        "rag/abstained": float(value is None),
    }
    noted |= {"parts": scores._asdict(), "judge_needed": need}
    return Scored(value, noted, metrics | abstain_metrics(value, pair, verdict))
