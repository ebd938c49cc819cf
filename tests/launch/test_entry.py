"""The door between shell and Python: words arrive as they are, errors are one line, and Python 3.11 alone is enough for a dry run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from overtake.launch import entry
from overtake.launch.command import Refused
from overtake.launch.run import ROOT, Run

NASTY = ["", "a b", "--", "3", "words", "$(x)", "line\nbreak", "胶原", "#"]


def test_arrays_arrive_word_for_word() -> None:
    packed = [word for name, words in (("flags", NASTY), ("none", []), ("one", ["x"])) for word in (name, str(len(words)), *words)]
    assert entry.unpack(packed) == {"flags": NASTY, "none": [], "one": ["x"]}


@pytest.mark.parametrize(
    ("raised", "status", "said"),
    [
        (None, 0, ""),
        (Refused("no rows: set DATASET="), 2, "error: no rows: set DATASET=\n"),
        (FileNotFoundError(2, "No such file or directory", "swift"), 2, "error: No such file or directory: swift\n"),
        (SystemExit(143), 143, ""),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_the_status_says_how_it_ended(
    raised: BaseException | None, status: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def kind(run: Run) -> None:
        assert (run.given, run.settings) == ({"words": ["x"]}, {"A": "1"})
        if raised:
            raise raised

    monkeypatch.setitem(entry.KINDS, "kind", kind)
    assert entry.main(["kind", "words", "1", "x"], {"A": "1"}) == status
    assert capsys.readouterr().err == said


def test_the_last_checkpoint_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main(["last", "words", "1", str(tmp_path)], {}) == 0
    (tmp_path / "checkpoint-7").mkdir()
    assert entry.main(["last", "words", "1", str(tmp_path)], {}) == 0
    assert capsys.readouterr().out == f"{tmp_path}/checkpoint-7\n"


def test_a_dry_run_needs_no_library_and_no_file_beside_the_user_is_taken_for_one(tmp_path: Path) -> None:
    """Python without site-packages, in a folder whose modules would break it."""
    for name in ("json", "subprocess", "overtake", "tasks"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a file of the user')")
    worse = {"mean": 0.2, "low": 0.1, "high": 0.3}
    summary = {"against": "PPO", "differences": {"SFT": {"x_talks_to_grader": worse, "rules": worse}}}
    (tmp_path / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin/python3.11"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    python.chmod(0o755)
    env = {"PATH": f"{python.parent}:/usr/bin:/bin", "DRY_RUN": "1", "PROFILE": "cpu", "SYSTEM": "medical", "COMPARED": "summary.json"}
    for recipe, said in (("ppo_medical", " swift rlhf "), ("deploy", "--served_model_name medical "), ("export", "swift export ")):
        words = ["bash", str(ROOT / f"recipes/{recipe}.sh")]
        done = subprocess.run(words, env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0 and said in done.stdout, done.stderr
    assert "PPO is worse than SFT: x_talks_to_grader +0.200" in done.stderr


def test_no_gpu_is_told_by_the_profile_that_trains_without(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry.main(["profile"], {"CUDA_VISIBLE_DEVICES": ""}) == 2
    assert "Set PROFILE=cpu to train a small model here, or one of: 1x16g " in capsys.readouterr().err
    assert entry.main(["profile"], {"CUDA_VISIBLE_DEVICES": "", "DRY_RUN": "1"}) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("4x80g\n", "profile 4x80g (0 GPUs, the smallest of 0 MiB)\n")


def test_the_entry_is_found_from_any_folder_by_its_path(tmp_path: Path) -> None:
    script = str(ROOT / "plugin/overtake/launch/__main__.py")
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([sys.executable, script, "last", "words", "1", "."], cwd=tmp_path, env=env, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
