"""JudgeVerdict: how right a verdict on an answer is, from 0 to 1; the main answer weighs most. No service is asked.

| part      | weight | right                                                                                                     |
|-----------|--------|-----------------------------------------------------------------------------------------------------------|
| main      | 0.65   | the verdict on the fact asked for is the row's                                                            |
| secondary | 0.25   | the verdict on all else is the row's                                                                      |
| facts     | 0.10   | share of the row's key facts that the reasoning names, where main is right: quoting both saves no wrong verdict |

Weights of parts that the row does not have are left out, and the sum is divided by the others. A completion out of form is 0
(judge_format.py); a row whose main verdict is not known is `None`, and that is the whole group.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from overtake.rewards import trace
from overtake.rewards.measuring import column
from overtake.rewards.metrics import log_metrics
from overtake.tasks.answer_judge.judgements import VALUES, Judgement
from overtake.tasks.answer_judge.rewards import judge_format
from overtake.tasks.answer_judge.rows import alternatives
from overtake.tasks.answer_judge.rule_judge import holds

MAIN, SECONDARY, FACTS = 0.65, 0.25, 0.10


class Parts(NamedTuple):
    """What is right of a verdict, each from 0 to 1; None where the row does not say."""

    main: float | None
    secondary: float | None
    facts: float | None

    @property
    def score(self) -> float | None:
        """The weighted mean of what the row says; None without its main verdict."""
        if self.main is None:
            return None
        known = [(part, weight) for part, weight in zip(self, (MAIN, SECONDARY, FACTS), strict=True) if part is not None]
        return sum(part * weight for part, weight in known) / sum(weight for _, weight in known)


def parts(completion: str, main: str, secondary: str = "", facts: Sequence[str] = ()) -> Parts:
    """What is right of the verdict in a completion; `main` and `secondary` are the row's, "" where it has none.

    >>> parts("<think>1901, not 1911.</think><output>main: incorrect; secondary: none</output>", "incorrect", "correct", ["1901"])
    Parts(main=1.0, secondary=0.0, facts=1.0)
    """
    found = judge_format.read(completion)
    said = found if isinstance(found, Judgement) else None
    right = float(said is not None and said.main == main)
    named = sum(holds(said.reason, fact) for fact in facts) / len(facts) if said and facts else 0.0
    return Parts(
        right if main else None,
        float(said is not None and said.secondary == secondary) if secondary else None,
        right * named if facts else None,
    )


def score(completion: str, main: str, secondary: str = "", facts: Sequence[str] = ()) -> float | None:
    """The score of a completion; None when the row's main verdict is not known.

    >>> score("<think>Both say 1901.</think><output>main: correct; secondary: none</output>", "correct")
    1.0
    >>> round(score("<think>Both say 1901.</think><output>main: correct; secondary: none</output>", "correct", "incorrect"), 3)
    0.722
    """
    return parts(completion, main, secondary, facts).score


class JudgeVerdict:
    """The verdict as a reward. Columns: `judge_main` and `judge_secondary`, "" where not known; if there is one, `judge_facts` (JSON list).

    Logged: `judge/main`, `judge/secondary` and `judge/facts`, the shares that are right; `judge/said_correct` beside `judge/is_correct`,
    since a judge that says the same to everything shows there first; `judge/wrongly_correct`, wrong answers that it lets pass.
    """

    def __init__(self, args: Any = None, **_: Any) -> None:
        self.args = args

    def __call__(self, completions: Sequence[str], **columns: Any) -> list[float | None]:
        """One score for each completion. Raises ValueError naming a column that is missing or a value that is no verdict."""
        count = len(completions)
        mains, secondaries = (_verdicts(columns, f"judge_{name}", count) for name in ("main", "secondary"))
        facts = [alternatives(text or "") for text in columns.get("judge_facts") or [""] * count]
        rows = zip(completions, mains, secondaries, facts, strict=True)
        found = [parts(completion, main, secondary, of_row) for completion, main, secondary, of_row in rows]
        read = [judge_format.read(completion) for completion in completions]
        said = [one if isinstance(one, Judgement) else None for one in read]
        log_metrics(
            {
                **{f"judge/{name}": [value for one in found if (value := getattr(one, name)) is not None] for name in Parts._fields},
                "judge/said_correct": [float(one is not None and one.main == "correct") for one in said],
                "judge/is_correct": [float(main == "correct") for main in mains if main],
                "judge/wrongly_correct": [
                    float(one is not None and one.main == "correct")
                    for one, main in zip(said, mains, strict=True)
                    if main and main != "correct"
                ],
            }
        )
        trace.note(
            {
                **{name: columns[name] for name in ("judge_id", "judge_question", "judge_answer", "judge_answer_hat") if name in columns},
                "main": mains,
                "secondary": secondaries,
                "said_main": [one and one.main for one in said],
                "said_secondary": [one and one.secondary for one in said],
                "reason": [one and one.reason for one in said],
            }
        )
        return [one.score for one in found]


def _verdicts(columns: Any, name: str, count: int) -> list[str]:
    values = [value or "" for value in column(columns, name, count)]
    strange = [value for value in values if value not in (*VALUES, "")]
    if strange:
        raise ValueError(f"{name} is {str(strange[0])[:40]!r} in a row: it must be {', '.join(VALUES)} or empty")
    return values
