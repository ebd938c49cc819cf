"""The judge's recipes under the cpu and the 24 GB profile, what judge.sh refuses, and (slow) the whole of it with few steps."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "datasets/judge"


def value(words, flag):
    at = words.index(flag) + 1
    end = next((place for place in range(at, len(words)) if words[place].startswith("--")), len(words))
    return " ".join(words[at:end])


@pytest.mark.parametrize("profile", ["cpu", "1x24g"])
def test_sft_has_the_numbers_of_the_form(command, tmp_path, profile):
    _, words = command("sft_judge", PROFILE=profile, DATASET=SAMPLE / "train.jsonl", OUTPUT_DIR=tmp_path)
    expected = {"--model": "Qwen/Qwen2.5-1.5B-Instruct", "--dataset": f"overtake/judge:{SAMPLE / 'train.jsonl'}", "--max_steps": "60"}
    expected |= {"--lora_rank": "16", "--lora_alpha": "16", "--lora_dropout": "0"}
    expected |= {"--learning_rate": "2e-4", "--warmup_steps": "5", "--weight_decay": "0.01"}
    assert {flag: value(words, flag) for flag in expected} == expected


@pytest.mark.parametrize("generations", [16, 32])
@pytest.mark.parametrize("profile", ["cpu", "1x24g"])
def test_grpo_compares_whole_groups_of_verdicts(command, tmp_path, profile, generations):
    settings = {"PROFILE": profile, "DATASET": SAMPLE / "train.jsonl", "OUTPUT_DIR": tmp_path, "SFT_ADAPTER": tmp_path / "none"}
    _, words = command("grpo_judge", GENERATIONS=generations, **settings)
    expected = {"--reward_funcs": "judge_format judge_verdict", "--num_generations": str(generations), "--beta": "0.01"}
    expected |= {
        "--learning_rate": "3e-5",
        "--adam_beta1": "0.9",
        "--adam_beta2": "0.999",
        "--weight_decay": "0.1",
        "--warmup_ratio": "0.1",
    }
    expected |= {"--num_train_epochs": "3", "--max_grad_norm": "0.5", "--max_completion_length": "1024", "--max_length": "1024"}
    assert {flag: value(words, flag) for flag in expected} == expected
    rows = int(value(words, "--per_device_train_batch_size")) * int(value(words, "--gradient_accumulation_steps"))
    assert rows % generations == 0


def test_generations_that_are_no_number_are_refused(run, tmp_path):
    ended = run("grpo_judge", PROFILE="cpu", GENERATIONS="many", DRY_RUN=1)
    assert (ended.returncode, ended.stderr) == (2, "error: GENERATIONS=many: give a number, 16 or 32\n")


REFUSED = [
    pytest.param(["--nope"], {"PROFILE": "cpu"}, "--nope is not known. There are: --data, ", id="an unknown option"),
    pytest.param(["--data", "nowhere.jsonl"], {"PROFILE": "cpu"}, "--data needs a file", id="a file that is not there"),
    pytest.param([], {"PROFILE": "1x24g"}, "no questions: name a file with --data", id="no questions"),
]


@pytest.mark.parametrize(("arguments", "settings", "message"), REFUSED)
def test_what_cannot_be_run_is_one_error_before_anything_is_written(run, tmp_path, arguments, settings, message):
    ended = run("judge", "--out", str(tmp_path / "out"), *arguments, **settings)
    assert ended.returncode == 2 and message in ended.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_whole_line_runs_and_is_not_run_twice(tmp_path, environment):
    out = tmp_path / "out"
    words = ["bash", str(ROOT / "recipes/judge.sh"), "--out", str(out)]
    env = environment(PROFILE="cpu", JUDGE_STEPS="5 3 2")
    env = {name: text for name, text in env.items() if not name.startswith("OVERTAKE_")}
    short = tmp_path / "test.jsonl"
    short.write_text("".join((SAMPLE / "test.jsonl").read_text("utf-8").splitlines(keepends=True)[:8]), encoding="utf-8")
    first = subprocess.run([*words, "--test", str(short)], env=env, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stdout + first.stderr
    summary = json.loads((out / "eval/summary.json").read_text("utf-8"))
    assert summary["rows"] == dict.fromkeys(("constant", "substring", "base", "SFT", "GRPO", "SFT-long"), 8)
    assert json.loads((out / "calibration.json").read_text("utf-8"))["rows"] == 8
    # Served, it was asked for a verdict on the same answers, whatever so short a training makes of it.
    assert "POST /v1/chat/completions" in (out / "log/deploy.log").read_text("utf-8")
    shutil.rmtree(out / "eval")
    before = {
        path: path.stat().st_mtime_ns
        for name in ("data", "base", "sft", "grpo", "sft_long")
        for path in (out / name).rglob("*")
        if path.is_file()
    }
    again = subprocess.run([*words, "--test", str(short)], env=env, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stdout + again.stderr
    assert before == {path: path.stat().st_mtime_ns for path in before}
