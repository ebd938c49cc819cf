"""JudgeFormat: 1.0 for a verdict in its form with a reason before it, else 0.0. No service is asked.

The form is `<think>reasoning</think><output>main: VERDICT; secondary: VERDICT</output>` (reading/judgements.py). What cannot be read is the
student's own fault here, so it is a score of 0 and no abstention; a teacher's unreadable verdict is one (remote/grading.py).
"""

import re
from collections.abc import Sequence
from typing import Any

from overtake.rewards import trace
from overtake.rewards.metrics import log_metrics
from overtake.tasks.answer_judge.judgements import Judgement, read_judgement


def read(completion: str) -> Judgement | str:
    """The verdict of a completion, or in words what is wrong with its form.

    >>> read("<think>Both say 1901.</think><output>main: correct; secondary: none</output>").main
    'correct'
    >>> read("<think></think><output>main: correct; secondary: none</output>")
    'no reason stands before the verdict'
    """
    try:
        found = read_judgement(completion)
    except ValueError as error:
        return str(error)
    return found if re.search(r"[^\W_]", found.reason) else "no reason stands before the verdict"


def score(completion: str) -> float:
    """1.0 for a completion in form, else 0.0.

    >>> score("main: correct; secondary: none")
    0.0
    """
    return float(isinstance(read(completion), Judgement))


class JudgeFormat:
    """The form as a reward; logged as `judge/format`, and `judge/reason_length` in characters."""

    def __init__(self, args: Any = None, **_: Any) -> None:
        self.args = args

    def __call__(self, completions: Sequence[str], **columns: Any) -> list[float]:
        """One score for each completion; never None, since nothing can fail."""
        found = [read(completion) for completion in completions]
        scores = [float(isinstance(one, Judgement)) for one in found]
        lengths = [float(len(one.reason)) for one in found if isinstance(one, Judgement)]
        log_metrics({"judge/format": scores, "judge/reason_length": lengths})
        trace.note({"form_fault": [one if isinstance(one, str) else "" for one in found]})
        return scores
