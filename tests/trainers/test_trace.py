"""The trace: what rewards note, and what of a file counts after kills and resumed runs."""

import json

import pytest
from overtake.rewards import trace


@pytest.fixture(autouse=True)
def empty():
    trace.take()
    yield
    trace.take()


def test_what_is_noted_belongs_to_the_batch_under_way():
    trace.note({"early": [1]})
    trace.begin([{"completion": "甲"}, {"completion": "乙"}])
    trace.note({"points": [5, None]})
    trace.begin([{"completion": "丙"}])
    trace.note({"points": [1]})
    trace.note({"points": [2], "fault": ["copy"]})
    assert trace.take() == [
        {"completion": "甲", "points": 5},
        {"completion": "乙", "points": None},
        {"completion": "丙", "points": 2, "fault": "copy"},
    ]
    trace.note({"late": [1]})
    assert trace.take() == []


def test_a_value_too_few_is_an_error_that_names_the_field():
    trace.begin([{}, {}])
    with pytest.raises(ValueError, match="trace field points holds 1 values for 2 samples"):
        trace.note({"points": [5]})


def line(run, step, sample, mode="train", **fields):
    return {"run": run, "mode": mode, "step": step, "sample": sample, **fields}


def counted(path):
    return [(one["run"], one["mode"], one["step"], one["sample"]) for one in trace.read(path).samples]


def test_lines_read_are_the_lines_written(tmp_path):
    path = tmp_path / "new" / "trace.jsonl"
    begun = {"run": "a", "reward_weights": {"A": 1.0}}
    samples = [line("a", 1, at, rewrite="胶原\n蛋白\u2028肽", total=0.1 + 0.2) for at in range(3)]
    trace.append(path, [begun])
    trace.append(path, samples)
    assert trace.read(path) == ({"a": begun}, samples, 0)
    assert path.read_text(encoding="utf-8").count("\n") == 4


def test_a_resumed_run_replaces_what_it_does_again(tmp_path):
    """The first run came to step 4 and was killed; the second went on from the checkpoint of step 2, on fewer ranks, to step 3."""
    path = tmp_path / "trace.jsonl"
    for step in (1, 2):
        trace.append(path, [line("a", step, at) for at in range(2)])
    trace.append(path, [line("a", 2, 0, "eval")])
    for step in (3, 4):
        trace.append(path, [line("a", step, at) for at in range(2)])
    trace.append(path, [line("a", 4, 0, "eval")])
    trace.append(path, [line("b", 3, 0)])
    kept = [("a", "train", 1, 0), ("a", "train", 1, 1), ("a", "train", 2, 0), ("a", "train", 2, 1), ("a", "eval", 2, 0)]
    assert counted(path) == [*kept, ("b", "train", 3, 0)]


def test_a_run_that_begins_with_an_evaluation_replaces_that_and_not_the_step_before_it(tmp_path):
    path = tmp_path / "trace.jsonl"
    trace.append(path, [line("a", 2, 0), line("a", 2, 0, "eval"), line("a", 3, 0)])
    trace.append(path, [line("b", 2, 0, "eval")])
    assert counted(path) == [("a", "train", 2, 0), ("b", "eval", 2, 0)]


def test_of_one_step_and_sample_the_last_line_counts(tmp_path):
    path = tmp_path / "trace.jsonl"
    trace.append(path, [line("a", 1, 0, total=0.1), line("a", 1, 0, total=0.2)])
    assert [one["total"] for one in trace.read(path).samples] == [0.2]


@pytest.mark.parametrize("kept", [0.3, 0.9, 1.0])
def test_a_line_that_a_kill_tore_is_counted_and_costs_no_other(tmp_path, kept):
    path = tmp_path / "trace.jsonl"
    trace.append(path, [line("a", 1, 0, rewrite="胶原")])
    whole = path.read_bytes()
    trace.append(path, [line("a", 1, 1, rewrite="蛋白")])
    torn = path.read_bytes()[len(whole) : -1]
    path.write_bytes(whole + torn[: int(len(torn) * kept)])
    trace.append(path, [line("b", 1, 0)])
    found = trace.read(path)
    assert [one["run"] for one in found.samples] == ["b"]
    assert found.torn == (kept < 1)
    assert all(json.loads(text) for text in path.read_text(encoding="utf-8").splitlines() if text.endswith("}"))
