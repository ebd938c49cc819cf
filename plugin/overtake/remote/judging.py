"""Chat calls whose answer must have a form: an answer that lacks it fails, is never kept and never becomes a score."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from overtake.prompts import prompt
from overtake.reading.verdicts import read_rewrite_verdict
from overtake.remote.chat import chat_call, chat_gateway, endpoint
from overtake.remote.gateway import Call, Gateway, Unusable

_LIMIT = 300


class Verdict(NamedTuple):
    """A judge's opinion of one rewrite."""

    score: float
    """0 to 5; divide by 5 for the reward."""
    reason: str


def judge_gateway() -> Gateway:
    """The gateway all judge calls go through."""
    return chat_gateway("judge")


def judge_call(query: str, rewrite: str) -> Call:
    """Ask the judge (the teacher, when none is set) to score a rewrite: {"score", "reason", "usage", "usd", "model"}.

    An unreadable verdict is asked for once more and then Failed(outage=False).
    """
    # Each stands on a line of its own, so that no rewrite can write a second field.
    user = f"原始问题：{_one_line(query)}\n改写：{_one_line(rewrite)}"
    messages = [{"role": "system", "content": prompt("judge_rewrite")}, {"role": "user", "content": user}]

    def read(text: str) -> dict[str, Any]:
        score, reason = read_rewrite_verdict(text)
        return {"score": score, "reason": reason}

    return reading(chat_call(endpoint("judge"), messages, _LIMIT, temperature=0.0), read, "verdict on a rewrite", tries=2)


def verdict(value: dict[str, Any]) -> Verdict:
    """The verdict in an `Ok` value of `judge_call`."""
    return Verdict(value["score"], value["reason"])


def reading(call: Call, read: Callable[[str], dict[str, Any]], form: str, tries: int = 1) -> Call:
    """A chat call whose text is replaced by what `read` makes of it; `read` raises ValueError for an answer out of form.

    `form` names the form in the error and in the cache key: the same question read in two ways is two answers.
    """

    async def send() -> dict[str, Any]:
        spent: dict[str, int] = {}
        usd: float | None = 0.0
        for attempt in range(1, tries + 1):
            value = await call.send()
            spent = {name: spent.get(name, 0) + count for name, count in value["usage"].items()}
            usd = None if usd is None or value["usd"] is None else usd + value["usd"]
            try:
                return {**read(value["text"]), "usage": spent, "usd": usd, "model": value["model"]}
            except ValueError as error:
                if attempt == tries:
                    raise Unusable(f"no usable {form}: {error}", {"usage": spent, "usd": usd}) from None
        raise AssertionError("tries is at least 1")

    return replace(call, identity={**call.identity, "form": form}, send=send, requests=call.requests * tries)


def _one_line(text: str) -> str:
    return " ".join(text.split())
