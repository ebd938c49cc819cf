"""Several servers for a role: who is asked, what two of them are worth, and what becomes of the calls when one dies."""

import asyncio
import threading
import time
from collections import Counter
from functools import partial
from types import SimpleNamespace

import pytest
from overtake import settings
from overtake.remote import process, ranking, servers
from overtake.remote.chat import chat_call, chat_gateway, endpoint
from overtake.remote.faults import Fault
from overtake.remote.gateway import Failed, Ok
from overtake.remote.rag import rag_call, rag_gateway

from .conftest import said

A, B = "http://a/v1", "http://b/v1"


@pytest.fixture
def virtual(fresh, virtually):
    """virtual(main): run the coroutine function on a clock that jumps, which the servers' rests go by, too."""
    return partial(virtually, servers)


class Fleet:
    """Servers that answer `slots` calls at once, each in a second; `served` and `failed` count by address, and those in `dead` fail."""

    def __init__(self, slots=4):
        self.places = {address: asyncio.Semaphore(slots) for address in (A, B)}
        self.served, self.failed, self.dead = Counter(), Counter(), set()

    async def send(self, address):
        async with self.places[address]:
            await asyncio.sleep(1)
        if address in self.dead:
            self.failed[address] += 1
            raise Fault("http_503", "down")
        self.served[address] += 1
        return address


@pytest.mark.parametrize("calls", [16, 64, 256])
def test_two_servers_answer_at_least_1_9_times_as_many_calls_in_the_same_time(virtual, calls):
    took = {}
    for addresses in (A, f"{A} {B}"):

        async def main(loop, addresses=addresses):
            process.forget()
            fleet, at_once = Fleet(), asyncio.Semaphore(16)

            async def call():
                async with at_once:
                    await servers.ask(addresses, fleet.send)

            await asyncio.gather(*(call() for _ in range(calls)))
            return loop.time(), fleet.served

        took[addresses], served = virtual(main)
    assert took[A] / took[f"{A} {B}"] >= 1.9
    assert served[A] == served[B] == calls / 2


def test_the_slower_of_two_servers_is_asked_less(virtual):
    async def main(loop):
        fleet = Fleet()

        async def send(address):
            await asyncio.sleep(3 if address == A else 0)
            return await fleet.send(address)

        async def caller():
            for _ in range(20):
                await servers.ask(f"{A} {B}", send)

        await asyncio.gather(*(caller() for _ in range(8)))
        return fleet.served

    served = virtual(main)
    assert served[B] > 2 * served[A] > 0


def test_a_dead_server_is_left_out_and_tried_again_by_one_call_at_a_time(virtual):
    async def main(loop):
        fleet = Fleet(slots=100)
        fleet.dead = {A}
        came = Counter()

        async def caller():
            while loop.time() < 40:
                came[await servers.ask(f"{A} {B}", fleet.send)] += 1

        running = [loop.create_task(caller()) for _ in range(8)]
        await asyncio.sleep(30)
        while_dead = fleet.failed[A]
        fleet.dead = set()
        await asyncio.gather(*running)
        return while_dead, came

    while_dead, came = virtual(main)
    assert while_dead <= 8 + 5, "the first ones, then after 1, 2, 4, 8 and 16 seconds one each"
    assert came[B] > 8 * 13 and came[A] > 0, "every call had its answer, and who is back is asked again"


def test_a_server_that_hangs_is_left_out_once_a_call_has_waited_its_time(virtual):
    async def main(loop):
        asked = []

        async def send(address):
            asked.append(address)
            await asyncio.sleep(1000 if address == A else 0)

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await servers.ask(f"{A} {B}", send)
        for _ in range(3):
            await servers.ask(f"{A} {B}", send)
        return asked

    assert virtual(main) == [A, B, B, B]


@pytest.mark.parametrize("fault", [Fault("http_400", "no", again=False), Fault("http_429", "slowly", wait=1.0)])
def test_what_would_be_the_same_elsewhere_is_not_asked_elsewhere(virtual, fault):
    async def main(loop):
        asked = []

        async def send(address):
            asked.append(address)
            raise fault

        with pytest.raises(Fault):
            await servers.ask(f"{A} {B}", send)
        return asked

    assert virtual(main) == [A]


# ---------------------------------------------------------------- through the gateway, with real servers


@pytest.fixture
def two(fresh, serve, monkeypatch):
    """Two real servers of chat, retrieval and embeddings; `.dead` has the numbers of those that answer 503, `.answered` texts by number."""
    known = SimpleNamespace(dead=set(), answered=[[], []], lock=threading.Lock())

    def answer(number, body):
        time.sleep(0.01)
        if number in known.dead:
            return 503, {"message": "down"}
        with known.lock:
            known.answered[number].append(str(body.get("input") or body.get("rewritten_query") or body["messages"][0]["content"]))
        if "input" in body:
            return 200, {"data": [{"index": place, "embedding": [1.0]} for place in range(len(body["input"]))]}
        return said() if "messages" in body else (200, {"data": {"recall": []}, "code": 0})

    urls = [serve(lambda body, number=number: answer(number, body)).url for number in range(2)]
    known.chat, known.rag = " ".join(f"{url}/v1" for url in urls), " ".join(urls)
    for name, value in {"JUDGE_BASE_URL": known.chat, "JUDGE_MODEL": "m", "RAG_URL": known.rag, "TEACHER_CONCURRENCY": "16"}.items():
        monkeypatch.setenv(f"OVERTAKE_{name}", value)
    settings.load.cache_clear()
    return known


def judge(*texts):
    to = endpoint("judge")
    return chat_gateway("judge").submit([chat_call(to, [{"role": "user", "content": text}], 10) for text in texts])


def test_of_two_judges_one_that_dies_loses_no_call_and_none_is_asked_twice_that_had_an_answer(two, caplog):
    texts = [f"问{number}" for number in range(200)]
    under_way = judge(*texts)
    while len(two.answered[0]) < 40:
        time.sleep(0.005)
    two.dead = {0}
    assert all(isinstance(result, Ok) for result in under_way.result(timeout=120))
    assert sorted(two.answered[0] + two.answered[1]) == sorted(texts)
    assert len(two.answered[1]) > 100
    assert caplog.text.count("the other servers are asked while it is tried again") == 1


def test_calls_are_shared_out_evenly_and_an_answer_is_kept_whichever_server_gave_it(two, again):
    texts = [f"问{number}" for number in range(64)]
    assert all(isinstance(result, Ok) for result in judge(*texts).result(timeout=120))
    assert abs(len(two.answered[0]) - len(two.answered[1])) <= 16
    two.dead = {0, 1}
    again()
    assert all(result.cached for result in judge(*texts).result(timeout=120))


def test_when_all_servers_are_dead_the_calls_fail_as_an_outage(two):
    two.dead = {0, 1}
    (result,) = judge("问").result(timeout=120)
    assert isinstance(result, Failed) and result.outage


def test_retrieval_and_embeddings_take_several_addresses_too(two):
    two.dead = {0}
    results = rag_gateway().run([rag_call("问", f"改{number}", "t") for number in range(8)])
    assert all(isinstance(result, Ok) for result in results) and len(two.answered[1]) == 8
    assert ranking.embed(["一", "二"], two.chat, "m") == [[1.0], [1.0]]


@pytest.mark.parametrize(("value", "words"), [(f"{A} {A}", "twice: name each server once"), (f"{A} b/v1", "must begin with http://")])
def test_addresses_out_of_form_are_refused(fresh, monkeypatch, value, words):
    monkeypatch.setenv("OVERTAKE_JUDGE_BASE_URL", value)
    settings.load.cache_clear()
    with pytest.raises(settings.SettingsError, match=words):
        settings.load()
