"""The service as a process: start, ask, end, and refusals that are one line."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import psutil
import pytest

TOOL = Path(__file__).parents[2] / "tools" / "serve_rag.py"


@pytest.fixture
def kb(tmp_path):
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "corpus.jsonl").write_text('{"_id": "a", "title": "虾青素", "text": "抗氧化，保护皮肤"}\n', encoding="utf-8")
    (folder / "lexicon.tsv").write_text("显老\t虾青素 抗氧化\n", encoding="utf-8")
    return folder


@pytest.fixture
def start(start_tool):
    return partial(start_tool, "serve_rag")


def run(*arguments):
    return subprocess.run([sys.executable, str(TOOL), *map(str, arguments)], capture_output=True, text=True, timeout=60)


def ask(url, path="/api/chat/general_rag", **fields):
    request = urllib.request.Request(f"{url}{path}", json.dumps(fields).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, json.load(refusal)


def test_it_answers_as_soon_as_the_ready_file_is_there_and_ends_with_0_on_sigterm(start, kb):
    process, url, ready = start(kb, f"other/faq={kb / 'corpus.jsonl'}")
    status, answer = ask(url, query="显老怎么办", tenant_id="shop")
    assert (status, answer["data"]["rewritten_query"], answer["data"]["rewritten_by"]) == (200, "显老怎么办 虾青素 抗氧化", "service")
    assert [hit["doc_id"] for hit in answer["data"]["recall"]] == ["a"]
    assert ask(url, query="虾青素", tenant_id="other", kb_name="faq")[0] == 200
    assert ask(url, query="虾青素", tenant_id="other")[0] == 404
    assert ask(url, query="", tenant_id="shop") == (422, {"code": 422, "message": "query: blank; send text"})
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert out == f"serving {url}: shop/default 1 documents, other/faq 1 documents\n"
    assert err == ""
    assert not ready.exists()


def under_way(url):
    """Twenty requests of which a part is sent; what comes back sends the rest and reads each answer to its end."""
    body = json.dumps({"query": "虾青素", "tenant_id": "shop"}).encode()
    head = f"POST /api/chat/general_rag HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    clients = [socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=20) for _ in range(20)]
    for client in clients:
        client.sendall(head.encode() + body[:9])

    def answers():
        found = []
        for client in clients:
            with client:
                client.sendall(body[9:])
                with client.makefile("rb") as file:
                    found.append(file.read())
        return found

    return answers


def test_sigterm_loses_no_request_that_is_under_way(start, kb):
    process, url, _ = start(kb, "--queue", 20)
    answers = under_way(url)
    end = time.monotonic() + 20
    while "overtake_rag_bodies 20.0" not in urllib.request.urlopen(f"{url}/metrics", timeout=10).read().decode():
        assert time.monotonic() < end, "the requests did not arrive"
        time.sleep(0.02)
    # Bodies that are still coming take no place: as many as fill the queue shut nobody out.
    assert ask(url, query="虾青素", tenant_id="shop")[0] == 200
    process.send_signal(signal.SIGTERM)
    # Once it listens no more, the end has begun.
    while not refuses(url):
        assert time.monotonic() < end, "it goes on listening"
        time.sleep(0.02)
    found = answers()
    assert [answer.split(b"\r\n")[0] for answer in found] == [b"HTTP/1.1 200 OK"] * 20
    assert all(b'"doc_id":"a"' in answer for answer in found)
    assert process.wait(timeout=20) == 0


def refuses(url):
    try:
        socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


def test_the_key_is_asked_for_and_the_log_is_written(start, kb, tmp_path, monkeypatch):
    monkeypatch.setenv("RAG_KEY", "s3cret")
    process, url, _ = start(kb, "--api-key-env", "RAG_KEY", "--access-log", tmp_path / "access.jsonl")
    assert ask(url, query="虾青素", tenant_id="shop")[0] == 401
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    (row,) = map(json.loads, (tmp_path / "access.jsonl").read_text().splitlines())
    assert (row["path"], row["status"]) == ("/api/chat/general_rag", 401)


def texts(url, query, **fields):
    """The texts found, by id."""
    answer = ask(url, query=query, rewritten_query=query, score_threshold=0, top_k=100, **fields)[1]
    return {hit["doc_id"]: hit["content"] for hit in answer["data"]["recall"]}


def test_a_log_of_requests_is_for_its_owner_alone(start, kb, tmp_path):
    log = tmp_path / "access.jsonl"
    before = os.umask(0)
    try:
        start(kb, "--access-log", log)
    finally:
        os.umask(before)
    assert log.stat().st_mode & 0o777 == 0o600


def asked_with(url, key, path="/api/chat/general_rag", **fields):
    """The status of a request that brings a key, or none."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{url}{path}", json.dumps(fields).encode(), headers), timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code


def test_reading_and_changing_have_keys_of_their_own_and_strangers_learn_no_tenant(start, kb, monkeypatch):
    monkeypatch.setenv("READ", "r3ad")
    monkeypatch.setenv("CHANGE", "chang3")
    _, url, _ = start(kb, "--api-key-env", "READ", "--change-key-env", "CHANGE")
    question, change = {"query": "虾青素", "tenant_id": "shop"}, {"tenant_id": "shop", "documents": [{"id": "n", "text": "新的"}]}
    assert [asked_with(url, key, **question) for key in ("r3ad", "chang3", "")] == [200, 401, 401]
    assert [asked_with(url, key, "/api/documents", **change) for key in ("r3ad", "chang3", "")] == [403, 200, 401]
    with urllib.request.urlopen(f"{url}/health", timeout=10) as health:
        assert json.load(health) == {"status": "ok"}
    known = urllib.request.Request(f"{url}/health", headers={"Authorization": "Bearer r3ad"})
    with urllib.request.urlopen(known, timeout=10) as health:
        assert json.load(health)["knowledge_bases"][0]["tenant_id"] == "shop"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "0"])
def test_other_machines_are_let_in_with_a_key_or_when_that_is_meant(start, kb, host, monkeypatch):
    ended = run(kb, "--host", host, "--port", 0)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert f"--host {host} lets other machines in and no key is asked for" in ended.stderr
    if host == "0.0.0.0":
        monkeypatch.setenv("RAG_KEY", "s3cret")
        for allowed in (["--open"], ["--api-key-env", "RAG_KEY"]):
            start(kb, "--host", host, *allowed)


def raw(url, text):
    """A connection on which these bytes were sent."""
    client = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=30)
    client.sendall(text)
    return client


def test_slow_bodies_shut_nobody_out_and_end_with_408(start, kb):
    _, url, _ = start(kb, "--queue", 8)
    head = b"POST /api/chat/general_rag HTTP/1.1\r\nHost: x\r\nContent-Length: 90\r\n\r\n{"
    slow = [raw(url, head) for _ in range(64)]
    assert ask(url, query="虾青素", tenant_id="shop")[0] == 200
    for client in slow:
        with client, client.makefile("rb") as answer:
            assert answer.readline() == b"HTTP/1.1 408 Request Timeout\r\n"


def test_clients_that_do_not_read_keep_their_place_and_no_turn(start, kb):
    big = [json.dumps({"_id": f"d{at}", "text": f"虾青素 {at} " + "x" * 150_000}) for at in range(100)]
    (kb / "corpus.jsonl").write_text("\n".join(big), encoding="utf-8")
    _, url, _ = start(kb, "--queue", 3)
    body = json.dumps({"query": "虾青素", "tenant_id": "shop", "top_k": 100, "score_threshold": 0, "rewritten_query": "虾青素"}).encode()
    lazy = raw(
        url,
        b"POST /api/chat/general_rag HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body),
    )
    until(lambda: answered(url) == 1 or "overtake_rag_queue 1.0" in urllib.request.urlopen(f"{url}/metrics", timeout=10).read().decode())
    # It has its answer, 15 MB, and takes none of it: its place stays taken, and the next is served all the same.
    assert ask(url, query="虾青素", tenant_id="shop", top_k=1, score_threshold=0)[0] == 200
    assert "overtake_rag_queue 1.0" in urllib.request.urlopen(f"{url}/metrics", timeout=10).read().decode()
    lazy.close()
    until(lambda: "overtake_rag_queue 0.0" in urllib.request.urlopen(f"{url}/metrics", timeout=10).read().decode())


def test_every_change_that_was_acknowledged_is_there_after_kill_9(start, kb, tmp_path):
    arguments = (kb, f"other={kb}", "--data", tmp_path / "data")
    process, url, _ = start(*arguments)
    for number in range(5):
        new = [{"id": f"n{number}", "text": f"批次 {number}"}, {"id": "a", "text": f"批次 换 {number}"}]
        assert ask(url, "/api/documents", tenant_id="shop", documents=new, delete=[f"n{number - 2}"])[0] == 200
    version = ask(url, query="批次", tenant_id="shop")[1]["data"]["kb_version"]
    process.kill()
    process.communicate()
    _, url, _ = start(*arguments)
    assert texts(url, "批次", tenant_id="shop") == {"a": "批次 换 4", "n3": "批次 3", "n4": "批次 4"}
    assert texts(url, "批次 保护", tenant_id="other") == {"a": "抗氧化，保护皮肤"}
    # Not only what is found, but what scores it: the version is counted from all documents.
    assert ask(url, query="批次", tenant_id="shop")[1]["data"]["kb_version"] == version
    assert ask(url, "/api/documents", tenant_id="shop", delete=["a"])[0] == 200


def test_a_second_service_over_the_same_folder_is_refused(start, kb, tmp_path):
    start(kb, "--data", tmp_path / "data")
    ended = run(kb, "--data", tmp_path / "data", "--port", "0")
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "another process changes this index: end it first" in ended.stderr


def answered(url):
    """Questions answered with 200, as /metrics has them; a connection of its own, so any worker may say it."""
    text = urllib.request.urlopen(f"{url}/metrics", timeout=10).read().decode()
    return sum(float(line.split()[-1]) for line in text.splitlines() if "general_rag" in line and 'status="200"' in line)


def children(process):
    """The processes that the tool has started and that listen: each has the metrics files of its own number."""
    living = [one for one in psutil.Process(process.pid).children() if one.status() != psutil.STATUS_ZOMBIE]
    return [one.pid for one in living if any("spawn_main" in word for word in one.cmdline())]


def until(holds):
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end, "not so after 60 s"
        time.sleep(0.1)


def test_two_workers_count_together_refuse_changes_follow_a_folder_and_survive_each_other(start, kb, tmp_path):
    process, url, ready = start(kb, "--workers", 2, "--data", tmp_path / "data", "--queue", 100)
    assert len(children(process)) == 2
    assert [ask(url, query="虾青素", tenant_id="shop")[0] for _ in range(30)] == [200] * 30
    until(lambda: answered(url) == 30)  # an answer is counted once it is sent, which may be a moment after it is read
    assert [answered(url) for _ in range(6)] == [30] * 6
    status, refusal = ask(url, "/api/documents", tenant_id="shop", delete=["a"])
    assert (status, refusal["message"]) == (
        409,
        "this service only reads: change documents through one with --workers 1, or with tools/index.py",
    )
    # A service with one worker over the same folder takes changes, and both workers see them.
    version = ask(url, query="虾青素", tenant_id="shop")[1]["data"]["kb_version"]
    _, writing, _ = start(kb, "--data", tmp_path / "data")
    new = ask(writing, "/api/documents", tenant_id="shop", documents=[{"id": "n", "text": "新的 批次"}], delete=["a"])[1]["kb_version"]
    assert new != version
    until(lambda: {ask(url, query="批次", tenant_id="shop")[1]["data"]["kb_version"] for _ in range(10)} == {new})
    assert all(texts(url, "批次", tenant_id="shop") == {"n": "新的 批次"} for _ in range(10))
    # One that dies is replaced, and what it had counted stays counted.
    before, gone = answered(url), children(process)[0]
    os.kill(gone, signal.SIGKILL)
    until(lambda: len(children(process)) == 2 and gone not in children(process))
    until(lambda: answers(url))
    assert answered(url) >= before
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=40)
    assert (process.returncode, out, err) == (0, f"serving {url}: shop/default 1 documents\n", "")
    assert not ready.exists() and refuses(url)


def answers(url):
    try:
        return ask(url, query="批次", tenant_id="shop")[0] == 200
    except OSError:  # the connection that the dead one had taken
        return False


def test_workers_lose_no_request_that_is_under_way_on_sigterm(start, kb):
    process, url, _ = start(kb, "--workers", 2)
    answers = under_way(url)
    until(lambda: "overtake_rag_bodies 20.0" in urllib.request.urlopen(f"{url}/metrics", timeout=10).read().decode())
    process.send_signal(signal.SIGTERM)
    until(lambda: refuses(url))
    found = answers()
    assert [answer.split(b"\r\n")[0] for answer in found] == [b"HTTP/1.1 200 OK"] * 20
    assert process.wait(timeout=40) == 0


def test_workers_do_not_outlive_a_killed_supervisor(start, kb):
    process, url, _ = start(kb, "--workers", 2)
    process.kill()
    until(lambda: refuses(url))
    process.communicate(timeout=40)  # until the last of them has let go of its output


def test_ctrl_c_ends_workers_with_130(start, kb):
    process, _, _ = start(kb, "--workers", 2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=40)
    assert (process.returncode, err) == (130, "")


def test_vectors_and_reranker_named_by_the_settings_serve_and_load(start, kb, tmp_path, monkeypatch, serve):
    def embed(body):
        return 200, {"data": [{"index": n, "embedding": [1.0, float("失眠" in t or "褪黑" in t)]} for n, t in enumerate(body["input"])]}

    def rerank(body):
        return 200, {"results": [{"index": n, "relevance_score": 0.9 if "褪黑" in t else 0.1} for n, t in enumerate(body["documents"])]}

    names = {"EMBEDDING_BASE_URL": f"{serve(embed).url}/v1", "EMBEDDING_MODEL": "two", "RERANKER_BASE_URL": serve(rerank).url}
    for name, value in {**names, "RERANKER_MODEL": "cross"}.items():
        monkeypatch.setenv(f"OVERTAKE_{name}", value)
    (kb / "corpus.jsonl").write_text('{"_id": "s", "text": "褪黑素"}\n{"_id": "a", "text": "虾青素"}\n', encoding="utf-8")
    index = TOOL.with_name("index.py")
    loaded = subprocess.run([sys.executable, str(index), str(kb), "--data", str(tmp_path / "data")], capture_output=True, text=True)
    assert loaded.stdout == "shop/default: 2 written, 0 there already, 2 in all\n"
    process, url, _ = start(kb, "--data", tmp_path / "data")
    recall = ask(url, query="失眠", tenant_id="shop")[1]["data"]["recall"]
    assert [(hit["doc_id"], hit["reranker_score"]) for hit in recall] == [("s", 0.9)]
    process.send_signal(signal.SIGTERM)
    out = process.communicate(timeout=40)[0]
    assert out == f"serving {url}: shop/default 2 documents; found by stems and two; reranked by cross\n"
    monkeypatch.setenv("OVERTAKE_EMBEDDING_MODEL", "three")
    ended = run(kb, "--data", tmp_path / "data", "--port", "0")
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "has a vector of 'two', not of 'three': load the documents into a new folder" in ended.stderr


def test_questions_that_wait_for_a_model_run_side_by_side_and_outlive_sigterm(start, kb, monkeypatch, serve):
    inside, together, go = [], threading.Event(), threading.Event()

    def embed(body):
        if body["input"] == ["失眠"]:
            inside.append(1)
            if len(inside) == 5:
                together.set()
            go.wait(30)
        return 200, {"data": [{"index": number, "embedding": [1.0, 0.0]} for number in range(len(body["input"]))]}

    monkeypatch.setenv("OVERTAKE_EMBEDDING_BASE_URL", f"{serve(embed).url}/v1")
    monkeypatch.setenv("OVERTAKE_EMBEDDING_MODEL", "slow")
    process, url, _ = start(kb)
    with ThreadPoolExecutor(5) as pool:
        asked = [pool.submit(ask, url, query="失眠", tenant_id="shop", score_threshold=0) for _ in range(5)]
        assert together.wait(30), "they do not run side by side"
        process.send_signal(signal.SIGTERM)
        until(lambda: refuses(url))
        go.set()
        found = [one.result() for one in asked]
    assert [(status, [hit["doc_id"] for hit in answer["data"]["recall"]]) for status, answer in found] == [(200, ["a"])] * 5
    assert process.wait(timeout=40) == 0


def test_ctrl_c_ends_it_with_130_and_without_a_traceback(start, kb):
    process, _, _ = start(kb)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, "")


def test_a_busy_port_is_an_error_and_no_other_port_is_taken(kb, tmp_path):
    ready = tmp_path / "url"
    ready.write_text("http://the-one-that-runs")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ended = run(kb, "--port", port, "--ready-file", ready)
    assert ended.returncode == 2
    assert ended.stderr == (
        f"error: cannot listen on 127.0.0.1 port {port} ({os.strerror(errno.EADDRINUSE)}): "
        "free it or give another --port (0: any free one)\n"
    )
    assert ended.stdout == ""
    assert ready.read_text() == "http://the-one-that-runs"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["nowhere"], "nowhere: no such file: give a folder that holds corpus.jsonl", id="a folder that is not there"),
        pytest.param(["=x"], "'=x': write PATH, tenant=PATH or tenant/kb=PATH", id="a blank tenant"),
        pytest.param(["a/=x"], "'a/=x': write PATH, tenant=PATH or tenant/kb=PATH", id="a blank knowledge base"),
        pytest.param(["t={kb}", "t/default={kb}"], "t/default stands twice: give each its own name", id="a name that stands twice"),
        pytest.param(["{kb}", "--candidates", "0"], "--candidates is 0: give at least 1", id="no candidates"),
        pytest.param(["{kb}", "--workers", "0"], "--workers is 0: give at least 1", id="no workers"),
        pytest.param(["{kb}", "--queue", "0"], "--queue is 0: give at least 1", id="no queue"),
        pytest.param(["{kb}", "--api-key-env", "NO_SUCH_KEY"], "NO_SUCH_KEY: the variable is not set", id="a key that is not set"),
        pytest.param(["{kb}", "--port", "70000"], "cannot listen on 127.0.0.1 port 70000", id="a port that is none"),
        pytest.param(["{kb}", "--host", "999.1.1.1", "--port", "0"], "cannot listen on 999.1.1.1 port 0", id="a host that is none"),
        pytest.param(["{kb}", "--ready-file", "{kb}/no/url"], "make it first", id="a ready file in no folder"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(kb, run, arguments, message):
    ended = run("serve_rag", *(argument.format(kb=kb) for argument in arguments))
    assert ended.code == 2
    assert ended.err.startswith("error: ")
    assert message in ended.err
    assert "\n" not in ended.err


def test_a_bad_line_of_the_corpus_is_named(kb):
    with (kb / "corpus.jsonl").open("a") as file:
        file.write("{broken\n")
    ended = run(kb)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert f"{kb / 'corpus.jsonl'}:2: not JSON" in ended.stderr
