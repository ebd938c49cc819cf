"""OpenAI-compatible chat for teacher and judge: parameter rules of a model family, strict reading, a limit raised when it cuts off."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from overtake import settings
from overtake.reading.tags import strip_think
from overtake.redaction import without_login, without_secrets
from overtake.remote import budget, servers
from overtake.remote.completions import complete
from overtake.remote.faults import Fault, Unusable, broken_off, error_inside, malformed
from overtake.remote.gateway import Call, Gateway, gateway
from overtake.remote.outcome import outcome

_REASONING = re.compile(r"(^|/)(gpt-5|o[134])\b", re.IGNORECASE)
_DEEPSEEK_URL, _DEEPSEEK_MODEL = "https://api.deepseek.com/v1", "deepseek-chat"
_FIRST_RAISE, _SECOND_RAISE = 4, 16
TOO_LONG = ": raise the token limit"
"""Ends the reason of a call whose answer did not fit into its tokens: asked again it would not either."""
_TOKENS_A_CHARACTER = 2
"""At most, in languages that a model was made for: where a text has fewer characters, its tokens went elsewhere."""
_BYTES_A_TOKEN = 3
"""About: a Chinese character is one token and three bytes, an English token four or five."""


@dataclass(frozen=True)
class Endpoint:
    """A model behind an OpenAI-compatible address. `role` is "teacher" or "judge"; the key is read from the environment when used."""

    role: str
    base_url: str
    """One address, or several of one model, apart by blanks: servers.py."""
    model: str
    api_key: str
    api_version: str = ""
    """Of Azure's interface, where the address is a resource of Azure's."""
    stream: bool = False
    """It answers in streams only."""

    def __repr__(self) -> str:
        return f"Endpoint({self.role}: {self.model} at {without_secrets(self.base_url)})"


def endpoint(role: str) -> Endpoint:
    """The teacher's or the judge's endpoint from the settings; what is not set of a judge is the teacher's.

    Where nothing at all is set of the teacher and DEEPSEEK_API_KEY is, the teacher is deepseek-chat at DeepSeek's own address.

    Raises SettingsError naming the variables to set, also when a budget is set and the model's price is not known.
    """
    config = settings.load()
    teacher_key, judge_key = config.teacher_api_key.get_secret_value(), config.judge_api_key.get_secret_value()
    resolved = Endpoint(role, config.teacher_base_url, config.teacher_model, teacher_key, config.teacher_api_version, config.teacher_stream)
    if not resolved.base_url and not resolved.model and not teacher_key and (deepseek_key := settings.api_key("DEEPSEEK_API_KEY")):
        resolved = Endpoint(role, _DEEPSEEK_URL, _DEEPSEEK_MODEL, deepseek_key)
    if role == "judge":
        # The teacher's key, and how its address is asked, go to the teacher's address only.
        at = Endpoint(role, config.judge_base_url, "", "") if config.judge_base_url else resolved
        resolved = Endpoint(
            role,
            at.base_url,
            config.judge_model or resolved.model,
            judge_key or at.api_key,
            config.judge_api_version or at.api_version,
            config.judge_stream or at.stream,
        )
    if not resolved.base_url or not resolved.model:
        raise settings.SettingsError(
            f"no {role} is set: export OVERTAKE_TEACHER_BASE_URL (ends in /v1), OVERTAKE_TEACHER_MODEL and OVERTAKE_TEACHER_API_KEY, "
            "(or only DEEPSEEK_API_KEY, for deepseek-chat), or start the mock teacher with demo/serve_teacher.py"
        )
    budget.check(resolved.model)
    return resolved


def parameters(model: str, limit: int, temperature: float) -> dict[str, Any]:
    """The request parameters this model family takes: GPT-5 and o-series refuse `max_tokens` and a free temperature.

    >>> parameters("deepseek-chat", 200, 0.3)
    {'max_tokens': 200, 'temperature': 0.3}
    >>> parameters("gpt-5-mini", 200, 0.3)
    {'max_completion_tokens': 200}
    """
    if _REASONING.search(model):
        return {"max_completion_tokens": limit}
    return {"max_tokens": limit, "temperature": temperature}


class Said(NamedTuple):
    """Answer of a chat service."""

    text: str
    finish: str
    """Why the model stopped, in the service's own word; "" where it does not say."""
    model: str
    usage: dict[str, int]
    """prompt_tokens and completion_tokens; empty when the service does not tell."""
    reasoning: str
    """What the model thought, where the service tells it apart from the text."""
    refusal: str = ""
    """Words with which the model refused, where the service tells them apart."""
    reasoning_tokens: int = 0


@dataclass(slots=True, kw_only=True)
class ChatCall(Call):
    """A chat request that can also be sent and answered as a file, by a provider's batch service."""

    body: Callable[[], dict[str, Any]]
    """Makes the request, as POST /chat/completions takes it."""
    accept: Callable[[Any], dict[str, Any]]
    """Makes the call's value of the service's answer; raises Fault."""


def chat_gateway(role: str, concurrency: int | None = None) -> Gateway:
    """The gateway all chat calls of a role go through; a judge without an address of its own shares the teacher's limits a minute."""
    config = settings.load()
    judge, own = role == "judge", role == "judge" and bool(config.judge_base_url)
    return gateway(
        role,
        concurrency or (judge and config.judge_concurrency) or config.teacher_concurrency,
        (judge and config.judge_timeout) or config.teacher_timeout,
        address={"teacher": config.teacher_base_url, "judge": config.judge_base_url or config.teacher_base_url}.get(role, ""),
        shared_by="teacher" if judge and not own else role,
        requests_a_minute=config.judge_rpm if own else config.teacher_rpm,
        tokens_a_minute=config.judge_tpm if own else config.teacher_tpm,
    )


def chat_call(
    to: Endpoint,
    messages: Sequence[dict[str, str]],
    limit: int,
    temperature: float = 0.3,
    *,
    parse: Callable[[str], dict[str, Any]] | None = None,
    form: str = "",
    tries: int = 1,
    cached: bool = True,
    sample: int = 0,
    thinking: bool = False,
    raise_token_limit_on_cutoff: bool = True,
    short: bool = False,
    template: Mapping[str, Any] | None = None,
) -> ChatCall:
    """A chat request whose answer is {"text", "model", "usage", "usd"}; the text is stripped of its think block and never empty.

    With `parse` its dict stands in the place of "text". It raises ValueError for a text out of form, which then fails and is never
    kept; `tries` such answers are asked for at most. `form` names the form in the error and in the cache key: the same question
    read in two ways is two answers.
    An answer that is cut off is asked for again with 4 times `limit` tokens, and with 16 times where reasoning ate those; each has as many
    times the service's seconds. A `short` one is wanted within `limit`: it is not asked for again where its own text filled that, which
    tells a model that runs on. What was billed on the way counts in "usage". Without `raise_token_limit_on_cutoff` it is taken as it is:
    for a model that is measured, not one that teaches.
    Calls that differ in `sample` alone are kept apart: the same question may be answered several times.
    With `thinking` the text holds the think block too, and what a service tells apart as reasoning is put into one.
    `template` is for the chat template of a server of one's own (ms-swift, vLLM, SGLang), such as {"enable_thinking": true}.
    """
    prompt_tokens = _tokens(messages)
    factor, unreadable = 1, 0

    def body() -> dict[str, Any]:
        of_template = {"chat_template_kwargs": dict(template)} if template else {}
        return {"model": to.model, "messages": list(messages), **parameters(to.model, limit * factor, temperature), **of_template}

    def accept(answer: Any) -> dict[str, Any]:
        nonlocal factor, unreadable
        usage = read_usage(answer)
        paid: dict[str, Any] = {"usage": usage, "usd": budget.price(to.model, usage, _cached_tokens(answer)) if usage else None}
        try:
            message = read_chat(answer)
        except Fault as fault:
            if usage:  # it is billed, and would be again
                fault.paid, fault.again = paid, fault.again and fault.kind != "malformed"
            raise
        if not usage:
            paid["usd"] = budget.price(to.model, {"prompt_tokens": prompt_tokens, "completion_tokens": limit * factor})
            budget.estimated(to.model, paid["usd"])
        how = ending(message.finish)
        if how == "broken":
            raise broken_off(message.finish, paid)
        if how in ("filtered", "other") or message.refusal:
            raise Unusable(_no_answer(message, how), paid)
        text = strip_think(message.text)
        if how == "cut" and raise_token_limit_on_cutoff:
            at = limit * factor
            ate = message.reasoning_tokens > 0 or bool(message.reasoning.strip()) or not text
            runs_on = short and not ate and len(text) * _TOKENS_A_CHARACTER >= at
            if (factor == 1 and not runs_on) or (factor == _FIRST_RAISE and ate):
                factor = _SECOND_RAISE if factor > 1 else _FIRST_RAISE
                raise Unusable(f"cut off with finish reason {message.finish!r} at {at} tokens", paid, again=True)
            raise Unusable(f"cut off with finish reason {message.finish!r} even at {at} tokens{TOO_LONG}", paid)
        if not text and (raise_token_limit_on_cutoff or not message.text.strip()):
            raise Unusable(f"empty text with {f'finish reason {message.finish!r}' if message.finish else 'no finish reason'}", paid)
        if thinking:
            text = f"<think>\n{message.reasoning.strip()}\n</think>\n\n{text}" if message.reasoning.strip() else message.text.strip()
        try:
            value = parse(text) if parse else {"text": text}
        except ValueError as error:
            unreadable += 1
            raise Unusable(f"no usable {form}: {error}", paid, again=unreadable < tries) from None
        return {**value, "model": message.model or to.model, **paid}

    async def send_to(address: str) -> Any:
        return await complete(body(), address, to.api_key, api_version=to.api_version, stream=to.stream)

    async def send() -> dict[str, Any]:
        return accept(await servers.ask(to.base_url, send_to))

    address = without_login(servers.first(to.base_url))
    identity = {"base_url": address, "model": to.model, "messages": messages, "limit": limit, "temperature": temperature, "form": form}
    # Only what is set stands in the key, so that answers kept before these were there are found.
    identity |= {"api_version": to.api_version} if to.api_version else {}
    identity |= {"sample": sample} if sample else {}
    identity |= {"thinking": True} if thinking else {}
    identity |= {"template": dict(template)} if template else {}
    identity |= {} if raise_token_limit_on_cutoff else {"raise_token_limit_on_cutoff": False}
    return ChatCall(
        identity,
        send,
        cached=cached,
        model=to.model,
        prompt_tokens=prompt_tokens,
        answer_tokens=limit,
        stretch=lambda: factor,
        body=body,
        accept=accept,
    )


def _tokens(messages: Sequence[Mapping[str, str]]) -> int:
    """About how many tokens a request holds."""
    return sum(len(message["content"].encode(errors="replace")) for message in messages) // _BYTES_A_TOKEN


def _no_answer(message: Said, how: str) -> str:
    text = message.refusal or message.text
    quoted = f": {without_secrets(text[:4000])[:200]}" if text.strip() else ""
    if message.refusal:
        return f"the model refused{quoted}"
    if how == "filtered":
        return f"a filter of the service stopped the answer, finish reason {message.finish!r}{quoted}"
    return f"no whole answer came, finish reason {message.finish!r} (whole is 'stop', or none){quoted}"


_CUT = re.compile(r"length|max.*token|长度|截断|超长")
_FILTERED = re.compile(
    r"filter|safety|moderat|block|refus|recitation|prohibit|spii|sensitive|policy|guardrail|risk|censor|violat|unsafe|harm|copyright"
    r"|过滤|敏感|违规|安全|审核"
)
_BROKEN = re.compile(
    r"rate_?limit|quota|insufficient|overload|capacity|resource|abort|cancel|interrupt|error|fail|time_?d?_?out|unavailable|shut|busy|internal"
    r"|exception|disconnect|preempt|evict|中断|错误|异常|失败|超时|不足|繁忙"
)
_CUT_TOO = re.compile(r"limit|(?<!eos_)(?<!end_)(?<!stop_)token|context|truncat|incomplete|cut_?off|max_|exceed|上限")


def ending(reason: str) -> str:
    """Read what a finish reason, of whatever vendor, means: "whole", "cut", "filtered", "broken" (asked for again) or "other" (no text).

    Whole is an answer that ended with `stop`, in whatever case, or that gives no reason. A word that is not known may mean anything, so it
    is no text that may be kept.

    >>> [ending(reason) for reason in ("STOP", "", "MAX_TOKENS", "content_filter", "insufficient_system_resource", "end_turn")]
    ['whole', 'whole', 'cut', 'filtered', 'broken', 'other']
    """
    word = re.sub(r"\W+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", reason.strip())).strip("_").casefold()
    if reason.strip().casefold() in ("", "stop"):
        return "whole"
    kinds = ((_CUT, "cut"), (_FILTERED, "filtered"), (_BROKEN, "broken"), (_CUT_TOO, "cut"))
    return next((kind for pattern, kind in kinds if pattern.search(word)), "other")


def read_usage(answer: Any) -> dict[str, int]:
    """Read prompt_tokens and completion_tokens of an answer of whatever form, under OpenAI's or another's names; {} where it does not tell.

    >>> read_usage({"usage": {"input_tokens": 9, "output_tokens": 5.0}})
    {'prompt_tokens': 9, 'completion_tokens': 5}
    """
    usage = _usage(answer)
    prompt = _count(usage, "prompt_tokens", "input_tokens", "promptTokenCount", "prompt_token_count")
    completion = _count(usage, "completion_tokens", "output_tokens", "candidatesTokenCount", "candidates_token_count")
    total = _count(usage, "total_tokens", "totalTokenCount", "total_token_count")
    if prompt is not None and total is not None:  # some count a thought in the total alone
        completion = max(completion or 0, total - prompt)
    # Some fill in zeros where they do not count; no prompt is of none.
    return {} if not prompt or completion is None else {"prompt_tokens": prompt, "completion_tokens": completion}


def _usage(answer: Any) -> Mapping[str, Any]:
    for place in (answer, _choices_in(answer)):
        for name in ("usage", "usageMetadata", "usage_metadata"):
            if isinstance(place, dict) and isinstance(place.get(name), dict):
                return place[name]
    return {}


def _count(usage: Mapping[str, Any], *names: str) -> int | None:
    """The first of these that is a number of tokens."""
    for name in names:
        value = usage.get(name)
        if isinstance(value, str) and re.fullmatch(r"[0-9]{1,15}", value.strip()):
            return int(value)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e15:
            return int(value)
    return None


def _details(usage: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    return next((usage[name] for name in names if isinstance(usage.get(name), dict)), {})


def _cached_tokens(answer: Any) -> int:
    """Of the prompt's tokens those that the provider had in its cache."""
    usage = _usage(answer)
    details = _details(usage, "prompt_tokens_details", "input_tokens_details")
    tokens = _count(details, "cached_tokens")
    return _count(usage, "prompt_cache_hit_tokens", "cached_tokens", "cachedContentTokenCount") or 0 if tokens is None else tokens


def read_chat(answer: Any) -> Said:
    """Read what an answer of POST /chat/completions says: a text, a list of parts, or no content at all, as services send them.

    Raises Fault: malformed for anything of another form, error_inside for an error under HTTP 200.

    >>> read_chat({"choices": [{"finish_reason": "stop", "message": {"content": "好"}}], "model": "m"}).text
    '好'
    >>> said = read_chat({"choices": [{"message": {"content": [{"type": "thinking", "thinking": "想"}, {"type": "text", "text": "好"}]}}]})
    >>> said.text, said.reasoning
    ('好', '想')
    """
    holder = _choices_in(answer)
    choices = holder.get("choices") if isinstance(holder, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    _raise_error(answer, choice)
    if not isinstance(choice, dict):
        raise malformed("the answer holds no choices in OpenAI's form", answer)
    finish = _finish(choice)
    message = choice.get("message")
    if not isinstance(message, dict):
        if not isinstance(choice.get("text"), str) and not finish:
            raise malformed("the answer holds no choices in OpenAI's form", answer)
        message = {"content": choice.get("text")}
    text, thought, refused = _parts(message.get("content"), answer)
    fields = (message.get(name) for name in ("reasoning_content", "reasoning", "thinking", "reasoning_details"))
    reasoning = next((thinking for field in fields if (thinking := _words(field)).strip()), thought)
    usage = _usage(answer)
    details = _details(usage, "completion_tokens_details", "output_tokens_details")
    return Said(
        text,
        finish,
        str((holder or {}).get("model") or ""),
        read_usage(answer),
        reasoning,
        (refused or _words(message.get("refusal"))).strip(),
        _count(details, "reasoning_tokens") or _count(usage, "reasoning_tokens", "thoughtsTokenCount") or 0,
    )


def _choices_in(answer: Any) -> Any:
    """The object with the choices: the answer itself, or what a gateway has wrapped into its own form."""
    if isinstance(answer, dict) and "choices" not in answer:
        for name in ("data", "result", "response", "output"):
            if isinstance(answer.get(name), dict) and "choices" in answer[name]:
                return answer[name]
    return answer


def _raise_error(answer: Any, choice: Any) -> None:
    """Raise error_inside where the answer, or its choice, tells of an error."""
    if isinstance(choice, dict) and choice.get("error"):
        raise error_inside(choice["error"])
    if isinstance(answer, dict):
        error = answer.get("error")
        if error and outcome({"error": error}, empty=True) == "failed":
            raise error_inside(error)
        if outcome(answer, empty=choice is None) == "failed":
            raise error_inside(answer)


def _finish(choice: Mapping[str, Any]) -> str:
    """Why the model stopped, by whichever of its names."""
    for name in ("finish_reason", "finishReason", "finish_details"):
        value = choice.get(name)
        value = value.get("type") if isinstance(value, dict) else value
        if value is not None:
            return str(value)
    value = choice.get("stop_reason")  # elsewhere it is the text or the number of the token that ended the answer
    return value if isinstance(value, str) and ending(value) != "other" else ""


def _parts(content: Any, answer: Any) -> tuple[str, str, str]:
    """(the text, the thought, the refusal) in a message's content. Raises Fault where there is something, and none of them."""
    text, thought, refusal, others = "", "", "", set()
    for part in content if isinstance(content, list) else [] if content is None else [content]:
        if isinstance(part, str):
            text += part
            continue
        if not isinstance(part, dict):
            raise malformed("the answer's content is no text", answer)
        kind = str(part.get("type") or "text" * ("text" in part) or "object").casefold()
        if "think" in kind or "reason" in kind:
            thought += _words(part)
        elif "refusal" in kind:
            refusal += _words(part)
        elif "text" in kind and isinstance(part.get("text"), str | dict | None):
            text += _words(part.get("text"))
        else:
            others.add(kind)
    if others and not (text + refusal).strip():
        raise Unusable(f"the answer holds no text, but {', '.join(sorted(others))}")
    return text, thought, refusal


def _words(value: Any) -> str:
    """All text in a value, in its order: a text, or parts under whatever names."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "".join(map(_words, value))
    if isinstance(value, dict):
        return "".join(_words(part) for name, part in value.items() if name not in ("type", "id", "format", "signature", "index", "data"))
    return ""
