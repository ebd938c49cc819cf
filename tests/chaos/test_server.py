"""The misbehaving server itself: a test that blames the gateway must be able to trust it."""

import http.client
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest

RAG, CHAT = "/api/chat/general_rag", "/v1/chat/completions"


def body(text, path=RAG):
    if path == CHAT:
        return json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]}).encode()
    return json.dumps({"query": "q", "rewritten_query": text, "tenant_id": "t", "kb_name": "default", "top_k": 5}).encode()


def ask(server, text, path=RAG):
    """(status, headers, bytes) of one request on a connection of its own."""
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=20)
    connection.request("POST", path, body(text, path), {"Authorization": "Bearer me"})
    answer = connection.getresponse()
    found = answer.status, answer.headers, answer.read()
    connection.close()
    return found


def opened(server, text):
    """A bare socket on which the request has been sent."""
    url = urlsplit(server.url)
    sock = socket.create_connection((url.hostname, url.port), timeout=20)
    data = body(text)
    sock.sendall(b"POST %b HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (RAG.encode(), len(data), data))
    return sock


def read(sock, most=1 << 20):
    """What the server sends until it closes or resets: the bytes, and whether it was a reset."""
    got = b""
    try:
        while len(got) < most and (piece := sock.recv(1 << 16)):
            got += piece
    except ConnectionResetError:
        return got, True
    return got, False


def test_good_answers_depend_on_the_text_alone(chaos):
    one, two = chaos(seed=1), chaos(seed=2)
    for path in (RAG, CHAT):
        assert ask(one, "胶原", path)[2] == ask(two, "胶原", path)[2] != ask(one, "虾青素", path)[2]
    recall = json.loads(ask(one, "胶原")[2])["data"]["recall"]
    assert recall and all(set(hit) == {"doc_id", "reranker_score"} and 0 <= hit["reranker_score"] <= 1 for hit in recall)
    said = json.loads(ask(one, "胶原", CHAT)[2])
    assert said["choices"][0]["message"]["content"].startswith("胶原 术语") and said["usage"]["prompt_tokens"] == 2
    verdict = json.loads(json.loads(ask(one, "原始问题：胶原\n改写：胶原蛋白", CHAT)[2])["choices"][0]["message"]["content"])
    assert 0 <= verdict["综合得分"] <= 5 and verdict["评分理由"]


def test_fates_depend_on_the_text_and_the_asking_not_on_the_order(chaos):
    texts = [str(number) for number in range(60)] * 3
    dealt = []
    for order in (texts, texts[::-1]):
        server = chaos(seed=3, mix={"503": 0.3, "400": 0.2})
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda text, server=server: ask(server, text), order))
        dealt.append({(row["text"], row["nth"]): row["fate"] for row in server.log()})
        server.end()
    assert dealt[0] == dealt[1]
    assert len(dealt[0]) == 180 and set(dealt[0].values()) == {"ok", "503", "400"}


def test_a_script_comes_first_and_then_all_is_well(chaos):
    server = chaos(script=["503", "400"])
    assert [ask(server, "a")[0] for _ in range(4)] == [503, 400, 200, 200]
    assert [ask(server, "b")[0] for _ in range(2)] == [503, 400], "each text has its own script"


def test_retry_after_comes_as_seconds_as_a_date_and_as_nonsense(chaos):
    server = chaos(script=["429 retry-after 2", "503 retry-after date+60", "429 retry-after soon", "429"])
    answers = [ask(server, "a") for _ in range(4)]
    assert [status for status, *_ in answers] == [429, 503, 429, 429]
    after = [headers["Retry-After"] for _, headers, _ in answers]
    assert (after[0], after[2], after[3]) == ("2", "soon", None)
    assert 50 < parsedate_to_datetime(after[1]).timestamp() - time.time() <= 60


def test_answers_that_are_none_come_under_200(chaos):
    server = chaos(script=["html", "bad_json", "binary", "deep", "wrong_form", "error_inside", "empty", "length"])
    for path in (RAG, CHAT):
        answers = [ask(server, "a", path) for _ in range(8 if path == CHAT else 7)]
        assert {status for status, *_ in answers} == {200}
        assert answers[0][1]["Content-Type"] == "text/html"
        for _, _, data in answers[:4]:
            with pytest.raises((ValueError, RecursionError)):
                json.loads(data)
        wrong, error, empty = (json.loads(data) for _, _, data in answers[4:7])
        if path == RAG:
            assert (wrong["data"], error["code"], empty["data"]) == ({}, 500, {"recall": []})
        else:
            assert "choices" not in wrong and error["error"]["code"] == 500 and empty["choices"][0]["message"]["content"] == ""
            assert json.loads(answers[7][2])["choices"][0]["finish_reason"] == "length"


def test_connections_end_in_every_bad_way(chaos):
    server = chaos(script=["close", "cut", "reset", "reset_half"])
    close, cut, reset, reset_half = (read(opened(server, "a")) for _ in range(4))
    assert close == (b"", False) and reset == (b"", True)
    assert cut[0].startswith(b"HTTP/1.1 200 OK") and not cut[1]
    assert reset_half[1]
    head, _, rest = cut[0].partition(b"\r\n\r\n")
    assert 0 < len(rest) < int(head.rpartition(b"Content-Length: ")[2])
    assert [row["end"] for row in server.log()] == ["broken"] * 4


def test_a_hang_and_a_drip_last_until_the_client_leaves(chaos):
    server = chaos(script=["hang", "drip", "drip_head"])
    socks = [opened(server, "a") for _ in range(3)]
    server.when(requests=3)
    time.sleep(1.2)
    assert [row["end"] for row in server.log()] == ["open"] * 3
    for sock in socks:
        sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        socks[0].recv(1)
    body_dripped, head_dripped = socks[1].recv(999).partition(b"\r\n\r\n")[2], socks[2].recv(999)
    assert b'{"code"'.startswith(body_dripped) and 1 <= len(body_dripped) <= 5
    assert b"HTTP/1".startswith(head_dripped) and 1 <= len(head_dripped) <= 5
    for sock in socks:
        sock.close()
    until = time.monotonic() + 20
    while any(row["end"] != "left" for row in server.log()):
        assert time.monotonic() < until, server.log()


@pytest.mark.parametrize("fate", ["flood", "flood_told"])
def test_a_flood_is_2_gb_to_whoever_takes_it_and_little_to_whoever_does_not(chaos, fate):
    server = chaos(script=[fate, fate])
    with opened(server, "a") as sock:
        assert len(read(sock, 8 << 20)[0]) >= 8 << 20
    with opened(server, "a") as sock:
        taken, room = 0, memoryview(bytearray(1 << 20))
        while taken < 2 << 30:
            taken += (got := sock.recv_into(room))
            assert got, "closed too soon"
    left, whole = server.log()
    assert left["sent"] < 64 << 20 and whole["sent"] == 2 << 30


def test_a_bomb_is_small_on_the_wire(chaos):
    status, headers, data = ask(chaos(script=["bomb"]), "a")
    assert (status, headers["Content-Encoding"]) == (200, "gzip")
    assert 1 << 20 < len(data) < 4 << 20


@pytest.mark.parametrize("path", [RAG, CHAT])
def test_a_redirect_leads_to_a_page_that_answers_well(chaos, path):
    server = chaos(script=["redirect", "ok"])
    status, headers, _ = ask(server, "a", path)
    assert (status, headers["Location"]) == (302, f"/moved{path}")
    with urlopen(server.url + headers["Location"], timeout=20) as followed:
        assert set(json.load(followed)) == set(json.loads(ask(server, "a", path)[2]))
    assert [(row["path"], row["fate"]) for row in server.log()] == [(path, "redirect"), (f"/moved{path}", "ok"), (path, "ok")]


def test_a_storm_takes_requests_by_their_number_and_no_draws(chaos):
    server = chaos(script=["503"], storms=[[2, 3]], storm="429 retry-after 1")
    assert [ask(server, "a")[0] for _ in range(5)] == [503, 429, 429, 200, 200]
    assert [row["nth"] for row in server.log()] == [1, 0, 0, 2, 3]


def test_a_rate_limit_accepts_so_many_a_second_and_refuses_the_rest(chaos):
    server = chaos(rate=5)
    begun = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        statuses = list(pool.map(lambda number: ask(server, str(number))[0], range(40)))
    seconds = time.monotonic() - begun
    assert 5 <= statuses.count(200) <= 5 * (int(seconds) + 1)
    assert statuses.count(429) == 40 - statuses.count(200)
    accepted = [row["in"] for row in server.log() if row["fate"] == "ok"]
    assert all(later - sooner > 0.99 for sooner, later in zip(accepted, accepted[5:], strict=False))


def test_the_log_tells_who_asked_what_and_when(chaos):
    server = chaos(latency=0.2)
    ask(server, "胶原", CHAT)
    (row,) = server.log()
    assert (row["number"], row["path"], row["who"], row["text"], row["nth"], row["fate"]) == (1, CHAT, "me", "胶原", 1, "ok")
    assert row["end"] == "answered" and 0.19 < row["out"] - row["in"] < 20
    server.reset()
    assert server.log() == []
    ask(server, "胶原", CHAT)
    assert [row["nth"] for row in server.log()] == [1]
