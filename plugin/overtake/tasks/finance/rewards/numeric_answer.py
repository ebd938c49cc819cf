"""NumericAnswer: 1.0 for a completion whose answer is the gold's number, 0.0 for any other. The rules are those of reading/numbers.py."""

from collections.abc import Sequence
from typing import Any

from overtake.reading.numbers import same_quantity
from overtake.reading.tags import last_answer
from overtake.rewards import trace
from overtake.rewards.measuring import column
from overtake.rewards.metrics import log_metrics

TOOL = "tools/filter.py"
"""Makes the training files whose columns the finance rewards read."""


def score(completion: str, gold: str, question: str = "") -> float | None:
    """1.0 or 0.0; None for a gold that is no single number, which is so for all of its group. Only the answer tag is read.

    >>> score("<think>12.5</think><answer>800 万元</answer>", "8,000,000 元"), score("<answer>800 or 1250</answer>", "800")
    (1.0, 0.0)
    """
    try:
        return float(same_quantity(last_answer(completion) or "", gold, question))
    except ValueError:
        return None


class NumericAnswer:
    """The number as a reward; columns fin_gold and fin_question, logged as `finance/numeric`."""

    score = staticmethod(score)
    part = "numeric"

    def __init__(self, args: Any = None, **_: Any) -> None:
        self.args = args

    def __call__(self, completions: Sequence[str], **columns: Any) -> list[float | None]:
        """One score for each completion. Raises ValueError for a missing column."""
        golds, questions = (column(columns, name, len(completions), TOOL) for name in ("fin_gold", "fin_question"))
        scores = [
            self.score(completion, str(gold), str(question or ""))
            for completion, gold, question in zip(completions, golds, questions, strict=True)
        ]
        log_metrics({f"finance/{self.part}": [one for one in scores if one is not None]})
        trace.note({"question": questions, "gold": golds, "answer": [last_answer(completion) for completion in completions]})
        return scores
