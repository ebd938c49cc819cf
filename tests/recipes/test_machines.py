"""A machine, an adapter or a folder that is not as expected is told at the start, by the name of what is to be set."""

import json
import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WORDS = (
    "No devices were found",
    "Failed to initialize NVML: Driver/library version mismatch",
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.",
)


def says(folder: Path, text: str) -> str:
    """A PATH on which nvidia-smi says a text, whatever it is asked."""
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "text").write_text(f"{text}\n", encoding="utf-8")
    program = folder / "bin/nvidia-smi"
    program.write_text(f"#!/bin/sh\ncat {folder / 'text'}\n", encoding="utf-8")
    program.chmod(0o755)
    return f"{folder / 'bin'}:{os.environ['PATH']}"


@pytest.mark.parametrize("text", WORDS)
def test_f63_words_of_nvidia_smi_are_no_card(text, tmp_path, run):
    done = run("grpo_rag", PATH=says(tmp_path, text))
    assert done.returncode == 2
    assert done.stderr.startswith("error: no GPU of 16 GB or more is visible and PROFILE is not set. Set PROFILE=cpu")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(("text", "stack"), [(WORDS[0], "cpu"), (WORDS[2], "cpu"), ("GPU 0: NVIDIA H200 (UUID: GPU-1)", "gpu")])
def test_f64_words_of_nvidia_smi_install_the_cpu_stack(text, stack, tmp_path):
    folder = tmp_path / "clone"
    folder.mkdir()
    for name in ("install.sh", "pyproject.toml", "requirements.txt", "requirements-cpu.txt", "requirements-dev.txt"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    env = {**os.environ, "PATH": says(tmp_path, text), "PYTHON": "no-python-here"}
    env.pop("OVERTAKE_STACK", None)
    # The stack is chosen before Python is looked for, and shown by bash itself.
    done = subprocess.run(["bash", "-x", "install.sh"], cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2 or "Python 3.11 with venv is needed" in done.stderr
    assert f"stack={stack}" in done.stderr.splitlines()[-1] or f"+ stack={stack}" in done.stderr


def peft(folder: Path, config: str) -> Path:
    """An adapter as PEFT, LLaMA-Factory, TRL and Unsloth leave it: without ms-swift's args.json."""
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(config, encoding="utf-8")
    (folder / "adapter_model.safetensors").write_bytes(b"")
    return folder


def test_f67_a_foreign_adapter_is_exported_onto_the_base_that_it_names(tmp_path, command):
    base = tmp_path / "底座 v1"
    base.mkdir()
    adapter = peft(tmp_path / "适配器 v1", json.dumps({"base_model_name_or_path": str(base)}))
    _, words = command("export", ADAPTER=f"{adapter}/", OUTPUT_DIR=tmp_path / "out", PROFILE="cpu")
    assert words[words.index("--model") + 1] == str(base)
    assert words[words.index("--adapters") + 1] == str(adapter)
    _, words = command("deploy", ADAPTER=adapter, PROFILE="cpu")
    assert words[words.index("--model") + 1] == str(base)


@pytest.mark.parametrize("recipe", ["grpo_rag", "ppo_rag", "grpo_finance", "grpo_judge", "ppo_medical", "grpo_medical"])
def test_a_foreign_adapter_is_where_rl_starts(recipe, tmp_path, command):
    adapter = peft(tmp_path / "lora", json.dumps({"base_model_name_or_path": "owner/base-7B"}))
    _, words = command(recipe, SFT_ADAPTER=adapter, PROFILE="cpu")
    assert words[words.index("--model") + 1] == "owner/base-7B"
    assert words[words.index("--adapters") + 1] == str(adapter)
    assert "--model_type" not in words


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ('{"base_model_name_or_path": "/no/such/base"}', "was trained on /no/such/base, which is not there: set MODEL="),
        ('{"base_model', "adapter_config.json is no JSON: take another checkpoint"),
    ],
)
@pytest.mark.parametrize("recipe", ["grpo_finance", "export", "deploy"])
def test_f66_an_adapter_without_its_base_is_one_line_that_names_both(recipe, config, message, tmp_path, run):
    adapter = peft(tmp_path / "lora", config)
    rows = tmp_path / "rl.jsonl"
    rows.write_text("{}\n", encoding="utf-8")
    done = run(recipe, PROFILE="cpu", SFT_ADAPTER=adapter, ADAPTER=adapter, DATASET=rows, OUTPUT_DIR=tmp_path / "out", PORT=0)
    assert done.returncode == 2
    assert [line for line in done.stderr.splitlines() if line.startswith("error:")] == [done.stderr.strip().splitlines()[-1]]
    assert str(adapter) in done.stderr and message in done.stderr


@pytest.mark.parametrize(
    ("folder", "rows"), [("C#题库", ""), ("C#题库", "#4"), ("#1", ""), ("a#2/b#", "#3"), ("issue #7", "")], ids=lambda one: one or "all"
)
def test_f68_a_sign_in_a_folders_name_is_no_number_of_rows(folder, rows, tmp_path, command, run):
    path = tmp_path / folder / "rl.jsonl"
    missing = run("grpo_finance", PROFILE="cpu", SFT_ADAPTER="none", DATASET=f"{path}{rows}", OUTPUT_DIR=tmp_path / "out")
    assert missing.returncode == 2 and f"{path} does not exist or is empty" in missing.stderr
    path.parent.mkdir(parents=True)
    path.write_text("{}\n", encoding="utf-8")
    _, words = command("grpo_finance", PROFILE="cpu", SFT_ADAPTER="none", DATASET=f"{path}{rows}")
    assert words[words.index("--dataset") + 1] == f"overtake/finance:{path}{rows}"
