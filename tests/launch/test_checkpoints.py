"""What runs leave on disk is found under any name, and what is broken or missing is named."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from overtake.launch import checkpoints
from overtake.launch.command import Refused


def folder(path: Path, **files: Any) -> Path:
    """A folder with JSON files, by their names without the suffix."""
    path.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (path / f"{name}.json").write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_the_last_checkpoint_is_the_one_with_the_highest_step(tmp_path: Path) -> None:
    run = tmp_path / "out|e; & $(date)"
    assert checkpoints.last(run) is None
    for name in ("checkpoint-9", "checkpoint-100", "checkpoint-100-merged", "checkpoint-x", "checkpoint-LAST"):
        folder(run / name)
    (run / "checkpoint-999").write_text("no folder")
    assert checkpoints.last(run) == run / "checkpoint-100"


def test_the_newest_is_the_one_written_last_over_all_runs(tmp_path: Path) -> None:
    names = (
        "sft/checkpoint-9",
        "grpo/checkpoint-9",
        "ppo/checkpoint-64",
        "ppo/checkpoint-64-merged",
        "ppo/checkpoint-64/critic/checkpoint-99",
    )
    for name in names:
        folder(tmp_path / name)
    for at, name in enumerate(reversed(names)):
        os.utime(tmp_path / name, (-at, -at))
    assert checkpoints.newest(tmp_path) == tmp_path / "ppo/checkpoint-64"
    assert checkpoints.newest(tmp_path, merged=True) == tmp_path / "ppo/checkpoint-64-merged"
    assert checkpoints.newest(tmp_path / "none") is None


def test_the_best_of_a_run_is_what_the_trainer_noted_while_it_is_there(tmp_path: Path) -> None:
    last = folder(tmp_path / "checkpoint-4", trainer_state={"best_model_checkpoint": "/moved/from/checkpoint-2"})
    assert checkpoints.best_of(last) == last
    folder(tmp_path / "checkpoint-2")
    assert checkpoints.best_of(last) == tmp_path / "checkpoint-2"
    assert checkpoints.best_of(tmp_path / "checkpoint-2") == tmp_path / "checkpoint-2"


def test_a_comparison_lies_in_the_runs_folder_or_beside_it(tmp_path: Path) -> None:
    checkpoint = folder(tmp_path / "grpo/checkpoint-4")
    assert checkpoints.comparison_of(checkpoint) is None
    folder(tmp_path / "eval", summary={})
    assert checkpoints.comparison_of(checkpoint) == tmp_path / "eval/summary.json"
    folder(tmp_path / "grpo/eval", summary={})
    assert checkpoints.comparison_of(checkpoint) == tmp_path / "grpo/eval/summary.json"


def test_a_folder_is_an_adapter_or_a_model(tmp_path: Path) -> None:
    adapter, model = folder(tmp_path / "适配器 v1", adapter_config={}), folder(tmp_path / "m", config={})
    assert [checkpoints.is_adapter(path) for path in (adapter, model, tmp_path)] == [True, False, False]
    assert [checkpoints.is_model(path) for path in (adapter, model, tmp_path)] == [False, True, False]


def test_an_adapters_base_is_named_by_ms_swift_or_by_peft_or_by_the_user(tmp_path: Path) -> None:
    args = {"model": "Qwen/A", "model_type": "qwen3", "template": "qwen3_x"}
    swift = folder(tmp_path / "swift", args=args, adapter_config={"base_model_name_or_path": "Qwen/B"})
    assert checkpoints.base_of(swift, "", dry=False) == ("Qwen/A", "qwen3", "qwen3_x")
    assert checkpoints.base_of(swift, "my/own", dry=False) == ("my/own", "qwen3", "qwen3_x")
    peft = folder(tmp_path / "peft", adapter_config={"base_model_name_or_path": "Qwen/B"})
    assert checkpoints.base_of(peft, "", dry=False) == ("Qwen/B", "", "")
    assert checkpoints.base_of(folder(tmp_path / "bare", adapter_config={}), "/not/there", dry=False).model == "/not/there"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ('{"base_model_name_or_path": "/no/such/base"}', "was trained on /no/such/base, which is not there: set MODEL="),
        ('{"base_model_name_or_path": "../no such base"}', "was trained on ../no such base, which is not there: set MODEL="),
        ('{"base_model_name_or_path": null}', "does not name its base model: set MODEL="),
        ("{}", "does not name its base model: set MODEL="),
        ('{"base_model', "adapter_config.json is no JSON: take another checkpoint"),
        ("[1]", "adapter_config.json is no JSON: take another checkpoint"),
    ],
)
def test_f66_an_adapter_without_its_base_is_an_error_that_names_both(config: str, message: str, tmp_path: Path) -> None:
    adapter = folder(tmp_path / "lora", adapter_config=config)
    with pytest.raises(Refused) as refused:
        checkpoints.base_of(adapter, "", dry=False)
    assert str(adapter) in str(refused.value) and message in str(refused.value)


def test_the_engine_gets_the_adapter_its_rank_and_its_template(tmp_path: Path) -> None:
    adapter = str(folder(tmp_path / "lora", adapter_config={"r": 24}, args={"template": "qwen3"}))

    def kwargs(**changed: str) -> Any:
        arguments = {"own": "", "engine": "vllm", "model": "m", "adapter": adapter, "template": "", "system": ""} | changed
        return json.loads(checkpoints.engine_kwargs(**arguments))

    assert kwargs() == {"adapters": [adapter], "max_lora_rank": 32, "template_type": "qwen3"}, "vLLM takes 16 or 32, no 24"
    assert kwargs(engine="transformers", template="x") == {"adapters": [adapter], "template_type": "x"}
    assert kwargs(own='{"max_lora_rank": 64, "a": 1}')["max_lora_rank"] == 64
    assert kwargs(adapter="") == {}
    for own in ("[1", "[1]", "1", '"x"'):
        with pytest.raises(Refused, match="is no JSON object"):
            kwargs(own=own)
    with pytest.raises(Refused, match="--system 'be kind', given here or when the student was trained"):
        kwargs(system="be kind")
    folder(Path(adapter), args={"system": "be kind"})
    with pytest.raises(Refused, match="be kind"):
        kwargs()


def test_an_export_forgets_the_plugins_of_its_training_and_knows_how_to_answer(tmp_path: Path) -> None:
    export, trained = tmp_path / "export", folder(tmp_path / "x", args={"enable_thinking": False, "max_completion_length": 768, "lr": 1})
    checkpoints.make_portable(export, trained)
    assert not export.exists()
    folder(export, args={"external_plugins": ["/x/register.py"], "template": "模板", "enable_thinking": None})
    checkpoints.make_portable(export, folder(tmp_path / "none"))
    assert json.loads((export / "args.json").read_text("utf-8")) == {"external_plugins": [], "template": "模板", "enable_thinking": None}
    checkpoints.make_portable(export, trained)
    told = {"enable_thinking": False, "max_completion_length": 768}
    assert checkpoints.answering(export) == checkpoints.answering(trained) == told
    assert checkpoints.answering(tmp_path) == {}
