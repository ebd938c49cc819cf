"""AnswerFormat: 1.0 for a completion of one think block and one answer block, in this order and nothing else; 0.0 for any other."""

from overtake.reading.tags import read_answer
from overtake.rewards.reward import Batch, Reward, Scored


def rejection_reason(completion: str) -> str | None:
    """Return what is wrong with the form; None for nothing.

    >>> rejection_reason("<think>1000/1.25</think><answer></answer>")
    "the answer block is empty: '…/think><answer></answer>'"
    """
    try:
        read_answer(completion)
    except ValueError as error:
        return str(error)
    return None


def score(completion: str) -> float:
    """Return 1.0 or 0.0; the answer's content is not looked at.

    >>> score("<think>1000/1.25</think>\\n<answer>800</answer>"), score("<think>1000/1.25</think> 800")
    (1.0, 0.0)
    """
    return 0.0 if rejection_reason(completion) else 1.0


class AnswerFormat(Reward[None]):
    """The form as a reward, which needs no column; logged as `finance/format`."""

    def finish(self, batch: Batch, pending: None = None) -> list[Scored]:
        """One score for each completion; never None, since nothing can fail."""
        reasons = [rejection_reason(completion) for completion in batch.completions]
        return [Scored(value := 0.0 if reason else 1.0, {"format_fault": reason or ""}, {"finance/format": value}) for reason in reasons]
