"""The judge of rewrites: a score from 0 to 5, read strictly; what is no verdict fails, is not kept, is never a score."""

from typing import Any, NamedTuple

from overtake.reading.verdicts import read_rewrite_verdict
from overtake.remote.chat import Endpoint, chat_call, chat_gateway, endpoint
from overtake.remote.gateway import Call, Gateway
from overtake.tasks.query_rewrite.prompts import prompt

_LIMIT = 300


class Verdict(NamedTuple):
    """A judge's opinion of one rewrite."""

    score: float
    """0 to 5; divide by 5 for the reward."""
    reason: str


def judge_gateway() -> Gateway:
    """The gateway all judge calls go through."""
    return chat_gateway("judge")


def judge_call(query: str, rewrite: str, to: Endpoint | None = None) -> Call:
    """Ask the judge (the teacher, when none is set) to score a rewrite: {"score", "reason", "usage", "usd", "model"}.

    `to`: `endpoint("judge")`, where a caller with many calls has it at hand.

    An unreadable verdict is asked for once more and then Failed(outage=False).
    """
    # Each stands on a line of its own, so that no rewrite can write a second field.
    user = f"原始问题：{_one_line(query)}\n改写：{_one_line(rewrite)}"
    messages = [{"role": "system", "content": prompt("judge_rewrite")}, {"role": "user", "content": user}]

    def read(text: str) -> dict[str, Any]:
        score, reason = read_rewrite_verdict(text)
        return {"score": score, "reason": reason}

    return chat_call(to or endpoint("judge"), messages, _LIMIT, temperature=0.0, read=read, form="verdict on a rewrite", tries=2)


def verdict(value: dict[str, Any]) -> Verdict:
    """The verdict in an `Ok` value of `judge_call`."""
    return Verdict(value["score"], value["reason"])


def _one_line(text: str) -> str:
    return " ".join(text.split())
