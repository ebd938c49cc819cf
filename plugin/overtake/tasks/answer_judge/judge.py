"""The judge of answers: a verdict on a generated answer against reference answers."""

from collections.abc import Sequence
from typing import Any

from overtake.remote import judge
from overtake.remote.chat import ChatCall, Endpoint
from overtake.tasks.answer_judge.judgements import Judgement, read_judgement
from overtake.tasks.answer_judge.prompts import judge_messages

LIMIT = 1024
"""Tokens for think block and verdict; raised where they do not do."""

_RUBRIC = judge.Rubric("verdict on a graded answer", lambda text: read_judgement(text)._asdict(), LIMIT, thinking=True)


def answer_call(
    question: str,
    gold: Sequence[str],
    answer_hat: str,
    to: Endpoint | None = None,
    limit: int = LIMIT,
    temperature: float = 0.0,
) -> ChatCall:
    """Ask the judge to grade `answer_hat`: {"main", "secondary", "reason", "usage", "usd", "model"}."""
    return judge.ask(_RUBRIC, judge_messages(question, gold, answer_hat), to, limit, temperature)


def judgement(value: dict[str, Any]) -> Judgement:
    """The verdict in an `Ok` value of `answer_call`."""
    return Judgement(value["main"], value["secondary"], value["reason"])
