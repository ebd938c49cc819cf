"""Every recipe under every profile says what ms-swift takes: its printed command goes through ms-swift's own argument classes.

Only the device probe, the process group, the hub look-up and the call of the rollout server are replaced.
Run: python -m pytest -m "not slow" tests/recipes
"""

import ast
import importlib.util
import json
import math
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from overtake.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
PROFILES = sorted(path.stem for path in (ROOT / "recipes/profiles").glob("*.sh"))
TRAINING = {"sft_qwen32b": "SftArguments", "grpo_rag": "RLHFArguments", "ppo_rag": "RLHFArguments"}
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
# Where a critic as large as the policy would not fit.
CRITICS = {
    **dict.fromkeys(("1x16g", "1x24g", "1x24g-4bit"), "Qwen/Qwen2.5-0.5B-Instruct"),
    **dict.fromkeys(LARGE, "Qwen/Qwen2.5-7B-Instruct"),
}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Rows, and an SFT checkpoint of each kind."""
    for name in ("train.jsonl", "val.jsonl", "rl_train.jsonl", "rl_val.jsonl"):
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

    def parse(name: str, words: list[str], processes: int = 1) -> Any:
        monkeypatch.setattr(transformers.training_args.TrainingArguments, "world_size", processes)
        arguments, rest = parse_args(getattr(swift.arguments, name), words)
        assert rest == []
        return arguments

    before = dict(os.environ)
    yield parse
    # Arguments are not innocent: they set up a process group's environment, an accelerator and ZeRO-3 for the whole process.
    os.environ.clear()
    os.environ.update(before)
    unset_hf_deepspeed_config()
    AcceleratorState._reset_state(reset_partial_state=True)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("recipe", TRAINING)
def test_ms_swift_takes_the_command(recipe: str, profile: str, files: dict[str, Path], parse: Any, command: Any) -> None:
    write_adapter(files["lora"], BASES[profile])
    nodes = NODES if profile == "multinode" else {}
    env, words = command(
        recipe, PROFILE=profile, DATASET=files["DATASET"], OUTPUT_DIR=files["OUTPUT_DIR"], SFT_ADAPTER=files["lora"], **nodes
    )
    processes = PROCESSES.get(profile, 1)
    args = parse(TRAINING[recipe], words[1:], processes)

    assert args.model == BASES[profile]
    assert (args.tuner_type, args.lora_rank, args.lora_alpha, args.lora_dropout, args.target_modules) == ("lora", 16, 32, 0, ["all-linear"])
    assert (args.max_length, args.save_total_limit, args.add_version, args.ddp_timeout) == (2048, 3, False, 1800)
    assert args.external_plugins == [str(ROOT / "plugin/register.py")]
    assert args.output_dir == str(files["OUTPUT_DIR"])
    cpu = profile.startswith("cpu")
    assert (args.bf16, args.fp16) == (not cpu, False)
    assert args.dataloader_num_workers == (0 if cpu else 4)
    assert (args.deepspeed["zero_optimization"]["stage"] if args.deepspeed else None) == ZERO.get(profile)
    assert len(env["CUDA_VISIBLE_DEVICES"].split(",")) == (1 if cpu else min(processes, 8))
    assert (env["CUDA_VISIBLE_DEVICES"] == "") == cpu
    assert int(env.get("NPROC_PER_NODE", 1)) * int(env.get("NNODES", 1)) == processes
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps
    if recipe == "sft_qwen32b":
        assert (args.learning_rate, args.num_train_epochs, args.warmup_ratio or args.training_args.warmup_steps) == (5e-5, 3, 0.05)
        assert (args.eval_steps, args.save_steps, args.logging_steps) == (100, 100, 10)
        assert batch * (processes if cpu else 1) == (8 if cpu else 16)
        if profile.endswith("80g"):
            assert (args.per_device_train_batch_size, args.gradient_accumulation_steps, args.per_device_eval_batch_size) == (2, 8, 2)
    else:
        group = 8 if recipe == "grpo_rag" else 1
        assert (args.learning_rate, args.num_train_epochs) == (1e-5, 10)
        assert (args.num_generations, args.temperature, args.top_p, args.max_completion_length) == (group, 0.7, 0.9, 150)
        assert args.log_completions
        assert args.adapters == args.ref_adapters == [str(files["lora"])]
        assert len(args.reward_funcs) == len(args.reward_weights) == 2
        assert batch * processes == (8 if cpu else 64)
        assert args.per_device_eval_batch_size * processes % args.num_generations == 0
        assert args.use_vllm == (profile not in ("cpu", "cpu-zero2", "1x24g-4bit"))
        assert args.vllm_mode == ("server" if profile == "multinode" else "colocate" if args.use_vllm else None)
        assert processes % args.vllm_tensor_parallel_size == 0
        assert (args.eval_steps, args.save_steps, args.early_stop_interval) == ((50, 50, 5) if recipe == "grpo_rag" else (64, 64, 5))
        assert args.callbacks == ["overtake_metrics"]
        assert (args.reward_funcs, args.reward_weights) == (["rag_competition", "rewrite_rules"], [1.0, 0.2])
    if recipe == "grpo_rag":
        assert (args.beta, args.scale_rewards, args.log_rollout_offpolicy_metrics) == (0.04, "group", True)
    if recipe == "ppo_rag":
        assert (args.ppo, args.rlhf_type) == (True, "grpo"), "ms-swift's own PPO would not see the rewards"
        assert (args.num_ppo_epochs, args.num_iterations, args.cliprange, args.vf_coef) == (4, 4, 0.2, 0.5)
        assert (args.gamma, args.lam, args.max_grad_norm, args.kl_coef) == (0.99, 0.95, 0.5, 0.05)
        assert batch * processes * args.num_mini_batches == (32 if cpu else 256), "completions in a round"
        assert args.training_args.generation_batch_size == (32 if cpu else 256)
        updates = args.num_mini_batches * args.num_ppo_epochs
        assert args.eval_steps % updates == args.save_steps % updates == 0, "in the midst of a round a checkpoint would lose its rest"
        assert env.get("OVERTAKE_CRITIC") == CRITICS.get(profile)


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
        pytest.param({"OVERTAKE_CONFIG": "{critic: x}"}, None, id="one that the YAML file names"),
    ],
)
def test_the_critic_of_a_profile_is_for_its_own_model_and_for_who_named_none(
    settings: dict[str, str], critic: str | None, tmp_path: Path, command: Any
) -> None:
    if "OVERTAKE_CONFIG" in settings:
        (tmp_path / "my.yaml").write_text("critic: my/critic\n", encoding="utf-8")
        settings = {"OVERTAKE_CONFIG": str(tmp_path / "my.yaml")}
    env, _ = command("ppo_rag", **{"PROFILE": "1x24g", "SFT_ADAPTER": "none", **settings})
    assert env.get("OVERTAKE_CRITIC") == critic


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("recipe", ["sft_judge", "grpo_judge"])
def test_ms_swift_takes_the_judge_recipes(recipe: str, profile: str, files: dict[str, Path], parse: Any, command: Any) -> None:
    base = "Qwen/Qwen2.5-1.5B-Instruct"
    write_adapter(files["lora"], base)
    nodes = NODES if profile == "multinode" else {}
    settings = {"DATASET": files["DATASET"], "OUTPUT_DIR": files["OUTPUT_DIR"], "SFT_ADAPTER": files["lora"]}
    _, words = command(recipe, PROFILE=profile, **settings, **nodes)
    args = parse("SftArguments" if recipe == "sft_judge" else "RLHFArguments", words[1:], PROCESSES.get(profile, 1))
    assert (args.model, args.dataset, args.split_dataset_ratio) == (base, [f"overtake/judge:{files['DATASET']}"], 0.05)
    assert (args.lora_rank, args.lora_alpha, args.lora_dropout) == (16, 16, 0)
    batch = args.per_device_train_batch_size, args.gradient_accumulation_steps
    if recipe == "sft_judge":
        assert (args.learning_rate, args.warmup_steps, args.max_steps, args.weight_decay) == (2e-4, 5, 60, 0.01)
        assert profile != "1x24g" or batch == (2, 4)
        assert math.prod(batch) * PROCESSES.get(profile, 1) == (16 if profile == "multinode" else 8) or profile.startswith("cpu")
        return
    assert (args.reward_funcs, args.reward_weights) == (["judge_format", "judge_verdict"], [0.2, 0.8])
    assert (args.learning_rate, args.warmup_ratio, args.beta, args.max_grad_norm) == (3e-5, 0.1, 0.01, 0.5)
    assert (args.adam_beta1, args.adam_beta2, args.weight_decay, args.num_train_epochs) == (0.9, 0.999, 0.1, 3)
    assert (args.num_generations, args.max_completion_length, args.max_length) == (16, 1024, 1024)
    assert args.adapters == args.ref_adapters == [str(files["lora"])]
    assert profile != "1x24g" or batch == (4, 32)
    assert math.prod(batch) * PROCESSES.get(profile, 1) == 128 or profile.startswith("cpu")


def test_the_trained_judge_is_served_to_answer_the_same_twice(parse: Any, command: Any) -> None:
    _, words = command("deploy", PROFILE="1x24g", SYSTEM="judge", MODEL="Qwen/Qwen2.5-1.5B-Instruct")
    args = parse("DeployArguments", words[1:])
    assert (args.served_model_name, args.temperature, args.max_new_tokens) == ("judge", 0, 1024)


@pytest.mark.parametrize(("task", "tokens"), [("query_rewrite", 150), ("finance", 1024), ("medical", 768)])
def test_a_student_is_served_with_the_token_limit_of_its_training(task: str, tokens: int, parse: Any, command: Any) -> None:
    _, words = command("deploy", PROFILE="1x24g", SYSTEM=task, MODEL="Qwen/Qwen2.5-1.5B-Instruct")
    args = parse("DeployArguments", words[1:])
    assert (args.served_model_name, args.port, args.max_new_tokens) == (task.replace("_", "-"), 8000, tokens)


def test_a_checkpoint_answers_as_it_was_trained(files: dict[str, Path], command: Any) -> None:
    for said, told in (({}, ["true", "1024"]), ({"enable_thinking": False, "max_completion_length": 512}, ["false", "512"])):
        (files["full"] / "args.json").write_text(json.dumps(said, indent=2), encoding="utf-8")
        _, words = command("deploy", PROFILE="cpu", SYSTEM="finance", MODEL=files["full"])
        assert [words[words.index(name) + 1] for name in ("--enable_thinking", "--max_new_tokens")] == told


def test_a_system_that_is_no_task_is_refused_with_those_there_are(run: Any) -> None:
    for recipe in ("deploy", "export"):
        refused = run(recipe, PROFILE="cpu", SYSTEM="medecine", DRY_RUN=1)
        assert refused.returncode == 2 and refused.stderr.startswith("error: medecine is no task: there are query_rewrite, "), (
            refused.stderr
        )


def test_a_run_of_ppo_is_found_like_any_other(tmp_path: Path) -> None:
    """By export and deployment, which take the run written last."""
    for at, name in enumerate(("sft/checkpoint-9", "grpo/checkpoint-9", "ppo/checkpoint-64", "ppo/checkpoint-64-merged")):
        (tmp_path / "output/q" / name).mkdir(parents=True)
        os.utime(tmp_path / "output/q" / name, (at, at))
    (tmp_path / "output/q/ppo/checkpoint-64/critic/checkpoint-99").mkdir(parents=True)
    os.utime(tmp_path / "output/q/ppo/checkpoint-64", (2, 2))
    script = f"source {ROOT}/recipes/lib.sh; ROOT={tmp_path}; newest q; newest q -merged"
    found = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert found == [f"{tmp_path}/output/q/ppo/checkpoint-64", f"{tmp_path}/output/q/ppo/checkpoint-64-merged"]


def test_training_on_several_machines_finds_its_machines_and_its_rollout_servers(files: dict[str, Path], parse: Any, command: Any) -> None:
    write_adapter(files["lora"], BASES["multinode"])
    env, words = command("grpo_rag", PROFILE="multinode", DATASET=files["DATASET"], SFT_ADAPTER=files["lora"], PORT=8001, **NODES)
    launch = {"NPROC_PER_NODE": "8", "NNODES": "2", "NODE_RANK": "1", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"}
    assert env == launch | {"CUDA_VISIBLE_DEVICES": "0,1,2,3,4,5,6,7"}
    args = parse("RLHFArguments", words[1:], 16)
    assert args.vllm_server_host == ["10.0.0.9", "10.0.0.10"]
    assert (args.vllm_server_port, args.vllm_server_group_port) == ([8001, 8001], [51216, 51216])


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


def test_a_profile_whose_vllm_shares_the_cards_has_no_rollout_server(run: Any) -> None:
    refused = run("rollout", PROFILE="4x80g", DRY_RUN=1)
    assert refused.returncode == 2
    assert "PROFILE=4x80g has no rollout server: its vLLM shares the training's cards. Set PROFILE=multinode" in refused.stderr


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


@pytest.mark.parametrize("profile", ["1x16g", "1x24g", "1x24g-4bit", "1x80g", "4x80g", "8x80g"])
def test_the_memory_arithmetic_adds_up(profile: str) -> None:
    text = (ROOT / f"recipes/profiles/{profile}.sh").read_text(encoding="utf-8")
    grpo, _, ppo = text.partition("# PPO adds a critic")
    total = added_up(grpo)
    said = re.search(r"^#   training: ([\d.]+) of", grpo, re.MULTILINE)
    assert said and float(said[1]) == pytest.approx(total, abs=0.05)
    if profile == "8x80g":
        return
    said = re.search(r"^#   training with the critic: ([\d.]+) of ([\d.]+)", ppo, re.MULTILINE)
    assert said and float(said[1]) == pytest.approx(total + added_up(ppo), abs=0.11)
    alone = re.search(r"^#   sampling: .* ([\d.]+) of ([\d.]+)", grpo, re.MULTILINE)
    sampling = re.search(r"^#   sampling with the critic: ([\d.]+) of ([\d.]+)", ppo, re.MULTILINE)
    assert alone and sampling and float(sampling[2]) == float(alone[2])
    # Its weights and its LoRA lie there, unless the model is set aside.
    more = 0 if "set aside" in ppo else sum(float(size) for size in re.findall(r"its (?:weights|LoRA) .* (\d+\.\d)$", ppo, re.MULTILINE))
    assert float(sampling[1]) == pytest.approx(float(alone[1]) + more, abs=0.05)
    assert max(float(said[1]), float(sampling[1])) < 0.9 * float(said[2])


def added_up(text: str) -> float:
    """The gigabytes of a table's rows together, after each was counted anew."""
    rows = re.findall(r"^#   (.+?)  +(\d+\.\d)$", text, re.MULTILINE)
    assert len(rows) >= 4
    for said, gigabytes in rows:
        # 134e6 weights x 16 bytes (fp32: ...) / 4: numbers, x, / and brackets of numbers are what counts.
        formula = re.sub(r"\((?!\d+ x)[^)]*\)", "", said.partition("  ")[2])
        if "assumed" in formula:
            continue
        terms = re.findall(r"\d[\d.]*(?:e\d+)?|(?<= )x(?= )|[+/()]", formula)
        assert eval("".join(terms).replace("x", "*")) / 1e9 == pytest.approx(float(gigabytes), abs=0.06), said
    return sum(float(gigabytes) for _, gigabytes in rows)


@pytest.mark.parametrize("profile", PROFILES)
def test_ms_swift_takes_the_deployment(profile: str, files: dict[str, Path], parse: Any, command: Any) -> None:
    write_adapter(files["lora"], BASES[profile])
    for settings, base in (({"ADAPTER": files["lora"]}, BASES[profile]), ({"MODEL": files["full"]}, str(files["full"]))):
        _, words = command("deploy", PROFILE=profile, PORT=18345, **settings)
        args = parse("DeployArguments", words[1:])
        assert (args.model, args.host, args.port, args.served_model_name) == (base, "127.0.0.1", 18345, "query-rewrite")
        assert args.infer_backend == ("transformers" if profile.endswith("4bit") else "vllm")
        # Beside its base an adapter takes vLLM on a CPU four times as long.
        assert args.merge_lora == (profile.startswith("cpu") and "ADAPTER" in settings)
        assert args.external_plugins == [str(ROOT / "plugin/register.py")], "by which a generation ends with its client"


def test_ms_swift_takes_the_export(files: dict[str, Path], parse: Any, tmp_path: Path, command: Any) -> None:
    write_adapter(files["lora"], BASES["4x80g"])
    _, words = command("export", ADAPTER=files["lora"], OUTPUT_DIR=tmp_path / "merged")
    args = parse("ExportArguments", words[1:])
    assert (args.merge_lora, args.adapters, args.output_dir) == (True, [str(files["lora"])], str(tmp_path / "merged.part"))


@pytest.mark.parametrize("profile", PROFILES)
def test_ms_swift_takes_the_sampling(profile: str, files: dict[str, Path], parse: Any, command: Any) -> None:
    write_adapter(files["lora"], BASES[profile])
    (files["lora"] / "adapter_config.json").write_text('{"r": 24}', encoding="utf-8")
    cpu = profile.startswith("cpu") or profile.endswith("4bit")
    for start, model in (("lora", BASES[profile]), ("full", str(files["full"]))):
        _, words = command(
            "sample_rag", PROFILE=profile, DATASET=files["DATASET"], OUTPUT_DIR=files["OUTPUT_DIR"], SFT_ADAPTER=files[start]
        )
        args = parse("SamplingArguments", words[1:])
        assert (args.model, args.sampler_engine, args.prm_model, args.orm_model) == (model, "transformers" if cpu else "vllm", None, None)
        assert (args.num_return_sequences, args.temperature, args.top_p, args.max_new_tokens) == (8, 1.0, 0.95, 150)
        assert (args.output_dir, args.output_file) == (str(files["OUTPUT_DIR"]), "draws.jsonl")
        assert args.external_plugins == [str(ROOT / "plugin/register.py")]
        # What the sampler itself keeps from its engine.
        kwargs = args.engine_kwargs
        assert kwargs.get("adapters") == ([str(files["lora"])] if start == "lora" else None)
        assert kwargs.get("max_lora_rank") == (32 if start == "lora" and not cpu else None), "vLLM takes 16 or 32, no 24"
        assert kwargs["template_type"] == args.template
        assert kwargs.keys() <= engine_parameters("transformers" if cpu else "vllm")
        assert PROCESSES.get(profile, 1) >= kwargs.get("tensor_parallel_size", 1)


def engine_parameters(engine: str) -> set[str]:
    """What ms-swift's engine takes, read and not imported: vLLM's import alone takes seconds."""
    spec = importlib.util.find_spec(f"swift.infer_engine.{engine}_engine")
    assert spec and spec.origin
    classes = [node for node in ast.parse(Path(spec.origin).read_text("utf-8")).body if isinstance(node, ast.ClassDef)]
    made = [part for node in classes for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"]
    return {argument.arg for function in made for argument in function.args.kwonlyargs}


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
    files["DATASET"].write_text('{"messages": []}\n' * rows, encoding="utf-8")
    settings = {"PROFILE": "cpu", "DATASET": files["DATASET"], "SFT_ADAPTER": files["full"]}
    _, words = command("sample_rag", "--num_sampling_batch_size", str(batch), **settings)
    assert words[words.index("--dataset") + 1] == f"overtake/sample:{files['DATASET']}#{drawn}"
    assert words[words.index("--num_sampling_batch_size") + 1] == str(size)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        pytest.param(["--num_sampling_batch_size", "0"], "--num_sampling_batch_size 0: give a number of rows", id="no batch"),
        pytest.param(["--engine_kwargs", "[1"], "--engine_kwargs [1 is no JSON object", id="no JSON"),
        pytest.param(["--system", "be kind"], "--system 'be kind', given here or when", id="another system prompt"),
    ],
)
def test_what_sampling_could_not_use_is_refused(flags: list[str], words: str, files: dict[str, Path], run: Any) -> None:
    result = run("sample_rag", *flags, DRY_RUN=1, PROFILE="cpu", DATASET=files["DATASET"], SFT_ADAPTER=files["full"])
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ") and words in result.stderr


def test_full_tuning_goes_on_from_a_full_checkpoint(files: dict[str, Path], parse: Any, run: Any, command: Any) -> None:
    base = {"PROFILE": "8x80g", "TUNER": "full", "DATASET": files["DATASET"], "OUTPUT_DIR": files["OUTPUT_DIR"]}
    _, words = command("sft_qwen32b", **base)
    assert not [word for word in words if "lora_" in word]
    assert parse("SftArguments", words[1:]).learning_rate == 1e-5
    _, words = command("grpo_rag", **base, SFT_ADAPTER=files["full"])
    args = parse("RLHFArguments", words[1:])
    assert (args.model, args.ref_model, args.adapters, args.check_model) == (str(files["full"]), str(files["full"]), [], False)
    refused = run("grpo_rag", DRY_RUN=1, **base, SFT_ADAPTER=files["lora"])
    assert refused.returncode == 2
    assert "Merge it first" in refused.stderr


def test_the_callers_flags_win_over_profile_and_recipe(command: Any) -> None:
    _, words = command("sft_qwen32b", "--learning_rate", "1e-3", "--dataloader_num_workers=2", "--system", "a b", PROFILE="cpu")
    assert words.count("--learning_rate") == 1
    assert words[words.index("--learning_rate") + 1] == "1e-3"
    assert words[words.index("--dataloader_num_workers") + 1] == "2"
    assert words[words.index("--system") + 1] == "a b"


def test_paths_are_read_where_the_user_stands_and_become_absolute(files: dict[str, Path], run: Any) -> None:
    here = files["lora"].parent
    result = run("sft_qwen32b", cwd=here, DRY_RUN=1, PROFILE="cpu", MODEL="full", DATASET="train.jsonl", OUTPUT_DIR="runs/a")
    for path in ("full", "train.jsonl", "val.jsonl", "runs/a"):
        assert f" {here / path}" in result.stdout


def test_the_last_checkpoint_is_the_one_with_the_highest_step(files: dict[str, Path], tmp_path: Path, run: Any) -> None:
    for name in ("checkpoint-9", "checkpoint-100", "checkpoint-100-merged"):
        (files["OUTPUT_DIR"] / name).mkdir(parents=True)
    result = run("sft_qwen32b", PROFILE="cpu", MODEL=files["full"], DATASET=files["DATASET"], OUTPUT_DIR=files["OUTPUT_DIR"])
    assert result.returncode == 2
    assert f"--resume_from_checkpoint {files['OUTPUT_DIR'] / 'checkpoint-100'};" in result.stderr


# A stand-in for nvidia-smi: what the recipes ask it is the memory of each card.
@pytest.mark.parametrize(
    ("cards", "profile"),
    [
        ([81559] * 4, "4x80g"),
        ([143771], "1x80g"),
        ([81920] * 8, "8x80g"),
        ([23028], "1x24g"),
        ([16376, 16376], "1x16g"),
        ([24564, 81559], "1x24g"),  # the smallest card decides
    ],
)
def test_the_profile_is_found_from_the_cards(cards: list[int], profile: str, tmp_path: Path, run: Any) -> None:
    result = run("sft_qwen32b", DRY_RUN=1, PATH=f"{fake_cards(tmp_path, cards)}:{os.environ['PATH']}")
    assert f"profile {profile} " in result.stderr


def fake_cards(folder: Path, cards: list[int]) -> Path:
    (folder / "bin").mkdir(exist_ok=True)
    program = folder / "bin/nvidia-smi"
    program.write_text("#!/bin/sh\n" + "".join(f"echo {memory}\n" for memory in cards), encoding="utf-8")
    program.chmod(0o755)
    return folder / "bin"


def test_missing_hardware_is_one_clear_error(tmp_path: Path, run: Any) -> None:
    path = f"{fake_cards(tmp_path, [24564])}:{os.environ['PATH']}"
    result = run("sft_qwen32b", PROFILE="4x80g", PATH=path)
    assert result.returncode == 2
    assert result.stderr.strip() == (
        "error: PROFILE=4x80g wants 4 x 80 GB; found: 1 GPUs, the smallest of 24564 MiB. "
        "Set PROFILE=1x24g, or DRY_RUN=1 to see the command only"
    )


def test_no_gpu_and_no_profile_names_the_cpu_profile(run: Any) -> None:
    result = run("grpo_rag", CUDA_VISIBLE_DEVICES="")
    assert result.returncode == 2
    assert "Set PROFILE=cpu" in result.stderr


@pytest.mark.parametrize("recipe", [*TRAINING, "sample_rag"])
def test_missing_rows_are_refused_before_anything_is_loaded(recipe: str, files: dict[str, Path], tmp_path: Path, run: Any) -> None:
    missing = tmp_path / "none.jsonl"
    result = run(recipe, PROFILE="cpu", MODEL=files["full"], SFT_ADAPTER=files["full"], DATASET=missing, OUTPUT_DIR=files["OUTPUT_DIR"])
    assert result.returncode == 2
    assert f"{missing} does not exist or is empty. Make it: python tools/convert.py" in result.stderr


def test_export_refuses_an_existing_folder(files: dict[str, Path], run: Any) -> None:
    result = run("export", ADAPTER=files["lora"], OUTPUT_DIR=files["full"])
    assert result.returncode == 2
    assert "already exists" in result.stderr


def test_a_full_checkpoint_is_exported_without_the_optimiser(files: dict[str, Path], tmp_path: Path, run: Any) -> None:
    for name in ("model.safetensors", "tokenizer.json", "optimizer.pt", "rng_state_0.pth", "trainer_state.json"):
        (files["full"] / name).write_text("x", encoding="utf-8")
    assert run("export", ADAPTER=files["full"], OUTPUT_DIR=tmp_path / "new").returncode == 0
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"args.json", "config.json", "model.safetensors", "tokenizer.json"}


def test_the_retrieval_service_takes_bases_or_the_samples(run: Any) -> None:
    samples = run("serve_rag", DRY_RUN=1).stdout
    assert f"{ROOT}/datasets/query_rewrite/fivedoctors --host 127.0.0.1 --port 8900" in samples or "query_rewrite/fivedoctors " in samples
    own = run("serve_rag", "a", "b", "--port", "9000", DRY_RUN=1, cwd=ROOT).stdout
    assert f"serve_rag.py {ROOT}/a {ROOT}/b --host 127.0.0.1 --port 8900 --port 9000" in own


def test_the_two_stacks_agree_on_every_version() -> None:
    def pins(name: str) -> dict[str, str]:
        lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
        return {m[1]: m[2] for line in lines if (m := re.match(r"([\w.-]+)(?:\[\w+\])?==(\S+)", line))}

    gpu, cpu = pins("requirements.txt"), pins("requirements-cpu.txt")
    assert {name: version for name, version in gpu.items() if name not in ("vllm", "bitsandbytes")}.items() <= cpu.items()


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("recipe", ["sft_medical", "ppo_medical", "grpo_medical"])
def test_ms_swift_takes_the_medical_recipes(
    recipe: str, profile: str, tmp_path: Path, files: dict[str, Path], parse: Any, command: Any
) -> None:
    base = "Qwen/Qwen3-1.7B"
    write_adapter(files["lora"], base)
    rows = tmp_path / ("train.jsonl" if recipe == "sft_medical" else "training_prompts.jsonl")
    for file in (rows, tmp_path / "dev.jsonl"):
        file.write_text('{"messages": []}\n', encoding="utf-8")
    nodes = NODES if profile == "multinode" else {}
    env, words = command(recipe, PROFILE=profile, DATASET=rows, OUTPUT_DIR=files["OUTPUT_DIR"], SFT_ADAPTER=files["lora"], **nodes)
    args = parse("SftArguments" if recipe == "sft_medical" else "RLHFArguments", words[1:], PROCESSES.get(profile, 1))
    assert (args.model, args.dataset, args.val_dataset) == (base, [str(rows)], [str(tmp_path / "dev.jsonl")])
    assert args.gradient_checkpointing == (not profile.startswith("cpu")) and (args.save_strategy, args.save_total_limit) == ("steps", 3)
    if recipe != "sft_medical":
        assert (args.reward_funcs, args.dataset_shuffle) == (["medical_answer"], False), "high-risk prompts come first"
        assert args.adapters == args.ref_adapters == [str(files["lora"])]
    told = {"OVERTAKE_TARGET_KL": "0.1", "OVERTAKE_CRITIC": "Qwen/Qwen3-0.6B"} if recipe == "ppo_medical" else {}
    assert {name: value for name, value in env.items() if name.startswith("OVERTAKE_")} == told


FINANCE = {"sft_finance": "SftArguments", "grpo_finance": "RLHFArguments"}
FINANCE_BASE = "Qwen/Qwen2.5-1.5B-Instruct"


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("recipe", FINANCE)
def test_ms_swift_takes_the_finance_recipes(recipe: str, profile: str, files: dict[str, Path], parse: Any, command: Any) -> None:
    write_adapter(files["lora"], FINANCE_BASE)
    nodes = NODES if profile == "multinode" else {}
    settings = {"DATASET": files["DATASET"], "OUTPUT_DIR": files["OUTPUT_DIR"], "SFT_ADAPTER": files["lora"]}
    _, words = command(recipe, PROFILE=profile, **settings, **nodes)
    processes = PROCESSES.get(profile, 1)
    args = parse(FINANCE[recipe], words[1:], processes)
    cpu = profile.startswith("cpu")
    assert (args.model, args.dataset, args.split_dataset_ratio) == (FINANCE_BASE, [f"overtake/finance:{files['DATASET']}"], 0.02)
    assert (args.lora_rank, args.lora_alpha, args.num_train_epochs, args.gradient_checkpointing) == (16, 32, 2, not cpu)
    quantised = (args.quant_method, args.quant_bits, args.bnb_4bit_quant_type, args.bnb_4bit_use_double_quant)
    assert (quantised == ("bnb", 4, "nf4", True)) == profile.endswith("4bit") == (args.quant_method is not None)
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps
    if recipe == "sft_finance":
        assert (args.learning_rate, args.max_length) == (2e-4, 2048)
        assert batch * (processes if cpu else 1) == (8 if cpu else 16)
        if profile.endswith(("80g", "4bit")):
            assert (args.per_device_train_batch_size, args.gradient_accumulation_steps) == (2, 8)
        return
    assert (args.reward_funcs, args.reward_weights, args.beta) == (["answer_format", "finance_accuracy"], [0.3, 0.7], 0.05)
    assert (args.num_generations, args.temperature, args.max_length, args.max_completion_length) == (4, 0.7, 1024, 1024)
    assert args.adapters == args.ref_adapters == [str(files["lora"])]
    assert batch * processes == (8 if cpu else 64)
    assert args.per_device_eval_batch_size * processes % args.num_generations == 0
    assert args.use_vllm == (profile not in ("cpu", "cpu-zero2", "1x24g-4bit"))


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(
    ("role", "model", "port", "tokens"),
    [("teacher", "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", 8001, 8192), ("judge", "Qwen/Qwen2.5-7B-Instruct", 8002, 512)],
)
def test_a_teacher_and_a_judge_are_served_by_their_role(
    role: str, model: str, port: int, tokens: int, profile: str, parse: Any, command: Any
) -> None:
    _, words = command("deploy", PROFILE=profile, ROLE=role)
    args = parse("DeployArguments", words[1:])
    assert (args.model, args.port, args.served_model_name, args.max_new_tokens) == (model, port, role, tokens)
    if args.infer_backend == "vllm":
        assert args.vllm_max_model_len == (12288 if role == "teacher" else 4096)


def test_the_simple_path_serves_without_vllm(files: dict[str, Path], parse: Any, command: Any) -> None:
    _, words = command("deploy", PROFILE="1x24g", INFER="transformers", SYSTEM="finance", MODEL=files["full"])
    args = parse("DeployArguments", words[1:])
    assert (args.infer_backend, args.served_model_name, args.temperature, args.vllm_max_model_len) == ("transformers", "finance", 0, None)


def test_an_unknown_role_is_refused(run: Any) -> None:
    refused = run("deploy", PROFILE="cpu", ROLE="student2", DRY_RUN=1)
    assert (refused.returncode, refused.stderr) == (2, "error: ROLE=student2 is none of: student, teacher, judge\n")


@pytest.mark.parametrize(("recipe", "kind"), [("sft_finance", "SftArguments"), ("grpo_finance", "RLHFArguments")])
def test_short_of_memory_is_one_row_at_a_time_and_the_callers_flags_still_win(
    recipe: str, kind: str, files: dict[str, Path], parse: Any, command: Any
) -> None:
    write_adapter(files["lora"], FINANCE_BASE)
    settings = {"PROFILE": "1x24g-4bit", "SHORT": 1, "DATASET": files["DATASET"], "SFT_ADAPTER": files["lora"]}
    _, words = command(recipe, "--learning_rate", "1e-3", **settings)
    args = parse(kind, words[1:])
    longest = args.max_length + (args.max_completion_length if recipe == "grpo_finance" else 0)
    assert (args.per_device_train_batch_size, longest, args.learning_rate) == (1, 1024, 1e-3)
    assert args.gradient_accumulation_steps == (16 if recipe == "sft_finance" else 64)
    _, words = command(recipe, "--max_length", "256", **settings)
    assert words[words.index("--max_length") + 1] == "256"


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


def test_own_validation_rows_take_the_place_of_the_split(files: dict[str, Path], command: Any) -> None:
    _, words = command("sft_finance", PROFILE="cpu", DATASET=f"{files['DATASET']}#5", VAL_DATASET=files["DATASET"].parent / "val.jsonl")
    assert words[words.index("--dataset") + 1] == f"overtake/finance:{files['DATASET']}#5"
    assert words[words.index("--val_dataset") + 1] == f"overtake/finance:{files['DATASET'].parent / 'val.jsonl'}"
    assert "--split_dataset_ratio" not in words


@pytest.mark.parametrize("name", ["ms::tongyi_dianjin/DianJin-R1-Data", "overtake/finance", "AI-ModelScope/alpaca#500"])
def test_a_hubs_data_set_keeps_its_name(name: str, command: Any) -> None:
    _, words = command("sft_finance", PROFILE="cpu", DATASET=name)
    assert words[words.index("--dataset") + 1] == name


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


def test_a_board_is_one_variable_and_no_key_stands_on_a_command_line(command, run, tmp_path):
    base = {"PROFILE": "cpu", "SFT_ADAPTER": "none", "OUTPUT_DIR": tmp_path / "out"}
    env, words = command("grpo_rag", REPORT_TO="wandb", **base)
    at = words.index("--report_to")
    assert words[at : at + 3] == ["--report_to", "tensorboard", "wandb"]
    assert (env["WANDB_MODE"], env["WANDB_DIR"]) == ("offline", str(tmp_path / "out"))
    env, words = command("sft_finance", REPORT_TO="swanlab", SWANLAB_API_KEY="s3cret", PROFILE="cpu", OUTPUT_DIR=tmp_path / "out")
    assert words[words.index("--swanlab_mode") + 1] == "cloud" and "s3cret" not in f"{env}{words}"
    refused = run("grpo_rag", REPORT_TO="mlflow", DRY_RUN=1, **base)
    assert refused.returncode == 2 and refused.stderr.endswith("give wandb, swanlab or both; TensorBoard is always written\n")
    refused = run("grpo_rag", "--swanlab_token", "s3cret", DRY_RUN=1, **base)
    assert refused.returncode == 2 and "error: --swanlab_token: every user of this machine would see the key" in refused.stderr
