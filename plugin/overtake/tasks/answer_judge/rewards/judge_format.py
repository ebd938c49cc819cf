"""JudgeFormat: 1.0 for a verdict in its form with a reason before it, else 0.0. No service is asked.

The form is `<think>reasoning</think><output>main: VERDICT; secondary: VERDICT</output>` (judgements.py). What cannot be read is the
student's own fault here, so it is a score of 0 and no abstention; a teacher's unreadable verdict is one (judge.py).
"""

import re

from overtake.rewards.reward import Batch, Reward, Scored
from overtake.tasks.answer_judge.judgements import Judgement, read_judgement


def read(completion: str) -> Judgement | str:
    """The verdict of a completion, or in words what is wrong with its form.

    >>> read("<think>Both say 1901.</think><output>main: correct; secondary: none</output>").main
    'correct'
    >>> read("<think></think><output>main: correct; secondary: none</output>")
    'no reason stands before the verdict'
    """
    try:
        judgement = read_judgement(completion)
    except ValueError as error:
        return str(error)
    return judgement if re.search(r"[^\W_]", judgement.reason) else "no reason stands before the verdict"


def score(completion: str) -> float:
    """Return 1.0 for a completion in form, else 0.0.

    >>> score("main: correct; secondary: none")
    0.0
    """
    return float(isinstance(read(completion), Judgement))


class JudgeFormat(Reward[None]):
    """The form as a reward; logged as `judge/format`, and `judge/reason_length` in characters."""

    def finish(self, batch: Batch, pending: None = None) -> list[Scored]:
        """One score for each completion; never None, since nothing can fail."""
        return list(map(_scored, map(read, batch.completions)))


def _scored(judgement: Judgement | str) -> Scored:
    length = float(len(judgement.reason)) if isinstance(judgement, Judgement) else None
    value = float(isinstance(judgement, Judgement))
    return Scored(
        value, {"form_fault": judgement if isinstance(judgement, str) else ""}, {"judge/format": value, "judge/reason_length": length}
    )
