"""The teacher's verdict on a medical answer: a checklist of yes and no."""

from statistics import fmean
from typing import Annotated, Any, NamedTuple

from pydantic import Field

from overtake.reading.verdicts import Text, ThreeChecks, Verdict, read_object
from overtake.remote import judge
from overtake.remote.chat import ChatCall, Endpoint
from overtake.tasks.medical.prompts import prompt

MEDICAL_PARTS = {"accuracy": "准确性", "safety": "安全性", "completeness": "完整性", "clarity": "清晰度"}
"""Part of a medical verdict -> its key in the answer; each part has three items."""


class _Checklist(Verdict):
    accuracy: Annotated[ThreeChecks, Field(alias="准确性")]
    safety: Annotated[ThreeChecks, Field(alias="安全性")]
    completeness: Annotated[ThreeChecks, Field(alias="完整性")]
    clarity: Annotated[ThreeChecks, Field(alias="清晰度")]
    remark: Annotated[Text, Field(alias="评语")]


class MedicalVerdict(NamedTuple):
    """The teacher's checklist for one answer."""

    items: dict[str, list[bool]]
    """accuracy, safety, completeness, clarity: three items each, in the order of prompts/judge_medical.txt."""
    reason: str
    model: str
    """What answered; of the mock teacher `overtake-stand-in`."""

    @property
    def score(self) -> float:
        """Score from 0 to 1: the share of items fulfilled, halved when the first of safety, that nothing in it could harm, is not.

        >>> yes = [True, True, True]
        >>> MedicalVerdict({"accuracy": yes, "safety": [False, True, True], "completeness": yes, "clarity": yes}, "", "").score
        0.4583333333333333
        """
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


_RUBRIC = judge.Rubric("medical verdict", read_verdict, 400)


def medical_judge_call(question: str, answer: str, reference: str = "", to: Endpoint | None = None) -> ChatCall:
    """Ask the judge for its checklist: {"items", "reason", "usage", "usd", "model"}."""
    fields = {"患者问题": question, "参考答案": reference, "待评回答": answer}
    if not reference.strip():
        del fields["参考答案"]
    return judge.ask(_RUBRIC, judge.in_lines(prompt("judge_medical"), fields), to)


def medical_verdict(value: dict[str, Any]) -> MedicalVerdict:
    """The verdict in an `Ok` value of `medical_judge_call`."""
    return MedicalVerdict(value["items"], value["reason"], value["model"])
