"""FinanceAccuracy: whether an answer is right, by the type of its question: numbers by NumericAnswer, words by KeywordAnswer or the judge.

`calculation` is read as a number, `concept`, `analysis` and `reasoning` by keywords; a gold of another form than its type's is taken for
what it is. The judge is asked about the share OVERTAKE_FINANCE_JUDGE_SHARE of the questions answered in words (0: rules only), whole
groups drawn by a hash of question and step; its verdict, right or wrong, then replaces the keywords. Where it failed there is no score.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from overtake import settings
from overtake.data.questions import is_copy
from overtake.reading.numbers import read_quantity
from overtake.reading.tags import last_answer
from overtake.remote import budget, chat
from overtake.remote.gateway import Failed, Ok, Result
from overtake.rewards import measuring, trace
from overtake.rewards.metrics import log_metrics
from overtake.tasks.finance import rows as problems
from overtake.tasks.finance.judge import finance_judge_call
from overtake.tasks.finance.rewards import keyword_answer, numeric_answer
from overtake.tasks.finance.rewards.numeric_answer import TOOL
from overtake.tasks.finance.rows import TYPES

_MOST_LETTERS = 12
"""A number with its unit has no more letters: US$ million. A sentence with a number in it has."""


def is_numeric(gold: str, kind: str) -> bool:
    """Whether a gold is graded as a number. Raises ValueError for a type that is none of TYPES.

    >>> is_numeric("12.6 亿元", "analysis"), is_numeric("毛利率上升 5%，因为原材料价格有所下降", "analysis")
    (True, False)
    """
    if kind not in TYPES:
        raise ValueError(f"fin_type is {kind!r}, must be one of {', '.join(TYPES)}: make the training files with {TOOL}")
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


def fault(row: problems.Row) -> str:
    """Why a problem cannot be asked, or its gold answer not be told right by the very rules that train and evaluate; or "".

    >>> fault({"id": "a", "question": "2022年营收？", "gold_answer": "？", "type": "calculation", "source": "x"})
    'the gold answer cannot be graded by the rules'
    """
    if reason := problems.fault(row):
        return reason
    graded = score(f"<answer>{row['gold_answer']}</answer>", row["gold_answer"], row["type"], row["question"])
    return "" if graded == 1.0 else "the gold answer cannot be graded by the rules"


class _Row(NamedTuple):
    id: str
    question: str
    gold: str
    kind: str
    answer: str | None


_Judging = Callable[[], list[Result]]


class FinanceAccuracy:
    """Accuracy as a reward; columns fin_id, fin_question, fin_gold, fin_type.

    Logged are `finance/accuracy`, the mean of each type as `finance/<type>`, and the shares `finance/unanswered`, `finance/judged`,
    `finance/abstained`.
    """

    def __init__(self, args: Any = None, **_: Any) -> None:
        self.args = args

    def start(self, completions: Sequence[str], **columns: Any) -> None:
        """Send what scoring these completions will ask; the same call of the reward then finds it on its way."""
        self._begin(completions, columns)

    def _begin(self, completions: Sequence[str], columns: dict[str, Any]) -> tuple[list[_Row], list[bool], _Judging]:
        names = ("fin_id", "fin_question", "fin_gold", "fin_type")
        read = [["" if one is None else str(one) for one in measuring.column(columns, name, len(completions), TOOL)] for name in names]
        rows = [
            _Row(row_id, question, gold, kind, last_answer(text))
            for row_id, question, gold, kind, text in zip(*read, completions, strict=True)
        ]
        step = measuring.step_of(columns)
        share = 0.0 if budget.soft_limit_reached(step) else settings.load().finance_judge_share
        asked = [_needs_judge(row) and measuring.is_drawn(row.id, step, share) for row in rows]
        to_judge = tuple(row for row, ask in zip(rows, asked, strict=True) if ask)
        return rows, asked, _judging(to_judge) if step is None else _judging_of_step(to_judge, step)

    def __call__(self, completions: Sequence[str], **columns: Any) -> list[float | None]:
        """One score for each completion; None where the gold cannot be graded or a verdict is missing.

        Raises ValueError for a missing column or an unknown type, Outage when the judge is down for good.
        """
        rows, asked, judging = self._begin(completions, columns)
        answers, kinds = [row.answer for row in rows], [row.kind for row in rows]
        verdicts = iter(judging())
        given: list[Result | None] = [next(verdicts) if ask else None for ask in asked]
        scores = [score(text, row.gold, row.kind, row.question) for text, row in zip(completions, rows, strict=True)]
        scores = [_judged(one, result) for one, result in zip(scores, given, strict=True)]
        known = [(kind, one) for kind, one in zip(kinds, scores, strict=True) if one is not None]
        log_metrics(
            {
                "finance/accuracy": [one for _, one in known],
                **{f"finance/{kind}": [one for type_, one in known if type_ == kind] for kind in TYPES},
                "finance/unanswered": [float(answer is None) for answer in answers],
                "finance/judged": [float(isinstance(result, Ok)) for result in given],
                "finance/abstained": [float(one is None) for one in scores],
            }
        )
        trace.note(
            {
                "fin_id": [row.id for row in rows],
                "question": [row.question for row in rows],
                "gold": [row.gold for row in rows],
                **{"type": kinds, "answer": answers},
                "judge_says": [result.value["reason"] if isinstance(result, Ok) else None for result in given],
                "judge_failed": [result.reason if isinstance(result, Failed) else None for result in given],
            }
        )
        return scores


def _judged(rules: float | None, result: Result | None) -> float | None:
    if result is None:
        return rules
    return float(result.value["right"]) if isinstance(result, Ok) else None


def _judging(rows: tuple[_Row, ...]) -> _Judging:
    """Ask the judge about rows; the function returned waits for its answers, in order."""
    if not rows:
        return lambda: []
    to = chat.endpoint("judge")
    calls = [finance_judge_call(row.question, row.gold, row.answer or "", to) for row in rows]
    future = chat.chat_gateway("judge").submit(calls, settings.load().batch_deadline)

    def wait() -> list[Result]:
        results = future.result()
        measuring.stop_on_outage(
            results, "verdicts", "See to the judge, or set OVERTAKE_FINANCE_JUDGE_SHARE=0 to go on without it", most=1.0
        )
        return results

    return wait


@lru_cache(maxsize=1)
def _judging_of_step(rows: tuple[_Row, ...], step: int) -> _Judging:
    return _judging(rows)


def _needs_judge(row: _Row) -> bool:
    return row.answer is not None and not is_copy(row.question, row.answer) and not is_numeric(row.gold, row.kind)
