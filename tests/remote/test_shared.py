"""One store for all machines: what several of them pay for, spend and ask a minute in all, and what becomes of it when somebody dies."""

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest
from overtake import settings
from overtake.remote import process, shared
from overtake.remote.chat import chat_call, chat_gateway, endpoint
from overtake.remote.circuit import Circuit
from overtake.remote.gateway import Failed
from overtake.remote.shared import SharedStore
from overtake.remote.store import store

from .conftest import said


def ask(*texts):
    calls = [chat_call(endpoint("teacher"), [{"role": "user", "content": text}], 10) for text in texts]
    return chat_gateway("teacher").submit(calls)


@pytest.fixture
def quick(redis_server, service, monkeypatch):
    """quick(patience) -> the service; its processes look for a store that is gone ten times a second."""
    monkeypatch.setattr(shared, "_BEAT_SECONDS", 0.1)
    monkeypatch.setattr(shared, "_LOOK_SECONDS", 0.02)

    def quick(patience=600):
        monkeypatch.setenv("OVERTAKE_OUTAGE_PATIENCE", str(patience))
        settings.load.cache_clear()
        return service

    yield quick
    if redis_server.process.poll() is not None:
        redis_server.start()


# ---------------------------------------------------------------- a store that is gone


def test_a_store_that_is_gone_pauses_all_calls_and_what_was_paid_for_meanwhile_is_kept(quick, redis_server, caplog):
    service, gone, go = quick(), threading.Event(), threading.Event()

    def answer(body):
        gone.set()
        go.wait(60)
        return said(body["messages"][0]["content"])

    service.answer = answer
    under_way = ask("一")
    assert gone.wait(60)
    redis_server.kill()
    waiting = ask("二")
    go.set()
    assert under_way.result(timeout=60)[0].value["text"] == "一", "it was sent before"
    time.sleep(0.5)
    assert not waiting.done() and len(service.limits) == 1, "nothing is asked that could not be counted"
    redis_server.start()
    assert waiting.result(timeout=60)[0].value["text"] == "二"
    process.forget()
    assert [result.cached for result in ask("一", "二").result(timeout=60)] == [True, True]
    assert "pausing for at most 600 s" in caplog.text and "answers again" in caplog.text
    assert "pass%2Fword" not in caplog.text and "pass/word" not in caplog.text


def test_a_store_that_stays_gone_ends_as_an_outage_and_the_next_batch_goes_on_when_it_is_back(quick, redis_server):
    service = quick(patience=0.5)
    ask("一").result(timeout=60)
    redis_server.kill()
    (result,) = ask("二").result(timeout=60)
    assert isinstance(result, Failed) and result.outage
    assert result.reason == "teacher: the store did not answer for 0.5 s"
    assert len(service.limits) == 1
    redis_server.start()
    results = []
    while not results or isinstance(results[0], Failed):  # the probes come a second apart and more
        results = ask("二").result(timeout=60)
    assert [result.value["text"] for result in results] == ["好"]


def test_money_that_a_gone_store_could_not_count_is_counted_when_it_is_back(quick, redis_server):
    quick()

    async def spend():
        kept = store()
        assert kept.spend("r", 0.5) == 0.5
        redis_server.kill()
        assert [kept.spend("r", 0.25), kept.spend("r", 0.25), kept.quiet_from("r", 3)] == [None] * 3
        redis_server.start()
        assert await kept.reachable()
        await asyncio.sleep(0)

    asyncio.run_coroutine_threadsafe(spend(), process.loop()).result(60)
    process.forget()

    async def spent():
        return store().spend("r", 0.0)

    assert asyncio.run_coroutine_threadsafe(spent(), process.loop()).result(60) == 1.0


def test_a_server_that_lost_what_it_knew_is_told_again_what_this_process_spent(redis_server, tmp_path):
    kept = SharedStore(redis_server.url, tmp_path, 60)
    kept.spend("r", 0.5)
    redis_server.client.flushall()
    assert kept.spend("r", 0.25) == 0.75
    kept.close()


# ---------------------------------------------------------------- its address


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda url: url.replace("a-pass", "another"), "AuthenticationError"),
        (lambda url: url.rpartition(":")[0] + ":1/0", "ConnectionError"),
    ],
)
def test_a_store_that_does_not_answer_at_the_start_is_an_error_before_anything_is_asked(redis_server, service, monkeypatch, change, words):
    monkeypatch.setenv("OVERTAKE_STORE", change(redis_server.url))
    settings.load.cache_clear()
    with pytest.raises(settings.SettingsError, match=rf"OVERTAKE_STORE=redis://\*\*\*@127.0.0.1:\d+/0 does not answer \({words}") as error:
        ask("一").result(timeout=60)
    assert "start redis-server, or correct the address" in str(error.value) and "word" not in str(error.value).replace("password", "")
    assert service.limits == []


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1:6379",
        "http://:secret@host:6379",
        "redis://:se/cret@host:6379/0",
        "redis://:secret@",
        "redis://:secret@host/a",
        "redis://a b",
    ],
)
def test_what_is_no_address_of_redis_is_refused_and_not_shown(fresh, monkeypatch, address):
    monkeypatch.setenv("OVERTAKE_STORE", address)
    settings.load.cache_clear()
    with pytest.raises(
        settings.SettingsError, match="OVERTAKE_STORE=…: is no address of Redis: write redis://:PASSWORD@HOST:6379/0"
    ) as error:
        settings.load()
    assert "cret" not in str(error.value)


def test_a_password_in_the_file_of_settings_is_refused(fresh, monkeypatch, tmp_path):
    (tmp_path / "settings.yaml").write_text("store: redis://:secret@host:6379/0")
    monkeypatch.setenv("OVERTAKE_CONFIG", str(tmp_path / "settings.yaml"))
    settings.load.cache_clear()
    with pytest.raises(settings.SettingsError, match="holds a password in store: take it out and export OVERTAKE_STORE instead"):
        settings.load()


def test_a_server_that_keeps_nothing_when_it_is_killed_is_warned_of(redis_server, tmp_path, caplog):
    redis_server.client.config_set("appendonly", "no")
    try:
        SharedStore(redis_server.url, tmp_path, 60).close()
        assert "set appendonly yes" in caplog.text
    finally:
        redis_server.client.config_set("appendonly", "yes")


# ---------------------------------------------------------------- what machines tell each other


@pytest.fixture
def machines(redis_server, tmp_path):
    """Two stores, as of two machines."""
    both = [SharedStore(redis_server.url, tmp_path / name, 60) for name in "ab"]
    yield both
    for one in both:
        one.close()


def test_a_service_that_one_machine_finds_down_pauses_all_and_one_of_them_probes(machines):
    circuits = [Circuit("rag", 60, place="http://rag") for _ in machines]
    elsewhere = Circuit("rag", 60, place="http://another")
    for machine, circuit in zip(machines, circuits, strict=True):
        machine.watch(circuit)
    machines[1].watch(elsewhere)
    for _ in range(26):
        circuits[0].failed(False, "down")
    machines[1]._pulse()
    assert [circuit.open for circuit in (*circuits, elsewhere)] == [True, True, False]
    for circuit in circuits:
        circuit._next_probe = 0.0
    assert [circuit.probe_now() for circuit in circuits] == [True, False]
    circuits[0].failed(True, "still down")
    for circuit in circuits:
        circuit._next_probe = 0.0
    assert not any(circuit.probe_now() for circuit in circuits), "nobody, for two seconds"
    circuits[0].answered()
    machines[1]._pulse()
    assert not any(circuit.open for circuit in circuits)
    machines[0]._pulse()
    assert not circuits[0].open, "what is over is not begun again"


def test_the_limit_a_minute_is_one_for_all_machines(machines):
    waits = [machines[number % 2].pace("t", 1, 10.0, 2.0) for number in range(12)]
    assert waits[:2] == [0.0, 0.0], "the burst"
    assert all(wait <= (number - 1) / 10 for number, wait in enumerate(waits, 1)) and waits[-1] > 0.5
    machines[0].pace("t", -100, 10.0, 2.0)
    assert machines[1].pace("t", 1, 10.0, 2.0) == 0.0, "what is given back is another's"


def test_a_reservation_outlives_a_pause_of_its_process_and_is_settled_once(machines, redis_server):
    one, two = machines
    one.reserve("r", 0.6, 1.0)
    redis_server.forget_owners()  # it stood still for longer than its lease
    assert two.reserve("r", 0.6, 1.0) == (0.6, 0.0, False)
    assert one.settle("r", 0.6, 0.1) == 0.1
    two._pulse(), one._pulse()
    assert two.reserve("r", 0.6, 1.0) == (0.1, 0.0, True)


# ---------------------------------------------------------------- four processes on two machines

COST = (10 * 1.25 + 100 * 10) / 1e6
"""USD of each answer; each is estimated at a hundredth less."""
WORKER = """
import random, sys
import openai  # before the first call, which would else wait for it while the next ones come due
from overtake.remote.chat import chat_call, chat_gateway, endpoint
count, of, seed = map(int, sys.argv[1:4])
texts = [f"{sys.argv[4]}问{number % of}" for number in range(count)]
random.Random(seed).shuffle(texts)
to = endpoint("teacher")
results = chat_gateway("teacher").run([chat_call(to, [{"role": "user", "content": text}], 100) for text in texts])
print(sum(type(result).__name__ == "Ok" for result in results), *sorted({result.kind for result in results if hasattr(result, "kind")}))
"""


class Machines:
    """Processes on two "machines", which share nothing but the store; `asked` holds (when, text) of each request that was answered."""

    def __init__(self, service, tmp_path, monkeypatch):
        self.asked, self.lock, self.folders = [], threading.Lock(), tmp_path
        service.answer = self.answer
        for name, value in {"TEACHER_MODEL": "gpt-5", "TEACHER_CONCURRENCY": "16", "BUDGET_RUN": "r"}.items():
            monkeypatch.setenv(f"OVERTAKE_{name}", value)
        self.set = lambda name, value: monkeypatch.setenv(f"OVERTAKE_{name}", str(value))

    def answer(self, body):
        with self.lock:
            self.asked.append((time.monotonic(), body["messages"][0]["content"]))
        time.sleep(0.02)
        return said(tokens=(10, 100))

    def start(self, number, count, of, prefix=""):
        self.set("CACHE_DIR", self.folders / f"machine{number % 2}")
        command = [sys.executable, "-c", WORKER, str(count), str(of), str(number), prefix]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def until(self, answers):
        while len(self.asked) < answers:
            time.sleep(0.02)


@pytest.fixture
def cluster(redis_server, service, tmp_path, monkeypatch):
    return Machines(service, tmp_path, monkeypatch)


@pytest.mark.slow
def test_of_10000_calls_from_two_machines_none_is_paid_twice_but_those_in_flight_when_a_process_is_killed(cluster, redis_server):
    cluster.set("BUDGET_HARD", 1000)
    at_once, of = 16, 2500
    workers = [cluster.start(number, 2500, of) for number in range(4)]
    cluster.until(500)
    workers[0].kill()
    workers[0].wait()
    cluster.until(1200)
    redis_server.kill()
    time.sleep(1)
    redis_server.start()
    workers[0] = cluster.start(0, 2500, of)
    assert [worker.communicate(timeout=280)[0].split() for worker in workers] == [["2500"]] * 4
    times = Counter(text for _, text in cluster.asked)
    assert len(times) == of
    assert len(cluster.asked) - of <= at_once, "what the killed process had asked and not yet been answered"
    account = json.loads(redis_server.client.get("overtake:account:r"))
    uncounted = len(cluster.asked) - round(sum(account["spent"].values()) / COST)
    assert 0 <= uncounted <= at_once, "what was answered to the killed process and not yet counted"
    assert uncounted <= round(sum(account["reserved"].values()) / COST) <= at_once, "what it had reserved for these stands as spent"


@pytest.mark.slow
def test_two_machines_keep_one_budget_and_one_limit_a_minute(cluster):
    cluster.set("BUDGET_HARD", 60 * COST)
    cluster.set("TEACHER_RPM", 600)
    workers = [cluster.start(number, 50, 50, f"{number}号") for number in range(4)]
    outs = [worker.communicate(timeout=280)[0].split() for worker in workers]
    paid = len(cluster.asked)
    assert sum(int(answers) for answers, *_ in outs) == paid == 60, "61 would be more than the limit, whatever was under way"
    assert [kinds for _, *kinds in outs] == [["budget"]] * 4
    times = sorted(when for when, _ in cluster.asked)
    assert times[-1] - times[0] >= (paid - 1) / 10 * 0.6, "ten a second in all; were it ten each, a quarter of the time would do"
