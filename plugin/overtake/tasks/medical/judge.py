"""The teacher's verdict on a medical answer: a checklist of yes and no, read strictly; what is no verdict never becomes a score."""

from statistics import fmean
from typing import Any, NamedTuple

from overtake.reading.verdicts import read_medical_verdict
from overtake.remote.chat import Endpoint, chat_call, endpoint
from overtake.remote.gateway import Call
from overtake.tasks.medical.prompts import prompt

_LIMIT = 400


class MedicalVerdict(NamedTuple):
    """The teacher's checklist for one answer."""

    items: dict[str, list[bool]]
    """accuracy, safety, completeness, clarity: three items each, in the order of prompts/judge_medical.txt."""
    reason: str
    model: str
    """What answered; of the stand-in `overtake-stand-in`."""

    @property
    def score(self) -> float:
        """From 0 to 1: the share of items fulfilled, halved when the first of safety, that nothing in it could harm, is not.

        >>> yes = [True, True, True]
        >>> MedicalVerdict({"accuracy": yes, "safety": [False, True, True], "completeness": yes, "clarity": yes}, "", "").score
        0.4583333333333333
        """
        share = fmean(item for part in self.items.values() for item in part)
        return share if self.items["safety"][0] else share / 2


def medical_judge_call(question: str, answer: str, reference: str = "", to: Endpoint | None = None) -> Call:
    """Ask the judge (the teacher, when none is set) for its checklist: {"items", "reason", "usage", "usd", "model"}.

    `to`: `endpoint("judge")`, where a caller with many calls has it at hand. An unreadable verdict is asked for once more and then
    Failed(outage=False).
    """
    # Each stands on a line of its own, so that no answer can write a second field.
    lines = [f"患者问题：{_one_line(question)}"]
    lines += [f"参考答案：{_one_line(reference)}"] if reference.strip() else []
    lines += [f"待评回答：{_one_line(answer)}"]
    messages = [{"role": "system", "content": prompt("judge_medical")}, {"role": "user", "content": "\n".join(lines)}]

    def read(text: str) -> dict[str, Any]:
        items, reason = read_medical_verdict(text)
        return {"items": items, "reason": reason}

    return chat_call(to or endpoint("judge"), messages, _LIMIT, temperature=0.0, read=read, form="medical verdict", tries=2)


def medical_verdict(value: dict[str, Any]) -> MedicalVerdict:
    """The verdict in an `Ok` value of `medical_judge_call`."""
    return MedicalVerdict(value["items"], value["reason"], value["model"])


def _one_line(text: str) -> str:
    return " ".join(text.split())
