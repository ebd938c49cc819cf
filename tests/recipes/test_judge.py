"""What judge.sh refuses, and (slow) the whole of it with few steps."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "datasets/judge"


REFUSED = [
    pytest.param(["--nope"], {"PROFILE": "cpu"}, "--nope is not known. There are: --data, ", id="an unknown option"),
    pytest.param(["--data", "nowhere.jsonl"], {"PROFILE": "cpu"}, "--data nowhere.jsonl: no such file", id="a file that is not there"),
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
