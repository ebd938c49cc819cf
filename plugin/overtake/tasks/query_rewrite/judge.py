"""The judge of rewrites: a score from 0 to 5 with its reason."""

from typing import Annotated, Any, NamedTuple

from pydantic import Field

from overtake.reading.verdicts import Text, read_object
from overtake.reading.verdicts import Verdict as Strict
from overtake.remote import judge
from overtake.remote.chat import ChatCall, Endpoint, chat_gateway
from overtake.remote.gateway import Gateway
from overtake.tasks.query_rewrite.prompts import prompt


class _Answer(Strict):
    score: Annotated[float, Field(ge=0, le=5, alias="综合得分")]
    reason: Annotated[Text, Field(alias="评分理由")]


class Verdict(NamedTuple):
    """A judge's opinion of one rewrite."""

    score: float
    """0 to 5; divide by 5 for the reward."""
    reason: str


def read_verdict(text: str) -> dict[str, Any]:
    """Return {"score", "reason"} of a judge's words. Raises ValueError for anything else than one strict object.

    >>> read_verdict('{"综合得分": 4.5, "评分理由": "术语准确"}')
    {'score': 4.5, 'reason': '术语准确'}
    """
    return read_object(text, _Answer).model_dump()


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


def verdict(value: dict[str, Any]) -> Verdict:
    """The verdict in an `Ok` value of `judge_call`."""
    return Verdict(value["score"], value["reason"])
