"""benchmarks/bench_ppo.py: what it makes of measured rollouts, and a whole measurement of the smallest size."""

import re

import pytest


def test_sizes_that_do_not_fit_are_refused(run):
    done = run("bench_ppo", "--rows", "6", "--batch", "4")
    assert (done.code, done.err) == (2, "error: --rows is 6: give an even multiple of --batch 4")


@pytest.mark.slow
@pytest.mark.release
def test_all_three_trainers_are_measured_in_one_run(run):
    """Three starts of a process: half a minute."""
    sizes = ["--vocabulary", "500", "--rows", "4", "--tokens", "4", "--prompt", "4", "--batch", "2", "--rollouts", "1", "--rounds", "1"]
    done = run("bench_ppo", *sizes, "--threads", "1")
    assert done.code == 0, done.err
    assert "4 completions of 4 tokens after prompts of some 4, 2 rows a batch; 1 rounds of 1 rollouts" in done.out
    rows = re.findall(r"^\| ([^|]+) \| ([\d,]+) \[[\d, ]+\] \| ([\d.]+) \| ([\d,]+) \[[\d, ]+\] \| [\d.]+ \|$", done.out, re.MULTILINE)
    assert [name for name, *_ in rows] == ["TRL PPOTrainer", "ours, PPO", "GRPO"]
    speeds = [int(speed.replace(",", "")) for _, speed, *_ in rows]
    assert all(speed > 0 for speed in speeds)
    assert float(rows[1][2]) == pytest.approx(speeds[1] / speeds[0], rel=0.1)
