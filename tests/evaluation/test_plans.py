"""Plans of ablations: what is run, with which seed and after what; what is not run again; what the table says in words."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from overtake.cli import Abort
from overtake.data.tables import BadInput, json_lines
from overtake.evaluation import plans

ROOT = Path(__file__).parents[2]
TRAIN = "mkdir -p {out}/checkpoint-3 {out}/checkpoint-12 {out}/checkpoint-20-merged && echo {seed} >>{out}/said"
PLAN = {
    "against": "RL",
    "metrics": ["main"],
    "seeds": [4, 5],
    "variants": [
        {"name": "base", "system": "base.jsonl"},
        {"name": "SFT", "command": TRAIN},
        {"name": "RL", "command": TRAIN + " && echo {checkpoint[SFT]} >>{out}/said"},
    ],
}


@pytest.fixture
def plan(tmp_path):
    def plan(**change):
        (tmp_path / "plan.yaml").write_text(yaml.safe_dump(PLAN | change), encoding="utf-8")
        return plans.read_plan(tmp_path / "plan.yaml")

    return plan


def test_each_command_runs_once_with_each_seed_on_the_checkpoint_of_that_seed(plan, tmp_path):
    out = tmp_path / "an out"
    found = plans.trained(plan(), out, tmp_path)
    runs = {name: [out / "runs" / name / f"seed-{seed}" for seed in (4, 5)] for name in ("SFT", "RL")}
    last = {name: [str(folder / "checkpoint-12") for folder in folders] for name, folders in runs.items()}
    assert found == {"base": ["base.jsonl"], **last}
    assert [(folder / "said").read_text() for folder in runs["RL"]] == [f"4\n{last['SFT'][0]}\n", f"5\n{last['SFT'][1]}\n"]
    assert plans.trained(plan(), out, tmp_path) == found
    assert [(folder / "said").read_text() for folder in runs["SFT"]] == ["4\n", "5\n"]  # not run again


def test_a_run_of_another_command_is_never_taken_for_this_one(plan, tmp_path):
    plans.trained(plan(), tmp_path / "out", tmp_path)
    with pytest.raises(BadInput, match="seed-4 holds a run of another command"):
        plans.trained(plan(variants=[PLAN["variants"][1] | {"command": TRAIN + " "}, *PLAN["variants"][2:]]), tmp_path / "out", tmp_path)


@pytest.mark.parametrize(
    ("command", "message"), [("echo no; exit 3", "SFT, seed 4: its command ended with 3"), ("true", "holds no checkpoint")]
)
def test_a_command_that_fails_or_leaves_nothing_stops_and_is_run_again(plan, tmp_path, command, message):
    one = plan(against="SFT", variants=[PLAN["variants"][0], {"name": "SFT", "command": command}])
    for _ in range(2):
        with pytest.raises(Abort, match=message):
            plans.trained(one, tmp_path / "out", tmp_path)
    if "no" in command:
        assert (tmp_path / "out/runs/SFT/seed-4.log").read_text() == "no\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"against": "PPO"}, "against: PPO is not among the variants base, SFT, RL"),
        ({"seeds": []}, "seeds: List should have at least 1 item"),
        ({"seed": 3}, "seed: Extra inputs are not permitted"),
        ({"variants": [PLAN["variants"][2], *PLAN["variants"][:2]]}, "RL: 'SFT' in its command is none of seed, out and checkpoint"),
        ({"variants": [*PLAN["variants"], PLAN["variants"][0]]}, "a variant stands twice"),
        ({"variants": [*PLAN["variants"], {"name": "x"}]}, "x: give either system or command"),
        ({"variants": [*PLAN["variants"], {"name": "../x", "system": "y"}]}, "variants.3.name: String should match pattern"),
    ],
)
def test_a_plan_that_cannot_be_run_is_refused_before_anything_is(plan, change, message):
    with pytest.raises(BadInput) as refusal:
        plan(**change)
    assert message in str(refusal.value) and "plan.yaml" in str(refusal.value)


def test_the_table_says_in_words_what_is_shown(tmp_path, monkeypatch, capsys):
    rows = [{"id": str(at), "question": f"q{at}", "answer": ["x"], "answer_hat": "x", "label": "correct"} for at in range(30)]
    (tmp_path / "test.jsonl").write_bytes(json_lines(rows))
    right, wrong = (f"<think>so</think><output>main: {word}; secondary: none</output>" for word in ("correct", "incorrect"))
    for name, good in {"bad": 0, "nearly": 29, "good": 30}.items():
        lines = [{"id": str(at), "verdict": right if at < good else wrong} for at in range(30)]
        (tmp_path / f"{name}.jsonl").write_bytes(json_lines(lines))
    variants = [{"name": name, "system": str(tmp_path / f"{name}.jsonl")} for name in ("bad", "nearly", "good")]
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump({**PLAN, "against": "good", "variants": variants}), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("ablate_tested", ROOT / "tools/ablate.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    arguments = [str(tmp_path / "test.jsonl"), str(tmp_path / "out"), "--task", "judge"]
    assert tool.main([*arguments, "--plan", str(tmp_path / "plan.yaml")]) == 0
    lines = capsys.readouterr().out.splitlines()
    said = {line.split()[0]: line for line in lines if " main " in line}
    assert said["bad"].endswith(" 0.000  better") and said["nearly"].endswith(" 1.000  no difference shown")
    summary = json.loads((tmp_path / "out/ablation_summary_judge.json").read_text("utf-8"))
    assert summary["p_holm"]["bad"]["main"] == pytest.approx(2 * 2 / 2**30) and summary["against"] == "good"
    assert tool.main(arguments) == 2 and "give --base, --sft and --grpo, or --plan FILE" in capsys.readouterr().err


def test_a_row_counts_with_its_mean_over_the_seeds():
    runs = [{"a": {"hit": 1.0, "x": 1.0}, "b": {"hit": 0.0}}, {"a": {"hit": 0.0}, "c": {"hit": 1.0}}]
    assert plans.over_seeds(runs, ["hit", "x"]) == {"a": {"hit": 0.5}}


@pytest.mark.parametrize(
    ("name", "profile"),
    [
        ("query_rewrite", "1x24g"),
        ("judge", "1x24g"),
        ("tiny", "cpu"),
        ("ways", "cpu"),
        ("scale", "cpu"),
        ("passage", "cpu"),
        ("medical", "cpu"),
    ],
)
def test_every_command_of_the_shipped_plans_is_one_that_its_recipe_takes(tmp_path, name, profile):
    plan = plans.read_plan(ROOT / f"recipes/plans/{name}.yaml")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OVERTAKE_")}
    environment |= {"DRY_RUN": "1", "PROFILE": profile, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    checkpoints = {one.name: str(tmp_path / one.name) for one in plan.variants}
    for one in plan.variants:
        assert not one.prompt or (ROOT / "recipes/plans" / one.prompt).is_file()
        if one.command:
            # The training, behind what makes its rows.
            command = one.command.format(seed=7, out=tmp_path / "out", checkpoint=checkpoints).rpartition(" && ")[2]
            done = subprocess.run(["bash", "-c", command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
            assert (
                done.returncode == 0
                and f"--output_dir {tmp_path / 'out'}" in done.stdout
                and "--seed 7" in done.stdout
                and "--data_seed 7" in done.stdout
            ), done.stderr
            funcs = "rewrite_rules" if one.name == "rules only" else "rag_retrieval" if one.name == "retrieval only" else ""
            words = done.stdout.replace("\\\n", " ").split()
            assert not funcs or words[words.index("--reward_funcs") :][1:3] == [funcs, "--reward_weights"]
