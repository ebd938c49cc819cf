"""Log-probabilities that a served model gives to tokens it is shown: any vLLM, or `swift deploy` on vLLM. A closed API tells none.

Token in, token out: a vLLM is sent the ids themselves. `swift deploy` takes a conversation and writes the prompt by a template of its own,
so each id that it tells is held against the one that was meant.
"""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from overtake.redaction import without_secrets
from overtake.remote.faults import Fault, Unusable, malformed
from overtake.remote.gateway import Call, Failed, Gateway, gateway
from overtake.remote.http import post

_PROBE_SECONDS = 20.0
_ATTEMPT_SECONDS = 120.0
_AT_ONCE = 32
_INSTEAD = (
    "as closed APIs: serve an open teacher by vLLM or by `swift deploy --infer_backend vllm`, "
    "or learn from its texts (SFT, or DISTILL_FROM=self)"
)
_SHOWN = {"max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0}
"""Of each token shown its own log-probability and no other; no server generates nothing at all."""


class _KeyWanted(ValueError):
    """An address that lets in nobody without a key."""


class Server(NamedTuple):
    """A served teacher."""

    address: str
    """Without /v1."""
    model: str
    swift: bool
    """It is ms-swift's, which takes conversations, not tokens."""


@dataclass
class Shown:
    """Tokens to be scored."""

    ids: list[int]
    """Prompt and completion, as the student reads them."""
    scored: list[int]
    """Places in `ids` whose log-probabilities are wanted; none is the first."""
    request: dict[str, Any] = field(default_factory=dict)
    """The same as ms-swift's request, for a server of its own."""


def base_address(address: str) -> str:
    """An address without what is added to it for each kind of request.

    >>> base_address("http://host:8000/v1/"), base_address("http://host:8000")
    ('http://host:8000', 'http://host:8000')
    """
    return address.rstrip("/").removesuffix("/v1").rstrip("/")


def find(address: str) -> Server:
    """Ask an address which model it serves, and whose server it is. Raises ValueError in words where it does not say."""
    base = base_address(address)
    try:
        answer = _ask(f"{base}/v1/models", None)
    except _KeyWanted:
        raise ValueError(f"{without_secrets(base)} asks for a key and so tells nobody log-probabilities of a prompt, {_INSTEAD}") from None
    models = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(models, list) or not models or not isinstance(models[0], dict) or "id" not in models[0]:
        raise ValueError(f"{without_secrets(base)} names no model at /v1/models: give the address of a vLLM or of `swift deploy`")
    return Server(base, str(models[0]["id"]), "vllm" not in str(models[0].get("owned_by", "")))


def probe(server: Server, ids: Sequence[int], text: str) -> list[tuple[int, str]]:
    """(id, its text by the server) of the tokens of a short text, for a look at the server's tokenizer.

    Raises ValueError in words for a server that tells no log-probabilities of a prompt, as all closed ones.
    """
    shown = Shown(list(ids), [], {"messages": [{"role": "user", "content": text}]})
    try:
        raw = _listed(_ask(*_sent(server, shown)))
    except (ValueError, Fault) as error:
        words = " ".join(str(error).split())[:160]
        raise ValueError(f"{without_secrets(server.address)} tells no log-probabilities of a prompt ({words}), {_INSTEAD}") from None
    return [(int(token), str(told.get("decoded_token") or "")) for place in raw[1:] for token, told in list(place.items())[:1]]


def score(server: Server, shown: Sequence[Shown], patience: float, deadline: float) -> list[list[float]] | str:
    """The log-probabilities (nats, at temperature 1) of each sequence's scored tokens; or in words why they cannot be had.

    A server that is silent is asked again for `patience` seconds; `deadline` is that of one round of asking.
    """
    calls = {at: _call(server, sequence) for at, sequence in enumerate(shown) if sequence.scored}
    scores: list[list[float]] = [[] for _ in shown]
    end = time.monotonic() + patience
    while calls:
        results = dict(zip(calls, _gateway().run(list(calls.values()), deadline), strict=True))
        failed = {at: result for at, result in results.items() if isinstance(result, Failed)}
        for at, result in results.items():
            if not isinstance(result, Failed):
                scores[at] = result.value["scores"]
        calls = {at: calls[at] for at in failed}
        if failed:
            refused = next((result for result in failed.values() if not result.outage), None)
            if refused or time.monotonic() >= end:
                return (refused or next(iter(failed.values()))).reason
            time.sleep(1)
    return scores


def read(answer: Any, shown: Shown) -> list[float]:
    """The log-probabilities of the scored tokens in a server's answer. Raises Unusable where it read other tokens, or tells of none."""
    raw = _listed(answer)
    for place in range(1, max(shown.scored) + 1):
        if place >= len(raw) or str(shown.ids[place]) not in raw[place]:
            there = next(iter(raw[place].values())).get("decoded_token") if place < len(raw) else "the end"
            raise Unusable(
                f"the teacher's server reads another token {place} of a sequence ({there!r}) than the student: serve it with the student's "
                "tokenizer and --template, and with --enable_thinking as in this run"
            )
    return [float(raw[place][str(shown.ids[place])]["logprob"]) for place in shown.scored]


def _gateway() -> Gateway:
    return gateway("distillation", _AT_ONCE, _ATTEMPT_SECONDS)


def _call(server: Server, shown: Shown) -> Call:
    identity = {"service": "distillation", "address": without_secrets(server.address), "model": server.model, "ids": shown.ids}
    return Call(identity, partial(_send, server, shown), cached=False)


async def _send(server: Server, shown: Shown) -> dict[str, Any]:
    return {"scores": read(await post(*_sent(server, shown)), shown)}


def _sent(server: Server, shown: Shown) -> tuple[str, dict[str, Any]]:
    """(address, body) of a request."""
    if server.swift:
        return f"{server.address}/infer/", {"infer_requests": [shown.request], "request_config": _SHOWN}
    return f"{server.address}/v1/completions", {"model": server.model, "prompt": shown.ids, **_SHOWN}


def _listed(answer: Any) -> list[Mapping[str, Any]]:
    """What an answer tells of each token of the prompt, the first one's place empty. Raises Unusable where it tells nothing."""
    if isinstance(answer, list) and answer:  # ms-swift's, of one request
        answer = answer[0].get("response", answer[0]) if isinstance(answer[0], dict) else None
    if not isinstance(answer, dict):
        raise malformed("the answer is no object", answer)
    choices = answer.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    raw = answer.get("prompt_logprobs") or choice.get("prompt_logprobs")
    if not isinstance(raw, list) or len(raw) < 2 or not all(isinstance(place, dict) and place for place in raw[1:]):
        raise Unusable(f"no prompt_logprobs in the answer{': ' + str(answer.get('message'))[:120] if answer.get('message') else ''}")
    return [raw[0] or {}, *raw[1:]]


def _ask(url: str, body: Any) -> Any:
    """The JSON value of one answer, now. Raises ValueError in words."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})
    try:
        # No proxy, as the run asks it.
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=_PROBE_SECONDS) as response:
            return json.loads(response.read())
    except urllib.error.HTTPError as error:
        kind = _KeyWanted if error.code in (401, 403) else ValueError
        raise kind(f"HTTP {error.code} of {without_secrets(url)}") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{without_secrets(url)} does not answer ({error})") from None
