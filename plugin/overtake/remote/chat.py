"""OpenAI-compatible chat for teacher and judge: parameter rules of a model family, unusable answers named, price known or said unknown."""

import asyncio
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any

from overtake import settings
from overtake.reading.tags import strip_think
from overtake.remote.gateway import Call, Gateway, Unusable, client, gateway

_REASONING = re.compile(r"(^|/)(gpt-5|o[134])\b", re.IGNORECASE)
_LIMIT_FACTORS = (1, 4, 16)


@dataclass(frozen=True)
class Endpoint:
    """A model behind an OpenAI-compatible address. `role` is "teacher" or "judge"; the key is read from the environment when used."""

    role: str
    base_url: str
    model: str
    api_key: str

    def __repr__(self) -> str:
        return f"Endpoint({self.role}: {self.model} at {self.base_url})"


def endpoint(role: str) -> Endpoint:
    """The teacher's or the judge's endpoint from the settings; what is not set of a judge is the teacher's.

    Raises SettingsError naming the variables to set.
    """
    chosen = settings.load()
    teacher_key, judge_key = chosen.teacher_api_key.get_secret_value(), chosen.judge_api_key.get_secret_value()
    found = Endpoint(role, chosen.teacher_base_url, chosen.teacher_model, teacher_key)
    if role == "judge":
        # The teacher's key goes to the teacher's address only.
        key = judge_key or ("" if chosen.judge_base_url else teacher_key)
        found = Endpoint(role, chosen.judge_base_url or found.base_url, chosen.judge_model or found.model, key)
    if not found.base_url or not found.model:
        raise settings.SettingsError(
            f"no {role} is set: export OVERTAKE_TEACHER_BASE_URL (ends in /v1), OVERTAKE_TEACHER_MODEL and OVERTAKE_TEACHER_API_KEY, "
            "or start the stand-in with tools/serve_teacher.py"
        )
    return found


def parameters(model: str, limit: int, temperature: float) -> dict[str, Any]:
    """The request parameters this model family takes: GPT-5 and o-series refuse `max_tokens` and a free temperature (spec trap 2).

    >>> parameters("deepseek-chat", 200, 0.3)
    {'max_tokens': 200, 'temperature': 0.3}
    >>> parameters("gpt-5-mini", 200, 0.3)
    {'max_completion_tokens': 200}
    """
    if _REASONING.search(model):
        return {"max_completion_tokens": limit}
    return {"max_tokens": limit, "temperature": temperature}


def chat_gateway(role: str) -> Gateway:
    """The gateway all chat calls of a role go through."""
    chosen = settings.load()
    return gateway(role, chosen.teacher_concurrency, chosen.teacher_timeout)


def chat_call(to: Endpoint, messages: Sequence[dict[str, str]], limit: int, temperature: float = 0.3) -> Call:
    """A chat request whose answer is {"text", "model", "usage", "usd"}; the text is stripped of its think block and never empty.

    An answer that is cut off is asked for again with 4 and 16 times `limit` tokens, each time with the whole timeout; a retry after a
    fault starts at the limit that was reached, and what was billed before it counts in "usage".
    Raises Unusable inside the gateway when the text stays empty or cut off even at 16 times `limit` tokens.
    """
    spent = {"prompt_tokens": 0, "completion_tokens": 0}  # what no answer has reported yet
    factors = list(_LIMIT_FACTORS)  # less those that were too small

    def bill() -> dict[str, Any]:
        usage = dict(spent)
        spent.update(dict.fromkeys(spent, 0))
        return {"usage": usage, "usd": price(to.model, usage)}

    def unusable(words: str) -> Unusable:
        return Unusable(words, bill())

    async def send() -> dict[str, Any]:
        seconds, opened = settings.load().teacher_timeout, _client(to)
        for factor in tuple(factors):
            request = opened.chat.completions.create(
                model=to.model, messages=list(messages), **parameters(to.model, limit * factor, temperature)
            )
            async with asyncio.timeout(seconds):
                answer = await request
            if not getattr(answer, "choices", None):
                raise unusable(f"the answer holds no choices: {str(answer)[:200]}")
            choice = answer.choices[0]
            if answer.usage:
                spent["prompt_tokens"] += answer.usage.prompt_tokens
                spent["completion_tokens"] += answer.usage.completion_tokens
            if choice.finish_reason == "length":
                if len(factors) > 1:
                    factors.remove(factor)
                continue  # the limit is raised: reasoning tokens count against it
            text = strip_think(choice.message.content or "")
            if not text:
                raise unusable(f"empty text with finish reason {choice.finish_reason!r}")
            return {"text": text, "model": answer.model, **bill()}
        raise unusable(f"cut off with finish reason 'length' even at {limit * _LIMIT_FACTORS[-1]} tokens: raise the token limit")

    identity = {"base_url": to.base_url, "model": to.model, "messages": list(messages), "limit": limit, "temperature": temperature}
    return Call(identity, send, requests=len(_LIMIT_FACTORS))


def price(model: str, usage: dict[str, int]) -> float | None:
    """USD for the tokens spent, or None when prices.toml does not know the model.

    >>> price("gpt-5-mini", {"prompt_tokens": 1_000_000, "completion_tokens": 0})
    0.25
    >>> price("stand-in", {"prompt_tokens": 10, "completion_tokens": 5}) is None
    True
    """
    names = [name for name in _prices() if re.fullmatch(re.escape(name) + r"(-\d[\d-]*)?", model)]
    if not names:
        return None
    rate = _prices()[max(names, key=len)]
    return (usage["prompt_tokens"] * rate["input"] + usage["completion_tokens"] * rate["output"]) / 1e6


@lru_cache(maxsize=1)
def _prices() -> dict[str, dict[str, float]]:
    return tomllib.loads(resources.files("overtake.remote").joinpath("prices.toml").read_text(encoding="utf-8"))


def _client(to: Endpoint) -> Any:
    import openai  # half a second of import that a worker without remote calls need not pay

    seconds = settings.load().teacher_timeout
    return client(
        f"{to.role} {to.base_url}",
        lambda: openai.AsyncOpenAI(
            base_url=to.base_url,
            api_key=to.api_key or "none",
            max_retries=0,
            timeout=seconds,
            http_client=openai.DefaultAioHttpClient(timeout=seconds),
        ),
    )
