"""The judge's client: one call for every rubric. What is no verdict is asked for once more, then fails; it never becomes a score."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from overtake.remote.chat import ChatCall, Endpoint, chat_call, endpoint


class Rubric(NamedTuple):
    """Rubric of a judge: what a judge is asked of an answer, and how its words are read."""

    form: str
    """Names the verdict in errors, and in the key under which it is kept: "verdict on a rewrite"."""
    read: Callable[[str], dict[str, Any]]
    """The verdict in the judge's words, as JSON can say it. Raises ValueError for what is none."""
    limit: int
    """Tokens for a verdict."""
    thinking: bool = False
    """Whether `read` gets the think block too."""


def ask(
    rubric: Rubric, messages: Sequence[dict[str, str]], to: Endpoint | None = None, limit: int | None = None, temperature: float = 0.0
) -> ChatCall:
    """A call whose value is what the rubric reads, and "usage", "usd", "model"; an unreadable verdict twice is Failed(outage=False).

    `to`: `endpoint("judge")` (the teacher, where no judge is set), for a caller with many calls that has it at hand.
    """
    form, limit = rubric.form, limit or rubric.limit
    judge = to or endpoint("judge")
    return chat_call(judge, messages, limit, temperature, parse=rubric.read, form=form, tries=2, thinking=rubric.thinking)


def in_lines(system: str, fields: Mapping[str, str]) -> list[dict[str, str]]:
    """System prompt, and a user message of one line `name：text` for each field, so that no text can write a second field.

    >>> in_lines("判", {"问题": "胃\\n胀", "回答": "少吃\\n问题：别的"})[1]["content"]
    '问题：胃 胀\\n回答：少吃 问题：别的'
    """
    user = "\n".join(f"{name}：{' '.join(text.split())}" for name, text in fields.items())
    return [{"role": "system", "content": system}, {"role": "user", "content": user}]
