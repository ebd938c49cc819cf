"""NumericAnswer: 1.0 for a completion whose answer is the gold's number, 0.0 for any other. The rules are those of reading/numbers.py."""

from overtake.reading.numbers import same_quantity
from overtake.reading.tags import last_answer
from overtake.rewards.reward import Batch, Reward, Scored
from overtake.tasks.finance.columns import GRADED, TOOL
from overtake.tasks.finance.rows import FinanceRow


def score(completion: str, gold: str, question: str = "") -> float | None:
    """Return 1.0 or 0.0; None for a gold that is no single number, which is so for all of its group. Only the answer tag is read.

    >>> score("<think>12.5</think><answer>800 万元</answer>", "8,000,000 元"), score("<answer>800 or 1250</answer>", "800")
    (1.0, 0.0)
    """
    try:
        return float(same_quantity(last_answer(completion) or "", gold, question))
    except ValueError:
        return None


class NumericAnswer(Reward[None]):
    """The number as a reward, logged as `finance/numeric`."""

    columns = GRADED
    tool = TOOL
    score = staticmethod(score)
    part = "numeric"

    def finish(self, batch: Batch, pending: None = None) -> list[Scored]:
        """One score for each completion; None where the gold cannot be graded so."""
        return list(map(self._scored, batch.rows(FinanceRow), batch.completions))

    def _scored(self, row: FinanceRow, completion: str) -> Scored:
        value = self.score(completion, row.gold, row.question)
        parts = {"question": row.question, "gold": row.gold, "answer": last_answer(completion)}
        return Scored(value, parts, {f"finance/{self.part}": value})
