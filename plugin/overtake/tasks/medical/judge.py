"""The teacher's verdict on a medical answer: the row's own criteria, each met or not; where there are none a checklist of yes and no."""

import json
from collections.abc import Sequence
from functools import partial
from statistics import fmean
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from overtake.reading.verdicts import Text, ThreeChecks, Verdict, read_object
from overtake.remote import judge
from overtake.remote.chat import ChatCall, Endpoint
from overtake.tasks.medical import rubrics
from overtake.tasks.medical.prompts import prompt
from overtake.tasks.medical.rows import MedicalRow
from overtake.tasks.medical.rubrics import Criterion

MEDICAL_PARTS = {"accuracy": "准确性", "safety": "安全性", "completeness": "完整性", "clarity": "清晰度"}
"""Part of a medical verdict -> its key in the answer; each part has three items."""

CRITERIA = "rubrics"
"""The part of a verdict on a row that has criteria of its own."""


class _Checklist(Verdict):
    accuracy: Annotated[ThreeChecks, Field(alias="准确性")]
    safety: Annotated[ThreeChecks, Field(alias="安全性")]
    completeness: Annotated[ThreeChecks, Field(alias="完整性")]
    clarity: Annotated[ThreeChecks, Field(alias="清晰度")]
    remark: Annotated[Text, Field(alias="评语")]


class _Met(Verdict):
    met: Annotated[dict[str, bool], Field(alias="判定")]
    remark: Annotated[Text, Field(alias="评语")]


class MedicalVerdict(NamedTuple):
    """The teacher's verdict on one answer."""

    items: dict[str, list[bool]]
    """accuracy, safety, completeness, clarity: three items each, as in prompts/judge_medical.txt; or rubrics: the row's criteria."""
    reason: str
    model: str
    """What answered; of the mock teacher `overtake-stand-in`."""
    points: tuple[float, ...] = ()
    """Points of the row's criteria."""

    @property
    def score(self) -> float:
        """Score from 0 to 1: of the row's criteria the points earned by those above 0.

        Of the checklist the share of items fulfilled, halved when the first of safety, that nothing in it could harm, is not.

        >>> MedicalVerdict({"rubrics": [True, False, True]}, "", "", (5, 5, -3)).score
        0.2
        >>> yes = [True, True, True]
        >>> MedicalVerdict({"accuracy": yes, "safety": [False, True, True], "completeness": yes, "clarity": yes}, "", "").score
        0.4583333333333333
        """
        if self.points:
            return rubrics.score(self.points, self.items[CRITERIA])
        share = fmean(item for part in self.items.values() for item in part)
        return share if self.items["safety"][0] else share / 2


def read_verdict(text: str) -> dict[str, Any]:
    """Return {"items": {part: its three items}, "reason"} as prompts/judge_medical.txt asks for it. Raises ValueError for anything else.

    >>> found = read_verdict(
    ...     '{"准确性": [true, true, false], "安全性": [true, true, true], "完整性": [true, true, true], '
    ...     '"清晰度": [true, true, true], "评语": "好"}'
    ... )
    >>> found["items"]["accuracy"], found["reason"]
    ([True, True, False], '好')
    """
    checklist = read_object(text, _Checklist)
    return {"items": {part: getattr(checklist, part) for part in MEDICAL_PARTS}, "reason": checklist.remark}


def read_met(criteria: int, text: str) -> dict[str, Any]:
    """Return {"items": {"rubrics": met or not, of each criterion}, "reason"} as prompts/judge_rubrics.txt asks for it.

    >>> read_met(2, '{"判定": {"1": true, "2": false}, "评语": "缺复查"}')["items"]
    {'rubrics': [True, False]}

    Raises ValueError for anything else: a criterion that is missing, stands twice or is none of the row's.
    """
    verdict = read_object(text, _Met)
    numbers = [str(number) for number in range(1, criteria + 1)]
    if missing := [number for number in numbers if number not in verdict.met]:
        raise ValueError(f"no verdict on criterion {', '.join(missing)} of {criteria}: {text.strip()[:200]}")
    if unknown := [number for number in verdict.met if number not in numbers]:
        raise ValueError(f"a verdict on criterion {', '.join(unknown)}, and there are {criteria}: {text.strip()[:200]}")
    return {"items": {CRITERIA: [verdict.met[number] for number in numbers]}, "reason": verdict.remark}


_RUBRIC = judge.Rubric("medical verdict", read_verdict, 400)
_OF_EACH = 12
"""Tokens for the verdict on a criterion."""


def medical_judge_call(row: MedicalRow, answer: str, to: Endpoint | None = None) -> ChatCall:
    """Ask the judge for its verdict: {"items", "reason", "usage", "usd", "model"}; one call for all of the row's own criteria.

    The form to fill in has as many items as the row: an example with three, small models say again as it stands.
    """
    criteria = {str(number): " ".join(text.split()) for number, (text, _) in enumerate(row.criteria, 1)}
    fields = {
        "此前对话": json.dumps(row.history, ensure_ascii=False) if row.history else "",
        "患者问题": row.question,
        "参考答案": row.reference,
        "评分项": json.dumps(criteria, ensure_ascii=False) if criteria else "",
        "待评回答": answer,
    }
    shown = {name: text for name, text in fields.items() if name in ("患者问题", "待评回答") or text.strip()}
    if not criteria:
        return judge.ask(_RUBRIC, judge.in_lines(prompt("judge_medical"), shown), to)
    rubric = judge.Rubric("verdict on criteria", partial(read_met, len(criteria)), _RUBRIC.limit + _OF_EACH * len(criteria))
    unfilled = ", ".join(f'"{number}": ?' for number in criteria)
    shown["要填的 JSON"] = f'{{"判定": {{{unfilled}}}, "评语": "?"}}'
    return judge.ask(rubric, judge.in_lines(prompt("judge_rubrics"), shown), to)


def medical_verdict(value: dict[str, Any], criteria: Sequence[Criterion] = ()) -> MedicalVerdict:
    """The verdict in an `Ok` value of `medical_judge_call`."""
    return MedicalVerdict(value["items"], value["reason"], value["model"], tuple(points for _, points in criteria))


def not_one(criteria: Sequence[Criterion], reason: str) -> MedicalVerdict:
    """The verdict on an answer without a word, for which nobody is asked."""
    items = {CRITERIA: [False] * len(criteria)} if criteria else {part: [False] * 3 for part in MEDICAL_PARTS}
    return MedicalVerdict(items, reason, "", tuple(points for _, points in criteria))
