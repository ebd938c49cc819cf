"""The finance chain: what it refuses before it does anything, and (slow) all eight stages with a few steps each, resumed by stage."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "recipes/finance.sh"
STAGES = ["prepare", "distil", "filter", "sft", "grpo", "evaluate", "deploy", "ablate"]


def chain(*words, timeout=60, **settings):
    """The chain run to its end, with no setting but these."""
    env = {
        name: value for name, value in os.environ.items() if not name.startswith("OVERTAKE_") and name not in ("PROFILE", "MODEL", "TUNER")
    }
    if (Path(sys.prefix) / "bin/swift").exists():
        env |= {"VIRTUAL_ENV": sys.prefix, "PATH": f"{sys.prefix}/bin:{env['PATH']}"}
    command = ["bash", str(RECIPE), *map(str, words)]
    return subprocess.run(command, env=env | settings, capture_output=True, text=True, timeout=timeout, check=False)


@pytest.mark.parametrize(
    ("words", "settings", "message"),
    [
        pytest.param(["--nope"], {}, "--nope is not known. There are: --data, --rows", id="an unknown option"),
        pytest.param(["--from", "training"], {}, f"--from training: the stages are {' '.join(STAGES)}", id="an unknown stage"),
        pytest.param(["--to"], {}, "--to : the stages are", id="no stage"),
        pytest.param(["--rows", "many"], {}, "--rows needs a number", id="rows that are no number"),
        pytest.param(["--data"], {}, "--data needs a file", id="no data"),
        pytest.param([], {}, "no teacher: set OVERTAKE_TEACHER_BASE_URL", id="a GPU run without a teacher"),
        pytest.param([], {"PROFILE": "cpu", "MODEL": "Qwen/Qwen2.5-0.5B-Instruct"}, "no teacher", id="a model of one's own without one"),
    ],
)
def test_what_cannot_be_run_is_one_error_before_anything_is_installed_or_started(tmp_path, words, settings, message):
    ended = chain("--out", tmp_path / "out", *words, PYTHON="false", OVERTAKE_STACK="none", **settings)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("error: ") and ended.stderr.count("\n") == 1
    assert message in ended.stderr
    assert not (tmp_path / "out").exists()


def test_a_folder_of_somebody_else_is_not_emptied_by_fresh(tmp_path):
    (tmp_path / "mine.txt").write_text("years of work")
    ended = chain("--out", tmp_path, "--fresh", PROFILE="cpu")
    assert (ended.returncode, ended.stderr) == (
        2,
        f"error: {tmp_path} holds files that are not of a finance run. Name another folder with --out\n",
    )
    assert (tmp_path / "mine.txt").read_text() == "years of work"


def test_help_says_how_to_run_it():
    ended = chain("--help")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "bash recipes/finance.sh --from sft" in ended.stdout


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of all stages with hardly any step: (its folder, what it said)."""
    out = tmp_path_factory.mktemp("finance") / "out"
    ended = chain("--out", out, PROFILE="cpu", FINANCE_STEPS="150 40 2", timeout=45 * 60)
    assert ended.returncode == 0, (ended.stdout + ended.stderr)[-5000:]
    return out, ended.stdout


def lines(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.mark.slow
def test_every_stage_leaves_its_files_under_the_names_of_the_papers(whole):
    out, said = whole
    assert [f"{at} {name}" in said for at, name in enumerate(STAGES, start=1)] == [True] * 8
    data = [f"data/{name}" for name in ("sft.jsonl", "rl.jsonl", "filter_stats.json")]
    for name in ("raw/raw.jsonl", "distilled.jsonl", *data, "merged/config.json", "report.html"):
        assert (out / name).is_file(), name
    assert "attack: every option" in (out / "doctor.txt").read_text("utf-8")
    assert list((out / "eval").glob("eval_*.json")) and list((out / "eval").glob("eval_details_*.jsonl"))
    assert list((out / "ablation").glob("ablation_summary_*.json"))
    assert (len(lines(out / "raw/raw.jsonl")), len(lines(out / "data/rl.jsonl"))) == (1224, 1224)
    assert 400 < len(lines(out / "data/sft.jsonl")) < 500


@pytest.mark.slow
def test_all_systems_answer_the_same_held_out_problems(whole):
    summary = json.loads((whole[0] / "eval/summary.json").read_text("utf-8"))
    assert set(summary["rows"]) == {"base", "SFT", "SFT-long", "GRPO"}
    assert set(summary["rows"].values()) == {338}
    assert summary["against"] == "GRPO"


@pytest.mark.slow
def test_the_deployed_model_answers_a_question(whole):
    _, said = whole
    asked = said.index("question: ")
    assert said[asked:].splitlines()[1].strip()


@pytest.mark.slow
def test_a_stage_is_done_anew_and_those_before_it_are_not(whole):
    out, _ = whole
    before = {name: (out / name).stat().st_mtime_ns for name in ("raw/raw.jsonl", "distilled.jsonl", "data/filter_stats.json")}
    trained = (out / "sft/checkpoint-40/model.safetensors").stat().st_mtime_ns
    ended = chain("--out", out, "--from", "grpo", "--to", "grpo", PROFILE="cpu", FINANCE_STEPS="150 40 3", timeout=20 * 60)
    assert ended.returncode == 0, (ended.stdout + ended.stderr)[-5000:]
    assert {name: (out / name).stat().st_mtime_ns for name in before} == before
    assert (out / "sft/checkpoint-40/model.safetensors").stat().st_mtime_ns == trained
    assert (out / "grpo/checkpoint-3").is_dir() and not (out / "grpo/checkpoint-2").exists()
    assert not any((out / name).exists() for name in ("eval", "report.html", "merged"))
