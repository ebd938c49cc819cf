"""Every misdeed alone, at both gateways: the call ends in time as what it is, with its kind, and is counted so everywhere."""

import socket
import time
from collections import Counter
from pathlib import Path
from unittest.mock import ANY

import pytest
from overtake.remote import gateway, process
from overtake.remote.chat import chat_call, chat_gateway, endpoint
from overtake.remote.gateway import ATTEMPTS, Failed, Ok
from overtake.remote.rag import rag_call, rag_gateway

ASKED_AGAIN = {
    **dict.fromkeys(("hang", "drip", "drip_head"), "timeout"),
    **dict.fromkeys(("close", "cut", "reset", "reset_half"), "connection"),
    **dict.fromkeys(("html", "bad_json", "binary", "deep", "wrong_form"), "malformed"),
    "error_inside": "error_inside",
    **{status: f"http_{status}" for status in ("408", "409", "425", "500", "502", "503", "504", "529")},
}
FINAL = {
    "redirect": "http_302",
    "flood": "too_large",
    "flood_told": "too_large",
    "bomb": "too_large",
    **{status: f"http_{status}" for status in ("400", "401", "403", "404", "413", "422", "501")},
}
GUARD = 90
"""Seconds after which a test that waits says that the gateway hangs; nothing here takes as long."""

at_both = pytest.mark.parametrize("which", ["rag", "chat"])


@pytest.fixture
def ask(monkeypatch):
    """ask(which) -> (result, meter) of one call; failed attempts are repeated without a pause."""
    monkeypatch.setattr(gateway, "_backoff", lambda tries: 0.0)

    def ask(which, text="胶原", deadline=60):
        if which == "rag":
            to, call = rag_gateway(), rag_call("怎么吃", text, "fivedoctors")
        else:
            to, call = chat_gateway("teacher"), chat_call(endpoint("teacher"), [{"role": "user", "content": text}], 200)
        (result,) = to.submit([call], deadline).result(timeout=GUARD)
        return result, to.meter

    return ask


def patience(fate):
    """Short where the fate is to wait for, long where a busy machine must not be taken for one."""
    seconds = 0.3 if fate in ("hang", "drip", "drip_head") else 30
    return {"RAG_TIMEOUT": seconds, "TEACHER_TIMEOUT": seconds}


@at_both
@pytest.mark.parametrize("fate", [*ASKED_AGAIN, *FINAL])
def test_a_misdeed_that_goes_on_fails_the_call_by_its_name(chaos, use, ask, ledger, tmp_path, which, fate):
    server, kind, tries = chaos(mix={fate: 1.0}), (ASKED_AGAIN | FINAL)[fate], 1 if fate in FINAL else ATTEMPTS
    use(server, CACHE_DIR=tmp_path / "cache", **patience(fate))
    result, meter = ask(which)
    assert isinstance(result, Failed)
    outage = fate in ASKED_AGAIN and kind != "malformed"  # whoever answers is not down
    assert (result.kind, result.outage, result.unusable) == (kind, outage, False)
    assert (meter.calls, meter.cached, meter.failed, meter.faults) == (1, 0, {kind: 1}, {kind: tries})
    rows, faults = ledger(tmp_path / "cache")
    assert [(row["status"], row["kind"], row["tries"], row["reason"]) for row in rows] == [("failed", kind, tries, result.reason)]
    log = server.log()
    assert faults == server.dealt() == {kind: tries} and len(log) == tries
    assert not any(row["path"].startswith("/moved") for row in log), "a redirect was followed"
    if which == "chat":
        assert {row["who"] for row in log} == {"first"}


@at_both
@pytest.mark.parametrize("fate", ASKED_AGAIN)
def test_a_misdeed_that_passes_costs_one_more_attempt_and_no_truth(chaos, use, ask, tmp_path, which, fate):
    server = chaos(script=[fate])
    use(server, **patience(fate))
    result, meter = ask(which)
    assert isinstance(result, Ok) and (meter.failed, meter.faults) == ({}, server.dealt())
    assert server.dealt()[ASKED_AGAIN[fate]] >= 1
    asked = len(server.log())
    again, meter = ask(which)
    assert again == Ok(result.value, cached=True) and meter.cached == 1 and len(server.log()) == asked
    use(server, CACHE_DIR=tmp_path / "calm")
    assert ask(which) == (Ok(result.value), ANY) and len(server.log()) == asked + 1


@at_both
@pytest.mark.parametrize("fate", ["flood", "flood_told", "bomb"])
def test_2_gb_are_neither_taken_nor_held(chaos, use, ask, which, fate):
    server = chaos(mix={fate: 1.0})
    use(server)
    ask(which, "warm up")
    Path("/proc/self/clear_refs").write_text("5")  # from here on the peak is ours
    before = memory()["VmRSS"]
    for number in range(5):
        result, _ = ask(which, f"胶原 {number}")
        assert isinstance(result, Failed) and result.kind == "too_large"
    assert memory()["VmHWM"] - before < 200 << 20
    if fate != "bomb":
        assert max(row["sent"] for row in server.log()) < 100 << 20


def memory():
    """Bytes this process holds: VmRSS now, VmHWM at the peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return {name: int(rest.split()[0]) << 10 for name, _, rest in (line.partition(":") for line in lines) if name in ("VmRSS", "VmHWM")}


def test_an_empty_text_fails_and_an_empty_recall_is_a_measurement(chaos, use, ask):
    server = chaos(mix={"empty": 1.0})
    use(server)
    result, meter = ask("chat")
    assert isinstance(result, Failed) and (result.kind, result.outage, result.unusable) == ("unusable", False, True)
    assert meter.tokens == len("胶原"), "what was no use is billed all the same"
    assert ask("rag")[0] == Ok({"recall": []})
    assert len(server.log()) == 2


def test_a_text_cut_off_is_asked_for_with_higher_limits_and_then_fails(chaos, use, ask):
    server = chaos(mix={"length": 1.0})
    use(server)
    result, meter = ask("chat")
    assert isinstance(result, Failed) and (result.kind, result.unusable) == ("unusable", True)
    assert meter.faults == {"unusable": 2} and len(server.log()) == 2, "no reasoning ate the first raise"
    server = chaos(script=["length"])
    use(server)
    result, meter = ask("chat")
    assert isinstance(result, Ok) and result.value["text"].startswith("胶原 术语") and meter.faults == {"unusable": 1}


@at_both
def test_429_uses_up_no_attempt(chaos, use, ask, which):
    server = chaos(script=["429"] * (ATTEMPTS + 5))
    use(server)
    result, meter = ask(which)
    assert isinstance(result, Ok) and meter.faults == {"http_429": ATTEMPTS + 5}


@at_both
def test_429_without_end_ends_with_the_calls_time(chaos, use, ask, monkeypatch, which):
    monkeypatch.setattr(gateway, "_CALL_SECONDS", 2.5)
    server = chaos(mix={"429 retry-after 1": 1.0})
    use(server)
    result, meter = ask(which)
    assert isinstance(result, Failed) and (result.kind, result.outage) == ("http_429", True)
    assert meter.faults == {"http_429": 3} == server.dealt()


@at_both
@pytest.mark.parametrize("fate", ["429 retry-after 1", "503 retry-after 1", "429 retry-after date+2", "503 retry-after date+2"])
def test_retry_after_is_waited_for_in_both_its_forms(chaos, use, ask, which, fate):
    server = chaos(script=[fate])
    use(server)
    assert isinstance(ask(which)[0], Ok)
    refused, answered = server.log()
    assert answered["in"] - refused["out"] > 0.95


@at_both
@pytest.mark.parametrize("after", ["soon", "-5", "1e999", "date+-3600", ""])
def test_a_retry_after_that_says_nothing_is_passed_over(chaos, use, ask, which, after):
    server = chaos(script=[f"429 retry-after {after}"])
    use(server)
    assert isinstance(ask(which)[0], Ok)
    assert len(server.log()) == 2


@at_both
def test_a_retry_after_of_a_day_is_not_sat_out(chaos, use, ask, which):
    server = chaos(mix={"503 retry-after 86400": 1.0})
    use(server)
    result, _ = ask(which)
    assert isinstance(result, Failed) and result.kind == "http_503" and len(server.log()) == 1


@at_both
def test_a_port_nobody_listens_on_is_a_lost_connection(use, ask, which):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    use(f"http://127.0.0.1:{port}")
    result, meter = ask(which)
    assert isinstance(result, Failed) and (result.kind, result.outage) == ("connection", True)
    assert meter.faults == {"connection": ATTEMPTS}


@at_both
def test_a_hang_ends_with_the_batch_though_its_own_time_is_not_over(chaos, use, ask, ledger, tmp_path, which):
    server = chaos(mix={"hang": 1.0})
    use(server, RAG_TIMEOUT=80, TEACHER_TIMEOUT=80, CACHE_DIR=tmp_path / "cache")
    result, meter = ask(which, deadline=0.5)
    assert isinstance(result, Failed) and result.kind == "deadline" and meter.failed == {"deadline": 1}


@at_both
def test_an_answer_that_came_while_our_process_stood_still_is_not_thrown_away(chaos, use, ask, which):
    server = chaos(latency=0.3)
    use(server, RAG_TIMEOUT=1, TEACHER_TIMEOUT=1)
    ask(which, "warm up")
    loop = process.loop()  # as a full disk's slow write, a stopped or a starved process would hold it up
    loop.call_soon_threadsafe(loop.call_later, 0.15, time.sleep, 1.5)
    result, meter = ask(which)
    assert isinstance(result, Ok) and meter.faults == {}
    assert len(server.log()) == 2, "it was paid for twice"


@at_both
def test_a_services_words_are_passed_on_without_the_key(chaos, use, ask, monkeypatch, which):
    use(chaos(mix={"422": 1.0}), TEACHER_API_KEY="secret-of-teacher", RAG_API_KEY="secret-of-rag")
    result, _ = ask(which)
    assert "no luck today (422) for ***" in result.reason and "secret" not in result.reason


def test_a_rate_limit_loses_nothing_and_pacing_spares_the_refusals(chaos, use):
    def run(**limits):
        server = chaos(rate=25)
        use(server, TEACHER_CONCURRENCY=16, **limits)
        to = chat_gateway("teacher")
        calls = [chat_call(endpoint("teacher"), [{"role": "user", "content": f"问 {number}"}], 200) for number in range(100)]
        results = to.submit(calls, GUARD).result(timeout=2 * GUARD)
        assert [result.value["text"].split(" 术语")[0] for result in results] == [f"问 {number}" for number in range(100)]
        log = server.log()
        assert Counter(row["text"] for row in log if row["fate"] == "ok") == Counter(f"问 {number}" for number in range(100))
        assert to.meter.faults == server.dealt()
        return server.dealt()["http_429"]

    assert run() > 20, "without a limit of ours it refuses"
    assert run(TEACHER_RPM=25 * 60) < 20


def test_a_thousand_calls_at_a_service_that_is_down_end_as_failures(chaos, use, ask, monkeypatch):
    monkeypatch.setattr(gateway, "_CALL_SECONDS", 20)
    server = chaos(mix={"503": 0.5, "reset": 0.5})
    use(server, OUTAGE_PATIENCE=2, RAG_CONCURRENCY=64)
    to = rag_gateway()
    results = to.submit([rag_call("怎么吃", str(number), "fivedoctors") for number in range(1000)], GUARD).result(timeout=2 * GUARD)
    kinds = Counter(result.kind for result in results)
    assert kinds.total() == 1000 and set(kinds) <= {"circuit", "http_503", "connection"} and kinds == to.meter.failed
    assert len(server.log()) < 1000, "a service that is down is left in peace"
