"""Money: what stops at which limit, what is counted over processes and restarts, and prices that are not known."""

import asyncio
import subprocess
import sys
import threading
import time

import pytest
from overtake import settings
from overtake.remote import budget, process
from overtake.remote.budget import check, count_for, price, refusal, soft_limit_reached, spend
from overtake.remote.chat import chat_call, chat_gateway, endpoint
from overtake.remote.gateway import Failed, Ok
from overtake.remote.rag import rag_call, rag_gateway
from overtake.remote.store import store
from overtake.settings import SettingsError

from .conftest import said

COST = 0.125  # USD, of each answer below


@pytest.fixture
def use(service, monkeypatch):
    """use(BUDGET_HARD=1) starts afresh under these settings, as another process would; gpt-5 answers at 0.125 USD a piece.

    It returns the service; `.asked` holds the requests.
    """
    service.asked, service.say = [], lambda: said(tokens=(100_000, 0))
    service.answer = lambda body: service.asked.append(body) or service.say()

    def use(**values):
        for name, value in ({"TEACHER_MODEL": "gpt-5"} | values).items():
            monkeypatch.setenv(f"OVERTAKE_{name}", str(value))
        process.forget()
        settings.load.cache_clear()
        budget._rate.cache_clear()
        return service

    yield use
    budget._rate.cache_clear()


def ask(*texts):
    to = endpoint("teacher")
    calls = [chat_call(to, [{"role": "user", "content": text}], 10) for text in texts]
    return chat_gateway("teacher").run(calls)


def many(count, prefix=""):
    return [f"{prefix}{number}" for number in range(count)]


def on_loop(what):
    """What the function returns when it is called where the gateway calls it."""

    async def call():
        return what()

    return asyncio.run_coroutine_threadsafe(call(), process.loop()).result(10)


# ---------------------------------------------------------------- the hard limit


def test_at_the_hard_limit_paid_calls_are_refused_and_are_no_outage(use):
    service = use(BUDGET_HARD=0.5, TEACHER_CONCURRENCY=1)
    results = ask(*many(10))
    assert [type(result) for result in results] == [Ok] * 4 + [Failed] * 6
    assert {(result.kind, result.outage) for result in results[4:]} == {("budget", False)}
    assert results[4].reason == "teacher: the budget is spent: 0.50 of OVERTAKE_BUDGET_HARD=0.5 USD; raise it to go on"
    assert len(service.asked) == 4
    assert ask("0")[0].cached, "what is kept costs nothing"
    assert isinstance(ask("later")[0], Failed) and len(service.asked) == 4


def test_only_the_calls_in_flight_overspend(use):
    service = use(BUDGET_HARD=0.5, TEACHER_CONCURRENCY=3)
    together = threading.Barrier(3)

    service.say = lambda: (together.wait(timeout=30), said(tokens=(100_000, 0)))[1]
    results = ask(*many(12))
    assert sum(isinstance(result, Ok) for result in results) == len(service.asked) == 6, "4 are paid for, 2 were under way"


def test_attempts_that_were_no_use_are_paid_for_and_stop_at_the_limit_too(use):
    service = use(BUDGET_HARD=0.25)
    service.say = lambda: said("", "length", (100_000, 0))
    (result,) = ask("问")
    assert isinstance(result, Failed) and result.kind == "budget"
    assert len(service.asked) == 2


def test_free_services_are_not_refused(use):
    use(BUDGET_HARD=0.1)
    ask("问")
    assert isinstance(ask("别")[0], Failed)
    assert isinstance(rag_gateway().run([rag_call("问", "改", "t")])[0], Ok)
    assert on_loop(lambda: refusal("stand-in")) == ""


def test_without_a_budget_nothing_is_refused_or_counted(use):
    use()
    assert all(isinstance(result, Ok) for result in ask(*many(20)))
    assert on_loop(lambda: refusal("gpt-5")) == ""
    assert not soft_limit_reached()


# ---------------------------------------------------------------- the soft limit


def test_at_the_soft_limit_the_judge_is_spared_and_that_is_said_once(use, caplog):
    use(BUDGET_SOFT=0.25)
    ask("一")
    assert not soft_limit_reached()
    ask("二")
    assert (soft_limit_reached(), soft_limit_reached()) == (True, True)
    assert caplog.messages.count("0.25 USD spent, OVERTAKE_BUDGET_SOFT=0.25: the judge abstains from here on") == 1
    assert isinstance(ask("三")[0], Ok), "the soft limit refuses nothing"


@pytest.mark.parametrize("run", ["", "r"])
def test_all_ranks_spare_the_judge_from_the_step_after_the_one_that_noticed(use, run):
    use(BUDGET_SOFT=0.1, BUDGET_RUN=run)
    ask("一")
    assert [soft_limit_reached(step) for step in (7, 7, 8, 9)] == [False, False, True, True]
    if run:
        use(BUDGET_SOFT=0.1, BUDGET_RUN=run)  # another rank, a little behind
        assert [soft_limit_reached(step) for step in (6, 7, 8)] == [False, False, True]


def test_a_store_that_is_lost_keeps_nobody_from_sparing_the_judge(use):
    use(BUDGET_SOFT=0.1, BUDGET_RUN="r")
    ask("一")
    on_loop(lambda: setattr(store(), "_database", None))
    assert [soft_limit_reached(step) for step in (7, 8)] == [False, True]


# ---------------------------------------------------------------- over processes and restarts

PROGRAM = """
import sys
from overtake.remote.chat import chat_call, chat_gateway, endpoint
calls = [chat_call(endpoint("teacher"), [{"role": "user", "content": text}], 10) for text in sys.argv[1:]]
print(*(result.kind if hasattr(result, "kind") else "ok" for result in chat_gateway("teacher").run(calls)))
"""


def start(*texts):
    return subprocess.Popen([sys.executable, "-c", PROGRAM, *texts], stdout=subprocess.PIPE, text=True)


def test_two_processes_of_a_run_and_its_next_start_count_together(use):
    service = use(BUDGET_HARD=0.6, BUDGET_RUN="r", TEACHER_CONCURRENCY=1)
    both = [start(*many(2, name)) for name in "ab"]
    assert [one.communicate(timeout=60)[0] for one in both] == ["ok ok\n", "ok ok\n"]
    assert [type(result) for result in ask("c", "d")] == [Ok, Failed], "0.5 USD were spent before, by others"
    assert len(service.asked) == 5
    use(BUDGET_RUN="another")
    assert isinstance(ask("e")[0], Ok)


def test_without_a_name_each_process_counts_its_own(use):
    use(BUDGET_HARD=0.25, TEACHER_CONCURRENCY=1)
    assert [type(result) for result in ask("a", "b", "c")] == [Ok, Ok, Failed]
    use()
    assert [type(result) for result in ask("d", "e", "f")] == [Ok, Ok, Failed]


def test_a_tool_counts_under_its_outputs_name_unless_the_settings_name_another(use):
    for given, counted in [("", "out.jsonl"), ("r", "r")]:
        use(BUDGET_HARD=100, BUDGET_RUN=given)
        count_for("out.jsonl")
        ask(f"问{given}")
        assert on_loop(lambda counted=counted: store().spend(counted, 0.0)) == COST


def test_money_is_not_forgotten_with_a_file_that_broke(use):
    use(BUDGET_HARD=1, BUDGET_RUN="r")
    ask(*many(4))

    def lose():
        store()._database.execute("DELETE FROM accounts")

    on_loop(lose)
    ask("later")
    assert on_loop(lambda: store().spend("r", 0.0)) == 5 * COST
    on_loop(lambda: setattr(store(), "_database", None))
    ask("without a file")
    assert on_loop(budget._spent) == 6 * COST


def test_money_that_could_not_be_written_is_written_with_the_next(use, monkeypatch):
    use(BUDGET_HARD=1, BUDGET_RUN="r")
    ask("一")
    with monkeypatch.context() as locked:
        locked.setattr(type(on_loop(store)), "spend", lambda self, run, usd: None)
        ask("二")
        assert on_loop(budget._spent) == 2 * COST
    ask("三")
    assert on_loop(lambda: store().spend("r", 0.0)) == 3 * COST


def test_nothing_is_spent_by_an_answer_without_a_price(use):
    use(BUDGET_HARD=1)
    on_loop(lambda: (spend(None), spend(0.0)))
    assert on_loop(budget._spent) == 0


# ---------------------------------------------------------------- prices


@pytest.mark.parametrize("limit", ["BUDGET_SOFT", "BUDGET_HARD"])
def test_a_budget_for_a_model_without_a_price_is_refused_before_anything_is_asked(use, limit):
    service = use(**{limit: 5, "TEACHER_MODEL": "stand-in"})
    with pytest.raises(SettingsError, match="the price of stand-in is not known: name a table of your own prices in OVERTAKE_PRICES"):
        ask("问")
    assert service.asked == []
    use(**{limit: 0})
    check("stand-in")


def test_own_prices_come_before_ours_and_add_to_them(use, tmp_path):
    (tmp_path / "prices.toml").write_text('[gpt-5]\ninput = 2\noutput = 3.5\n["Qwen/Qwen3-8B"]\ninput = 0.1\noutput = 0.0\n')
    use(PRICES=tmp_path / "prices.toml", BUDGET_HARD=1)
    million = {"prompt_tokens": 1_000_000, "completion_tokens": 1_000_000}
    assert [price(model, million) for model in ("gpt-5", "gpt-5-2025-08-07", "Qwen/Qwen3-8B", "gpt-5-mini")] == [5.5, 5.5, 0.1, 2.25]
    check("Qwen/Qwen3-8B")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(None, id="no file"),
        pytest.param("input = ", id="no TOML"),
        pytest.param("[Qwen/Qwen3-8B]\ninput = 1\noutput = 1", id="a name without quotes"),
        pytest.param(b"\xff\xfe", id="no text"),
        pytest.param("gpt-5 = 3", id="no section"),
        pytest.param("[m]\ninput = 1", id="a price missing"),
        pytest.param("[gpt-5.1]\ninput = 1\noutput = 1", id="a dot that makes another section"),
        *(pytest.param(f"[m]\ninput = {value}\noutput = 1", id=f"a price of {value}") for value in ("'1'", "-1", "nan", "inf", "[]")),
    ],
)
def test_prices_that_cannot_be_read_are_named_with_their_form(use, tmp_path, text):
    path = tmp_path / "prices.toml"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    service = use(PRICES=path, BUDGET_HARD=1)
    with pytest.raises(SettingsError, match=f"OVERTAKE_PRICES={path}.*write a section .*input = and output =, USD per million tokens"):
        ask("问")
    assert service.asked == []


def test_spending_is_counted_while_many_answers_come_at_once(use):
    service = use(BUDGET_HARD=1000, TEACHER_CONCURRENCY=16)
    service.say = lambda: (time.sleep(0.01), said(tokens=(100_000, 0)))[1]
    ask(*many(64))
    assert on_loop(budget._spent) == 64 * COST
