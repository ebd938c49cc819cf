"""AnswerFormat: 1.0 for a completion of one think block and one answer block, in this order and nothing else; 0.0 for any other."""

from collections.abc import Sequence
from typing import Any

from overtake.reading.tags import read_answer
from overtake.rewards import trace
from overtake.rewards.metrics import log_metrics


def fault(completion: str) -> str:
    """What is wrong with the form, "" for nothing.

    >>> fault("<think>1000/1.25</think><answer></answer>")
    "the answer block is empty: '…/think><answer></answer>'"
    """
    try:
        read_answer(completion)
    except ValueError as error:
        return str(error)
    return ""


def score(completion: str) -> float:
    """1.0 or 0.0; the answer's content is not looked at.

    >>> score("<think>1000/1.25</think>\\n<answer>800</answer>"), score("<think>1000/1.25</think> 800")
    (1.0, 0.0)
    """
    return 0.0 if fault(completion) else 1.0


class AnswerFormat:
    """The form as a reward, which needs no column; logged as `finance/format`."""

    def __init__(self, args: Any = None, **_: Any) -> None:
        self.args = args

    def __call__(self, completions: Sequence[str], **_: Any) -> list[float]:
        """One score for each completion; never None, since nothing can fail."""
        faults = [fault(completion) for completion in completions]
        scores = [0.0 if one else 1.0 for one in faults]
        log_metrics({"finance/format": scores})
        trace.note({"format_fault": faults})
        return scores
