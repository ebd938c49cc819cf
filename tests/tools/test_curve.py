"""curve.py over written logs: the summary, the number of steps that fit, one line for what is missing."""

import json

import pytest

pytestmark = pytest.mark.usefixtures("fresh")


@pytest.fixture
def logged(tmp_path):
    def logged(name, seconds, steps, rewards=()):
        rows = [{"reward": value, "global_step/max_steps": f"{i}/{steps}"} for i, value in enumerate(rewards, 1)]
        rows += [{"train_runtime": seconds, "global_step/max_steps": f"{steps}/{steps}"}] if seconds else []
        (tmp_path / name).mkdir()
        (tmp_path / name / "logging.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return tmp_path / name

    return logged


def test_seconds_steps_and_reward_are_printed(run, logged):
    folder = logged("grpo", 61.6, 10, [-1, 0, 0, 0, 0, 0, 0, 0, 0.5, 1])
    done = run("curve", folder)
    assert (done.code, done.err) == (0, "")
    assert done.out == f"{folder}: 10 steps in 62 s\nmean training reward: first fifth -0.500, last fifth +0.750 (+1.250)\n"


def test_a_run_without_reward_has_no_curve(run, logged):
    folder = logged("sft", 30.0, 200)
    assert run("curve", folder).out == f"{folder}: 200 steps in 30 s\n"


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
    assert run("curve", sft, "--as-long-as", grpo).out == f"{steps}\n"


def test_what_is_missing_is_one_line_and_exit_2(run, logged, tmp_path):
    cases = [
        ([tmp_path / "none"], "none/logging.jsonl does not exist"),
        ([logged("going", 0, 9, [1.0] * 9)], "the run did not finish"),
        ([logged("short", 5.0, 4, [1.0] * 4)], "a curve of 4 points has no fifths"),
        ([logged("done", 5.0, 4), "--as-long-as", tmp_path / "none"], "none/logging.jsonl does not exist"),
    ]
    for arguments, message in cases:
        done = run("curve", *arguments)
        assert (done.code, done.err.count("\n")) == (2, 0)
        assert done.err.startswith("error: ") and message in done.err
