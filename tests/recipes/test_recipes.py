"""Every recipe under every profile, found by their files: ms-swift takes the command, groups are whole, batches multiply, evaluation fits.

The printed command goes through ms-swift's own argument classes; only the device probe, the process group, the hub look-up and the call of
the rollout server are replaced. Run: python -m pytest -m "not slow" tests/recipes
"""

import ast
import functools
import importlib.util
import json
import os
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from overtake.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
PROFILES = sorted(path.stem for path in (ROOT / "recipes/profiles").glob("*.sh"))
TRAINING = sorted(path.stem for path in (ROOT / "recipes").glob("*.sh") if path.stem.startswith(("sft_", "grpo_", "ppo_")))
RL = [recipe for recipe in TRAINING if not recipe.startswith("sft_")]
LARGE = ("4x80g", "8x80g", "multinode")
PROCESSES = {"cpu-zero2": 2, "cpu-zero3": 2, "4x80g": 4, "8x80g": 8, "multinode": 16}
ZERO = {"cpu-zero2": 2, **dict.fromkeys(("cpu-zero3", *LARGE), 3)}
NODES = {"NNODES": 2, "NODE_RANK": 1, "MASTER_ADDR": "10.0.0.1", "ROLLOUT_HOST": "10.0.0.9 10.0.0.10"}
BASES = {
    **{name: "Qwen/Qwen2.5-0.5B-Instruct" for name in PROFILES if name.startswith("cpu")},
    "1x16g": "Qwen/Qwen2.5-1.5B-Instruct",
    "1x24g": "Qwen/Qwen2.5-3B-Instruct",
    "1x24g-4bit": "Qwen/Qwen2.5-7B-Instruct",
    "1x80g": "Qwen/Qwen3-8B",
    **dict.fromkeys(LARGE, "Qwen/Qwen2.5-32B-Instruct"),
}
"""The profiles' own models, for the recipes that are written for none."""
CRITICS = {
    **dict.fromkeys(("1x16g", "1x24g", "1x24g-4bit"), "Qwen/Qwen2.5-0.5B-Instruct"),
    **dict.fromkeys(LARGE, "Qwen/Qwen2.5-7B-Instruct"),
}
"""PPO's, where a critic as large as the policy would not fit."""

_SFT_LORA = {"lora_rank": 16, "lora_alpha": 32, "lora_dropout": 0, "target_modules": ["all-linear"]}
_PPO = {"num_mini_batches": 4, "num_ppo_epochs": 4, "cliprange": 0.2, "cliprange_value": 0.2, "vf_coef": 0.5, "lam": 0.95}
_PPO |= {"max_grad_norm": 0.5, "kl_coef": 0.05, "num_generations": 1, "ppo": True, "rlhf_type": "grpo"}  # ms-swift's own PPO sees no reward
_REWRITE = {"reward_funcs": ["rag_competition", "rewrite_rules"], "reward_weights": [1.0, 0.2], "temperature": 0.7, "top_p": 0.9}
_REWRITE |= {"max_completion_length": 150, "max_length": 2048, "learning_rate": 1e-5, "num_train_epochs": 10, "early_stop_interval": 5}
_MEDICAL = {"reward_funcs": ["medical_answer"], "reward_weights": [1.0], "temperature": 0.9, "top_p": 1.0, "dataset_shuffle": False}
_MEDICAL |= {"max_completion_length": 768, "max_length": 1024, "learning_rate": 1e-5, "early_stop_interval": 5}
NUMBERS: dict[str, dict[str, Any]] = {
    "sft_qwen32b": _SFT_LORA | {"learning_rate": 5e-5, "num_train_epochs": 3, "max_length": 2048, "eval_steps": 100, "logging_steps": 10},
    "grpo_rag": _SFT_LORA | _REWRITE | {"num_generations": 8, "beta": 0.04, "scale_rewards": "group", "eval_steps": 50},
    "ppo_rag": _SFT_LORA | _REWRITE | _PPO | {"gamma": 0.99, "eval_steps": 64},
    "sft_finance": _SFT_LORA | {"learning_rate": 2e-4, "num_train_epochs": 2, "max_length": 2048, "split_dataset_ratio": 0.02},
    "grpo_finance": _SFT_LORA
    | {"reward_funcs": ["answer_format", "finance_accuracy"], "reward_weights": [0.3, 0.7], "num_generations": 4, "temperature": 0.7}
    | {"max_length": 1024, "max_completion_length": 1024, "beta": 0.05, "learning_rate": 1e-5, "num_train_epochs": 2}
    | {"split_dataset_ratio": 0.02},
    "sft_judge": _SFT_LORA
    | {"lora_alpha": 16, "learning_rate": 2e-4, "warmup_steps": 5, "max_steps": 60, "weight_decay": 0.01, "split_dataset_ratio": 0.05},
    "grpo_judge": _SFT_LORA
    | {"lora_alpha": 16, "reward_funcs": ["judge_format", "judge_verdict"], "reward_weights": [0.2, 0.8], "num_generations": 16}
    | {"learning_rate": 3e-5, "warmup_ratio": 0.1, "beta": 0.01, "max_grad_norm": 0.5, "adam_beta1": 0.9, "adam_beta2": 0.999}
    | {"weight_decay": 0.1, "num_train_epochs": 3, "max_completion_length": 1024, "max_length": 1024, "split_dataset_ratio": 0.05},
    "sft_medical": _SFT_LORA | {"learning_rate": 1e-4, "num_train_epochs": 3, "max_length": 2048, "eval_steps": 50},
    "grpo_medical": _SFT_LORA | _MEDICAL | {"num_generations": 8, "beta": 0.05, "num_train_epochs": 1, "eval_steps": 50},
    "ppo_medical": _SFT_LORA | _MEDICAL | _PPO | {"gamma": 1.0, "num_train_epochs": 3, "eval_steps": 32},
}
"""What the user asked for, by the recipe and ms-swift's name, whatever the profile."""
MODELS = {"finance": "Qwen/Qwen2.5-1.5B-Instruct", "judge": "Qwen/Qwen2.5-1.5B-Instruct", "medical": "Qwen/Qwen3-1.7B"}
"""The models that recipes are written for, by the last part of their names."""
DATASETS = {"finance": "overtake/finance:", "judge": "overtake/judge:"}
"""Under which a file is read; others are read as they are."""


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Rows, and an SFT checkpoint of each kind."""
    for name in ("train.jsonl", "val.jsonl", "rl_train.jsonl", "rl_val.jsonl", "dev.jsonl"):
        (tmp_path / name).write_text('{"messages": []}\n', encoding="utf-8")
    (tmp_path / "lora").mkdir()
    (tmp_path / "lora/adapter_config.json").write_text("{}", encoding="utf-8")
    write_config(tmp_path / "full", "qwen3")
    saved = {"swift_version": "4.6.0", "model_type": "qwen3", "template": "qwen3", "tuner_type": "full"}
    (tmp_path / "full/args.json").write_text(json.dumps(saved), encoding="utf-8")
    return {"DATASET": tmp_path / "train.jsonl", "OUTPUT_DIR": tmp_path / "out", "lora": tmp_path / "lora", "full": tmp_path / "full"}


def write_config(folder: Path, kind: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "architectures": [f"{kind.capitalize()}ForCausalLM"],
        "model_type": kind,
        "max_position_embeddings": 32768,
        "dtype": "bfloat16",
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def write_adapter(folder: Path, base: str) -> None:
    kind = "qwen3" if "Qwen3" in base else "qwen2"
    saved = {"swift_version": "4.6.0", "model": base, "model_type": kind, "template": kind.replace("qwen2", "qwen2_5")}
    saved |= {"tuner_type": "lora", "torch_dtype": "bfloat16", "external_plugins": [str(ROOT / "plugin/register.py")]}
    (folder / "args.json").write_text(json.dumps(saved), encoding="utf-8")


def value(words: list[str], flag: str) -> str:
    """What stands behind a flag, up to the next one."""
    at = words.index(flag) + 1
    end = next((place for place in range(at, len(words)) if words[place].startswith("--")), len(words))
    return " ".join(words[at:end])


@pytest.fixture
def parse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """parse(argument class, words, processes): the arguments as ms-swift would start with them."""
    import swift.arguments
    import swift.arguments.base_args.base_args
    import swift.arguments.deploy_args
    import swift.model.model_meta
    import swift.rlhf_trainers
    import torch
    import transformers.training_args
    from accelerate.state import AcceleratorState
    from swift.utils import parse_args
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    def look_up(name: str, *_: object, **__: object) -> str:
        if Path(name).is_dir():
            return name
        write_config(tmp_path / "hub" / name, "qwen3" if "Qwen3" in name else "qwen2")
        return str(tmp_path / "hub" / name)

    for module in (swift.arguments.base_args.base_args, swift.arguments.deploy_args, swift.model.model_meta):
        monkeypatch.setattr(module, "safe_snapshot_download", look_up)
    monkeypatch.setattr(transformers.training_args, "is_torch_bf16_gpu_available", lambda: True)
    monkeypatch.setattr(swift.arguments.deploy_args, "get_device_count", lambda: 8)
    monkeypatch.setattr(swift.rlhf_trainers, "VLLMClient", MagicMock())
    # DeepSpeed compiles its shared memory for a CPU's ranks, a minute or more, and here no rank will meet another.
    monkeypatch.setattr(importlib.import_module("deepspeed.comm.torch"), "build_shm_op", lambda: None)

    def parse(name: str, words: list[str], processes: int = 1) -> Any:
        monkeypatch.setattr(transformers.training_args.TrainingArguments, "world_size", processes)
        arguments, rest = parse_args(getattr(swift.arguments, name), words)
        assert rest == []
        return arguments

    before = dict(os.environ)
    with socket.create_server(("127.0.0.1", 0)) as free:
        os.environ["MASTER_PORT"] = str(free.getsockname()[1])  # for the group of one that ZeRO-3 sets up; 29500 may be another's
    yield parse
    # Arguments are not innocent: they set up a process group's environment, an accelerator and ZeRO-3 for the whole process.
    os.environ.clear()
    os.environ.update(before)
    unset_hf_deepspeed_config()
    AcceleratorState._reset_state(reset_partial_state=True)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def test_every_recipe_has_its_numbers_and_every_profile_its_model() -> None:
    assert (sorted(NUMBERS), sorted(BASES)) == (TRAINING, PROFILES)


def test_ms_swift_takes_a_larger_teacher_of_the_students_tokenizer(files: dict[str, Path], parse: Any, command: Any) -> None:
    """The command of docs/learning.md."""
    student, teacher = "Qwen/Qwen2.5-Coder-0.5B-Instruct", "Qwen/Qwen2.5-Coder-7B-Instruct"
    write_adapter(files["lora"], student)
    settings = {"DATASET": files["DATASET"], "OUTPUT_DIR": files["OUTPUT_DIR"], "SFT_ADAPTER": files["lora"]}
    _, words = command("grpo_rag", PROFILE="1x80g", DISTILL_FROM=teacher, REWARD="none", **settings)
    args = parse("RLHFArguments", words[1:])
    assert (args.model, args.teacher_model, args.reward_funcs, args.num_generations) == (student, teacher, [], 1)
    assert (args.beta, args.use_vllm, args.rollout_importance_sampling_mode) == (0, True, "token_truncate")


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("recipe", TRAINING)
def test_ms_swift_takes_every_recipe_under_every_profile(
    recipe: str, profile: str, files: dict[str, Path], parse: Any, command: Any
) -> None:
    kind, _, task = recipe.partition("_")
    base = MODELS.get(task, BASES[profile])
    write_adapter(files["lora"], base)
    settings = {"DATASET": files["DATASET"], "OUTPUT_DIR": files["OUTPUT_DIR"], "SFT_ADAPTER": files["lora"]}
    env, words = command(recipe, PROFILE=profile, **settings, **(NODES if profile == "multinode" else {}))
    processes, cpu = PROCESSES.get(profile, 1), profile.startswith("cpu")
    args = parse("SftArguments" if kind == "sft" else "RLHFArguments", words[1:], processes)

    def told(name: str) -> Any:
        return getattr(args, name) if hasattr(args, name) else getattr(args.training_args, name)

    assert {name: told(name) for name in NUMBERS[recipe]} == NUMBERS[recipe]
    assert (args.model, args.dataset) == (base, [f"{DATASETS.get(task, '')}{files['DATASET']}"])
    assert args.external_plugins == [str(ROOT / "plugin/register.py")]
    assert (args.output_dir, args.save_total_limit, args.add_version, args.ddp_timeout) == (str(files["OUTPUT_DIR"]), 3, False, 1800)
    # The machine.
    assert (args.tuner_type, args.bf16, args.fp16, args.dataloader_num_workers) == ("lora", not cpu, False, 0 if cpu else 4)
    assert (args.deepspeed["zero_optimization"]["stage"] if args.deepspeed else None) == ZERO.get(profile)
    assert (env["CUDA_VISIBLE_DEVICES"] == "") == cpu
    assert len(env["CUDA_VISIBLE_DEVICES"].split(",")) == (1 if cpu else min(processes, 8))
    assert int(env.get("NPROC_PER_NODE", 1)) * int(env.get("NNODES", 1)) == processes
    four_bits = (args.quant_method, args.quant_bits, args.bnb_4bit_quant_type, args.bnb_4bit_use_double_quant) == ("bnb", 4, "nf4", True)
    assert four_bits == profile.endswith("4bit") == (args.quant_method is not None)
    # Batches multiply, and what is kept was evaluated.
    update = args.per_device_train_batch_size * args.gradient_accumulation_steps * processes
    assert args.save_steps == args.eval_steps
    assert (args.eval_strategy, args.save_strategy) == ("steps", "steps")
    assert {name: set_to for name, set_to in env.items() if name.startswith("OVERTAKE_")} == assigned(recipe, profile)
    if kind == "sft":
        assert update == (8 if cpu else max(8, processes) if task == "judge" else 16 * processes)
        return
    assert update == ((16 * processes if cpu else 128) if task == "judge" else 8 if cpu else 64)
    assert args.adapters == args.ref_adapters == [str(files["lora"])]
    assert args.callbacks == ["overtake_metrics"] and args.log_completions
    assert args.use_vllm == (profile not in ("cpu", "cpu-zero2", "1x24g-4bit"))
    assert args.vllm_mode == ("server" if profile == "multinode" else "colocate" if args.use_vllm else None)
    assert processes % args.vllm_tensor_parallel_size == 0
    assert args.vllm_max_model_len is None or args.vllm_max_model_len >= args.max_length + args.max_completion_length
    # Groups are whole.
    assert update % args.num_generations == 0
    assert args.per_device_eval_batch_size * processes % args.num_generations == 0
    if kind == "ppo":
        assert args.num_iterations == args.num_ppo_epochs
        assert args.training_args.generation_batch_size == update * args.num_mini_batches == (32 if cpu else 256), "completions in a round"
        assert args.eval_steps % (args.num_mini_batches * args.num_ppo_epochs) == 0, "within a round a checkpoint would lose its rest"


def assigned(recipe: str, profile: str) -> dict[str, str]:
    """The settings that a recipe brings with it."""
    if recipe == "ppo_medical":
        return {"OVERTAKE_TARGET_KL": "0.1", "OVERTAKE_CRITIC": "Qwen/Qwen3-0.6B"}
    critic = CRITICS.get(profile) if recipe == "ppo_rag" else None
    return {"OVERTAKE_CRITIC": critic} if critic else {}


def test_the_settings_of_ppo_are_what_its_recipe_says() -> None:
    chosen = Settings()
    assert (chosen.critic, chosen.critic_lr, chosen.entropy, chosen.target_kl) == ("", 1e-4, 0.01, 0)


@pytest.mark.parametrize(
    ("settings", "critic"),
    [
        pytest.param({}, "Qwen/Qwen2.5-0.5B-Instruct", id="the profile's"),
        pytest.param({"OVERTAKE_CRITIC": ""}, None, id="the policy's own base"),
        pytest.param({"OVERTAKE_CRITIC": "my/critic"}, None, id="one that was named"),  # comes from the caller's environment
        pytest.param({"MODEL": "Qwen/Qwen3-1.7B"}, None, id="a policy of another family"),
        pytest.param({"MODEL": "Qwen/Qwen3-32B", "PROFILE": "4x80g"}, "Qwen/Qwen3-4B", id="the other 32B"),
        pytest.param({"OVERTAKE_CONFIG": "critic: my/critic\n"}, None, id="one that the YAML file names"),
        pytest.param({"OVERTAKE_CONFIG": "rag_url: x\n"}, "Qwen/Qwen2.5-0.5B-Instruct", id="a YAML file that names none"),
    ],
)
def test_the_critic_of_a_profile_is_for_its_own_model_and_for_who_named_none(
    settings: dict[str, str], critic: str | None, tmp_path: Path, command: Any
) -> None:
    if "OVERTAKE_CONFIG" in settings:
        (tmp_path / "my.yaml").write_text(settings["OVERTAKE_CONFIG"], encoding="utf-8")
        settings = {"OVERTAKE_CONFIG": str(tmp_path / "my.yaml")}
    env, _ = command("ppo_rag", **{"PROFILE": "1x24g", "SFT_ADAPTER": "none", **settings})
    assert env.get("OVERTAKE_CRITIC") == critic


@pytest.mark.parametrize("generations", [16, 32])
@pytest.mark.parametrize("profile", PROFILES)
def test_whole_groups_of_verdicts_are_compared(command: Any, profile: str, generations: int) -> None:
    _, words = command("grpo_judge", PROFILE=profile, GENERATIONS=generations, **(NODES if profile == "multinode" else {}))
    processes = PROCESSES.get(profile, 1)
    rows = int(value(words, "--per_device_train_batch_size")) * int(value(words, "--gradient_accumulation_steps")) * processes
    assert (value(words, "--num_generations"), rows % generations) == (str(generations), 0)
    assert int(value(words, "--per_device_eval_batch_size")) * processes % generations == 0


def test_generations_that_are_no_number_are_refused(dry: Any) -> None:
    refused = dry("grpo_judge", PROFILE="cpu", GENERATIONS="many")
    assert refused == (2, "", "error: GENERATIONS=many: give a number, 16 or 32\n")


# ---------------------------------------------------------------- serving, sampling, several machines


@pytest.mark.parametrize("profile", PROFILES)
def test_ms_swift_takes_the_deployment(profile: str, files: dict[str, Path], parse: Any, command: Any) -> None:
    write_adapter(files["lora"], BASES[profile])
    _, words = command("deploy", PROFILE=profile, PORT=18345, ADAPTER=files["lora"])
    args = parse("DeployArguments", words[1:])
    assert (args.model, args.host, args.port, args.served_model_name) == (BASES[profile], "127.0.0.1", 18345, "query-rewrite")
    assert args.infer_backend == ("transformers" if profile.endswith("4bit") else "vllm")
    assert not args.merge_lora, "which would leave a folder that looks like an export beside the adapter"
    assert args.external_plugins == [str(ROOT / "plugin/register.py")], "by which a generation ends with its client"
    _, words = command("deploy", PROFILE=profile, MODEL=files["full"])
    assert (value(words, "--model"), value(words, "--port"), "--merge_lora" in words) == (str(files["full"]), "8000", False)


@pytest.mark.parametrize(("given", "told"), [({}, True), ({"INFER": "transformers"}, False), ({"PROFILE": "1x24g"}, False)])
def test_that_an_adapter_is_slow_on_a_cpu_is_said_with_the_remedy(given: Any, told: bool, files: dict[str, Path], dry: Any) -> None:
    write_adapter(files["lora"], BASES["cpu"])
    status, _, err = dry("deploy", **{"PROFILE": "cpu", "PORT": 18345, "ADAPTER": files["lora"], **given})
    assert (status, "bash recipes/export.sh merges it" in err) == (0, told), err


@pytest.mark.parametrize(
    ("task", "limit", "temperature"),
    [("query_rewrite", 150, "0.7"), ("finance", 1024, "0"), ("medical", 768, "0.7"), ("judge", 1024, "0")],
)
def test_a_student_is_served_with_the_token_limit_of_its_training(task: str, limit: int, temperature: str, command: Any) -> None:
    _, words = command("deploy", PROFILE="1x24g", SYSTEM=task, MODEL="Qwen/Qwen2.5-1.5B-Instruct")
    told = [value(words, f"--{name}") for name in ("served_model_name", "port", "max_new_tokens", "temperature")]
    assert told == [task.replace("_", "-"), "8000", str(limit), temperature]


def test_a_checkpoint_answers_as_it_was_trained(files: dict[str, Path], command: Any) -> None:
    for said, told in (({}, ["true", "1024"]), ({"enable_thinking": False, "max_completion_length": 512}, ["false", "512"])):
        (files["full"] / "args.json").write_text(json.dumps(said | {"template": "qwen3"}, indent=2), encoding="utf-8")
        _, words = command("deploy", PROFILE="cpu", SYSTEM="finance", MODEL=files["full"])
        assert [value(words, name) for name in ("--enable_thinking", "--max_new_tokens")] == told


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(
    ("role", "model", "port", "tokens"),
    [("teacher", "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "8001", "8192"), ("judge", "Qwen/Qwen2.5-7B-Instruct", "8002", "512")],
)
def test_a_teacher_and_a_judge_are_served_by_their_role(role: str, model: str, port: str, tokens: str, profile: str, command: Any) -> None:
    _, words = command("deploy", PROFILE=profile, ROLE=role)
    told = [value(words, f"--{name}") for name in ("model", "port", "served_model_name", "max_new_tokens")]
    assert told == [model, port, role, tokens]
    if value(words, "--infer_backend") == "vllm":
        # On a CPU nobody waits for a chain of thought, and small models have no window for it.
        long = role == "teacher" and not profile.startswith("cpu")
        assert value(words, "--vllm_max_model_len") == ("12288" if long else "4096")


def test_the_simple_path_serves_without_vllm_and_the_callers_flags_win(files: dict[str, Path], parse: Any, command: Any) -> None:
    settings = {"PROFILE": "4x80g", "INFER": "transformers", "SYSTEM": "finance", "MODEL": files["full"]}
    _, words = command("deploy", **settings)
    args = parse("DeployArguments", words[1:])
    assert (args.infer_backend, args.served_model_name, args.temperature, args.vllm_max_model_len) == ("transformers", "finance", 0, None)
    _, words = command("deploy", "--temperature", "0.3", "--infer_backend", "vllm", "--vllm_max_model_len", "99", **settings)
    assert [value(words, f"--{name}") for name in ("temperature", "infer_backend", "vllm_max_model_len")] == ["0.3", "vllm", "99"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ROLE": "student2"}, "error: ROLE=student2 is none of: student, teacher, judge\n"),
        ({"SYSTEM": "medecine"}, "error: medecine is no task: there are query_rewrite, "),
        ({"SYSTEM": "none.py"}, "error: none.py is no file: name the Python file that defines TASK\n"),
    ],
)
def test_what_is_not_known_is_not_served(settings: dict[str, str], message: str, dry: Any) -> None:
    status, out, err = dry("deploy", PROFILE="cpu", **settings)
    assert (status, out) == (2, "") and err.startswith(message)


def test_a_system_that_is_no_task_is_not_exported(dry: Any) -> None:
    status, _, err = dry("export", SYSTEM="medecine")
    assert status == 2 and err.startswith("error: medecine is no task: there are query_rewrite, ")


@pytest.mark.parametrize("profile", PROFILES)
def test_ms_swift_takes_the_sampling(profile: str, files: dict[str, Path], parse: Any, command: Any) -> None:
    write_adapter(files["lora"], BASES[profile])
    (files["lora"] / "adapter_config.json").write_text('{"r": 24}', encoding="utf-8")
    cpu = profile.startswith("cpu") or profile.endswith("4bit")
    _, words = command("sample_rag", PROFILE=profile, DATASET=files["DATASET"], OUTPUT_DIR=files["OUTPUT_DIR"], SFT_ADAPTER=files["lora"])
    args = parse("SamplingArguments", words[1:])
    assert (args.model, args.sampler_engine, args.prm_model, args.orm_model) == (
        *(BASES[profile], "transformers" if cpu else "vllm"),
        *(None, None),
    )
    assert (args.num_return_sequences, args.temperature, args.top_p, args.max_new_tokens) == (8, 1.0, 0.95, 150)
    assert (args.output_dir, args.output_file) == (str(files["OUTPUT_DIR"]), "draws.jsonl")
    assert args.external_plugins == [str(ROOT / "plugin/register.py")]
    # What the sampler itself keeps from its engine.
    kwargs = args.engine_kwargs
    assert (kwargs["adapters"], kwargs["template_type"]) == ([str(files["lora"])], args.template)
    assert kwargs.keys() <= engine_parameters("transformers" if cpu else "vllm")
    assert PROCESSES.get(profile, 1) >= kwargs.get("tensor_parallel_size", 1)


def engine_parameters(engine: str) -> set[str]:
    """What ms-swift's engine takes, read and not imported: vLLM's import alone takes seconds."""
    spec = importlib.util.find_spec(f"swift.infer_engine.{engine}_engine")
    assert spec and spec.origin
    classes = [node for node in ast.parse(Path(spec.origin).read_text("utf-8")).body if isinstance(node, ast.ClassDef)]
    inits = [part for node in classes for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"]
    return {argument.arg for function in inits for argument in function.args.kwonlyargs}


@pytest.mark.parametrize(
    ("rows", "batch", "drawn", "size"),
    [
        pytest.param(11, 4, 12, 4, id="a tail of three"),
        pytest.param(3, 64, 3, 3, id="fewer rows than a batch"),
        pytest.param(9, 8, 10, 5, id="even batches draw on one row twice, not on seven"),
        pytest.param(128, 64, 128, 64, id="nothing over"),
    ],
)
def test_every_row_is_in_a_full_batch(rows: int, batch: int, drawn: int, size: int, files: dict[str, Path], command: Any) -> None:
    files["DATASET"].write_text('{"messages": []}\n\n' * (rows - 1) + '{"messages": []}', encoding="utf-8")
    settings = {"PROFILE": "cpu", "DATASET": files["DATASET"], "SFT_ADAPTER": files["full"]}
    _, words = command("sample_rag", "--num_sampling_batch_size", str(batch), **settings)
    assert value(words, "--dataset") == f"overtake/sample:{files['DATASET']}#{drawn}"
    assert value(words, "--num_sampling_batch_size") == str(size)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        pytest.param(["--num_sampling_batch_size", "0"], "--num_sampling_batch_size 0: give a number of rows", id="no batch"),
        pytest.param(["--engine_kwargs", "[1"], "--engine_kwargs [1 is no JSON object", id="no JSON"),
        pytest.param(["--system", "be kind"], "--system 'be kind', given here or when", id="another system prompt"),
    ],
)
def test_what_sampling_could_not_use_is_refused(flags: list[str], words: str, files: dict[str, Path], dry: Any) -> None:
    status, out, err = dry("sample_rag", *flags, PROFILE="cpu", DATASET=files["DATASET"], SFT_ADAPTER=files["full"])
    assert (status, out) == (2, "")
    assert err.startswith("error: ") and words in err


def test_training_on_several_machines_finds_its_machines_and_its_rollout_servers(command: Any) -> None:
    env, words = command("grpo_rag", PROFILE="multinode", PORT=8001, **NODES)
    launch = {"NPROC_PER_NODE": "8", "NNODES": "2", "NODE_RANK": "1", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"}
    assert env == launch | {"CUDA_VISIBLE_DEVICES": "0,1,2,3,4,5,6,7"}
    told = [value(words, f"--vllm_server_{name}") for name in ("host", "port", "group_port")]
    assert told == ["10.0.0.9 10.0.0.10", "8001 8001", "51216 51216"]


@pytest.mark.parametrize("profile", ["multinode", "cpu-vllm"])
def test_ms_swift_takes_the_rollout_server(profile: str, files: dict[str, Path], parse: Any, command: Any) -> None:
    write_adapter(files["lora"], BASES[profile])
    env, words = command("rollout", PROFILE=profile, SFT_ADAPTER=files["lora"], HOST="10.0.0.9", PORT=18346)
    assert words[0] == "rollout"
    args = parse("RolloutArguments", words[1:])
    assert (args.model, args.adapters, args.host, args.port) == (BASES[profile], [], "10.0.0.9", 18346)
    assert args.vllm_max_model_len == 2304
    if profile == "multinode":
        assert args.vllm_tensor_parallel_size * args.vllm_data_parallel_size == len(env["CUDA_VISIBLE_DEVICES"].split(","))
        assert env.keys() == {"CUDA_VISIBLE_DEVICES"}


def test_a_profile_whose_vllm_shares_the_cards_has_no_rollout_server(dry: Any) -> None:
    status, _, err = dry("rollout", PROFILE="4x80g")
    assert status == 2
    assert "PROFILE=4x80g has no rollout server: its vLLM shares the training's cards. Set PROFILE=multinode" in err


@pytest.mark.parametrize(("recipe", "missing"), [("grpo_rag", "ROLLOUT_HOST"), ("sft_qwen32b", "NODE_RANK")])
def test_a_machine_that_is_not_told_its_place_is_one_clear_error(recipe: str, missing: str, run: Any) -> None:
    told = {name: value for name, value in NODES.items() if name != missing and not (recipe == "sft_qwen32b" and name == "ROLLOUT_HOST")}
    refused = run(recipe, PROFILE="multinode", **told)
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1 and f"; {missing} is not set" in refused.stderr


@pytest.mark.parametrize("port", ["PORT", "GROUP_PORT"])
def test_a_rollout_server_refuses_a_busy_port(port: str, files: dict[str, Path], run: Any) -> None:
    with socket.socket() as taken, socket.socket() as free:
        taken.bind(("", 0))
        free.bind(("", 0))
        ports = dict.fromkeys(("PORT", "GROUP_PORT"), free.getsockname()[1]) | {port: taken.getsockname()[1]}
        free.close()
        refused = run("rollout", PROFILE="cpu-vllm", SFT_ADAPTER=files["full"], **ports)
    assert refused.returncode == 2
    assert f"port {ports[port]} is busy" in refused.stderr


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_says_where_it_was_run(profile: str) -> None:
    said = re.search(r"^# Run where: (.*)", (ROOT / f"recipes/profiles/{profile}.sh").read_text(encoding="utf-8"), re.MULTILINE)
    assert said
    assert ("not yet run on" in said[1]) == (not profile.startswith("cpu"))


# ---------------------------------------------------------------- models, rows, flags


def test_full_tuning_goes_on_from_a_full_checkpoint(files: dict[str, Path], parse: Any, dry: Any, command: Any) -> None:
    base = {"PROFILE": "8x80g", "TUNER": "full", "DATASET": files["DATASET"], "OUTPUT_DIR": files["OUTPUT_DIR"]}
    _, words = command("sft_qwen32b", **base)
    assert not [word for word in words if "lora_" in word]
    assert value(words, "--learning_rate") == "1e-5"
    _, words = command("grpo_rag", **base, SFT_ADAPTER=files["full"])
    args = parse("RLHFArguments", words[1:])
    assert (args.model, args.ref_model, args.adapters, args.check_model) == (str(files["full"]), str(files["full"]), [], False)
    status, _, err = dry("grpo_rag", **base, SFT_ADAPTER=files["lora"])
    assert status == 2 and "Merge it first" in err


def test_the_callers_flags_win_over_profile_and_recipe(command: Any) -> None:
    _, words = command("sft_qwen32b", "--learning_rate", "1e-3", "--dataloader_num_workers=2", "--system", "a b", PROFILE="cpu")
    assert words.count("--learning_rate") == 1
    assert [value(words, f"--{name}") for name in ("learning_rate", "dataloader_num_workers", "system")] == ["1e-3", "2", "a b"]


@pytest.mark.parametrize("recipe", ["sft_qwen32b", "sft_medical", "sft_judge", "sft_finance"])
@pytest.mark.parametrize("profile", ["4x80g", "1x24g", "cpu"])
def test_sft_has_batches_of_rows_of_one_length(recipe: str, profile: str, command: Any) -> None:
    _, flags = command(recipe, PROFILE=profile)
    assert flags[flags.index("--group_by_length") + 1] == "true" and flags.count("--group_by_length") == 1


@pytest.mark.parametrize(
    "own", ["--streaming true", "--lazy_tokenize true", "--train_dataloader_shuffle false", "--packing true", "--padding_free"]
)
def test_rows_without_known_lengths_or_in_an_order_of_their_own_are_not_sorted(own: str, command: Any) -> None:
    assert "--group_by_length" not in command("sft_medical", *own.split(), PROFILE="4x80g")[1]
    _, flags = command("sft_medical", "--group_by_length", "false", PROFILE="4x80g")
    assert flags[flags.index("--group_by_length") + 1] == "false", "the caller's own word"
    assert "--group_by_length" not in command("grpo_medical", PROFILE="4x80g", SFT_ADAPTER="none")[1]


def test_packing_is_for_flash_attention_alone(dry: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status, out, err = dry("sft_medical", "--packing", "true", PROFILE="4x80g")
    assert status == 0 and "--packing true" in out
    assert "--packing wants flash attention" in err and "leave the flag out" in err
    (tmp_path / "flash_attn").mkdir()
    (tmp_path / "flash_attn/__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    status, out, err = dry("sft_medical", "--packing", "true", PROFILE="4x80g")
    assert (status, "flash attention" in err, "--attn_impl flash_attn" in out) == (0, False, True)
    assert (
        "--attn_impl flash_attention_3" in dry("sft_medical", "--packing", "true", "--attn_impl", "flash_attention_3", PROFILE="4x80g")[1]
    )


@pytest.mark.parametrize("recipe", ["sft_finance", "grpo_finance"])
def test_short_of_memory_is_one_row_at_a_time_and_the_callers_flags_still_win(recipe: str, command: Any) -> None:
    settings = {"PROFILE": "1x24g-4bit", "SHORT": 1}
    _, words = command(recipe, "--learning_rate", "1e-3", **settings)
    longest = int(value(words, "--max_length")) + (int(value(words, "--max_completion_length")) if recipe == "grpo_finance" else 0)
    assert (value(words, "--per_device_train_batch_size"), longest, value(words, "--learning_rate")) == ("1", 1024, "1e-3")
    assert value(words, "--gradient_accumulation_steps") == ("16" if recipe == "sft_finance" else "64")
    _, words = command(recipe, "--max_length", "256", **settings)
    assert value(words, "--max_length") == "256"


def test_rules_only_turns_the_judge_off(files: dict[str, Path], run: Any) -> None:
    # What the launcher would get, seen by a `swift` that prints its environment.
    fake = files["OUTPUT_DIR"].parent / "bin"
    fake.mkdir()
    (fake / "swift").write_text('#!/bin/sh\necho "share=${OVERTAKE_FINANCE_JUDGE_SHARE:-unset}"\n')
    (fake / "swift").chmod(0o755)
    settings = {"PROFILE": "cpu", "DATASET": files["DATASET"], "OUTPUT_DIR": files["OUTPUT_DIR"], "SFT_ADAPTER": files["full"]}
    for given, said in (({"RULES_ONLY": 1}, "share=0"), ({}, "share=unset")):
        done = run("grpo_finance", TUNER="full", DOCTOR=0, PATH=f"{fake}:{os.environ['PATH']}", **settings, **given)
        assert done.returncode == 0, done.stderr
        assert said in done.stdout.splitlines()


def test_paths_are_read_where_the_user_stands_and_become_absolute(files: dict[str, Path], dry: Any) -> None:
    here = files["lora"].parent
    _, out, _ = dry("sft_qwen32b", cwd=here, PROFILE="cpu", MODEL="full", DATASET="train.jsonl", OUTPUT_DIR="runs/a")
    for path in ("full", "train.jsonl", "val.jsonl", "runs/a"):
        assert f" {here / path}" in out


def test_own_validation_rows_take_the_place_of_the_split(files: dict[str, Path], command: Any) -> None:
    _, words = command("sft_finance", PROFILE="cpu", DATASET=f"{files['DATASET']}#5", VAL_DATASET=files["DATASET"].parent / "val.jsonl")
    assert value(words, "--dataset") == f"overtake/finance:{files['DATASET']}#5"
    assert value(words, "--val_dataset") == f"overtake/finance:{files['DATASET'].parent / 'val.jsonl'}"
    assert "--split_dataset_ratio" not in words


@pytest.mark.parametrize("name", ["ms::tongyi_dianjin/DianJin-R1-Data", "overtake/finance", "AI-ModelScope/alpaca#500"])
def test_a_hubs_data_set_keeps_its_name(name: str, command: Any) -> None:
    _, words = command("sft_finance", PROFILE="cpu", DATASET=name)
    assert value(words, "--dataset") == name


@pytest.mark.parametrize("recipe", [*TRAINING, "sample_rag"])
def test_missing_rows_are_refused_before_anything_is_loaded(recipe: str, files: dict[str, Path], tmp_path: Path, run: Any) -> None:
    missing = tmp_path / "none.jsonl"
    result = run(recipe, PROFILE="cpu", MODEL=files["full"], SFT_ADAPTER=files["full"], DATASET=missing, OUTPUT_DIR=files["OUTPUT_DIR"])
    assert result.returncode == 2
    assert f"{missing} does not exist or is empty. Make it: python tools/" in result.stderr


def test_a_run_that_is_there_is_gone_on_with_and_not_written_over(files: dict[str, Path], run: Any) -> None:
    for name in ("checkpoint-9", "checkpoint-100", "checkpoint-100-merged"):
        (files["OUTPUT_DIR"] / name).mkdir(parents=True)
    result = run("sft_qwen32b", PROFILE="cpu", MODEL=files["full"], DATASET=files["DATASET"], OUTPUT_DIR=files["OUTPUT_DIR"])
    assert result.returncode == 2
    assert f"--resume_from_checkpoint {files['OUTPUT_DIR'] / 'checkpoint-100'};" in result.stderr


def test_a_job_that_is_started_again_goes_on_from_the_last_checkpoint_that_is_whole(files: dict[str, Path], run: Any) -> None:
    settings = {"PROFILE": "cpu", "MODEL": files["full"], "DATASET": files["DATASET"], "OUTPUT_DIR": files["OUTPUT_DIR"]}
    start = functools.partial(run, "sft_qwen32b", RESUME=1, DRY_RUN=1, **settings)
    assert "--resume_from_checkpoint" not in start().stdout, "the first start has none"
    for step, state in ((9, '{"global_step": 9}'), (100, '{"global_step": 100}'), (110, '{"global_st'), (120, None)):
        folder = files["OUTPUT_DIR"] / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        if state:
            (folder / "trainer_state.json").write_text(state)
    result = start()
    assert f"--resume_from_checkpoint {files['OUTPUT_DIR'] / 'checkpoint-100'}" in result.stdout + result.stderr and result.returncode == 0
    own = start("--resume_from_checkpoint", str(files["OUTPUT_DIR"] / "checkpoint-9"))
    assert f"--resume_from_checkpoint {files['OUTPUT_DIR'] / 'checkpoint-9'}" in own.stdout and "checkpoint-100" not in own.stdout


# ---------------------------------------------------------------- hardware


def fake_cards(folder: Path, cards: list[int]) -> str:
    """A PATH with a fake nvidia-smi: what the recipes ask it is the memory of each card."""
    (folder / "bin").mkdir(exist_ok=True)
    program = folder / "bin/nvidia-smi"
    program.write_text("#!/bin/sh\n" + "".join(f"echo {memory}\n" for memory in cards), encoding="utf-8")
    program.chmod(0o755)
    return f"{folder / 'bin'}:{os.environ['PATH']}"


def test_the_profile_is_found_from_the_cards(tmp_path: Path, run: Any) -> None:
    result = run("sft_qwen32b", DRY_RUN=1, PATH=fake_cards(tmp_path, [24564, 81559]))
    assert "profile 1x24g (2 GPUs, the smallest of 24564 MiB)" in result.stderr
    assert f"--model {BASES['1x24g']} " in result.stdout


def test_missing_hardware_is_one_clear_error(tmp_path: Path, run: Any) -> None:
    result = run("sft_qwen32b", PROFILE="4x80g", PATH=fake_cards(tmp_path, [24564]))
    assert result.returncode == 2
    assert result.stderr.strip() == (
        "error: PROFILE=4x80g wants 4 x 80 GB; found: 1 GPUs, the smallest of 24564 MiB. "
        "Set PROFILE=1x24g, or DRY_RUN=1 to see the command only"
    )


def test_no_gpu_and_no_profile_names_the_cpu_profile(run: Any) -> None:
    result = run("grpo_rag", CUDA_VISIBLE_DEVICES="")
    assert result.returncode == 2
    assert "Set PROFILE=cpu" in result.stderr


def test_the_two_stacks_agree_on_every_version() -> None:
    def pins(name: str) -> dict[str, str]:
        lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
        return {m[1]: m[2] for line in lines if (m := re.match(r"([\w.-]+)(?:\[\w+\])?==(\S+)", line))}

    gpu, cpu = pins("requirements.txt"), pins("requirements-cpu.txt")
    assert {name: version for name, version in gpu.items() if name not in ("vllm", "bitsandbytes")}.items() <= cpu.items()


# ---------------------------------------------------------------- export


def test_ms_swift_takes_the_export(files: dict[str, Path], parse: Any, tmp_path: Path, command: Any) -> None:
    write_adapter(files["lora"], BASES["4x80g"])
    _, words = command("export", ADAPTER=files["lora"], OUTPUT_DIR=tmp_path / "merged")
    args = parse("ExportArguments", words[1:])
    assert (args.merge_lora, args.adapters, args.output_dir) == (True, [str(files["lora"])], str(tmp_path / "merged.part"))


def test_export_refuses_an_existing_folder(files: dict[str, Path], run: Any) -> None:
    result = run("export", ADAPTER=files["lora"], OUTPUT_DIR=files["full"])
    assert result.returncode == 2
    assert "already exists" in result.stderr


def test_a_full_checkpoint_is_exported_without_the_optimiser(files: dict[str, Path], tmp_path: Path, run: Any) -> None:
    for name in ("model.safetensors", "tokenizer.json", "optimizer.pt", "rng_state_0.pth", "trainer_state.json"):
        (files["full"] / name).write_text("x", encoding="utf-8")
    assert run("export", ADAPTER=files["full"], OUTPUT_DIR=tmp_path / "new").returncode == 0
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"args.json", "config.json", "model.safetensors", "tokenizer.json"}


@pytest.mark.parametrize(
    ("high", "chance", "metric", "force", "code"),
    [
        pytest.param(-0.01, 0.04, "", "0", 2, id="shown worse"),
        pytest.param(-0.01, 0.04, "", "1", 0, id="shown worse and forced"),
        pytest.param(-0.01, 0.06, "", "0", 0, id="one of many by chance"),
        pytest.param(-0.01, 0.06, "ndcg@10", "0", 2, id="shown worse in the metric that was named"),
        pytest.param(0.01, 0.04, "", "0", 0, id="no difference shown"),
    ],
)
def test_export_refuses_what_the_held_out_comparison_shows_worse(
    files: dict[str, Path], tmp_path: Path, run: Any, high: float, chance: float, metric: str, force: str, code: int
) -> None:
    difference = {"mean": -0.1, "low": -0.2, "high": high}
    differences = {"SFT": {"ndcg@10": difference, "length": {**difference, "high": -0.1}}}
    summary = {"against": "GRPO", "differences": differences, "p_holm": {"SFT": {"ndcg@10": chance, "length": 0.001}}}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    gate = {"COMPARED": tmp_path / "summary.json", "METRIC": metric, "FORCE": force}
    result = run("export", ADAPTER=files["full"], OUTPUT_DIR=tmp_path / "new", **gate)
    assert result.returncode == code, result.stderr
    assert (tmp_path / "new").exists() == (code == 0)
    assert ("GRPO is worse than SFT: ndcg@10 -0.100 [-0.200,-0.010]" in result.stderr) == (code == 2 or force == "1")


def test_a_gate_without_the_model_it_starts_from_is_one_error(files: dict[str, Path], tmp_path: Path, run: Any) -> None:
    (tmp_path / "summary.json").write_text(json.dumps({"against": "GRPO", "differences": {}}))
    result = run("export", ADAPTER=files["full"], OUTPUT_DIR=tmp_path / "new", COMPARED=tmp_path / "summary.json")
    assert result.returncode == 2 and "compares GRPO with nothing, not with SFT" in result.stderr
    assert not (tmp_path / "new").exists()


def test_export_finds_the_comparison_of_this_checkpoint_by_itself(files: dict[str, Path], tmp_path: Path, run: Any) -> None:
    ours = tmp_path / "runs/grpo/checkpoint-5"
    shutil.copytree(files["full"], ours)
    merged = tmp_path / "runs/merged"  # as an export of that checkpoint leaves it
    merged.mkdir()
    (merged / "args.json").write_text(json.dumps({"adapters": [str(ours)]}), encoding="utf-8")
    summary = tmp_path / "runs/eval/summary.json"
    summary.parent.mkdir()
    differences = {"SFT": {"ndcg@10": {"mean": -0.1, "low": -0.2, "high": -0.05}}}
    for number, system in enumerate((ours, merged, files["full"])):
        told = {"against": "GRPO", "systems": {"GRPO": str(system)}, "differences": differences}
        summary.write_text(json.dumps(told), encoding="utf-8")
        result = run("export", ADAPTER=ours, OUTPUT_DIR=tmp_path / f"new{number}")
        if system == files["full"]:
            assert result.returncode == 0 and f"its GRPO is {system}, not this checkpoint" in result.stderr, result.stderr
            assert run("export", ADAPTER=ours, OUTPUT_DIR=tmp_path / "named", COMPARED=summary).returncode == 2
            assert not (tmp_path / "named").exists()
        else:
            assert result.returncode == 2 and "GRPO is worse than SFT: ndcg@10 -0.100" in result.stderr, result.stderr


def test_the_retrieval_service_takes_bases_or_the_samples(dry: Any) -> None:
    page = dry("page", "--system", "finance:RL=x@http://h/v1", "--port", "7000")[1]
    assert page.endswith("page.py --port 7860 --system finance:RL=x@http://h/v1 --port 7000\n")
    samples = dry("serve_rag")[1]
    assert samples.endswith(f"{ROOT}/datasets/query_rewrite/fivedoctors --host 127.0.0.1 --port 8900\n")
    own = dry("serve_rag", "a", "b c", "--port", "9000")[1]
    assert f"serve_rag.py {ROOT}/a {ROOT}/b\\ c --host 127.0.0.1 --port 8900 --port 9000" in own


def test_a_board_is_one_variable_and_no_key_stands_on_a_command_line(command: Any, dry: Any, tmp_path: Path) -> None:
    base = {"PROFILE": "cpu", "SFT_ADAPTER": "none", "OUTPUT_DIR": tmp_path / "out"}
    env, words = command("grpo_rag", REPORT_TO="wandb", **base)
    assert value(words, "--report_to") == "tensorboard wandb"
    assert (env["WANDB_MODE"], env["WANDB_DIR"]) == ("offline", str(tmp_path / "out"))
    env, words = command("sft_finance", REPORT_TO="swanlab", SWANLAB_API_KEY="s3cret", PROFILE="cpu", OUTPUT_DIR=tmp_path / "out")
    assert value(words, "--swanlab_mode") == "cloud" and "s3cret" not in f"{env}{words}"
    status, _, err = dry("grpo_rag", REPORT_TO="mlflow", **base)
    assert status == 2 and err.endswith("give wandb, swanlab or both; TensorBoard is always written\n")
    status, _, err = dry("grpo_rag", "--swanlab_token", "s3cret", **base)
    assert status == 2 and "error: --swanlab_token: every user of this machine would see the key" in err


def test_a_board_that_is_not_installed_is_told_before_anything_is_loaded(run: Any, files: dict[str, Path], tmp_path: Path) -> None:
    python = tmp_path / "bin/python"
    python.parent.mkdir()
    python.write_text('#!/bin/sh\necho "error: $REPORT_TO: $*" >&2; exit 2\n')
    (tmp_path / "bin/swift").write_text("#!/bin/sh\necho trained\n")
    for program in python.parent.iterdir():
        program.chmod(0o755)
    settings = {"PROFILE": "cpu", "MODEL": files["full"], "DATASET": files["DATASET"], "OUTPUT_DIR": files["OUTPUT_DIR"]}
    refused = run("sft_qwen32b", REPORT_TO="wandb", PATH=f"{python.parent}:{os.environ['PATH']}", **settings)
    assert (refused.returncode, refused.stdout, refused.stderr) == (2, "", "error: wandb: -m overtake.boards\n")
