"""medical.sh: what it refuses before it does anything, and (slow) that the line runs end to end and what is done is not done again."""

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(out, *arguments, **settings):
    env = {name: value for name, value in os.environ.items() if not name.startswith(("OVERTAKE_", "DEEPSEEK_"))} | settings
    words = ["bash", str(ROOT / "recipes/medical.sh"), "--out", str(out), *arguments]
    return subprocess.run(words, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nope"], "--nope is not known. There are: --data"),
        (["--rl", "dpo"], "--rl dpo: ppo or grpo"),
        (["--from", "distil"], "--from distil: the stages are prepare sft rl evaluate review"),
        (["--rubrics", "--mock"], "--rubrics: krisfu/delicate_medical_r1_data is no file. Name one with --data"),
        (["--red-team", "nowhere.jsonl"], "--red-team nowhere.jsonl: no such file"),
        ([], "no teacher: set DEEPSEEK_API_KEY"),
    ],
)
def test_what_cannot_be_run_is_one_error_before_anything_is_written(tmp_path, arguments, message):
    ended = run(tmp_path / "out", *arguments, PYTHON="false", VIRTUAL_ENV="", PROFILE="1x24g")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("error: ") and message in ended.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_line_runs_end_to_end_and_what_is_done_is_not_done_again(tmp_path):
    ended = run(tmp_path / "out", "--rubrics", PROFILE="cpu", MEDICAL_STEPS="8 8")
    assert ended.returncode == 0, ended.stderr
    trained = [json.loads(line) for line in (tmp_path / "out/data/training_prompts.jsonl").read_text("utf-8").splitlines()]
    assert {bool(row["med_rubrics"]) for row in trained if row["med_reference"]} == {True}, "the mocked teacher wrote them"
    worth = json.loads((tmp_path / "out/data/judge_worth.json").read_text("utf-8"))
    assert worth["model"] == "overtake-stand-in" and worth["faults"] == [] and worth["auc"]["low"] > 0.5
    review = ("review/review.xlsx", "review/review.html", "review/review_key.jsonl")
    for file in ("data/DATA_CARD.md", "doctor.txt", "eval/ppo_table.txt", "report.html", *review):
        assert (tmp_path / "out" / file).stat().st_size > 0
    table = (tmp_path / "out/eval/ppo_table.txt").read_text("utf-8")
    assert "red team, held out" in table and "PPO - SFT-long" in table and "reward" in table
    before = {
        file: file.stat().st_mtime_ns for name in ("data", "sft", "ppo", "eval", "review") for file in (tmp_path / "out" / name).rglob("*")
    }
    again = run(tmp_path / "out", "--rubrics", PROFILE="cpu", MEDICAL_STEPS="8 8")
    assert again.returncode == 0, again.stderr
    assert {file: file.stat().st_mtime_ns for file in before} == before


@pytest.mark.slow
@pytest.mark.release
def test_grpo_takes_the_place_of_ppo_behind_the_same_sft(tmp_path):
    assert run(tmp_path / "out", "--to", "sft", PROFILE="cpu", MEDICAL_STEPS="8 2").returncode == 0
    sft = {file: file.stat().st_mtime_ns for file in (tmp_path / "out/sft").rglob("*")}
    ended = run(tmp_path / "out", "--rl", "grpo", "--to", "evaluate", PROFILE="cpu", MEDICAL_STEPS="8 2")
    assert ended.returncode == 0, ended.stderr
    assert {file: file.stat().st_mtime_ns for file in sft} == sft
    args = json.loads((tmp_path / "out/grpo/args.json").read_text("utf-8"))
    assert (args["rlhf_type"], args["num_generations"], args["reward_funcs"]) == ("grpo", 8, ["medical_answer"])
    steps = [json.loads(line) for line in (tmp_path / "out/grpo/logging.jsonl").read_text("utf-8").splitlines()]
    assert [step["reward"] for step in steps if "reward" in step], "a reward was measured"
    assert "GRPO - SFT" in (tmp_path / "out/eval/grpo_table.txt").read_text("utf-8")
