"""What the boards show of a run: wandb and swanlab offline into a folder of it (slow: CI runs it), and the plain names on each of them."""

import json
import os
import re
import struct
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
from overtake.boards import missing, report
from overtake.trainers.aliases import FIRST_OF, SUM_OF, aliases

ROOT = Path(__file__).resolve().parents[2]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
GRPO = {
    **{"loss": 0.1, "reward": 0.5, "clip_ratio/region_mean": 0.2, "rag/win_rate": 0.75, "rag/student_top1": 0.9, "rag/teacher_top1": 0.8},
    **{"calls/rag": 12.0, "calls/judge": 3.0, "calls/teacher": 2.0, "cache/hit_rate": 0.25},
}
PLAIN = {
    **{"avg_reward": 0.5, "student_win_rate": 0.75, "student_avg_top1": 0.9, "teacher_avg_top1": 0.8, "rag_api_calls": 12.0},
    **{"teacher_api_calls": 5.0, "cache_hit_rate": 0.25, "policy_loss": 0.1, "clip_fraction": 0.2},
}
PPO = {"loss": 0.3, "loss/policy_avg": -0.18, "loss/value_avg": 0.4, "policy/clipfrac_avg": 0.15}


def test_grpo_and_ppo_are_told_under_the_same_plain_names():
    assert aliases(GRPO) == PLAIN
    assert aliases(PPO) == {"policy_loss": -0.18, "value_loss": 0.4, "clip_fraction": 0.15}
    assert aliases({**PPO, **GRPO}).keys() == FIRST_OF.keys() | SUM_OF.keys()
    assert aliases({f"eval_{name}": value for name, value in GRPO.items()}) == {
        f"eval_{name}": value for name, value in PLAIN.items() if name != "policy_loss"
    }
    assert aliases({"train_runtime": 1.0}) == {}


def test_the_page_names_what_each_plain_name_stands_for():
    page = (ROOT / "docs/watching.md").read_text(encoding="utf-8")
    lines = [line.split("|")[1:3] for line in page.splitlines() if line.startswith("| `")]
    table = {alias.strip(" `"): tuple(re.findall("`([^`]+)`", names)) for alias, names in lines}
    assert {alias: table[alias] for alias in FIRST_OF | SUM_OF} == FIRST_OF | SUM_OF


def test_a_board_is_told_by_one_variable_and_only_a_key_in_the_environment_sends_anything():
    folder = Path("out")
    flags, variables = report("swanlab wandb", folder, {})
    assert flags == ["--report_to", "tensorboard", "wandb", "swanlab", "--swanlab_project", "overtake", "--swanlab_mode", "local"]
    assert set(variables) == {"WANDB_PROJECT=overtake", "WANDB_DIR=out", "WANDB_MODE=offline", "SWANLAB_LOG_DIR=out/swanlog"}
    flags, variables = report("wandb,swanlab", folder, {"WANDB_API_KEY": "k3y", "SWANLAB_API_KEY": "k3y", "WANDB_PROJECT": "mine"})
    assert flags[-2:] == ["--swanlab_mode", "cloud"] and set(variables) == {"WANDB_DIR=out", "SWANLAB_LOG_DIR=out/swanlog"}
    assert "k3y" not in f"{flags}{variables}"
    with pytest.raises(ValueError, match="REPORT_TO=mlflow: give wandb, swanlab or both"):
        report("mlflow", folder, {})


def test_a_board_that_is_not_installed_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr("overtake.boards.find_spec", lambda name: None)
    assert missing("swanlab") == "REPORT_TO=swanlab: swanlab is not installed: pip install -e '.[swanlab]'"
    assert EXTRAS.keys() == {"wandb", "swanlab", "qdrant", "encoders", "page", "redis"}
    assert EXTRAS["wandb"][0] in (ROOT / "requirements-dev.txt").read_text(encoding="utf-8"), "CI tries the version that users get"


def test_the_plain_names_are_added_before_any_board_looks(tmp_path):
    from overtake.trainers.metrics_callback import MetricsCallback
    from transformers import TrainerCallback
    from transformers.trainer_callback import CallbackHandler, TrainerControl, TrainerState

    class Board(TrainerCallback):
        shown = None

        def on_log(self, args, state, control, logs=None, **_):
            self.shown = dict(logs)

    board, args = Board(), SimpleNamespace(output_dir=str(tmp_path), device="cpu", reward_weights=None)
    trainer = SimpleNamespace(custom_metrics={}, reward_funcs=[], reward_func_names=[], state=TrainerState())
    handler = trainer.callback_handler = CallbackHandler([board, MetricsCallback(args, trainer)], None, None, None, None)
    handler.on_train_begin(args, trainer.state, TrainerControl())
    handler.on_log(args, trainer.state, TrainerControl(), dict(GRPO))
    assert board.shown == GRPO | PLAIN


RUN = """
import os, sys
import torch
from overtake.trainers.metrics_callback import MetricsCallback
from swift.trainers import TrainingArguments
from transformers.integrations import INTEGRATION_TO_CALLBACK
from transformers.trainer_callback import CallbackHandler, TrainerControl, TrainerState
from types import SimpleNamespace
import json

board, folder, logs = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
args = TrainingArguments(output_dir=folder, report_to=[], use_cpu=True)
if board == "swanlab":
    from swift.arguments.sft_args import SwanlabArguments
    told = {"output_dir": folder, "swanlab_project": sys.argv[5], "swanlab_mode": sys.argv[7]}
    made = SimpleNamespace(**vars(SwanlabArguments()) | told)
    SwanlabArguments._init_swanlab(made)
callback = INTEGRATION_TO_CALLBACK[board]
callback = callback() if isinstance(callback, type) else callback
state, control = TrainerState(), TrainerControl()
trainer = SimpleNamespace(custom_metrics={}, reward_funcs=[], reward_func_names=[], state=state)
handler = CallbackHandler([callback, MetricsCallback(args, trainer)], torch.nn.Linear(1, 1), None, None, None)
trainer.callback_handler = handler
handler.on_train_begin(args, state, control)
for step in (1, 2):
    state.global_step = step
    handler.on_log(args, state, control, dict(logs))
handler.on_train_end(args, state, control)
module = __import__(board)
module.finish()
"""


def records(path):
    """The records of wandb's and of swanlab's file: LevelDB's log, whose blocks of 32 KiB hold records in parts; a header of 7 bytes."""
    data, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or a last part
            yield whole
            whole = b""


def shown(board, folder, python=sys.executable, **more):
    """The one file that a board writes of two logged steps in a folder, as REPORT_TO sets it up."""
    flags, variables = report(board, folder, {})
    env = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB", "SWANLAB"))}
    env |= dict(variable.split("=", 1) for variable in variables) | more
    command = [python, "-c", RUN, board, folder, json.dumps(GRPO), *flags[len(flags) - 4 :]]
    done = subprocess.run(command, cwd=folder.parent, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    (file,) = folder.rglob(f"run-*.{board}")
    return file


@pytest.mark.slow
def test_wandb_writes_a_run_into_its_folder_without_a_key(tmp_path):
    pytest.importorskip("wandb")
    from wandb.proto.wandb_internal_pb2 import Record

    steps = []
    for data in records(shown("wandb", tmp_path / "out")):
        record = Record.FromString(data)
        if record.HasField("history"):
            steps.append({".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item})
    told = [step for step in steps if "train/avg_reward" in step]
    assert len(told) == 2
    for step in told:
        assert {name: step[f"train/{name}"] for name in GRPO | PLAIN} == pytest.approx(GRPO | PLAIN)


@pytest.fixture
def apart(tmp_path):
    """A Python with the extra `swanlab` over this one's packages: its protobuf is another than the CPU stack's."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "apart"], check=True)
    (site,) = (tmp_path / "apart").glob("lib/python*/site-packages")
    below = [path for path in sys.path if path.endswith("site-packages")]
    (site / "below.pth").write_text("\n".join(below), encoding="utf-8")
    python = str(tmp_path / "apart/bin/python")
    subprocess.run([python, "-m", "pip", "install", "-q", *EXTRAS["swanlab"]], check=True, capture_output=True)
    return python


@pytest.mark.slow
@pytest.mark.release
def test_swanlab_writes_a_run_into_its_folder_without_a_key(tmp_path, apart):
    file = shown("swanlab", tmp_path / "out", apart, PYTHONPATH=os.pathsep.join([str(ROOT / "plugin"), str(ROOT)]))
    text = b"".join(records(file))
    assert file.is_relative_to(tmp_path / "out/swanlog")
    for name in GRPO | PLAIN:
        assert f"train/{name}".encode() in text, name
