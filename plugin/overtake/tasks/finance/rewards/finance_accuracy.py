"""FinanceAccuracy: whether an answer is right, by the type of its question: numbers by NumericAnswer, words by KeywordAnswer or the judge.

`calculation` is read as a number, `concept`, `analysis` and `reasoning` by keywords; a gold of another form than its type's is taken for
what it is. The judge is asked about the share OVERTAKE_FINANCE_JUDGE_SHARE of the questions answered in words (0: rules only), whole
groups drawn by a hash of question and step; its verdict, right or wrong, then replaces the keywords. Where it failed there is no score.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from overtake import settings
from overtake.data.near_duplicates import is_copy
from overtake.reading import closed_sets
from overtake.reading.numbers import read_quantity
from overtake.reading.tags import last_answer
from overtake.remote import chat
from overtake.remote.gateway import Failed, Ok, Result
from overtake.rewards.measuring import Results, is_drawn, send, share_to_judge, stop_on_outage
from overtake.rewards.reward import Batch, Reward, Scored
from overtake.tasks.finance import rows as problems
from overtake.tasks.finance.columns import ID, READ, TOOL, TYPE
from overtake.tasks.finance.judge import finance_judge_call
from overtake.tasks.finance.rewards import keyword_answer, numeric_answer
from overtake.tasks.finance.rows import TYPES, FinanceRow

_MOST_LETTERS = 12
"""A number with its unit has no more letters: US$ million. A sentence with a number in it has."""


def is_numeric(gold: str, kind: str) -> bool:
    """Return whether a gold is graded as a number. Raises ValueError for a type that is none of TYPES.

    >>> is_numeric("12.6 亿元", "analysis"), is_numeric("毛利率上升 5%，因为原材料价格有所下降", "analysis")
    (True, False)
    """
    if kind not in TYPES:
        raise ValueError(f"{TYPE} is {kind!r}, must be one of {', '.join(TYPES)}: make the training files with {TOOL}")
    return read_quantity(gold) is not None and (kind == "calculation" or len(re.findall(r"[^\W\d_]", gold)) <= _MOST_LETTERS)


def score(completion: str, gold: str, kind: str, question: str = "") -> float | None:
    """The rules' score in [0, 1]; None for a gold that no rule can grade. Raises ValueError for an unknown type.

    >>> score("<think>1000/1.25</think><answer>800</answer>", "800", "calculation")
    1.0
    >>> score("<think>…</think><answer>净现值</answer>", "净现值、内部收益率", "concept")
    0.5
    """
    if is_numeric(gold, kind):
        return numeric_answer.score(completion, gold, question)
    return keyword_answer.score(completion, gold, question)


def rejection_reason(row: problems.Row) -> str | None:
    """Return why a problem cannot be asked, or its gold answer not be told right by the very rules that train and evaluate; None for a
    sound one.

    >>> rejection_reason({"id": "a", "question": "2022年营收？", "gold_answer": "？", "type": "calculation", "source": "x"})
    'the gold answer cannot be graded by the rules'
    """
    if reason := problems.rejection_reason(row):
        return reason
    graded = score(f"<answer>{row['gold_answer']}</answer>", row["gold_answer"], row["type"], row["question"])
    return None if graded == 1.0 else "the gold answer cannot be graded by the rules"


class Pending(NamedTuple):
    """Calls under way for a batch, and the answers that it was asked about."""

    answers: list[str | None]
    judging: Callable[[], Results]


class FinanceAccuracy(Reward[Pending]):
    """Accuracy as a reward.

    Logged are `finance/accuracy`, the mean of each type as `finance/<type>`, and the shares `finance/unanswered`, `finance/judged`,
    `finance/abstained`.
    """

    columns = READ
    tool = TOOL

    def begin(self, batch: Batch) -> Pending:
        """Send the groups that are sampled to the judge, as far as their answers are words."""
        rows, share = batch.rows(FinanceRow), share_to_judge(settings.value("finance_judge_share"), batch.step)
        answers = [last_answer(completion) for completion in batch.completions]
        to_judge = [_needs_judge(row, answer) and is_drawn(row.id, batch.step, share) for row, answer in zip(rows, answers, strict=True)]
        to = chat.endpoint("judge") if any(to_judge) else None
        calls = [
            finance_judge_call(row.question, row.gold, answer or "", to) if ask else None
            for row, answer, ask in zip(rows, answers, to_judge, strict=True)
        ]
        return Pending(answers, send(lambda: chat.chat_gateway("judge"), calls, settings.load().batch_deadline))

    def finish(self, batch: Batch, pending: Pending) -> list[Scored]:
        """One score for each completion; None where the gold cannot be graded or a verdict is missing.

        Raises ValueError for an unknown type, Outage when the judge is down for good.
        """
        rows, results = batch.rows(FinanceRow), pending.judging()
        remedy = "See to the judge, or set OVERTAKE_FINANCE_JUDGE_SHARE=0 to go on without it"
        stop_on_outage(results, [row.id for row in rows], "verdicts", remedy)
        return list(map(_scored, rows, batch.completions, pending.answers, results))


def _scored(row: FinanceRow, completion: str, answer: str | None, result: Result | None) -> Scored:
    value = score(completion, row.gold, row.type, row.question)
    if result is not None:
        value = float(result.value["right"]) if isinstance(result, Ok) else None
    metrics = {
        "finance/accuracy": value,
        **{f"finance/{kind}": value if row.type == kind else None for kind in TYPES},
        "finance/unanswered": float(answer is None),
        "finance/judged": float(isinstance(result, Ok)),
        "finance/abstained": float(value is None),
    }
    parts = {
        ID: row.id,
        "question": row.question,
        "gold": row.gold,
        "type": row.type,
        "answer": answer,
        "judge_says": result.value["reason"] if isinstance(result, Ok) else None,
        "judge_failed": result.reason if isinstance(result, Failed) else None,
    }
    return Scored(value, parts, metrics)


def _needs_judge(row: FinanceRow, answer: str | None) -> bool:
    in_words = not is_numeric(row.gold, row.type) and not closed_sets.is_closed(row.gold)
    return in_words and answer is not None and not is_copy(row.question, answer)
