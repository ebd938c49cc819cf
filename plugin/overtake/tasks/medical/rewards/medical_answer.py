"""MedicalAnswer: the doctor's rule book and the teacher's verdict as one reward in [0, 1], R = 0.6 rules + 0.4 teacher, and a gate.

The teacher goes by the row's own rubrics where it has any, else by one checklist for all.

The gate stands behind R: an answer that breaks a critical rule of the book (an invented dose, a cure promised, an emergency put off) earns
at most what a bare "see a doctor" earns on its row. Any other answer earns R to the digit.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from overtake import settings
from overtake.remote import chat
from overtake.remote.gateway import Failed, Ok, Result
from overtake.rewards.measuring import Results, abstain_metrics, in_words, is_drawn, send, share_to_judge, stop_on_outage, verdict_needed
from overtake.rewards.reward import Batch, Reward, Scored
from overtake.tasks.medical.columns import OPTIONAL, READ, TOOL
from overtake.tasks.medical.judge import CRITERIA, MEDICAL_PARTS, MedicalVerdict, medical_judge_call, medical_verdict, not_one
from overtake.tasks.medical.rewards import medical_rules
from overtake.tasks.medical.rows import MedicalRow

Weights = tuple[float, float]
"""Of the rules and of the teacher."""


def score(rules: float, teacher: float | None, weights: Weights = (0.6, 0.4)) -> float | None:
    """The weighted sum of two parts in [0, 1]. Without the teacher's the rules take its weight, so that the scale stays the same.

    None when what was measured weighs nothing.

    >>> round(score(0.8, 0.5), 4), round(score(0.8, None), 4)
    (0.68, 0.8)
    """
    if teacher is None:
        return rules * sum(weights) if weights[0] else None
    return rules * weights[0] + teacher * weights[1] if sum(weights) else None


_CHINESE = re.compile(r"[\u3400-\u9fff]")
REFERRAL = {"zh": "请去医院看医生。", "en": "Please see a doctor."}
"""The bare answer that a dangerous one may not earn more than."""


def gated(
    value: float | None, rules: medical_rules.Verdict | None, row: MedicalRow, teacher: float | None, weights: Weights = (0.6, 0.4)
) -> float | None:
    """R behind the safety gate, where OVERTAKE_MEDICAL_SAFETY_GATE is not 0.

    `teacher` is the teacher's part of R, None where R is the rules' alone. Of the bare referral nobody is asked: where the teacher counts,
    its part of it is 0, so that a dangerous answer never earns more than the referral would.

    >>> row = MedicalRow("m", "乙肝能根治吗？", "", "", ())
    >>> promise = medical_rules.verdict(row, "按这个方法坚持三个月，保证根治。")
    >>> gated(0.5, promise, row, 1.0), gated(0.5, medical_rules.verdict(row, "目前还不能根治。"), row, 1.0)
    (0.0, 0.5)
    """
    if value is None or rules is None or not settings.value("medical_safety_gate") or not medical_rules.critical(rules):
        return value
    words = REFERRAL["zh" if _CHINESE.search(row.asked) else "en"]
    bare = medical_rules.verdict(row, words)
    ceiling = score(bare.total, None if teacher is None else 0.0, weights) if bare else None
    # Where nothing says what the referral earns, nothing is what a dangerous answer earns.
    return min(value, ceiling or 0.0)


_SLOW = Failed("the rules took too long", "timeout")


class Pending(NamedTuple):
    """Calls under way for a batch."""

    asked: list[bool]
    judging: Callable[[], Results]


class MedicalAnswer(Reward[Pending]):
    """The composite medical reward, its parts logged as `medical/...` when the run has `--callbacks overtake_metrics`."""

    columns = READ
    optional = OPTIONAL
    tool = TOOL

    def begin(self, batch: Batch) -> Pending:
        """Send the groups that are sampled to the teacher; an answer without a word needs no call."""
        config, rows = settings.load(), batch.rows(MedicalRow)
        share = share_to_judge(settings.value("medical_judge_share"), batch.step) if settings.value("medical_weight_teacher") else 0.0
        to_judge = [is_drawn(row.id, batch.step, share) for row in rows]
        to = chat.endpoint("judge") if any(to_judge) else None
        calls = [
            medical_judge_call(row, text, to) if ask and text else None for row, text, ask in zip(rows, batch.texts, to_judge, strict=True)
        ]
        return Pending(to_judge, send(lambda: chat.chat_gateway("judge"), calls, config.batch_deadline))

    def finish(self, batch: Batch, pending: Pending) -> list[Scored]:
        """One score for each completion; None where the teacher gave no verdict on it but did on its siblings."""
        rows = batch.rows(MedicalRow)
        rules = list(map(medical_rules.verdict, rows, batch.completions))
        results = pending.judging()
        remedy = "See to the judge, or set OVERTAKE_MEDICAL_JUDGE_SHARE=0 to go on with the rules alone"
        stop_on_outage(results, [row.id for row in rows], "verdicts", remedy)
        verdicts = [_verdict(row, result) if ask else None for row, result, ask in zip(rows, results, pending.asked, strict=True)]
        size = self.group_size if batch.grouped else 1
        needed = verdict_needed(batch.groups, pending.asked, list(map(bool, batch.texts)), verdicts, size)
        return list(map(_scored, rows, batch.texts, rules, verdicts, needed))


def _verdict(row: MedicalRow, result: Result | None) -> MedicalVerdict | Failed:
    if result is None:
        return not_one(row.criteria, "an empty answer")
    return medical_verdict(result.value, row.criteria) if isinstance(result, Ok) else result


def _scored(row: MedicalRow, text: str, rules: medical_rules.Verdict | None, verdict: MedicalVerdict | Failed | None, need: bool) -> Scored:
    of_rules = medical_rules.scored(rules)
    readable = verdict if isinstance(verdict, MedicalVerdict) else None
    points = readable.score if readable and need else None
    weights = (settings.value("medical_weight_rules"), settings.value("medical_weight_teacher"))
    ungated = None if rules is None or (need and points is None) else score(rules.total, points, weights)
    value = gated(ungated, rules, row, points, weights)
    parts = {
        "answer": text,
        "ungated": ungated,
        "teacher": points,
        "teacher_items": readable and readable.items,
        "teacher_says": readable and readable.reason,
        "teacher_failed": in_words(verdict),
    }
    # Shares of the checklist's parts, and what the row's own rubrics gave: the one or the other, by the row.
    shares = {part: sum(items) / len(items) for part, items in readable.items.items()} if readable and not readable.points else {}
    shares |= {CRITERIA: readable.score} if readable and readable.points else {}
    metrics = {
        "medical/teacher": points,
        **{f"medical/teacher/{part}": shares.get(part) for part in (*MEDICAL_PARTS, CRITERIA)},
        "medical/judged": float(readable is not None),
        "medical/abstained": float(value is None),
        "medical/ungated": ungated,
        "medical/gated": None if value is None else float(value != ungated),
    }
    return Scored(
        value, {**of_rules.parts, **parts}, {**of_rules.metrics, **metrics, **abstain_metrics(value, None if rules else _SLOW, verdict)}
    )
