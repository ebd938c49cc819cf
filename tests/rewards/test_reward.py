"""The wrapper around every reward: rows parsed once, calls sent once, values as ms-swift wants them, and an end of the run in words."""

import asyncio
from types import SimpleNamespace
from typing import NamedTuple

import pytest
from overtake.rewards import reward, sampling, trace
from overtake.rewards.measuring import Outage
from overtake.rewards.reward import Reward, Run, Scored
from overtake.rewards.sampling import Sampled

PARSED, SENT = [], []


class Number(NamedTuple):
    """A row of one column."""

    number: float

    @classmethod
    def from_columns(cls, cells):
        PARSED.append(cells)
        return cls(float(cells["number"]))


class Asking(Reward):
    """Worth the row's number, which is asked for by `begin`."""

    columns = ("number",)
    tool = "tools/number.py"

    def begin(self, batch):
        return batch.once("asked", lambda: SENT.append(batch.texts) or [row.number for row in batch.rows(Number)])

    def finish(self, batch, pending):
        return [
            Scored(None if number < 0 else number, {"number": number}, {"own/number": number, "own/low": number if number < 1 else None})
            for number in pending
        ]


class Also(Asking):
    """Another reward on the same measurement."""


@pytest.fixture(autouse=True)
def fresh():
    trace.take()
    for known in (reward._batches, PARSED, SENT):
        known.clear()


def call(*numbers, step=1, **columns):
    """GRPO's call with a row for each number."""
    state = SimpleNamespace(global_step=step)
    texts = [f"<think>x</think>{number}" for number in numbers]
    return {"completions": texts, "number": [str(number) for number in numbers], "trainer_state": state, **columns}


def test_rows_are_parsed_and_calls_sent_once_for_start_and_call_of_all_rewards_of_a_step():
    made, other = Asking(), Also()
    for one in (made, other):
        one.start(**call(1, 1, 2))
    assert made(**call(1, 1, 2)) == other(**call(1, 1, 2)) == [1.0, 1.0, 2.0]
    assert PARSED == [{"number": "1"}, {"number": "2"}], "and once for all completions with the same columns"
    assert SENT == [["1", "1", "2"]]


def test_batches_that_overlap_find_what_each_of_them_sent():
    """An evaluation falls between a start and its call; rollouts may, too."""
    made = Asking()
    for numbers in ((1, 2), (3, 4)):
        made.start(**call(*numbers))
    assert made(**call(5)) == [5.0]
    assert [made(**call(3, 4)), made(**call(1, 2))] == [[3.0, 4.0], [1.0, 2.0]]
    assert SENT == [["1", "2"], ["3", "4"], ["5"]]


@pytest.mark.parametrize("step", [1, None])
def test_a_call_finds_its_start_with_and_without_a_trainer_and_another_step_asks_anew(step):
    made = Asking()
    made.start(**call(1, step=step))
    assert made(**call(1, step=step)) == [1.0] and SENT == [["1"]]
    made(**call(1, step=2))
    assert len(SENT) == 2


def test_completions_of_one_prompt_are_a_group_and_without_prompts_each_is_one():
    seen = []

    class Seeing(Asking):
        def finish(self, batch, pending):
            seen.append((batch.groups, batch.grouped))
            return super().finish(batch, pending)

    Seeing()(**call(1, 2, prompt_id=["p", "p"]))
    Seeing()(**call(1, 2))
    assert seen == [(["p", "p"], True), (["0", "1"], False)]


def test_columns_are_named_with_what_makes_them():
    with pytest.raises(ValueError, match=r"no column number: make the training files with tools/number\.py"):
        Asking()(["a"])
    with pytest.raises(ValueError, match="column number holds 1 values for 2 completions"):
        Asking()(["a", "b"], number=["1"])


def test_parts_are_traced_and_metrics_logged_where_they_count(monkeypatch):
    logged = {}
    monkeypatch.setattr(reward, "log_metrics", logged.update)
    trace.begin([{}, {}, {}])
    assert Asking()(**call(0.5, 2, -1)) == [0.5, 2.0, None]
    assert trace.take() == [{"number": 0.5}, {"number": 2.0}, {"number": -1.0}]
    assert logged == {"own/number": [0.5, 2.0, -1.0], "own/low": [0.5, -1.0]}
    assert [(one.value, one.parts) for one in Asking().measure(**call(0.5, -1))] == [(0.5, {"number": 0.5}), (None, {"number": -1.0})]
    assert trace.take() == [], "measuring alone notes nothing"


def test_requests_of_swift_sample_find_their_row_and_a_question_measured_in_part_is_no_number(monkeypatch, caplog):
    monkeypatch.setattr(sampling, "_rows", {})
    turns = [[{"role": "user", "content": text}] for text in ("good", "bad")]
    rows = {sampling.key(one): Sampled(one[0]["content"], {"number": number}) for one, number in zip(turns, ("1", "-1"), strict=True)}
    sampling.remember(rows)
    asked = [SimpleNamespace(messages=[*turns[at], {"role": "assistant", "content": "a"}]) for at in (0, 0, 1)]
    good, also, bad = Asking()(asked)
    assert (good, also) == (1.0, 1.0) and bad != bad
    assert "Asking: 1 of 1 rewrites of bad not measured: left out" in caplog.text


# ---------------------------------------------------------------- in a run


class Broken(Asking):
    """Raises what it is told to."""

    error: Exception

    def finish(self, batch, pending):
        raise self.error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Outage("The service is down."), "The service is down."),
        (ValueError("line one\n  line two"), "Broken raised ValueError: line one line two"),
        (KeyError("rag"), "Broken raised KeyError: 'rag'"),
    ],
)
def test_what_is_raised_in_a_run_is_a_reason_to_stop_and_no_value(error, reason, capsys):
    made = Broken()
    made.error = error
    with pytest.raises(type(error)):
        made(**call(1, 2))
    with pytest.raises(type(error)):  # a trainer that does not stop by reasons, with our callback
        Run().adopt(made, "Broken")(**call(1, 2))
    run = Run(stops=True)
    assert run.adopt(made, "Broken")(**call(1, 2)) == [None, None]
    assert run.reasons == [reason]
    assert ("Traceback" in capsys.readouterr().err) != isinstance(error, Outage), "whoever wrote the reward wants to see where"


def test_what_is_raised_on_starting_is_a_reason_too():
    """On one rank alone, and before anything is gathered, it would leave the others waiting."""
    run = Run(stops=True)
    run.adopt(Asking(), "Asking")
    run.start(["a"])
    assert run.reasons == ["Asking raised ValueError: the dataset has no column number: make the training files with tools/number.py"]


def test_functions_of_others_are_called_as_they_are_and_guarded():
    def plain(completions, **columns):
        return [len(text) / columns["by"][0] for text in completions]

    class Slow:
        async def __call__(self, completions, **columns):
            await asyncio.sleep(0)
            raise RuntimeError("no luck")

    def short(completions, **columns):
        return [1.0]

    run = Run(stops=True)
    adopted = [run.adopt(one, name) for one, name in ((plain, "plain"), (Slow(), "Slow"), (short, "short"))]
    assert adopted[0](["ab", "abc"], by=[2, 2]) == [1.0, 1.5]
    assert asyncio.iscoroutinefunction(adopted[1].__call__), "ms-swift tells the two kinds apart by it"
    assert asyncio.run(adopted[1](["ab", "abc"])) == [None, None]
    assert adopted[2](["ab", "abc"]) == [None, None]
    assert run.reasons == ["Slow raised RuntimeError: no luck", "short raised ValueError: 1 values for 2 completions: they must be as many"]


def test_a_run_times_its_rewards_and_the_first_of_them_begins_a_batch_of_the_trace(monkeypatch):
    clock = iter((1.0, 2.0, 5.0, 9.0))
    monkeypatch.setattr(reward, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    run = Run()
    run.about = lambda completions, columns: [{"completion": text} for text in completions]
    first, second = run.adopt(Asking(), "Asking"), run.adopt(lambda completions, **_: [0.0] * len(completions), "other")
    first(**call(1, -1))
    second(**call(1, -1))
    assert run.seconds == 5.0
    assert [(one["completion"][-1], one["rewards/Asking"], one["rewards/other"]) for one in trace.take()] == [
        ("1", 1.0, 0.0),
        ("1", None, 0.0),
    ]
