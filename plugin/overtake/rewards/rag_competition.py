"""RagCompetition: student against teacher on retrieval, judge and win, as one reward in [-1, 1] (spec 1.5)."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from overtake import settings
from overtake.rewards import measuring, rag_retrieval, rag_win, teacher_judge
from overtake.rewards.measuring import Retrieval, Row
from overtake.trainers.metrics import log_metrics

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


class RagCompetition:
    """The composite reward, its parts logged as `rag/...` when the run has `--callbacks overtake_metrics`."""

    def __init__(self, args: Any = None, **_: Any) -> None:
        self.group_size = getattr(args, "num_generations", None) or 1

    def __call__(self, completions: Sequence[str], **columns: Any) -> list[float | None]:
        """One score for each completion; None where it could not be measured."""
        chosen = settings.load()
        weights = (chosen.weight_judge, chosen.weight_retrieval, chosen.weight_win)
        rows, step = measuring.read_rows(completions, columns), measuring.step_of(columns)
        asked = measuring.to_judge(rows, step, measuring.judge_share(step) if chosen.weight_judge else 0.0)
        # Both are on their way before either is waited for.
        retrieving, judging = measuring.retrievals(rows, step), measuring.verdicts(rows, asked, step)
        pairs, verdicts = retrieving(), judging()
        needed = self._needed(rows, asked, verdicts, grouped="prompt_id" in columns)
        scores = [_member(*member, weights) for member in zip(rows, pairs, verdicts, needed, strict=True)]
        _log(pairs, verdicts, scores)
        return scores

    def _needed(self, rows: Sequence[Row], asked: Sequence[bool], verdicts: Sequence[float | None], grouped: bool) -> list[bool]:
        """Which rows need a verdict to be scored: those of the groups of which the judge answered anything.

        Where it answered nothing the part is missing for the whole group, and all are scored without it. Of a group that is split
        over ranks the others' verdicts cannot be seen, so one formula for all cannot be promised: there the silent rows abstain.
        """
        groups: dict[str, list[int]] = defaultdict(list)
        for index, row in enumerate(rows):
            groups[row.group].append(index)
        needed = list(asked)
        for members in groups.values():
            called = [index for index in members if asked[index] and rows[index].rewrite]
            whole = not grouped or len(members) >= self.group_size
            if called and whole and all(verdicts[index] is None for index in called):
                for index in members:
                    needed[index] = False
        return needed


def _member(row: Row, pair: Retrieval | None, verdict: float | None, needed: bool, weights: Weights) -> float | None:
    if pair is None or (needed and verdict is None):
        return None
    judge = teacher_judge.score(verdict, row.teacher_judge) if needed and verdict is not None and row.teacher_judge is not None else None
    student, teacher = pair.student_quality, pair.teacher_quality
    return score(judge, rag_retrieval.score(student, teacher), rag_win.score(student, teacher), weights)


def _log(pairs: Sequence[Retrieval | None], verdicts: Sequence[float | None], scores: Sequence[float | None]) -> None:
    measured = [pair for pair in pairs if pair is not None]
    log_metrics(
        {
            "rag/win_rate": [float(rag_win.score(pair.student_quality, pair.teacher_quality) > 0) for pair in measured],
            "rag/student_quality": [pair.student_quality for pair in measured],
            "rag/teacher_quality": [pair.teacher_quality for pair in measured],
            "rag/student_top1": [pair.student[0] if pair.student else 0.0 for pair in measured],
            "rag/teacher_top1": [pair.teacher[0] if pair.teacher else 0.0 for pair in measured],
            "rag/judged": [float(verdict is not None) for verdict in verdicts],
            "rag/abstained": [float(value is None) for value in scores],
        }
    )
