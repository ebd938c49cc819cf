"""RagCompetition: student against teacher on retrieval, judge and win, as one reward in [-1, 1] (spec 1.5)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from overtake import settings
from overtake.remote.gateway import Failed
from overtake.rewards import measuring, trace
from overtake.rewards.measuring import Judging, Retrieval, Retrieving, Row
from overtake.rewards.metrics import log_metrics
from overtake.tasks.query_rewrite.judge import Verdict
from overtake.tasks.query_rewrite.rewards import rag_retrieval, rag_win, teacher_judge

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
    """What the score of one rewrite is made of; None for what was not measured."""

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


class RagCompetition:
    """The composite reward, its parts logged as `rag/...` when the run has `--callbacks overtake_metrics`."""

    def __init__(self, args: Any = None, **_: Any) -> None:
        self.group_size = getattr(args, "num_generations", None) or 1

    def start(self, completions: Sequence[str], **columns: Any) -> None:
        """Send what scoring these completions will ask; the same call of the reward then finds it on its way."""
        self._begin(completions, columns)

    def _begin(self, completions: Sequence[str], columns: dict[str, Any]) -> tuple[list[Row], list[bool], Retrieving, Judging]:
        rows, step = measuring.read_rows(completions, columns), measuring.step_of(columns)
        asked = measuring.to_judge(rows, step, measuring.judge_share(step) if settings.load().weight_judge else 0.0)
        # Both are on their way before either is waited for.
        return rows, asked, measuring.retrievals(rows, step), measuring.verdicts(rows, asked, step)

    def __call__(self, completions: Sequence[str], **columns: Any) -> list[float | None]:
        """One score for each completion; None where it could not be measured."""
        chosen = settings.load()
        weights = (chosen.weight_judge, chosen.weight_retrieval, chosen.weight_win)
        rows, asked, retrieving, judging = self._begin(completions, columns)
        pairs, verdicts = retrieving(), judging()
        size = self.group_size if "prompt_id" in columns else 1
        needed = measuring.verdict_needed([row.group for row in rows], asked, [bool(row.rewrite) for row in rows], verdicts, size)
        made = [
            parts(
                pair if isinstance(pair, Retrieval) else None,
                verdict.score if isinstance(verdict, Verdict) else None,
                row.teacher_judge,
            )
            for row, pair, verdict in zip(rows, pairs, verdicts, strict=True)
        ]
        scores = [one.score(weights, need) for one, need in zip(made, needed, strict=True)]
        if trace.wanted():
            measuring.trace_retrievals(rows, pairs)
            measuring.trace_verdicts(rows, verdicts)
            trace.note({"parts": [one._asdict() for one in made], "judge_needed": needed})
        _log(pairs, verdicts, made, scores)
        return scores


def _log(
    pairs: Sequence[Retrieval | Failed], verdicts: Sequence[Verdict | Failed | None], made: Sequence[Parts], scores: Sequence[float | None]
) -> None:
    measured = [pair for pair in pairs if isinstance(pair, Retrieval)]
    why = [_why(*member) for member in zip(pairs, verdicts, scores, strict=True)]
    log_metrics(
        {
            "rag/win_rate": [float(one.win > 0) for one in made if one.win is not None],
            "rag/judge": [one.judge for one in made if one.judge is not None],
            "rag/retrieval": [one.retrieval for one in made if one.retrieval is not None],
            "rag/win": [one.win for one in made if one.win is not None],
            "rag/student_quality": [pair.student_quality for pair in measured],
            "rag/teacher_quality": [pair.teacher_quality for pair in measured],
            "rag/student_top1": [pair.student[0] if pair.student else 0.0 for pair in measured],
            "rag/teacher_top1": [pair.teacher[0] if pair.teacher else 0.0 for pair in measured],
            "rag/judged": [float(isinstance(verdict, Verdict)) for verdict in verdicts],
            "rag/abstained": [float(value is None) for value in scores],
            **{f"abstain/{reason}": [float(one == reason) for one in why] for reason in measuring.ABSTAINED},
        }
    )


def _why(pair: Retrieval | Failed, verdict: Verdict | Failed | None, value: float | None) -> str:
    """The reason in ABSTAINED for a score of None, "" where there is a score."""
    if value is not None:
        return ""
    missing = next((one for one in (pair, verdict) if isinstance(one, Failed)), None)
    return measuring.why_abstained(missing.kind) if missing else "no_weight"
