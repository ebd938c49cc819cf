"""The judge of finance answers in words: right or wrong, read strictly; what is no verdict fails and never becomes a score."""

import json
from typing import Any

from overtake.reading.verdicts import read_finance_verdict, read_reasoning_verdict
from overtake.remote.chat import Endpoint, chat_call, endpoint
from overtake.remote.gateway import Call
from overtake.tasks.finance.prompts import prompt

_LIMIT = 300
_LONGEST = 4000
_REASONING_LIMIT = 400


def finance_judge_call(question: str, gold: str, answer: str, to: Endpoint | None = None) -> Call:
    """Ask the judge whether an answer is right: {"right", "reason", "usage", "usd", "model"}. Of an answer 4,000 characters are shown.

    `to`: `endpoint("judge")`, where a caller with many calls has it at hand.

    An unreadable verdict is asked for once more and then Failed(outage=False).
    """
    # Each stands on a line of its own, so that no answer can write a second field.
    user = f"问题：{_one_line(question)}\n标准答案：{_one_line(gold)}\n待评答案：{_one_line(answer[:_LONGEST])}"
    messages = [{"role": "system", "content": prompt("judge_finance")}, {"role": "user", "content": user}]

    def read(text: str) -> dict[str, Any]:
        right, reason = read_finance_verdict(text)
        return {"right": right, "reason": reason}

    return chat_call(to or endpoint("judge"), messages, _LIMIT, temperature=0.0, read=read, form="verdict on a finance answer", tries=2)


def reasoning_call(question: str, reference: str, response: str, to: Endpoint | None = None) -> Call:
    """Ask the judge for a verdict on a reasoned answer: {"criteria": share of each one's checks, "weakest", "usage", "usd", "model"}.

    An unreadable verdict is asked for once more and then Failed(outage=False).
    """
    # One JSON object, so that no response can write a field of its own.
    user = json.dumps({"question": question, "reference": reference, "response": response}, ensure_ascii=False)
    messages = [{"role": "system", "content": prompt("judge_reasoning")}, {"role": "user", "content": user}]

    def read(text: str) -> dict[str, Any]:
        criteria, weakest = read_reasoning_verdict(text)
        return {"criteria": criteria, "weakest": weakest}

    asked = to or endpoint("judge")
    return chat_call(asked, messages, _REASONING_LIMIT, temperature=0.0, read=read, form="verdict on an answer", tries=2)


def _one_line(text: str) -> str:
    return " ".join(text.split())
