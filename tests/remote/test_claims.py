"""Of all who want the same answer one asks; money is reserved before it is spent; and who dies leaves neither claim nor debt open."""

import asyncio
import subprocess
import sys
import threading
import time

import pytest
from overtake import settings
from overtake.remote import budget, gateway, process
from overtake.remote.chat import chat_call, chat_gateway, endpoint
from overtake.remote.gateway import Failed, Ok

from .conftest import said


@pytest.fixture(params=["disk", "redis"], autouse=True)
def kept_in(request):
    """Every test here holds for a store on this machine's disk, where this is None, and for a shared one."""
    return request.getfixturevalue("redis_server") if request.param == "redis" else None


OTHER = """
import asyncio, os, sys
os.environ["OVERTAKE_CACHE_DIR"] = sys.argv[1]
from overtake.remote.store import store as open_store

async def main():
    store = open_store()
    for line in sys.stdin:
        name, *rest = line.split()
        found = getattr(store, name)(*(float(word) if "." in word else {"text": "好"} if word == "VALUE" else word for word in rest))
        await asyncio.sleep(0.01)
        print(repr(found), flush=True)
    store.close()

asyncio.run(main())
"""


class Other:
    """A process with a store of its own, told what to do with it."""

    def __init__(self, folder):
        command = [sys.executable, "-c", OTHER, folder]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def kill(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def dead(kept_in):
    """dead(process) kills it, and lets its lease run out where it has one; all others say again that they live."""

    def dead(process):
        process.kill()
        process.wait()
        if kept_in:
            kept_in.forget_owners()

    return dead


@pytest.fixture
def others(tmp_path, kept_in):
    """others(count) -> so many processes with one store."""
    started = []

    def others(count):
        started.extend(Other(tmp_path) for _ in range(count))
        return started[-count:]

    yield others
    for one in started:
        one.kill()
        one.process.stdin.close()
        one.process.stdout.close()


# ---------------------------------------------------------------- claims


def test_one_claims_and_the_others_wait_for_its_answer(others):
    one, two = others(2)
    assert one("claim", "k") == "True"
    assert (one("claim", "k"), two("claim", "k"), two("taken", "k")) == ("False", "False", "True")
    one("put", "k", "VALUE")
    one("release", "k")
    assert (two("taken", "k"), two("claim", "k"), one("claim", "k")) == ("False", "{'text': '好'}", "{'text': '好'}")


def test_a_claim_given_up_without_an_answer_is_free(others):
    one, two = others(2)
    one("claim", "k")
    one("release", "k")
    assert two("claim", "k") == "True"


def test_a_claim_ends_with_its_owner_however_it_ends(others, dead):
    one, two, three = others(3)
    assert (one("claim", "k"), two("claim", "j")) == ("True", "True")
    dead(one.process)
    time.sleep(1.1)  # a second after it was heard of last the other one says that it lives, whatever it is asked
    two("taken", "j")
    assert (three("claim", "k"), three("claim", "j")) == ("True", "False")
    two.process.stdin.close()
    two.process.wait()
    assert three("claim", "j") == "True"


# ---------------------------------------------------------------- through the gateway


def ask(*texts):
    return chat_gateway("teacher").submit([chat_call(endpoint("teacher"), [{"role": "user", "content": text}], 10) for text in texts])


@pytest.fixture
def asked(service):
    """The texts that the service was asked, each of which takes it some time."""
    texts, lock = [], threading.Lock()

    def answer(body):
        with lock:
            texts.append(body["messages"][-1]["content"])
        time.sleep(0.02)
        return said()

    service.answer = answer
    return texts


def test_two_batches_of_one_process_pay_once_for_what_both_want(asked):
    texts = [f"问{number}" for number in range(64)]
    both = [ask(*texts), ask(*reversed(texts))]
    assert all(isinstance(result, Ok) for future in both for result in future.result(timeout=120))
    assert sorted(asked) == sorted(texts)


def test_teacher_and_judge_that_ask_the_same_pay_once(asked):
    messages = [{"role": "user", "content": "同"}]
    futures = [chat_gateway(role).submit([chat_call(endpoint(role), messages, 10)]) for role in ("teacher", "judge")]
    assert all(isinstance(future.result(timeout=60)[0], Ok) for future in futures)
    assert asked == ["同"]


ASK = """
import sys
from overtake.remote.chat import chat_call, chat_gateway, endpoint
to = endpoint("teacher")
calls = [chat_call(to, [{"role": "user", "content": f"问{number}"}], 10) for number in range(80)]
results = chat_gateway("teacher").run(calls)
print(sum(type(result).__name__ == "Ok" for result in results), sum(getattr(result, "cached", False) for result in results))
"""


def test_processes_that_start_together_pay_once_for_what_all_want(asked):
    count = 4
    together = [subprocess.Popen([sys.executable, "-c", ASK], stdout=subprocess.PIPE, text=True) for _ in range(count)]
    found = [tuple(map(int, one.communicate(timeout=240)[0].split())) for one in together]
    assert [answers for answers, _ in found] == [80] * count
    assert sorted(asked) == sorted(f"问{number}" for number in range(80))
    assert sum(cached for _, cached in found) == 80 * (count - 1), "an answer that another has paid for cost nothing here"


STUCK = """
import sys, time
from overtake.remote.chat import chat_call, chat_gateway, endpoint
chat_gateway("teacher").submit([chat_call(endpoint("teacher"), [{"role": "user", "content": "同"}], 10)])
time.sleep(300)
"""


def test_who_waits_for_a_process_that_dies_asks_for_itself(service, dead):
    came, first = threading.Event(), [True]

    def answer(body):
        if first:
            first.clear()
            came.set()
            time.sleep(60)
        return said("二")

    service.answer = answer
    stuck = subprocess.Popen([sys.executable, "-c", STUCK])
    try:
        assert came.wait(60)
        waiting = ask("同")
        time.sleep(0.5)
        assert not waiting.done() and len(service.limits) == 1
        dead(stuck)
        (result,) = waiting.result(timeout=30)
        assert result.value["text"] == "二" and len(service.limits) == 2
    finally:
        stuck.kill()
        stuck.wait()


def test_who_finds_the_service_down_leaves_the_claim_to_the_next(service, others, monkeypatch):
    monkeypatch.setattr(gateway, "_backoff", lambda tries: 30.0)
    monkeypatch.setattr(gateway, "_LOOK_SECONDS", 0.01)
    service.answer = lambda body: (503, {})
    waiting = ask("同")
    while not service.limits:
        time.sleep(0.01)
    (other,) = others(1)
    key = chat_call(endpoint("teacher"), [{"role": "user", "content": "同"}], 10).key
    deadline = time.monotonic() + 20
    while other("claim", key) != "True":
        assert time.monotonic() < deadline, "the claim is kept through the back-off"
    waiting.cancel()


def test_a_call_that_is_not_kept_is_not_claimed(asked):
    to = endpoint("teacher")
    calls = [chat_call(to, [{"role": "user", "content": "同"}], 10, cached=False) for _ in range(2)]
    for call in calls:
        assert isinstance(chat_gateway("teacher").run([call])[0], Ok)
    assert asked == ["同"] * 2


def test_kept_answers_are_not_held_up_by_those_that_wait_for_a_place(service, monkeypatch):
    monkeypatch.setenv("OVERTAKE_TEACHER_CONCURRENCY", "1")
    settings.load.cache_clear()
    ask("旧").result(timeout=60)
    go = threading.Event()
    service.answer = lambda body: (go.wait(60), said())[1]
    told, came = [], threading.Event()

    def tell(index, result):
        told.append(index)
        came.set()

    calls = [chat_call(endpoint("teacher"), [{"role": "user", "content": text}], 10) for text in ("新一", "新二", "旧")]
    future = chat_gateway("teacher").submit(calls, None, tell)
    assert came.wait(30) and told == [2]
    go.set()
    assert len(future.result(timeout=60)) == 3


def test_a_slow_call_that_is_asked_again_goes_behind_those_that_wait(service, monkeypatch):
    monkeypatch.setenv("OVERTAKE_TEACHER_CONCURRENCY", "1")
    settings.load.cache_clear()
    order = []

    def answer(body):
        order.append((body["messages"][-1]["content"], body["max_tokens"]))
        return said("半", "length") if body["messages"][-1]["content"] == "长" and body["max_tokens"] == 10 else said()

    service.answer = answer
    assert all(isinstance(result, Ok) for result in ask("长", "一").result(timeout=60))
    assert order == [("长", 10), ("一", 10), ("长", 40)]


# ---------------------------------------------------------------- money


def test_what_is_reserved_counts_for_all_and_is_taken_back(others):
    one, two = others(2)
    assert one("reserve", "r", "0.6", "1.0") == "Money(spent=0.0, reserved=0.0, granted=True)"
    assert two("reserve", "r", "0.6", "1.0") == "Money(spent=0.0, reserved=0.6, granted=False)"
    assert one("settle", "r", "0.6", "0.25") == "0.25"
    assert two("reserve", "r", "0.6", "1.0") == "Money(spent=0.25, reserved=0.0, granted=True)"


def test_what_a_dead_process_had_reserved_counts_as_spent(others, dead):
    one, two = others(2)
    one("reserve", "r", "0.6", "1.0")
    dead(one.process)
    assert two("reserve", "r", "0.3", "1.0") == "Money(spent=0.6, reserved=0.0, granted=True)"
    assert two("settle", "r", "0.3", "0.1") == "0.7"


@pytest.fixture
def priced(service, monkeypatch):
    """priced(BUDGET_HARD=0.01) starts afresh under these settings; gpt-5 answers, and `.asked` counts."""
    service.asked = 0
    service.together = service.most = 0
    lock = threading.Lock()
    service.say = lambda body: said()

    def answer(body):
        with lock:
            service.asked += 1
            service.together += 1
            service.most = max(service.most, service.together)
        time.sleep(0.02)
        with lock:
            service.together -= 1
        return service.say(body)

    service.answer = answer

    def priced(**values):
        for name, value in ({"TEACHER_MODEL": "gpt-5", "TEACHER_CONCURRENCY": 64} | values).items():
            monkeypatch.setenv(f"OVERTAKE_{name}", str(value))
        process.forget()
        settings.load.cache_clear()
        budget._rate.cache_clear()
        return service

    yield priced
    budget._rate.cache_clear()


def many(count, limit=100):
    to = endpoint("teacher")
    calls = [chat_call(to, [{"role": "user", "content": f"问{number}"}], limit) for number in range(count)]
    return chat_gateway("teacher").run(calls)


def spent():
    async def call():
        return budget._spent()

    return asyncio.run_coroutine_threadsafe(call(), process.loop()).result(30)


@pytest.mark.parametrize("run", ["", "r"])
def test_64_calls_at_once_pass_the_limit_by_no_more_than_estimates_were_wrong(priced, run):
    service = priced(BUDGET_HARD=0.01, BUDGET_RUN=run)
    service.say = lambda body: said(tokens=(10, 100))  # 0.0010125 USD, for an estimate of 0.00100125
    results = many(64)
    answered = sum(isinstance(result, Ok) for result in results)
    assert answered == service.asked == 9 and {result.kind for result in results if isinstance(result, Failed)} == {"budget"}
    assert spent() == pytest.approx(9 * (10 * 1.25 + 100 * 10) / 1e6)


def test_money_that_requests_under_way_may_leave_over_is_waited_for(priced):
    service = priced(BUDGET_HARD=0.01)
    service.say = lambda body: said(tokens=(10, 1))
    assert all(isinstance(result, Ok) for result in many(64)), "each may cost a tenth of the limit, and costs a 200th"
    assert service.most <= 9


def test_a_request_that_alone_may_pass_the_limit_is_refused_with_both_numbers(priced):
    service = priced(BUDGET_HARD=0.01)
    (result,) = many(1, 100_000)
    assert result.reason == (
        "teacher: the budget is spent: 0 of OVERTAKE_BUDGET_HARD=0.01 USD, and this request may cost 1; raise it to go on"
    )
    assert service.asked == 0


@pytest.mark.parametrize(
    "usage", [None, {"prompt_tokens": 0, "completion_tokens": 0}, {"prompt_tokens": "9" * 5000, "completion_tokens": 1}]
)
def test_a_service_that_sends_no_usage_is_charged_at_the_estimate_and_that_is_said_once(priced, caplog, usage):
    service = priced(BUDGET_HARD=0.01)
    service.say = lambda body: (200, said()[1] | {"usage": usage})
    results = many(500)
    assert sum(isinstance(result, Ok) for result in results) == service.asked == 9
    assert spent() == pytest.approx(9 * 0.00100125)
    assert caplog.text.count("the service of gpt-5 sends no usage: each of its answers is charged at its estimate") == 1
    assert chat_gateway("teacher").meter.usd == pytest.approx(9 * 0.00100125)


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": 1_000_000, "completion_tokens": 0, "prompt_tokens_details": {"cached_tokens": 800_000}},
        {"prompt_tokens": 1_000_000, "completion_tokens": 0, "prompt_cache_hit_tokens": 800_000, "prompt_cache_miss_tokens": 200_000},
    ],
)
def test_prompt_tokens_that_the_provider_had_cached_cost_what_it_asks_for_them(priced, usage):
    service = priced()
    service.say = lambda body: (200, said()[1] | {"usage": usage})
    (result,) = many(1)
    assert result.value["usd"] == pytest.approx(0.2 * 1.25 + 0.8 * 0.125)
    assert result.value["usage"] == {"prompt_tokens": 1_000_000, "completion_tokens": 0}


def test_a_price_without_one_for_cached_tokens_is_the_whole_price(priced, tmp_path):
    (tmp_path / "prices.toml").write_text("[m]\ninput = 2.0\noutput = 0.0\n")
    priced(PRICES=tmp_path / "prices.toml")
    assert budget.price("m", {"prompt_tokens": 1_000_000, "completion_tokens": 0}, cached_tokens=900_000) == 2.0
