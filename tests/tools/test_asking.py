"""Asking many calls with a pilot of 20: what stops it early, and that one slow call among them does not hold up the rest."""

import threading

import pytest
from overtake import cli, settings
from overtake.remote import process
from overtake.remote.faults import Fault
from overtake.remote.gateway import Call, Ok, gateway


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """asked(send) -> a gateway with 8 places and a function that makes a call of `send(number)`."""
    monkeypatch.setenv("OVERTAKE_CACHE_DIR", str(tmp_path))
    process.forget()
    settings.load.cache_clear()
    yield lambda send: (gateway("asking", 8, 60.0), lambda number: Call({"n": number}, lambda: send(number)))
    process.forget()
    settings.load.cache_clear()


def test_one_slow_call_of_the_pilot_does_not_hold_up_the_rest(asked):
    others, told = threading.Event(), []

    async def send(number):
        while number == 5 and not others.is_set():
            await process.asyncio.sleep(0.01)
        return {"number": number}

    def tell(index, result):
        told.append(index)
        if len(told) == 99:
            others.set()  # the slow one answers when all others have

    to, call = asked(send)
    results = cli.ask(to, [call(number) for number in range(100)], "asking", tell)
    assert [result.value["number"] for result in results] == list(range(100))
    assert told[-1] == 5 and sorted(told) == list(range(100))


@pytest.mark.parametrize(("bad", "stops"), [(10, False), (11, True)])
def test_more_than_half_of_the_pilot_stop_it_and_nothing_more_is_sent(asked, bad, stops):
    sent = []

    async def send(number):
        sent.append(number)
        if 0 < number <= bad:
            raise Fault("http_422", "HTTP 422: no", again=False)
        return {}

    to, call = asked(send)
    calls = [call(number) for number in range(50)]
    if stops:
        with pytest.raises(cli.Abort, match="11 of the first 20 calls failed, most often so: asking: HTTP 422: no"):
            cli.ask(to, calls, "asking")
        assert len(sent) == 20
    else:
        assert sum(isinstance(result, Ok) for result in cli.ask(to, calls, "asking")) == 40


@pytest.mark.parametrize("count", [0, 1, 2, 19, 20, 21])
def test_few_calls_come_back_in_their_order_kept_or_not(asked, count):
    async def send(number):
        return {"number": number}

    to, call = asked(send)
    for kept in (False, True):
        results = cli.ask(to, [call(number) for number in range(count)], "asking")
        assert [(result.value["number"], result.cached) for result in results] == [(number, kept) for number in range(count)]
