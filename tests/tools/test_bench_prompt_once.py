"""benchmarks/bench_prompt_once.py: sizes that do not fit, what its table says of given steps, and a cell measured for real."""

import importlib.util
import re
from pathlib import Path

from transformers import AutoModelForCausalLM, Qwen3Config

spec = importlib.util.spec_from_file_location("bench_prompt_once", Path(__file__).parents[2] / "benchmarks/bench_prompt_once.py")
bench = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bench)


def test_sizes_that_do_not_fit_are_refused(run):
    done = run("bench_prompt_once", "step", "--model", "quickstart", "--completions", "12")
    assert (done.code, done.err) == (2, "error: --completions is 12: give a multiple of 8, whole groups")


def test_the_ways_of_a_round_stand_side_by_side_and_gains_are_ratios_within_it():
    taken = {"A": (3.0, 3.0, 9.0), "A once": (0.0, 1.0, 2.0), "B": (0.0, 0.0, 9.0), "B once": (0.0, 0.0, 3.0)}
    steps = []
    for number in (-1, 0):
        slower = 1 if number == 0 else 100  # the warm-up counts for nothing
        for way, seconds in taken.items():
            parts = {
                name: {"seconds": one * slower, "cpu": one * slower / 2, "mb": 10.0 * one}
                for name, one in zip(("generation", "old", "reference", "training"), (5.0, *seconds), strict=True)
                if one
            }
            whole = (5.0 + sum(seconds)) * slower
            steps.append({"round": number, "way": way, "seconds": whole, "cpu": whole / 2, "parts": parts, "tokens": 30})
    said = bench.report(steps)
    assert "| A | 20.00 (10.00) | 5.00 (2.50) | 3.00 (1.50) | 3.00 (1.50) | 9.00 (4.50) | 2 | 30 | 90 |" in said
    assert "A: training and log-probabilities x 5.00 on the cores, x 5.00 by the clock; aim 3" in said
    assert "B: the whole step x 1.75 on the cores, x 1.75 by the clock; aim 1.8" in said


def test_a_cell_is_measured_both_ways(run, tmp_path):
    sizes = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2}
    config = Qwen3Config(**sizes, num_attention_heads=2, num_key_value_heads=1, head_dim=8)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    done = run(
        "bench_prompt_once", "cells", "--model", tmp_path, "--groups", "4", "--prompts", "8", "--completions", "1", "4", "--layers", "1"
    )
    assert done.code == 0, done.err
    rows = re.findall(r"^\| 4 \| 8 \| (\d+) \| (\d+) -> (\d+) \| \S+ \(\S+\) \| \S+ \(\S+\) \| \*\*[\d.]+\*\* \|", done.out, re.MULTILINE)
    assert [(completion, plain) for completion, plain, _ in rows] == [("1", "36"), ("4", "48")]
    assert int(rows[0][2]) == 8 and 8 < int(rows[1][2]) <= 8 + 4 * 3
