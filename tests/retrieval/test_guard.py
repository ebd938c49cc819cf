"""What the service refuses before it searches: keys, sizes, a full queue; what it counts and logs."""

import asyncio
import io
import json
from functools import partial

import httpx
import pytest
from overtake.retrieval.corpus import Document
from overtake.retrieval.guard import Limits, add_guard
from overtake.retrieval.service import KnowledgeBase, create_app

QUESTION = {"query": "虾青素怎么吃", "tenant_id": "health"}
BASES = {("health", "default"): KnowledgeBase.build([Document("a", "虾青素", "抗氧化，随餐吃")], {})}


def guarded(log=None, around=None, **limits):
    """A client of the guarded service; `around` is called as (service, scope, receive, send) in the service's place."""
    app = create_app(BASES)
    if around is not None:
        app.add_middleware(lambda service: partial(around, service))
    transport = httpx.ASGITransport(add_guard(app, Limits(**limits), log))
    return httpx.AsyncClient(transport=transport, base_url="http://rag")


def ask(client, *, path="/api/chat/general_rag", **sent):
    return client.post(path, **({"json": QUESTION} | sent))


def run(work):
    return asyncio.run(work)


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        pytest.param("Bearer s3cret", 200, id="the key"),
        pytest.param("Bearer s3cre", 401, id="a shorter key"),
        pytest.param("Bearer s3cret2", 401, id="a longer key"),
        pytest.param("s3cret", 401, id="the key without Bearer"),
        pytest.param("Bearer 钥匙".encode(), 401, id="a key that is no ASCII"),
        pytest.param(None, 401, id="none"),
    ],
)
def test_only_the_key_opens_the_service(authorization, status):
    async def work():
        async with guarded(key="s3cret") as client:
            return await ask(client, headers={"Authorization": authorization} if authorization else {})

    answer = run(work())
    assert (answer.status_code, answer.json()["code"] or 200) == (status, status)
    assert "s3cret" not in answer.text


def test_the_key_is_compared_whole_and_in_constant_time(monkeypatch):
    # Time cannot be asserted; what is: one comparison of the whole, by the function that is made for it, decides.
    compared = []

    def digest(given, expected):
        compared.append((given, expected))
        return given == b"Bearer wrong"

    monkeypatch.setattr("overtake.retrieval.guard.hmac.compare_digest", digest)

    async def work(sent):
        async with guarded(key="s3cret") as client:
            return (await ask(client, headers={"Authorization": sent})).status_code

    assert [run(work(sent)) for sent in ("Bearer wrong", "Bearer s3cret", "Bearer ")] == [200, 401, 401]
    assert compared == [(sent, b"Bearer s3cret") for sent in (b"Bearer wrong", b"Bearer s3cret", b"Bearer ")]


def test_health_and_metrics_need_no_key():
    async def work():
        async with guarded(key="s3cret") as client:
            return [(await client.get(path)).status_code for path in ("/health", "/metrics", "/openapi.json")]

    assert run(work()) == [200, 200, 401]


def test_a_body_of_the_most_bytes_is_read_and_one_more_is_refused():
    body = json.dumps(QUESTION).encode()

    async def chunks():
        yield body[:10]
        yield body[10:]

    async def work(limit, content):
        async with guarded(body_bytes=limit) as client:
            return await ask(client, json=None, content=content, headers={"Content-Type": "application/json"})

    assert [run(work(len(body), content)).status_code for content in (body, chunks())] == [200, 200]
    refused = [run(work(len(body) - 1, content)) for content in (body, chunks())]
    assert [one.status_code for one in refused] == [413, 413]
    assert refused[0].json()["message"] == f"the body is larger than {len(body) - 1} bytes: send less"


def test_a_slow_body_is_given_up_before_it_has_a_place():
    async def work():
        never = asyncio.Event()

        async def drips():
            yield b"{"
            await never.wait()

        async with guarded(body_seconds=0.01, queue=1) as client:
            slow = [await ask(client, json=None, content=drips()) for _ in range(2)]
            return [one.status_code for one in slow], slow[0].json()["message"], (await ask(client)).status_code

    assert run(work()) == ([408, 408], "the body did not come within 0.01 s: send it faster", 200)


async def held_open(limits, count):
    """(the answers to `count` requests while the first is held, those that were under way, the metrics read meanwhile)."""
    go, order = asyncio.Event(), []

    async def slow(service, scope, receive, send):
        if scope["path"] not in ("/health", "/metrics"):
            order.append(scope["headers"])
            await go.wait()
        await service(scope, receive, send)

    async with guarded(around=slow, **limits) as client:
        tasks = [asyncio.create_task(ask(client)) for _ in range(count)]
        while sum(task.done() for task in tasks) < count - limits["queue"]:
            await asyncio.sleep(0)
        health, metrics = await client.get("/health"), await client.get("/metrics")
        running = len(order)
        go.set()
        return [await task for task in tasks], running, health.status_code, metrics.text, await ask(client)


def test_a_full_queue_refuses_at_once_and_loses_nothing_it_took():
    answers, running, health, metrics, after = run(held_open({"queue": 3}, 8))
    assert [answer.status_code for answer in answers] == [200] * 3 + [503] * 5
    assert {answer.headers.get("retry-after") for answer in answers[3:]} == {"1"}
    assert answers[3].json()["message"].startswith("3 requests are waiting")
    assert (running, health, after.status_code) == (1, 200, 200)
    assert "overtake_rag_queue 3.0" in metrics
    assert 'overtake_rag_requests_total{method="POST",path="/api/chat/general_rag",status="503"} 5.0' in metrics


def test_as_many_run_at_once_as_the_limits_say_and_the_rest_waits():
    async def work():
        go, inside, most = asyncio.Event(), 0, 0

        async def slow(service, scope, receive, send):
            nonlocal inside, most
            inside += 1
            most = max(most, inside)
            await go.wait()
            await service(scope, receive, send)
            inside -= 1

        async with guarded(around=slow, at_once=3) as client:
            tasks = [asyncio.create_task(ask(client)) for _ in range(8)]
            while inside < 3:
                await asyncio.sleep(0)
            for _ in range(50):
                await asyncio.sleep(0)
            go.set()
            return most, [(await task).status_code for task in tasks]

    assert run(work()) == (3, [200] * 8)


def test_paths_that_clients_make_up_are_one_series():
    async def work():
        async with guarded() as client:
            for number in range(20):
                assert (await client.request("BREW" if number else "GET", f"/made/up/{number}")).status_code == 404
            return (await client.get("/metrics")).text

    assert [line for line in run(work()).splitlines() if line.startswith("overtake_rag_requests_total")] == [
        'overtake_rag_requests_total{method="GET",path="other",status="404"} 1.0',
        'overtake_rag_requests_total{method="other",path="other",status="404"} 19.0',
    ]


def test_the_log_holds_a_line_a_request_and_none_of_its_words():
    log = io.StringIO()

    async def work():
        async with guarded(log, key="s3cret") as client:
            await ask(client, headers={"Authorization": "Bearer s3cret"})
            await ask(client, path="/api/虾青素")

    run(work())
    rows = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [(row["method"], row["path"], row["status"]) for row in rows] == [("POST", "/api/chat/general_rag", 200), ("POST", "other", 401)]
    assert all(set(row) == {"time", "method", "path", "status", "ms"} for row in rows)
    assert not any(word in log.getvalue() for word in ("虾", "\\u", "s3cret", "health"))


def test_a_client_that_left_with_half_its_body_is_counted_as_499_and_searches_nothing():
    log, sent = io.StringIO(), []

    async def receive():
        return {"type": "http.disconnect"}

    async def send(message):
        sent.append(message)

    async def around(service, scope, receive, send):
        raise AssertionError("it reached the service")

    async def work():
        app = create_app(BASES)
        app.add_middleware(lambda service: partial(around, service))
        scope = {"type": "http", "method": "POST", "path": "/api/chat/general_rag", "headers": [], "query_string": b"", "root_path": ""}
        await add_guard(app, Limits(), log)(scope, receive, send)

    run(work())
    assert json.loads(log.getvalue())["status"] == 499
