"""What a training run's log says, and logs that say nothing."""

import json

import pytest
from overtake.data.tables import BadInput
from overtake.evaluation import curves
from overtake.evaluation.curves import first_and_last_fifth, read_log, train_seconds


@pytest.mark.parametrize(
    ("values", "fifths"),
    [
        ([0, 1, 2, 3, 4], (0, 4)),
        ([0, 1, 2, 3, 4, 5, 6, 7, 8], (0, 8)),  # a fifth of nine is one
        ([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], (0.5, 8.5)),
        ([-1.0] * 20 + [1.0] * 80, (-1, 1)),
    ],
)
def test_fifths_are_means_of_both_ends(values, fifths):
    assert first_and_last_fifth(values) == fifths


@pytest.mark.parametrize("count", [0, 4])
def test_fewer_than_five_points_have_no_fifths(count):
    with pytest.raises(BadInput, match=f"a curve of {count} points"):
        first_and_last_fifth([1.0] * count)


def test_the_log_is_read_as_ms_swift_writes_it(tmp_path):
    rows = [
        {"loss": 1.0, "reward": 0.5, "global_step/max_steps": "1/2"},
        {"train_runtime": 196.9623, "global_step/max_steps": "2/2", "elapsed_time": "3m 17s"},
        {"model_parameter_info": "Qwen3", "log_history": []},  # the last line is no step
    ]
    (tmp_path / "logging.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    assert read_log(tmp_path) == rows
    assert train_seconds(read_log(tmp_path)) == (196.9623, 2)


def test_of_a_run_that_was_resumed_the_last_end_counts():
    ends = [{"train_runtime": 10.0, "global_step/max_steps": "5/5"}, {"train_runtime": 4.0, "global_step/max_steps": "7/7"}]
    assert train_seconds(ends) == (4.0, 7)


@pytest.fixture
def logged(tmp_path):
    def logged(name, seconds, steps, rewards=(), torn=""):
        rows = [{"reward": value, "global_step/max_steps": f"{i}/{steps}"} for i, value in enumerate(rewards, 1)]
        rows += [{"train_runtime": seconds, "global_step/max_steps": f"{steps}/{steps}"}] if seconds else []
        (tmp_path / name).mkdir()
        (tmp_path / name / "logging.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + torn)
        return tmp_path / name

    return logged


def test_seconds_steps_and_reward_are_printed(run, logged):
    folder = logged("grpo", 61.6, 10, [-1, 0, 0, 0, 0, 0, 0, 0, 0.5, 1])
    done = run(curves, folder)
    assert (done.code, done.err) == (0, "")
    assert done.out == f"{folder}: 10 steps in 62 s\nmean training reward: first fifth -0.500, last fifth +0.750 (+1.250)\n"


def test_a_run_without_reward_has_no_curve(run, logged):
    folder = logged("sft", 30.0, 200)
    assert run(curves, folder).out == f"{folder}: 200 steps in 30 s\n"


@pytest.mark.parametrize(
    ("longer", "steps"),
    [
        (90.0, 600),  # three times as long
        (31.0, 207),  # rounded
        (0.01, 1),  # one step at least
    ],
)
def test_the_steps_that_fit_into_another_runs_time(run, logged, longer, steps):
    sft, grpo = logged("sft", 30.0, 200), logged("grpo", longer, 150)
    assert run(curves, sft, "--steps-to-match", grpo).out == f"{steps}\n"


def test_what_is_missing_is_one_line_and_exit_2(run, logged, tmp_path):
    cases = [
        ([tmp_path / "none"], "none/logging.jsonl does not exist"),
        ([logged("going", 0, 9, [1.0] * 9)], "the run did not finish"),
        ([logged("torn", 5.0, 9, torn='{"los')], "is the run still writing it"),
        ([logged("short", 5.0, 4, [1.0] * 4)], "a curve of 4 points has no fifths"),
        ([logged("done", 5.0, 4), "--steps-to-match", tmp_path / "none"], "none/logging.jsonl does not exist"),
    ]
    for arguments, message in cases:
        done = run(curves, *arguments)
        assert (done.code, done.err.count("\n")) == (2, 0)
        assert done.err.startswith("error: ") and message in done.err
