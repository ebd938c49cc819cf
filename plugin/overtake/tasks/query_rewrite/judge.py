"""The judge of rewrites: a score from 0 to 5 with its reason, of one rewrite or of all rewrites of a question in one call."""

import random
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, NamedTuple

from pydantic import Field, model_validator

from overtake.reading.verdicts import Text, read_object
from overtake.reading.verdicts import Verdict as Strict
from overtake.remote import judge
from overtake.remote.chat import ChatCall, Endpoint, chat_gateway
from overtake.remote.gateway import Gateway
from overtake.tasks.query_rewrite.prompts import prompt


class _Answer(Strict):
    score: Annotated[float, Field(ge=0, le=5, alias="综合得分")]
    reason: Annotated[Text, Field(alias="评分理由")]


class _Numbered(_Answer):
    number: Annotated[int, Field(alias="编号")]


class _Answers(Strict):
    each: Annotated[list[_Numbered], Field(alias="评分")]

    @model_validator(mode="before")
    @classmethod
    def _keyed(cls, said: Any) -> Any:
        # A 0.5B left the one key out in 12 groups of 12, and what it says of whom is as clear.
        return {"评分": said} if isinstance(said, list) else said


class Verdict(NamedTuple):
    """A judge's opinion of one rewrite."""

    score: float
    """0 to 5; divide by 5 for the reward."""
    reason: str
    teacher: float | None = None
    """Points of the teacher's rewrite in the same call, by the same measure; None: it was judged by a call of its own, in the data."""


def read_verdict(text: str) -> dict[str, Any]:
    """Return {"score", "reason"} of a judge's words. Raises ValueError for anything else than one strict object.

    >>> read_verdict('{"综合得分": 4.5, "评分理由": "术语准确"}')
    {'score': 4.5, 'reason': '术语准确'}
    """
    return read_object(text, _Answer).model_dump()


def read_group(count: int, text: str) -> dict[str, Any]:
    """{"each": [{"score", "reason"}, ...]} of a judge's words, in the order in which the rewrites were shown.

    Raises ValueError for anything else than one strict object, or its list alone, with each of `count` rewrites once.

    >>> read_group(2, '{"评分": [{"编号": 2, "综合得分": 1, "评分理由": "b"}, {"编号": 1, "综合得分": 4, "评分理由": "a"}]}')["each"][0]
    {'score': 4.0, 'reason': 'a'}
    >>> read_group(2, '{"评分": [{"编号": 1, "综合得分": 4, "评分理由": "a"}, {"编号": 1, "综合得分": 4, "评分理由": "a"}]}')
    Traceback (most recent call last):
    ValueError: rewrites 1, 1 are judged where 1 to 2 were shown
    """
    answers = sorted(read_object(text, _Answers).each, key=lambda answer: answer.number)
    if [answer.number for answer in answers] != list(range(1, count + 1)):
        raise ValueError(f"rewrites {', '.join(str(answer.number) for answer in answers)} are judged where 1 to {count} were shown")
    return {"each": [{"score": answer.score, "reason": answer.reason} for answer in answers]}


_RUBRIC = judge.Rubric("verdict on a rewrite", read_verdict, 300)


def judge_gateway() -> Gateway:
    """The gateway all judge calls go through."""
    return chat_gateway("judge")


def judge_call(query: str, rewrite: str, profile: str = "", history: str = "", to: Endpoint | None = None) -> ChatCall:
    """Ask the judge to score a rewrite: {"score", "reason", "usage", "usd", "model"}.

    It sees what the rewriter saw: profile and history, where there are any, without which what a rewrite takes from them looks invented.
    """
    context = {name: text for name, text in (("用户画像", profile), ("历史摘要", history)) if text.strip()}
    return judge.ask(_RUBRIC, judge.in_lines(prompt("judge_rewrite"), {"原始问题": query, **context, "改写": rewrite}), to)


def shown_order(query: str, rewrites: Sequence[str]) -> list[str]:
    """The distinct rewrites in an order drawn by question and rewrites alone: no place of a rewrite is favoured, and an equal call is kept.

    >>> shown_order("q", ["a", "b", "a"]) == shown_order("q", ["b", "a"])
    True
    """
    distinct = sorted(set(rewrites))
    random.Random(f"{query}\n{distinct}").shuffle(distinct)
    return distinct


def group_call(query: str, shown: Sequence[str], profile: str = "", history: str = "", to: Endpoint | None = None) -> ChatCall:
    """Ask the judge to score all rewrites of a question, the teacher's among them: {"each", "usage", "usd", "model"}."""
    context = {name: text for name, text in (("用户画像", profile), ("历史摘要", history)) if text.strip()}
    fields = {"原始问题": query, **context, **{f"改写{number}": rewrite for number, rewrite in enumerate(shown, 1)}}
    rubric = judge.Rubric("verdicts on the rewrites of a question", partial(read_group, len(shown)), 100 + 100 * len(shown))
    return judge.ask(rubric, judge.in_lines(prompt("judge_group"), fields), to)


def verdicts_of_group(value: dict[str, Any], shown: Sequence[str], teacher: str) -> dict[str, Verdict]:
    """The verdict on each rewrite in an `Ok` value of `group_call`, by its text."""
    points = {rewrite: answer for rewrite, answer in zip(shown, value["each"], strict=True)}
    return {rewrite: Verdict(answer["score"], answer["reason"], points[teacher]["score"]) for rewrite, answer in points.items()}


def verdict(value: dict[str, Any]) -> Verdict:
    """The verdict in an `Ok` value of `judge_call`."""
    return Verdict(value["score"], value["reason"])
