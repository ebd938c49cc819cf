"""The judges of finance: whether an answer in words is right, and how well a solution is reasoned."""

import json
from typing import Annotated, Any, Literal

from pydantic import Field

from overtake.reading.verdicts import Text, ThreeChecks, Verdict, read_object
from overtake.remote import judge
from overtake.remote.chat import ChatCall, Endpoint
from overtake.tasks.finance.prompts import prompt

CRITERIA = ("logic", "accuracy", "completeness", "concision")
"""Of a verdict on a reasoned answer: logical clarity, professional accuracy, completeness, concision."""
_LONGEST = 4000


class _Right(Verdict):
    verdict: Annotated[Literal["正确", "错误"], Field(alias="判定")]
    reason: Annotated[Text, Field(alias="理由")]


class _Type(Verdict):
    type: Literal["calculation", "concept", "analysis", "reasoning"]


class _Reasoned(Verdict):
    logic: ThreeChecks
    accuracy: ThreeChecks
    completeness: ThreeChecks
    concision: ThreeChecks
    weakest: Text


def read_verdict(text: str) -> dict[str, Any]:
    """Return {"right", "reason"} as prompts/judge_finance.txt asks for them. Raises ValueError for anything else.

    >>> read_verdict('{"判定": "错误", "理由": "遗漏折现率"}')
    {'right': False, 'reason': '遗漏折现率'}
    """
    parsed = read_object(text, _Right)
    return {"right": parsed.verdict == "正确", "reason": parsed.reason}


def read_reasoning_verdict(text: str) -> dict[str, Any]:
    """Return {"criteria": share of each one's three checks that hold, "weakest": a step} as prompts/judge_reasoning.txt asks for them.

    Raises ValueError for anything else than one strict object.

    >>> read_reasoning_verdict(
    ...     '{"logic": [true, true, true], "accuracy": [true, false, true], "completeness": [true, true, true],'
    ...     ' "concision": [false, false, true], "weakest": "增长率除错了基数"}'
    ... )
    {'criteria': {'logic': 1.0, 'accuracy': 0.667, 'completeness': 1.0, 'concision': 0.333}, 'weakest': '增长率除错了基数'}
    """
    parsed = read_object(text, _Reasoned)
    return {"criteria": {name: round(sum(getattr(parsed, name)) / 3, 3) for name in CRITERIA}, "weakest": parsed.weakest}


def read_type(text: str) -> dict[str, Any]:
    """Return {"type"} of a question as prompts/classify_finance.txt asks for it. Raises ValueError for any other.

    >>> read_type('{"type": "concept"}')
    {'type': 'concept'}
    """
    return read_object(text, _Type).model_dump()


_ANSWER = judge.Rubric("verdict on a finance answer", read_verdict, 300)
_REASONING = judge.Rubric("verdict on an answer", read_reasoning_verdict, 400)


def finance_judge_call(question: str, gold: str, answer: str, to: Endpoint | None = None) -> ChatCall:
    """Ask the judge whether an answer is right: {"right", "reason", "usage", "usd", "model"}. Of an answer 4,000 characters are shown."""
    fields = {"问题": question, "标准答案": gold, "待评答案": answer[:_LONGEST]}
    return judge.ask(_ANSWER, judge.in_lines(prompt("judge_finance"), fields), to)


def reasoning_call(question: str, reference: str, response: str, to: Endpoint | None = None) -> ChatCall:
    """Ask the judge for a verdict on a reasoned answer: {"criteria", "weakest", "usage", "usd", "model"}."""
    # One JSON object, so that no response can write a field of its own.
    user = json.dumps({"question": question, "reference": reference, "response": response}, ensure_ascii=False)
    messages = [{"role": "system", "content": prompt("judge_reasoning")}, {"role": "user", "content": user}]
    return judge.ask(_REASONING, messages, to)
