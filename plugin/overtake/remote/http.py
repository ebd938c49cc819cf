"""One bounded HTTP request with a JSON body: whatever the peer does, it ends as a JSON value or as a Fault."""

import json
import re
import socket
from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import msgspec

from overtake.remote.faults import Fault, malformed, of_status
from overtake.remote.process import client

MOST_BYTES = 16 * 2**20
"""An answer that is larger than this is not read to its end."""
_HALF_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")
_CONNECT_SECONDS = 10.0
_KEEP_SECONDS = 4.0
"""Shorter than the 5 s after which uvicorn drops an idle connection, so that none is used as it closes."""


def reach(url: str, seconds: float) -> None:
    """Connect to an address and hang up. Raises OSError where nobody listens there, or nobody answers in time."""
    place = urlsplit(url)
    socket.create_connection((place.hostname or "", place.port or {"http": 80, "https": 443}.get(place.scheme, 0)), seconds).close()


async def post(url: str, body: object, key: str = "", *, proxies: bool = False) -> Any:
    """POST `body` as JSON and return the JSON value of the answer. To be called inside `Call.send`, whose gateway bounds the time.

    `key` is sent as a bearer token. Redirects are not followed: they would carry it to another address. `proxies`: use those of the
    environment (HTTPS_PROXY, NO_PROXY).
    Raises Fault, or what aiohttp raises where it cannot connect.
    """
    headers = {"Content-Type": "application/json"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    return json_value(await exchange(url, encode(body), headers, proxies=proxies))


async def exchange(url: str, data: bytes, headers: Mapping[str, str], *, proxies: bool) -> bytes:
    """POST some bytes and return those of the answer, unpacked. Raises what `post` does, but nothing for an answer that is no JSON."""
    session = client("http", _session)
    proxy = _proxy(url) if proxies else None
    async with session.post(url, data=data, headers=headers, allow_redirects=False, proxy=proxy) as response:
        answer = await _read(response)
        if response.status >= 300:
            raise of_status(response.status, answer.decode(errors="replace"), response.headers)
        return answer


def json_value(answer: bytes) -> Any:
    """The JSON value of an answer. Raises Fault: malformed for anything else."""
    try:
        return decode(answer)
    except (ValueError, RecursionError):
        raise malformed(f"the answer is no JSON ({len(answer)} bytes)", answer.decode(errors="replace")) from None


def encode(value: object) -> bytes:
    """JSON with sorted keys; the same value always gives the same bytes.

    >>> encode({"b": 1, "a": "问"}) == encode({"a": "问", "b": 1})
    True
    """
    try:
        return msgspec.json.encode(value, order="deterministic")
    except UnicodeEncodeError:  # half a surrogate pair, as a broken table may hold
        return json.dumps(value, sort_keys=True).encode()


def decode(data: bytes) -> Any:
    """The JSON value in some bytes, with U+FFFD where a string holds half a surrogate pair. Raises ValueError or RecursionError.

    >>> decode(b'{"a": "\\\\ud83d!"}')
    {'a': '�!'}
    """
    try:
        return msgspec.json.decode(data)
    except msgspec.DecodeError:
        if not _HALF_PAIR.search(data):
            raise
        return whole(json.loads(data, parse_constant=_refuse))


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number of JSON")


def whole(value: Any) -> Any:
    """A JSON value with U+FFFD in place of each half of a surrogate pair, which no file takes and no reader of JSON.

    >>> whole({"a": ["\\ud83d", 1]})
    {'a': ['�', 1]}
    """
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {whole(key): whole(item) for key, item in value.items()}
    return [whole(item) for item in value] if isinstance(value, list | tuple) else value


async def _read(response: Any) -> bytes:
    parts, size = [], 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > MOST_BYTES:
            response.close()
            raise Fault("too_large", f"the answer is larger than {MOST_BYTES // 2**20} MB", again=False)
        parts.append(part)
    return b"".join(parts)


def _session() -> Any:
    import aiohttp  # 0.2 s of import that a worker without remote calls need not pay

    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_SECONDS),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
    )


@lru_cache(maxsize=8)
def _proxy(url: str) -> str | None:
    """The environment's proxy for an address.

    A session's own `trust_env` would also send what ~/.netrc knows of the address, in place of our key or against it.
    """
    try:
        parts = urlsplit(url)
    except ValueError:  # the session will say so
        return None
    return None if proxy_bypass(parts.netloc.rpartition("@")[2]) else getproxies().get(parts.scheme)
