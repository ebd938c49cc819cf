"""How much one process asks of a service: never more than its share a minute, first come first served, real tokens in the end."""

import asyncio
import itertools
import os
import time
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from overtake.remote.gateway import Call, Gateway, Ok, gateway
from overtake.remote.limits import RateLimiter, ranks, share

from . import virtual_time

BURST_SECONDS, TOKEN_BURST_SECONDS = 0.1, 10

seconds = st.floats(0, 20, allow_subnormal=False)
counts = st.integers(1, 200_000)
few = settings(deadline=None, max_examples=40)


def pace(requests_a_minute=0, tokens_a_minute=0, world=1):
    with mock.patch.dict(os.environ, RANK="0", WORLD_SIZE=str(world)):
        return RateLimiter(requests_a_minute, tokens_a_minute)


def starts(paced, arrivals):
    """When each request was let go, as (its place in the line, seconds); arrivals are (gap, tokens, lasts, used)."""

    async def main(loop):
        gone = []

        async def request(place, tokens, lasts, used):
            await paced.take(tokens)
            gone.append((place, loop.time()))
            await asyncio.sleep(lasts)
            paced.settle(tokens, used)

        tasks = []
        for place, (gap, *rest) in enumerate(arrivals):
            await asyncio.sleep(gap)
            tasks.append(loop.create_task(request(place, *rest)))
        await asyncio.gather(*tasks)
        return gone

    return virtual_time.run(main)


@few
@given(counts, st.integers(1, 8), st.lists(seconds, min_size=1, max_size=40))
def test_in_any_window_no_more_requests_start_than_this_ranks_share_allows(requests_a_minute, world, gaps):
    gone = starts(pace(requests_a_minute, world=world), [(gap, 0, 0, 0) for gap in gaps])
    rate = requests_a_minute / world / 60
    burst = max(rate * BURST_SECONDS, 1)
    times = [moment for _, moment in gone]
    for first, begin in enumerate(times):
        for last, end in enumerate(times[first:], first):
            assert last - first + 1 <= rate * (end - begin) + burst + 1e-6
    assert [place for place, _ in gone] == list(range(len(gaps))), "first come, first served"
    assert times[-1] <= sum(gaps) + len(gaps) / (0.97 * rate) + 1e-3, "nobody waits for longer than the rate demands"


@few
@given(
    st.integers(12_000, 200_000),
    st.integers(1, 4),
    st.lists(st.tuples(seconds, st.integers(0, 2500), seconds, st.integers(0, 5000)), min_size=1, max_size=20),
)
def test_what_was_really_used_stays_within_the_tokens_a_minute(tokens_a_minute, world, arrivals):
    gone = starts(pace(tokens_a_minute=tokens_a_minute, world=world), arrivals)
    assert [place for place, _ in gone] == list(range(len(arrivals))), "however few tokens the later ones need"
    rate = tokens_a_minute / world / 60
    for place, moment in gone:
        taken = 0
        for other, begun in gone[: place + 1]:
            _, tokens, lasts, used = arrivals[other]
            taken += used if used and begun + lasts < moment - 0.001 else tokens
        assert taken <= rate * moment + max(rate * TOKEN_BURST_SECONDS, 1) + 1e-3


@few
@given(
    counts,
    st.integers(12_000, 200_000),
    st.lists(st.tuples(seconds, st.integers(0, 2500), seconds, st.integers(0, 2500)), min_size=1, max_size=20),
)
def test_both_limits_together_let_all_go_in_their_order(requests_a_minute, tokens_a_minute, arrivals):
    gone = starts(pace(requests_a_minute, tokens_a_minute), arrivals)
    assert [place for place, _ in gone] == list(range(len(arrivals)))
    times = [moment for _, moment in gone]
    for earlier, later in itertools.pairwise(times):
        assert later - earlier >= (0 if requests_a_minute > 600 else 60 / requests_a_minute) - 1e-6


@pytest.mark.parametrize(("estimate", "used"), [(1000, 100), (300, 300), (100, 1000)])
def test_in_the_long_run_estimates_do_not_matter(estimate, used):
    minutes = 30
    gone = starts(pace(tokens_a_minute=6000), [(0, estimate, 3, used)] * (minutes * 6000 // used))
    assert 5500 <= len(gone) * used / (gone[-1][1] / 60) <= 6100


def test_a_request_larger_than_the_bucket_goes_through_when_its_tokens_have_come():
    (_, first), (_, second) = starts(pace(tokens_a_minute=600), [(0, 1000, 0, 0), (0, 1, 0, 0)])
    assert first == pytest.approx((1000 - 98) / 9.8, rel=0.01)
    assert second >= first


def test_credit_that_was_never_used_is_no_larger_than_the_bucket():
    many = [(0, 1000, 1, 1)] * 10
    gone = starts(pace(tokens_a_minute=60_000), [*many, (600, 0, 0, 0), *[(0, 1000, 0, 0)] * 40])
    at_once = [moment for _, moment in gone[11:] if moment < gone[11][1] + 0.001]
    assert len(at_once) == 19  # a bucket of 9,800 tokens, and as many that were given back


def test_who_is_cancelled_in_the_line_gives_back_its_place_and_its_tokens():
    async def main(loop):
        paced, gone = pace(600, 60_000), []

        async def request(name, tokens):
            await paced.take(tokens)
            gone.append((name, round(loop.time(), 1)))

        tasks = [loop.create_task(request(name, tokens)) for name, tokens in {"first": 9800, "large": 90_000, "small": 10}.items()]
        await asyncio.sleep(25)
        tasks[1].cancel()
        await asyncio.wait(tasks)
        return gone

    assert virtual_time.run(main) == [("first", 0.0), ("small", 25.0)]


def test_no_limit_is_no_wait():
    gone = starts(pace(), [(0, 10**9, 0, 10**9)] * 1000)
    assert gone[-1][1] == pytest.approx(0, abs=0.001)


@few
@given(st.integers(1, 1000), st.integers(1, 64))
def test_the_shares_of_all_ranks_are_the_total_and_nobody_has_none(total, world):
    shares = [share(total, rank, world) for rank in range(world)]
    assert sum(shares) == max(total, world)
    assert max(shares) - min(shares) <= 1 and min(shares) >= 1


@pytest.mark.parametrize(
    ("rank", "world", "found", "places"), [(None, None, (0, 1), 5), ("0", "2", (0, 2), 3), ("1", "2", (1, 2), 2), ("7", "8", (7, 8), 1)]
)
def test_the_rank_is_what_torchrun_says(service, monkeypatch, rank, world, found, places):
    for name, value in {"RANK": rank, "WORLD_SIZE": world}.items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name, raising=False)
    assert ranks() == found
    assert gateway("any", 5, 1.0).concurrency == places


def test_a_call_given_up_before_its_first_step_gives_its_place_back(service):
    async def slow():
        time.sleep(0.4)  # the loop itself is held up: the deadline and the next call's start come in one turn
        await asyncio.sleep(0)
        return {}

    async def quick():
        return {}

    one = gateway("one place", 1, 5.0)
    assert isinstance(one, Gateway)
    one.run([Call({"n": 1}, slow, cached=False), Call({"n": 2}, quick, cached=False)], deadline=0.2)
    (result,) = one.submit([Call({"n": 3}, quick, cached=False)]).result(timeout=30)
    assert isinstance(result, Ok)
