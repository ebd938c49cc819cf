"""benchmarks/bench_gpu.py, which tools/gpu_check.sh calls: its commands, what it refuses, and every part for real on a CPU's tiny model."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location("bench_gpu", ROOT / "benchmarks/bench_gpu.py")
bench = importlib.util.module_from_spec(spec)
spec.loader.exec_module(bench)


@pytest.mark.parametrize("vllm", [True, False])
def test_four_recipes_are_told_with_their_limits_and_who_writes_the_rollouts(run, monkeypatch, vllm):
    monkeypatch.setattr(sys.modules["importlib.util"], "find_spec", lambda name: "there" if vllm else None)
    done = run("bench_gpu", "--dry-run")
    monkeypatch.undo()
    assert done.code == 0, done.err
    head = re.findall(r"^# (.*)", done.out, re.MULTILINE)
    assert head == [
        "sft, at most 80 s",
        "grpo, at most 120 s",
        "grpo, prompt for each completion, at most 120 s, OVERTAKE_PROMPT_ONCE=false",
        "ppo, at most 115 s",
    ]
    assert bench.WEIGHTS_SECONDS + sum(part.seconds for part in bench.PARTS) < 9 * 60
    commands = [" ".join(words.split()) for words in re.split(r"^# .*", done.out, flags=re.MULTILINE)[1:]]
    assert [re.search(r"swift (\w+)(?:.*--rlhf_type (\w+))?", words.replace("\\ ", "")).groups() for words in commands] == [
        ("sft", None),
        ("rlhf", "grpo"),
        ("rlhf", "grpo"),
        ("rlhf", "ppo"),
    ]
    for words in commands[1:]:
        assert f"--use_vllm {str(vllm).lower()}" in words and "--reward_funcs bench_length" in words
        assert "--vllm_mode colocate" in words and "--sleep_level 1" in words


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "no GPU is visible to nvidia-smi: give --profile cpu for a tiny model, or --dry-run"),
        (["--profile", "2x3g"], "--profile 2x3g is not one of recipes/profiles: take 1x80g, 1x24g, 1x16g or cpu"),
    ],
)
def test_what_cannot_be_run_is_one_line(run, monkeypatch, tmp_path, arguments, words):
    monkeypatch.setenv("PATH", str(tmp_path))
    done = run("bench_gpu", *arguments)
    assert (done.code, done.err) == (2, f"error: {words}")


def test_another_python_is_refused(run, monkeypatch):
    monkeypatch.setattr(bench.sys, "version_info", (3, 13, 1))
    done = run("bench_gpu", "--profile", "cpu")
    monkeypatch.undo()
    assert (done.code, done.err) == (2, "error: Python is 3.13.1: ms-swift's stack is for 3.11 and 3.12")


@pytest.mark.slow
@pytest.mark.release
def test_on_a_cpu_every_part_ends_and_is_measured(tmp_path):
    command = ["bash", str(ROOT / "tools/gpu_check.sh"), "--profile", "cpu-vllm", "--json", str(tmp_path / "told.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    told = json.loads((tmp_path / "told.json").read_text(encoding="utf-8"))
    assert [part["part"] for part in told["parts"]] == ["weights", *(part.name for part in bench.PARTS)]
    for part in told["parts"][1:]:
        assert part["status"] == "ok" and part["step_seconds"] > 0 and part["tokens_per_second"] > 0 and part["doctor_gb"] > 0
    assert [part["rollouts"] for part in told["parts"][2:]] == ["vLLM"] * 3
    assert all(part["k3_kl"] >= 0 for part in told["parts"][2:4])
    assert all(0 < part["completion_tokens"] <= bench.COMPLETION for part in told["parts"][2:])
