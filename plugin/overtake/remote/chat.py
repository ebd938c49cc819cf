"""OpenAI-compatible chat for teacher and judge: parameter rules of a model family, strict reading, a limit raised when it cuts off."""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from overtake import settings
from overtake.reading.tags import strip_think
from overtake.remote import budget
from overtake.remote.faults import Unusable, error_inside, malformed, without_secrets
from overtake.remote.gateway import Call, Gateway, gateway
from overtake.remote.http import post

_REASONING = re.compile(r"(^|/)(gpt-5|o[134])\b", re.IGNORECASE)
_DEEPSEEK_URL, _DEEPSEEK_MODEL = "https://api.deepseek.com/v1", "deepseek-chat"
_LIMIT_FACTORS = (1, 4, 16)
_BYTES_A_TOKEN = 3
"""About: a Chinese character is one token and three bytes, an English token four or five."""


@dataclass(frozen=True)
class Endpoint:
    """A model behind an OpenAI-compatible address. `role` is "teacher" or "judge"; the key is read from the environment when used."""

    role: str
    base_url: str
    model: str
    api_key: str

    def __repr__(self) -> str:
        return f"Endpoint({self.role}: {self.model} at {without_secrets(self.base_url)})"


def endpoint(role: str) -> Endpoint:
    """The teacher's or the judge's endpoint from the settings; what is not set of a judge is the teacher's.

    Where nothing at all is set of the teacher and DEEPSEEK_API_KEY is, the teacher is deepseek-chat at DeepSeek's own address.

    Raises SettingsError naming the variables to set, also when a budget is set and the model's price is not known.
    """
    chosen = settings.load()
    teacher_key, judge_key = chosen.teacher_api_key.get_secret_value(), chosen.judge_api_key.get_secret_value()
    found = Endpoint(role, chosen.teacher_base_url, chosen.teacher_model, teacher_key)
    if not found.base_url and not found.model and not teacher_key and (deepseek_key := os.environ.get("DEEPSEEK_API_KEY", "")):
        found = Endpoint(role, _DEEPSEEK_URL, _DEEPSEEK_MODEL, deepseek_key)
    if role == "judge":
        # The teacher's key goes to the teacher's address only.
        key = judge_key or ("" if chosen.judge_base_url else found.api_key)
        found = Endpoint(role, chosen.judge_base_url or found.base_url, chosen.judge_model or found.model, key)
    if not found.base_url or not found.model:
        raise settings.SettingsError(
            f"no {role} is set: export OVERTAKE_TEACHER_BASE_URL (ends in /v1), OVERTAKE_TEACHER_MODEL and OVERTAKE_TEACHER_API_KEY, "
            "(or only DEEPSEEK_API_KEY, for deepseek-chat), or start the stand-in with demo/serve_teacher.py"
        )
    budget.check(found.model)
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


class Said(NamedTuple):
    """What a chat service answered."""

    text: str
    finish: str
    model: str
    usage: dict[str, int]
    """prompt_tokens and completion_tokens; empty when the service does not tell."""
    reasoning: str
    """What the model thought, where the service tells it apart from the text (`reasoning_content`, or `reasoning`)."""


@dataclass(slots=True, kw_only=True)
class ChatCall(Call):
    """A chat request that can also be sent and answered as a file, by a provider's batch service."""

    body: Callable[[], dict[str, Any]]
    """Makes the request, as POST /chat/completions takes it."""
    accept: Callable[[Any], dict[str, Any]]
    """Makes the call's value of the service's answer; raises Fault."""


def chat_gateway(role: str, concurrency: int | None = None) -> Gateway:
    """The gateway all chat calls of a role go through; a judge without an address of its own shares the teacher's limits a minute."""
    chosen = settings.load()
    judge, own = role == "judge", role == "judge" and bool(chosen.judge_base_url)
    return gateway(
        role,
        concurrency or (judge and chosen.judge_concurrency) or chosen.teacher_concurrency,
        (judge and chosen.judge_timeout) or chosen.teacher_timeout,
        address="teacher" if judge and not own else role,
        requests_a_minute=chosen.judge_rpm if own else chosen.teacher_rpm,
        tokens_a_minute=chosen.judge_tpm if own else chosen.teacher_tpm,
    )


def chat_call(
    to: Endpoint,
    messages: Sequence[dict[str, str]],
    limit: int,
    temperature: float = 0.3,
    *,
    read: Callable[[str], dict[str, Any]] | None = None,
    form: str = "",
    tries: int = 1,
    cached: bool = True,
    sample: int = 0,
    thinking: bool = False,
    insist: bool = True,
) -> ChatCall:
    """A chat request whose answer is {"text", "model", "usage", "usd"}; the text is stripped of its think block and never empty.

    With `read` its dict stands in the place of "text". It raises ValueError for a text out of form, which then fails and is never
    kept; `tries` such answers are asked for at most. `form` names the form in the error and in the cache key: the same question
    read in two ways is two answers.
    An answer that is cut off is asked for again with 4 and 16 times `limit` tokens. What was billed on the way counts in "usage".
    Without `insist` it is taken as it is: for a model that is measured, not one that teaches.
    Calls that differ in `sample` alone are kept apart: the same question may be answered several times.
    With `thinking` the text holds the think block too, and what a service tells apart as reasoning is put into one.
    """
    wanted = [limit * factor for factor in (_LIMIT_FACTORS if insist else _LIMIT_FACTORS[:1])]  # less those that were too small
    unreadable = 0

    def body() -> dict[str, Any]:
        return {"model": to.model, "messages": list(messages), **parameters(to.model, wanted[0], temperature)}

    def accept(answer: Any) -> dict[str, Any]:
        nonlocal unreadable
        said = read_chat(answer)
        paid = {"usage": said.usage, "usd": budget.price(to.model, said.usage) if said.usage else None}
        if said.finish == "length" and insist:  # reasoning tokens count against the limit, so it is raised
            if len(wanted) == 1:
                raise Unusable(f"cut off with finish reason 'length' even at {wanted[0]} tokens: raise the token limit", paid)
            raise Unusable(f"cut off with finish reason 'length' at {wanted.pop(0)} tokens", paid, again=True)
        text = strip_think(said.text)
        if not text and (insist or not said.text.strip()):
            raise Unusable(f"empty text with finish reason {said.finish!r}", paid)
        if thinking:
            text = f"<think>\n{said.reasoning.strip()}\n</think>\n\n{text}" if said.reasoning.strip() else said.text.strip()
        try:
            value = read(text) if read else {"text": text}
        except ValueError as error:
            unreadable += 1
            raise Unusable(f"no usable {form}: {error}", paid, again=unreadable < tries) from None
        return {**value, "model": said.model or to.model, **paid}

    async def send() -> dict[str, Any]:
        return accept(await post(to.base_url.rstrip("/") + "/chat/completions", body(), to.api_key, proxies=not _is_local(to.base_url)))

    identity = {"base_url": to.base_url, "model": to.model, "messages": messages, "limit": limit, "temperature": temperature, "form": form}
    # Only what is set stands in the key, so that answers kept before these were there are found.
    identity |= {"sample": sample} if sample else {}
    identity |= {"thinking": True} if thinking else {}
    identity |= {} if insist else {"insist": False}
    return ChatCall(identity, send, cached=cached, tokens=_tokens(messages, limit), model=to.model, body=body, accept=accept)


def _tokens(messages: Sequence[dict[str, str]], limit: int) -> int:
    """About how many tokens a request takes at most; 0 where nothing depends on it."""
    chosen = settings.load()
    if not (chosen.teacher_tpm or chosen.judge_tpm):
        return 0
    return limit + sum(len(message["content"].encode(errors="replace")) for message in messages) // _BYTES_A_TOKEN


def read_chat(answer: Any) -> Said:
    """What an answer of POST /chat/completions says.

    Raises Fault: malformed for anything of another form, error_inside for an error under HTTP 200.

    >>> read_chat({"choices": [{"finish_reason": "stop", "message": {"content": "好"}}], "model": "m"})
    Said(text='好', finish='stop', model='m', usage={}, reasoning='')
    """
    if isinstance(answer, dict) and answer.get("error"):
        raise error_inside(answer["error"])
    try:
        choice = answer["choices"][0]
        text, finish, usage = choice["message"]["content"], choice.get("finish_reason"), answer.get("usage") or {}
        reasoning = choice["message"].get("reasoning_content") or choice["message"].get("reasoning")
        counts = {name: int(usage[name]) for name in ("prompt_tokens", "completion_tokens") if name in usage}
    except (TypeError, KeyError, IndexError, ValueError, AttributeError):
        raise malformed("the answer holds no choices in OpenAI's form", answer) from None
    if not isinstance(text, str | None):
        raise malformed("the answer's content is no text", answer)
    usage = counts if len(counts) == 2 and min(counts.values()) >= 0 else {}
    return Said(text or "", str(finish), str(answer.get("model") or ""), usage, reasoning if isinstance(reasoning, str) else "")


@lru_cache(maxsize=8)
def _is_local(url: str) -> bool:
    return urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1")
