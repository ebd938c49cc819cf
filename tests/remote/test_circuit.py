"""The circuit breaker: what opens it, how it probes, when it closes or gives up, and what that costs the calls and their deadline."""

import asyncio
import itertools
from collections import Counter
from functools import partial
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from overtake import settings
from overtake.remote import circuit, gateway, limits
from overtake.remote.chat import chat_call, chat_gateway, endpoint
from overtake.remote.circuit import Circuit
from overtake.remote.faults import Fault
from overtake.remote.gateway import Call, Failed, Ok

from .conftest import said

OFTEN = 26
"""Failures among the last 32 requests that open it."""


@pytest.fixture
def virtual(virtually):
    """virtual(main): run the coroutine function on a clock that jumps, which the circuit reads, too."""
    return partial(virtually, circuit)


def opened(patience=600.0):
    found = Circuit("rag", patience)
    for _ in range(OFTEN):
        found.failed(False, "down")
    return found


# ---------------------------------------------------------------- the state alone


@given(st.lists(st.booleans(), max_size=120))
def test_it_opens_when_more_than_four_fifths_of_the_last_requests_failed_and_not_before(answers):
    found = Circuit("rag", 600.0)
    for index, answer in enumerate(answers):
        found.answered() if answer else found.failed(False, "down")
        assert found.open == (answers[max(0, index - 31) : index + 1].count(False) >= OFTEN)
        if found.open:
            break


def test_while_it_is_open_one_request_at_a_time_probes_and_waits_longer_each_time(virtual):
    async def main(loop):
        found, probes, now, most = opened(), [], 0, 0

        async def request():
            nonlocal now, most
            while await found.enter():
                now += 1
                most = max(most, now)
                probes.append(loop.time())
                await asyncio.sleep(5)
                now -= 1
                found.failed(True, "still down")

        await asyncio.wait([loop.create_task(request()) for _ in range(10)], timeout=200)
        return probes, most

    probes, most = virtual(main)
    assert most == 1
    assert probes[0] == pytest.approx(1, abs=0.3)
    waits = [later - earlier - 5 for earlier, later in itertools.pairwise(probes[:8])]
    assert waits == pytest.approx([2, 4, 8, 16, 30, 30, 30], abs=0.3)


def test_an_answer_closes_it_for_all_who_wait_and_failures_are_counted_afresh(virtual):
    async def main(loop):
        found = opened()
        waiting = [loop.create_task(found.enter()) for _ in range(5)]
        await asyncio.sleep(2)
        assert sorted(task.result() for task in waiting if task.done()) == [True]
        found.answered()
        assert sorted(await asyncio.gather(*waiting)) == [False] * 4 + [True]
        for _ in range(OFTEN - 1):
            found.failed(False, "down")
        assert not found.open
        found.failed(False, "down")
        assert found.open

    virtual(main)


def test_a_probe_that_was_cancelled_lets_another_one_probe(virtual):
    async def main(loop):
        found = opened()
        assert await found.enter() is True
        second = loop.create_task(found.enter())
        await asyncio.sleep(100)
        assert not second.done()
        found.left(True)
        assert await second is True

    virtual(main)


def test_a_probe_that_fails_after_the_circuit_has_closed_is_a_failure_like_others(virtual):
    async def main(loop):
        found = opened()
        assert await found.enter() is True
        found.answered()  # to a request sent before
        for _ in range(OFTEN - 1):
            found.failed(False, "down")
        found.failed(True, "down")
        assert found.open
        began = loop.time()
        assert await found.enter() is True
        assert loop.time() - began == pytest.approx(1, abs=0.3)

    virtual(main)


def test_it_gives_up_after_the_patience_and_a_new_batch_may_try_again(virtual):
    async def main(loop):
        found = opened(patience=60)
        assert await found.enter() is True  # and no word of it any more
        assert await found.enter() is None
        assert loop.time() == pytest.approx(60, abs=0.3)
        assert await found.enter() is None
        found.left(True)
        found.renew()
        assert await found.enter() is True
        found.failed(True, "down")
        assert await found.enter() is True, "within the new patience"
        found.answered()
        assert await found.enter() is False

    virtual(main)


def test_without_patience_the_next_batch_still_finds_out_that_the_service_is_back(virtual):
    async def main(loop):
        found = opened(patience=0)
        assert await found.enter() is None
        found.renew()
        assert await found.enter() is True
        assert await found.enter() is None
        found.answered()
        assert await found.enter() is False

    virtual(main)


def test_renewing_changes_nothing_within_the_patience(virtual):
    async def main(loop):
        found = opened(patience=60)
        assert await found.enter() is True
        await asyncio.sleep(30)
        found.renew()
        assert found.paused == pytest.approx(31, abs=0.3)
        assert await found.enter() is None
        assert loop.time() == pytest.approx(60, abs=0.3)

    virtual(main)


def test_the_pause_is_the_time_it_was_open_and_for_each_time_no_more_than_the_patience(virtual):
    async def main(loop):
        found = Circuit("rag", 60)
        await asyncio.sleep(10)
        assert found.paused == 0
        for _ in range(OFTEN):
            found.failed(False, "down")
        await asyncio.sleep(20)
        assert found.paused == pytest.approx(20)
        found.answered()
        await asyncio.sleep(100)
        assert found.paused == pytest.approx(20)
        for _ in range(OFTEN):
            found.failed(False, "down")
        await asyncio.sleep(500)
        assert found.paused == pytest.approx(20 + 60)
        found.renew()
        assert found.paused == pytest.approx(20 + 60)
        await asyncio.sleep(500)
        assert found.paused == pytest.approx(20 + 60 + 60)

    virtual(main)


# ---------------------------------------------------------------- through the gateway, with a real service


@pytest.fixture
def quick(service, monkeypatch):
    """quick(patience) sets the settings' outage_patience; waiting calls look, and probe, after hundredths of a second."""
    monkeypatch.setattr(circuit, "_LOOK_SECONDS", 0.01)
    monkeypatch.setattr(circuit, "_LONGEST_PROBE_WAIT", 0.02)

    def quick(patience):
        monkeypatch.setenv("OVERTAKE_OUTAGE_PATIENCE", str(patience))
        settings.load.cache_clear()
        return service

    return quick


def ask(*texts, deadline=None):
    calls = [chat_call(endpoint("teacher"), [{"role": "user", "content": text}], 10) for text in texts]
    return chat_gateway("teacher").run(calls, deadline)


MANY = tuple(map(str, range(40)))


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        pytest.param((400, {"message": "no"}), "http_400", id="a refusal"),
        pytest.param((429, {}), "", id="too many requests"),
        pytest.param(said(""), "unusable", id="an unusable answer"),
        pytest.param((200, ["?"]), "malformed", id="an answer out of form"),
        pytest.param((200, {"error": {"code": 401, "message": "no key"}}), "error_inside", id="a refusal inside an answer"),
    ],
)
def test_what_the_service_answers_does_not_open_it(quick, answer, kind):
    service = quick(600)
    times = dict.fromkeys(MANY, 0)

    def once_or_always(body):
        text = body["messages"][0]["content"]
        times[text] += 1
        return said() if answer[0] == 429 and times[text] > 3 else answer

    service.answer = once_or_always
    results = ask(*MANY)
    assert {result.kind if isinstance(result, Failed) else "" for result in results} == {kind}
    assert not chat_gateway("teacher")._circuit.open


def test_calls_to_a_dead_service_fail_as_an_outage_and_the_next_batch_goes_on_when_it_is_back(quick, caplog):
    service = quick(0.3)
    service.answer = lambda body: (503, {"message": "down"})
    results = ask(*MANY)
    assert {(result.kind, result.outage) for result in results} == {("circuit", True)}
    assert "the service did not answer for 0.3 s" in results[0].reason
    assert "26 of the last" in caplog.text and "HTTP 503" in caplog.text
    asked = len(service.limits)
    service.answer = lambda body: said()
    assert all(isinstance(result, Ok) for result in ask(*MANY))
    assert len(service.limits) == asked + len(MANY)
    assert "teacher answers again" in caplog.text


# ---------------------------------------------------------------- through the gateway, on a clock that jumps


@pytest.fixture
def batch(service, virtual, monkeypatch):
    """batch(send, calls, deadline, patience): results, seconds taken and seconds paused of so many calls of `send(number, loop)`."""

    def batch(send, calls, deadline=None, patience=600.0):
        async def main(loop):
            monkeypatch.setattr(gateway, "time", SimpleNamespace(monotonic=loop.time))
            one = gateway.Gateway("rag", 4, 1000.0, limits.RateLimiter(0, 0), patience)
            asked = [Call({"n": number}, partial(send, number, loop), cached=False) for number in range(calls)]
            results = await one._run(asked, deadline, lambda *_: None)
            return results, loop.time(), one._circuit.paused

        return virtual(main)

    return batch


def test_a_pause_costs_no_call_an_attempt(batch):
    tries = Counter()

    async def send(number, loop):
        tries[number] += 1
        await asyncio.sleep(0.1)
        if loop.time() < 500:
            raise Fault("connection", "down")
        return {}

    results, took, paused = batch(send, 10)
    assert [type(result) for result in results] == [Ok] * 10
    assert 470 < paused < took < 560
    assert OFTEN + 10 < tries.total() < OFTEN + 10 + 40, "one probe in half a minute"


def test_the_batchs_deadline_is_later_by_the_pause_and_by_nothing_else(batch):
    async def send(number, loop):
        if number == 39:
            await asyncio.sleep(800)
        await asyncio.sleep(0.1)
        if loop.time() < 300:
            raise Fault("connection", "down")
        return {}

    (*others, hanging), took, paused = batch(send, 40, deadline=100)
    assert [type(result) for result in others] == [Ok] * 39, "though the pause was longer than the deadline"
    assert (hanging.kind, hanging.outage) == ("deadline", True)
    assert 250 < paused < 330 and took == pytest.approx(100 + paused, abs=0.01)


def test_a_service_that_stays_down_ends_the_batch_after_the_patience(batch):
    async def send(number, loop):
        await asyncio.sleep(0.1)
        raise Fault("connection", "down")

    results, took, paused = batch(send, 40, deadline=100, patience=50)
    assert {(result.kind, result.outage) for result in results} == {("circuit", True)}
    assert paused == 50 and 50 < took < 100


def test_slow_answers_alone_extend_no_deadline(batch):
    async def send(number, loop):
        await asyncio.sleep(30)
        return {}

    results, took, paused = batch(send, 40, deadline=100)
    assert [type(result) for result in results] == [Ok] * 12 + [Failed] * 28, "4 at a time"
    assert (took, paused) == (pytest.approx(100), 0)


def test_a_probe_that_its_batch_gave_up_leaves_the_probing_to_the_next(service, virtual, monkeypatch):
    async def main(loop):
        monkeypatch.setattr(gateway, "time", SimpleNamespace(monotonic=loop.time))
        one = gateway.Gateway("rag", 4, 1000.0, limits.RateLimiter(0, 0), 600.0)
        for _ in range(OFTEN):
            one._circuit.failed(False, "down")

        async def hang():
            await asyncio.sleep(900)

        async def answer():
            return {}

        first = loop.create_task(one._run([Call({"n": 1}, hang)], None, lambda *_: None))
        await asyncio.sleep(10)
        second = loop.create_task(one._run([Call({"n": 2}, answer)], None, lambda *_: None))
        await asyncio.sleep(10)
        assert not second.done(), "one probes at a time"
        for flight in one._flights.values():
            if flight.task.get_coro().cr_frame.f_locals["call"].identity == {"n": 1}:
                flight.task.cancel()
        (given_up,), (found,) = await first, await second
        return given_up.kind, type(found)

    assert virtual(main) == ("deadline", Ok)
