"""The judge of answers: a verdict on a generated answer against reference answers; what is no verdict fails and never becomes one."""

from collections.abc import Sequence
from typing import Any

from overtake.remote.chat import ChatCall, Endpoint, chat_call, endpoint
from overtake.tasks.answer_judge.judgements import Judgement, read_judgement
from overtake.tasks.answer_judge.prompts import judge_messages

LIMIT = 1024
"""Tokens for think block and verdict; raised where they do not do."""


def answer_call(
    question: str,
    gold: Sequence[str],
    answer_hat: str,
    to: Endpoint | None = None,
    limit: int = LIMIT,
    temperature: float = 0.0,
) -> ChatCall:
    """Ask the judge (the teacher, when none is set) to grade `answer_hat`: {"main", "secondary", "reason", "usage", "usd", "model"}.

    `to`: `endpoint("judge")`, where a caller with many calls has it at hand. An unreadable verdict is asked for once more and then
    Failed(outage=False).
    """

    def read(text: str) -> dict[str, Any]:
        return read_judgement(text)._asdict()

    messages = judge_messages(question, gold, answer_hat)
    form = "verdict on a graded answer"
    return chat_call(to or endpoint("judge"), messages, limit, temperature=temperature, read=read, form=form, tries=2, thinking=True)


def judgement(value: dict[str, Any]) -> Judgement:
    """The verdict in an `Ok` value of `answer_call`."""
    return Judgement(value["main"], value["secondary"], value["reason"])
