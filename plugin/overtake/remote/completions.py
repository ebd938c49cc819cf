"""POST /chat/completions by the openai SDK, over the gateway's own connections: its providers and streams, our bounds and our retries."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterable, Iterable, Mapping
from functools import partial
from importlib import import_module
from typing import Any

from overtake.redaction import without_secrets
from overtake.remote.faults import Fault, error_inside, malformed
from overtake.remote.http import exchange, json_value, whole
from overtake.remote.process import client

_HERE = ("localhost", "127.0.0.1", "::1")


async def complete(body: Mapping[str, Any], base_url: str, key: str = "", *, api_version: str = "", stream: bool = False) -> Any:
    """Send one request and return the answer's JSON value. To be called inside `Call.send`, whose gateway bounds the time.

    `api_version`: the address is a resource of Azure's, the model a deployment there. `stream`: ask for a stream and put it together.
    Raises Fault, or what aiohttp raises where it cannot connect.
    """
    if "openai" not in sys.modules:  # two seconds of import, which would keep every other call waiting
        await asyncio.to_thread(import_module, "openai")
    import httpx2
    import openai

    payload = whole(dict(body))  # the SDK cannot encode half a surrogate pair
    # Said outright with each request: no variable of the environment is asked for it, and no client keeps it.
    name, shown = ("api-key", key) if api_version else ("Authorization", f"Bearer {key}")
    options: Any = {"headers": {name: shown if key else openai.omit}}
    try:
        sdk = client(f"chat {base_url} {api_version}", partial(_sdk, base_url.rstrip("/"), api_version, name))
        if not stream:
            return json_value((await sdk.post("/chat/completions", body=payload, cast_to=httpx2.Response, options=options)).content)
        payload |= {"stream": True, "stream_options": {"include_usage": True}}
        stream_of = openai.AsyncStream[object]
        pieces = await sdk.post("/chat/completions", body=payload, cast_to=object, options=options, stream=True, stream_cls=stream_of)
        return await _whole_stream(pieces)
    except (httpx2.InvalidURL, openai.APIConnectionError) as error:  # our transport raises neither: nothing was sent
        raise Fault("connection", f"{without_secrets(base_url)} is no address: {error.__cause__ or error}", again=False) from None
    except openai.APIError as error:
        raise error_inside(error.body) from None
    except Fault as fault:
        if fault.kind != "http_400" or stream or "stream" not in str(fault).casefold():
            raise
        hint = "it may answer in streams only: set OVERTAKE_TEACHER_STREAM=1, of a judge OVERTAKE_JUDGE_STREAM=1"
        raise Fault(fault.kind, f"{str(fault)[:250]}; {hint}", again=False) from None


async def _whole_stream(pieces: AsyncIterable[Any]) -> dict[str, Any]:
    try:
        return joined([piece async for piece in pieces])
    except (ValueError, RecursionError) as error:
        raise malformed("a piece of the stream is no JSON", error) from None


def joined(pieces: Iterable[Any]) -> dict[str, Any]:
    """The answer that the pieces of a stream make, as it would have come without one.

    Raises Fault: connection for a stream that ends without a finish reason, malformed for a piece of another form.

    >>> pieces = [{"choices": [{"delta": {"content": "你"}}]}, {"choices": [{"delta": {"content": "好"}, "finish_reason": "stop"}]}]
    >>> joined([*pieces, {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}])["choices"]
    [{'finish_reason': 'stop', 'message': {'content': ['你', '好']}}]
    """
    message: dict[str, list[Any]] = {}
    answer: dict[str, Any] = {}
    finish = None
    for piece in pieces:
        choices = piece.get("choices") if isinstance(piece, dict) else None
        if not isinstance(choices, list | None) or not isinstance(piece, dict):
            raise malformed("a piece of the stream is not in OpenAI's form", piece)
        answer |= {name: value for name, value in piece.items() if name != "choices" and value is not None}
        for choice in (choices or [])[:1]:
            delta = (choice.get("delta") or {}) if isinstance(choice, dict) else None
            if not isinstance(delta, dict):
                raise malformed("a piece of the stream is not in OpenAI's form", piece)
            finish = choice.get("finish_reason") or finish
            for name, value in delta.items():
                if name in _SAID and value:
                    message.setdefault(name, []).extend(value if isinstance(value, list) else [value])
    if finish is None:
        raise Fault("connection", "the stream broke off before its finish reason")
    return {**answer, "choices": [{"finish_reason": finish, "message": message}]}


_SAID = ("content", "reasoning_content", "reasoning", "refusal")


def _sdk(base_url: str, api_version: str, key_in: str) -> Any:
    """A client of the SDK that neither retries nor waits by itself, and sends through `exchange`; the key is in the header `key_in`."""
    import httpx2
    import openai

    class Transport(httpx2.AsyncBaseTransport):
        """Sends by the gateway's connections, and reads no more than it does."""

        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            # Nothing else leaves: the SDK tells of the machine, and adds what OPENAI_* variables hold for another service.
            headers = {name: request.headers[name] for name in (key_in,) if name in request.headers}
            headers["Content-Type"] = "application/json"
            answer = await exchange(str(request.url), request.content, headers, proxies=request.url.host not in _HERE)
            return httpx2.Response(200, content=answer, request=request)

    logging.getLogger("httpx2").setLevel(logging.WARNING)  # or each request is a line in a run's log, with its whole address
    common: dict[str, Any] = {
        "api_key": "none",  # it insists on one; what is sent is said with each request
        "max_retries": 0,
        "timeout": None,
        # A login in the address is left to `exchange`, which refuses one beside a key.
        "http_client": httpx2.AsyncClient(transport=Transport(), trust_env=False, timeout=None, auth=lambda request: request),
    }
    if api_version:
        return openai.AsyncAzureOpenAI(azure_endpoint=base_url, api_version=api_version, **common)
    return openai.AsyncOpenAI(base_url=base_url, **common)
