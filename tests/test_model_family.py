"""What ms-swift calls a model is read from its folder, and the recipes say it; a model that cannot be told is refused in words."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from overtake import model_family

ROOT = Path(__file__).resolve().parents[1]
CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"


def model(folder: Path, architecture: str, template: str = CHATML, inside: bool = False) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    if inside:
        (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    elif template:
        (folder / "chat_template.jinja").write_text(template)
    return folder


@pytest.mark.parametrize(
    ("architecture", "template", "named"),
    [
        ("LlamaForCausalLM", CHATML, ("llama", "chatml")),
        ("LlamaForCausalLM", "<|start_header_id|>{{ role }}", ("llama", "llama3")),
        ("LlamaForCausalLM", "<|start_header_id|> Cutting Knowledge Date", ("llama", "llama3_2")),
        ("Qwen2ForCausalLM", CHATML + "You are Qwen", ("qwen2", "qwen2_5")),
        ("Qwen2ForCausalLM", "<｜User｜>{{ content }}", ("qwen2", "deepseek_r1")),
        ("Qwen3ForCausalLM", CHATML + "{% if enable_thinking %}", ("qwen3", "qwen3")),
        ("Qwen3ForCausalLM", CHATML, ("qwen3", "qwen3_nothinking")),
        ("Gemma3ForCausalLM", "<start_of_turn>user", ("gemma3_text", "gemma3_text")),
    ],
)
@pytest.mark.parametrize("inside", [False, True])
def test_architecture_and_chat_template_name_the_family(tmp_path, architecture, template, named, inside):
    assert model_family.family(model(tmp_path / "m", architecture, template, inside)) == named


def test_what_ms_swift_finds_by_itself_is_left_to_it(tmp_path):
    assert model_family.flags(model(tmp_path / "alone", "SomeNewForCausalLM")) == []
    trained = model(tmp_path / "trained", "LlamaForCausalLM", "")
    (trained / "args.json").write_text('{"model_type": "llama", "template": "chatml"}')
    assert model_family.flags(trained) == []


def test_a_model_that_cannot_be_told_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(ValueError, match=r"no chat template: it is a base model.*--template"):
        model_family.flags(model(tmp_path / "base", "LlamaForCausalLM", ""))
    with pytest.raises(ValueError, match=r"LlamaForCausalLM.*no kind.*--model_type llama --template chatml"):
        model_family.flags(model(tmp_path / "odd", "LlamaForCausalLM", "Human: {{ content }}"))
    broken = model(tmp_path / "broken", "LlamaForCausalLM")
    (broken / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config.json is no JSON: fetch the model again"):
        model_family.flags(broken)


def test_every_name_in_the_table_is_one_of_ms_swifts():
    from swift.model import MODEL_MAPPING
    from swift.template import TEMPLATE_MAPPING

    for architecture, lines in model_family._BY_ARCHITECTURE.items():
        for _, named in lines:
            assert architecture in MODEL_MAPPING[named.model_type].architectures
            assert named.template in TEMPLATE_MAPPING


def dry(recipe: str, *flags: str, **settings: object) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "DRY_RUN": "1", "PROFILE": "cpu", **{name: str(value) for name, value in settings.items()}}
    return subprocess.run(["bash", str(ROOT / f"recipes/{recipe}.sh"), *flags], env=env, capture_output=True, text=True, check=False)


def test_a_recipe_names_the_family_of_a_folder_unless_the_caller_does(tmp_path):
    folder = model(tmp_path / "SmolLM2", "LlamaForCausalLM")
    said = dry("sft_qwen32b", MODEL=folder).stdout.split()
    assert [said[said.index(name) + 1] for name in ("--model_type", "--template")] == ["llama", "chatml"]
    said = dry("sft_qwen32b", "--template", "llama3", MODEL=folder).stdout.split()
    assert said[said.index("--template") + 1] == "llama3" and said.count("--template") == 1
    refused = dry("sft_qwen32b", MODEL=model(tmp_path / "base", "LlamaForCausalLM", ""))
    assert refused.returncode == 2
    assert "has no chat template" in refused.stderr


@pytest.mark.parametrize(
    ("units", "tuner", "wanted"),
    [
        ("fma avx512_bf16 amx_bf16", "lora", ["--torch_dtype bfloat16", "--bf16 true", "--use_cpu true"]),
        ("fma avx512_bf16", "full", ["--torch_dtype float32", "--bf16 false"]),
        ("fma avx2", "lora", ["--torch_dtype float32", "--bf16 false"]),
    ],
)
def test_the_cpu_trains_adapters_in_bf16_where_the_processor_has_units_for_it(tmp_path, units, tuner, wanted):
    (tmp_path / "lscpu").write_text(f"#!/bin/sh\necho 'Flags: {units}'\n")
    (tmp_path / "swift").write_text('#!/bin/sh\necho "swift $@" >&2\n')
    for name in ("lscpu", "swift"):
        (tmp_path / name).chmod(0o755)
    rows = tmp_path / "train.jsonl"
    rows.write_text("{}\n")
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PROFILE": "cpu", "MODEL": "some/model", "TUNER": tuner, "DOCTOR": "0"}
    words = ["bash", str(ROOT / "recipes/sft_qwen32b.sh"), "--output_dir", str(tmp_path / "out")]
    env = {**os.environ, **env, "DATASET": str(rows), "OUTPUT_DIR": str(tmp_path / "out")}
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    started = next(line for line in done.stderr.splitlines() if line.startswith("swift sft"))
    assert all(flag in started for flag in wanted), started
    assert ("--use_cpu" in started) == ("--use_cpu true" in wanted)
