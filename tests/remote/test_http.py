"""One request over real sockets: whatever the peer does it ends as a value or a fault, in bounded memory, with the key where it belongs."""

import ast
import asyncio
import json
import logging
import socket
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest
from overtake import settings
from overtake.remote import http, process
from overtake.remote.chat import chat_call, chat_gateway, endpoint
from overtake.remote.completions import complete
from overtake.remote.faults import Fault, of_error
from overtake.remote.gateway import Failed, Ok
from overtake.remote.http import MOST_BYTES, encode, post
from overtake.remote.rag import rag_call, rag_gateway

from .conftest import head, says, whole

ROOT = Path(__file__).parents[2]
KEY = "sk-0123456789abcdef"


def send(url, key="", seconds=20.0, way="post", **how):
    """What one attempt brings, by `http.post` or as chat through the SDK: a value or a Fault."""

    async def attempt():
        try:
            async with asyncio.timeout(seconds):
                if way == "chat":
                    return await complete({"model": "m", "messages": [{"role": "user", "content": "问"}]}, url, key, **how)
                return await post(url, {"q": "问"}, key, **how)
        except Exception as error:  # noqa: BLE001 - as the gateway does
            return of_error(error, seconds)

    return asyncio.run_coroutine_threadsafe(attempt(), process.loop()).result(seconds + 30)


at_both = pytest.mark.parametrize("way", ["post", "chat"])


def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


# ---------------------------------------------------------------- what the peer may do


@pytest.mark.parametrize(
    ("talk", "kind", "again"),
    [
        pytest.param(says(end=lambda connection: time.sleep(5)), "timeout", True, id="accepts and never answers"),
        pytest.param(says(*head().decode(), pause=0.1), "timeout", True, id="drips its header"),
        pytest.param(says(head(Content_Length=99), *[b" "] * 40, pause=0.1), "timeout", True, id="drips its body"),
        pytest.param(says(), "connection", True, id="closes at once"),
        pytest.param(says(head(Content_Length=99), b'{"a"'), "connection", True, id="closes half-way"),
        pytest.param(says(head(Transfer_Encoding="chunked"), b'4\r\n{"a"\r\n'), "connection", True, id="closes within its chunks"),
        # aiohttp sees the nonsense where it comes with the header, and waits for more where it comes behind.
        pytest.param(says(head(Transfer_Encoding="chunked") + b"zz\r\n{}\r\n"), "connection", True, id="sends a chunk of no size"),
        pytest.param(
            says(head(Transfer_Encoding="chunked"), b"zz\r\n{}\r\n", pause=0.3), "timeout", True, id="sends a chunk of no size later"
        ),
        pytest.param(says(head(Content_Length=99), b'{"a"', end=reset), "connection", True, id="resets half-way"),
        pytest.param(says(end=reset), "connection", True, id="resets at once"),
        pytest.param(says(b"\x16\x03\x01 garbage\r\n\r\n"), "connection", True, id="sends no HTTP"),
        pytest.param(says(b"HTTP/1.1 abc OK\r\n\r\n"), "connection", True, id="sends no status"),
        pytest.param(says(head(X="x" * 10**6) + b"{}"), "connection", True, id="sends a header without end"),
        pytest.param(says(whole(b"no gzip", Content_Encoding="gzip")), "connection", True, id="lies about its encoding"),
        pytest.param(says(whole(b"<html>busy</html>")), "malformed", True, id="sends HTML"),
        pytest.param(says(whole(b"")), "malformed", True, id="sends nothing"),
        pytest.param(says(head("204 No Content")), "malformed", True, id="says that there is nothing"),
        pytest.param(says(whole(b'{"a": 1')), "malformed", True, id="sends half of its JSON"),
        pytest.param(says(whole(b'{"a": "\xff"}')), "malformed", True, id="sends no UTF-8"),
        pytest.param(says(whole(b"[" * 10**5 + b"]" * 10**5)), "malformed", True, id="nests without end"),
        pytest.param(says(whole(b'{"a": NaN}')), "malformed", True, id="sends a number that is none"),
        pytest.param(says(whole("太大".encode(), "413 Too Large")), "http_413", False, id="refuses"),
        pytest.param(says(whole(b"\xff\xfe", "503 Busy")), "http_503", True, id="is busy, in no UTF-8"),
    ],
)
def test_whatever_the_peer_does_is_a_fault_of_its_kind(peer, talk, kind, again):
    came = send(peer(talk), seconds=1.0 if kind == "timeout" else 20.0)
    assert isinstance(came, Fault) and (came.kind, came.again) == (kind, again), came


@at_both
def test_a_sound_answer_is_its_value(peer, way):
    plain, packed = '{"a": "好", "n": 1.5}'.encode(), zlib.compressobj(wbits=31)
    zipped = packed.compress(plain) + packed.flush()
    assert send(peer(says(whole(plain))), way=way) == {"a": "好", "n": 1.5}
    assert send(peer(says(whole(zipped, Content_Encoding="gzip"))), way=way) == {"a": "好", "n": 1.5}
    assert send(peer(says(whole(plain, "201 Created"))), way=way) == {"a": "好", "n": 1.5}


def test_the_largest_answer_that_is_read(peer):
    fits = b'"' + b"x" * (MOST_BYTES - 2) + b'"'
    assert len(send(peer(says(whole(fits))))) == MOST_BYTES - 2
    came = send(peer(says(whole(fits + b" "))))
    assert (came.kind, came.again, str(came)) == ("too_large", False, "the answer is larger than 16 MB")


MEASURE = """
import asyncio, resource, sys
from overtake.remote import process
from overtake.remote.http import post

async def attempt(url):
    try:
        await post(url, {})
    except Exception as error:
        return getattr(error, "kind", repr(error))

def send(url):
    return asyncio.run_coroutine_threadsafe(attempt(url), process.loop()).result(60)

small, *large = sys.argv[1:]
send(small)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(*map(send, large), (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_two_gigabytes_are_cut_off_without_growing_memory(peer):
    told, sent = 2 << 30, []

    def flood(first):
        def talk(connection):
            connection.sendall(first)
            for _ in range(told >> 16):
                connection.sendall(b"x" * 65536)
                sent.append(65536)

        return talk

    packer = zlib.compressobj(9, wbits=31)
    pieces = [packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2)]
    bomb = head(Content_Encoding="gzip", Transfer_Encoding="chunked")
    bomb += b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in [pieces[0], *[pieces[1]] * 2047]) + b"0\r\n\r\n"
    large = [peer(flood(head(Content_Length=told))), peer(flood(head())), peer(says(bomb))]
    command = [sys.executable, "-c", MEASURE, peer(says(whole(b"{}"))), *large]
    *kinds, grown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout.split()
    assert kinds == ["too_large"] * 3
    assert int(grown) < 100, "MB"
    assert sum(sent) < 200 << 20, "it hangs up"


# ---------------------------------------------------------------- the key


@at_both
def test_the_key_is_a_bearer_token_and_no_key_is_no_header(peer, way):
    url = peer(says(whole(b"{}")))
    send(url, KEY, way=way)
    send(url, way=way)
    with_key, without = peer.heads
    assert f"Authorization: Bearer {KEY}" in with_key
    assert "Authorization" not in without and "Cookie" not in without


@at_both
@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
def test_a_redirect_is_not_followed_and_its_target_gets_no_key(peer, status, way):
    target = peer(says(whole(b"{}")))
    came = send(peer(says(whole(b"", status, Location=f"{target}/v1"))), KEY, way=way)
    assert (came.kind, came.again) == (f"http_{status[:3]}", False) and f"redirects to {target}/v1" in str(came)
    assert len(peer.heads) == 1


@at_both
def test_cookies_are_not_kept(peer, way):
    url = peer(says(whole(b"{}", Set_Cookie="visit=first")))
    assert send(url, way=way) == send(url, way=way) == {}
    assert "visit" not in peer.heads[1]


@pytest.mark.parametrize("key", [f"{KEY}\n", f"{KEY}\r\nX-Other: 1"])
def test_a_key_that_cannot_be_a_header_is_a_fault_without_it(peer, monkeypatch, key):
    monkeypatch.setenv("OVERTAKE_TEACHER_API_KEY", key)
    came = send(peer(says(whole(b"{}"))), key)
    assert (came.kind, came.again) == ("bug", False) and KEY not in str(came)
    assert peer.heads == []


@pytest.mark.parametrize("url", ["http://", "no address", "http://host:99999/", "http://[::1/", "ftp://host/"])
@pytest.mark.parametrize("how", [{"proxies": False}, {"proxies": True}, {"way": "chat"}])
def test_what_is_no_address_is_final(service, url, how):
    came = send(url, **how)
    assert (came.kind, came.again) == ("connection", False)


# ---------------------------------------------------------------- proxies


@pytest.fixture
def proxied(peer, monkeypatch):
    """proxied(**settings) -> the heads of what a proxy named by the environment was asked for; it answers for all hosts."""
    said = {"choices": [{"finish_reason": "stop", "message": {"content": "从代理来"}}], "model": "m"}
    proxy = peer(says(whole(json.dumps(said).encode())))

    def proxied(**values):
        for name in ("HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "HTTP_PROXY"):
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.lower(), raising=False)
        for name, value in ({"http_proxy": proxy} | values).items():
            monkeypatch.setenv(name, value)
        settings.load.cache_clear()
        http._proxy.cache_clear()
        return peer.heads

    yield proxied
    http._proxy.cache_clear()


def chat():
    (result,) = chat_gateway("teacher").run([chat_call(endpoint("teacher"), [{"role": "user", "content": "问"}], 10)])
    return result


def test_chat_with_another_machine_goes_through_the_environments_proxy(proxied):
    heads = proxied(OVERTAKE_TEACHER_BASE_URL="http://llm.invalid/v1", OVERTAKE_TEACHER_API_KEY=KEY)
    assert chat().value["text"] == "从代理来"
    assert heads[0].startswith("POST http://llm.invalid/v1/chat/completions ") and f"Authorization: Bearer {KEY}" in heads[0]


def test_a_proxys_login_is_sent_to_the_proxy(proxied, peer):
    address = proxied() is peer.heads and process.os.environ["http_proxy"]
    proxied(OVERTAKE_TEACHER_BASE_URL="http://llm.invalid/v1", http_proxy=address.replace("//", "//me:pass@"))
    assert isinstance(chat(), Ok)
    assert "Proxy-Authorization: Basic bWU6cGFzcw==" in peer.heads[0]


def test_a_hosts_own_login_file_is_not_sent_in_place_of_the_key(proxied, monkeypatch, tmp_path):
    (tmp_path / "netrc").write_text("machine llm.invalid login me password pass\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    heads = proxied(OVERTAKE_TEACHER_BASE_URL="http://llm.invalid/v1", OVERTAKE_TEACHER_API_KEY=KEY)
    assert isinstance(chat(), Ok)
    assert f"Authorization: Bearer {KEY}" in heads[0] and "Basic" not in heads[0]


def test_no_proxy_is_used_where_the_environment_says_so(proxied):
    heads = proxied(OVERTAKE_TEACHER_BASE_URL="http://llm.invalid/v1", no_proxy="llm.invalid")
    assert chat().kind == "connection"
    assert heads == []


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_chat_with_this_machine_uses_no_proxy(service, proxied, host):
    heads = proxied(OVERTAKE_TEACHER_BASE_URL=f"{service.url.replace('127.0.0.1', host)}/v1")
    assert chat().value["text"] == "好"
    assert heads == []


def test_retrieval_uses_no_proxy(service, proxied):
    heads = proxied()
    assert isinstance(rag_gateway().run([rag_call("问", "改", "t")])[0], Ok)
    proxied(OVERTAKE_RAG_URL="http://rag.invalid")
    assert rag_gateway().run([rag_call("问", "改", "t")])[0].kind == "connection"
    assert heads == []


# ---------------------------------------------------------------- secrets


@pytest.mark.parametrize("what", ["echo", "redirect", "dead", "no answer"])
def test_secrets_appear_in_no_reason_ledger_cache_or_log(peer, monkeypatch, tmp_path, caplog, what):
    caplog.set_level(logging.DEBUG)
    secrets = ["sk-teacher-123456", "sk-retrieval-123456", "login-secret", "query-secret"]
    echo = " ".join(secrets[:2]) + f" http://me:{secrets[2]}@host/?api_key={secrets[3]}"
    talk = {
        "echo": says(whole(echo.encode(), "400 Bad Request")),
        "redirect": says(whole(b"", "302 Found", Location=f"http://me:{secrets[2]}@host/?key={secrets[3]}&token={secrets[0]}")),
        "dead": says(),
        "no answer": says(whole(json.dumps({"error": echo}).encode())),
    }[what]
    host = peer(talk).replace("//", f"//me:{secrets[2]}@")
    values = {
        "TEACHER_API_KEY": secrets[0],
        "TEACHER_BASE_URL": f"{peer(talk)}/v1?key={secrets[3]}",
        "JUDGE_API_KEY": secrets[1],  # an address with a login takes no key besides
        "RAG_URL": host,
        "TEACHER_MODEL": "m",
    }
    for name, value in values.items():
        monkeypatch.setenv(f"OVERTAKE_{name}", value)
    settings.load.cache_clear()
    results = [chat(), *rag_gateway().run([rag_call("问", "改", "t")])]
    assert all(isinstance(result, Failed) for result in results)
    process._close_clients()
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.is_file()).decode(errors="replace")
    everything = f"{results} {written} {caplog.text} {endpoint('teacher')} {settings.load().teacher_api_key}"
    assert '"status":"failed"' in written
    # The addresses themselves are settings; what is looked at is what leaves the process.
    assert [secret for secret in secrets if secret in everything] == []


# ---------------------------------------------------------------- the one gateway


def test_equal_values_have_equal_bytes_whatever_their_text():
    assert encode({"b": [1, "\ud800"], "a": None}) == encode({"a": None, "b": [1, "\ud800"]})
    assert json.loads(encode({"a": "\ud800问"})) == {"a": "\ud800问"}


CLIENTS = {"aiohttp", "httpx", "httpx2", "openai", "requests", "urllib3", "urllib.request", "http.client", "socket", "websockets", "grpc"}
SERVERS = {
    "plugin/overtake/retrieval/serving.py",
    "plugin/overtake/doctor/preflight.py",
    "plugin/overtake/launch/machine.py",
    "benchmarks/bench_remote.py",
    "benchmarks/bench_grpo.py",
}
"""They listen, bind a port to see that it is free, or measure rivals of the gateway."""


def imported(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_no_module_but_the_remote_ones_opens_a_connection():
    paths = [*(ROOT / "plugin").rglob("*.py"), *(ROOT / "tools").rglob("*.py")]
    assert len(paths) > 40
    found = {}
    for path in paths:
        where = path.relative_to(ROOT).as_posix()
        clients = {name for name in imported(path) if name in CLIENTS or name.split(".")[0] in CLIENTS}
        if clients and not where.startswith("plugin/overtake/remote/") and where not in SERVERS:
            found[where] = clients
    assert found == {}
    assert any(name.startswith("aiohttp") for name in imported(ROOT / "plugin/overtake/remote/http.py")), "the search finds what there is"
