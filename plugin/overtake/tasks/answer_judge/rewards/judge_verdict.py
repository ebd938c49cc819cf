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
from typing import NamedTuple

from overtake.rewards.reward import Batch, Reward, Scored
from overtake.tasks.answer_judge.columns import JUDGE_FACTS, READ, SHOWN, TOOL
from overtake.tasks.answer_judge.judgements import Judgement
from overtake.tasks.answer_judge.rewards import judge_format
from overtake.tasks.answer_judge.rows import JudgeRow
from overtake.tasks.answer_judge.rule_judge import holds

MAIN, SECONDARY, FACTS = 0.65, 0.25, 0.10


class Parts(NamedTuple):
    """Scores of a verdict's parts, each from 0 to 1; None where the row does not say."""

    main: float | None
    secondary: float | None
    facts: float | None

    @property
    def score(self) -> float | None:
        """The weighted mean of what the row says; None without its main verdict."""
        if self.main is None:
            return None
        measured = [(part, weight) for part, weight in zip(self, (MAIN, SECONDARY, FACTS), strict=True) if part is not None]
        return sum(part * weight for part, weight in measured) / sum(weight for _, weight in measured)


def parts(completion: str, main: str, secondary: str = "", facts: Sequence[str] = ()) -> Parts:
    """Return what is right of the verdict in a completion; `main` and `secondary` are the row's, "" where it has none.

    >>> parts("<think>1901, not 1911.</think><output>main: incorrect; secondary: none</output>", "incorrect", "correct", ["1901"])
    Parts(main=1.0, secondary=0.0, facts=1.0)
    """
    outcome = judge_format.read(completion)
    judgement = outcome if isinstance(outcome, Judgement) else None
    right = float(judgement is not None and judgement.main == main)
    named = sum(holds(judgement.reason, fact) for fact in facts) / len(facts) if judgement and facts else 0.0
    return Parts(
        right if main else None,
        float(judgement is not None and judgement.secondary == secondary) if secondary else None,
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


class JudgeVerdict(Reward[None]):
    """The verdict as a reward; a verdict of the row that is not known is "".

    Logged: `judge/main`, `judge/secondary` and `judge/facts`, the shares that are right; `judge/said_correct` beside `judge/is_correct`,
    since a judge that says the same to everything shows there first; `judge/wrongly_correct`, wrong answers that it lets pass.
    """

    columns = READ
    optional = (*SHOWN, JUDGE_FACTS)
    tool = TOOL

    def finish(self, batch: Batch, pending: None = None) -> list[Scored]:
        """One score for each completion. Raises ValueError naming a value that is no verdict."""
        shown = [name for name in SHOWN if name in batch.columns]
        about = [{name: batch.columns[name][at] for name in shown} for at in range(len(batch.completions))]
        return list(map(_scored, batch.rows(JudgeRow), batch.completions, about))


def _scored(row: JudgeRow, completion: str, about: dict[str, str]) -> Scored:
    scores = parts(completion, row.main or "", row.secondary or "", row.facts)
    outcome = judge_format.read(completion)
    judgement = outcome if isinstance(outcome, Judgement) else None
    passed = float(judgement is not None and judgement.main == "correct")
    metrics = {
        **{f"judge/{name}": value for name, value in scores._asdict().items()},
        "judge/said_correct": passed,
        "judge/is_correct": float(row.main == "correct") if row.main else None,
        "judge/wrongly_correct": passed if row.main and row.main != "correct" else None,
    }
    noted = {
        "main": row.main or "",
        "secondary": row.secondary or "",
        "said_main": judgement and judgement.main,
        "said_secondary": judgement and judgement.secondary,
        "reason": judgement and judgement.reason,
    }
    return Scored(scores.score, {**about, **noted}, metrics)
