"""Every recipe under every profile says what ms-swift takes: its printed command goes through ms-swift's own argument classes.

Only the device probe, the process group and the hub look-up are replaced. Run: python -m pytest tests/recipes
"""

import contextlib
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]
PROFILES = sorted(path.stem for path in (ROOT / "recipes/profiles").glob("*.sh"))
TRAINING = {"sft_qwen32b": "SftArguments", "grpo_rag": "RLHFArguments"}
PROCESSES = {"4x80g": 4, "8x80g": 8, "multinode": 16}
BASES = {
    "cpu": "Qwen/Qwen2.5-0.5B-Instruct",
    "1x16g": "Qwen/Qwen2.5-1.5B-Instruct",
    "1x24g": "Qwen/Qwen2.5-3B-Instruct",
    "1x80g": "Qwen/Qwen3-8B",
    **dict.fromkeys(PROCESSES, "Qwen/Qwen2.5-32B-Instruct"),
}


def run(recipe: str, *flags: str, cwd: Path = ROOT, **settings: object) -> subprocess.CompletedProcess[str]:
    known = {"PROFILE", "MODEL", "TUNER", "DATASET", "VAL_DATASET", "OUTPUT_DIR", "SFT_ADAPTER", "ADAPTER", "DRY_RUN", "HOST", "PORT"}
    env = {name: value for name, value in os.environ.items() if name not in known | {"CUDA_VISIBLE_DEVICES"}}
    env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
    env |= {name: str(value) for name, value in settings.items()}
    return subprocess.run(
        ["bash", str(ROOT / f"recipes/{recipe}.sh"), *flags], capture_output=True, text=True, env=env, cwd=cwd, check=False
    )


def command(recipe: str, *flags: str, **settings: object) -> tuple[dict[str, str], list[str]]:
    """What a dry run prints, as environment and arguments after `swift`."""
    result = run(recipe, *flags, DRY_RUN=1, **settings)
    assert result.returncode == 0, result.stderr
    words = shlex.split(result.stdout.replace("\\\n", " ").splitlines()[0])
    at = words.index("swift")
    return dict(word.split("=", 1) for word in words[:at]), words[at + 1 :]


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
def test_ms_swift_takes_the_command(recipe: str, profile: str, files: dict[str, Path], parse: Any) -> None:
    write_adapter(files["lora"], BASES[profile])
    env, words = command(recipe, PROFILE=profile, DATASET=files["DATASET"], OUTPUT_DIR=files["OUTPUT_DIR"], SFT_ADAPTER=files["lora"])
    processes = PROCESSES.get(profile, 1)
    args = parse(TRAINING[recipe], words[1:], processes)

    assert args.model == BASES[profile]
    assert (args.tuner_type, args.lora_rank, args.lora_alpha, args.target_modules) == ("lora", 16, 32, ["all-linear"])
    assert (args.max_length, args.save_total_limit, args.add_version, args.ddp_timeout) == (2048, 3, False, 1800)
    assert args.external_plugins == [str(ROOT / "plugin/register.py")]
    assert args.output_dir == str(files["OUTPUT_DIR"])
    cpu = profile == "cpu"
    assert (args.bf16, args.fp16) == (not cpu, False)
    assert args.dataloader_num_workers == (0 if cpu else 4)
    assert bool(args.deepspeed) == (profile in PROCESSES)
    assert env["CUDA_VISIBLE_DEVICES"].count(",") + (not cpu) == min(PROCESSES.get(profile, int(not cpu)), 8)
    assert int(env.get("NPROC_PER_NODE", 1)) * int(env.get("NNODES", 1)) == processes
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps
    if recipe == "sft_qwen32b":
        assert (args.learning_rate, args.num_train_epochs, args.warmup_ratio or args.training_args.warmup_steps) == (5e-5, 3, 0.05)
        assert (args.eval_steps, args.save_steps, args.logging_steps) == (100, 100, 10)
        assert batch == (8 if cpu else 16)
        if profile.endswith("80g"):
            assert (args.per_device_train_batch_size, args.gradient_accumulation_steps, args.per_device_eval_batch_size) == (2, 8, 2)
        if args.deepspeed:
            assert args.deepspeed["zero_optimization"]["stage"] == 3
    else:
        assert (args.learning_rate, args.num_train_epochs, args.beta, args.scale_rewards) == (1e-5, 10, 0.04, "group")
        assert (args.num_generations, args.temperature, args.top_p, args.max_completion_length) == (8, 0.7, 0.9, 150)
        assert args.log_completions
        assert args.adapters == args.ref_adapters == [str(files["lora"])]
        assert len(args.reward_funcs) == len(args.reward_weights) == 2
        assert batch * processes == (8 if cpu else 64)
        assert args.per_device_eval_batch_size * processes % args.num_generations == 0
        assert args.use_vllm == (not cpu)
        assert processes % args.vllm_tensor_parallel_size == 0


@pytest.mark.parametrize("profile", PROFILES)
def test_ms_swift_takes_the_deployment(profile: str, files: dict[str, Path], parse: Any) -> None:
    write_adapter(files["lora"], BASES[profile])
    for settings, base in (({"ADAPTER": files["lora"]}, BASES[profile]), ({"MODEL": files["full"]}, str(files["full"]))):
        _, words = command("deploy", PROFILE=profile, PORT=18345, **settings)
        args = parse("DeployArguments", words[1:])
        assert (args.model, args.host, args.port, args.served_model_name) == (base, "127.0.0.1", 18345, "query-rewrite")
        assert args.infer_backend == ("transformers" if profile == "cpu" else "vllm")
        assert args.external_plugins == ([str(ROOT / "plugin/register.py")] if "ADAPTER" in settings else [])


def test_ms_swift_takes_the_export(files: dict[str, Path], parse: Any, tmp_path: Path) -> None:
    write_adapter(files["lora"], BASES["4x80g"])
    _, words = command("export", ADAPTER=files["lora"], OUTPUT_DIR=tmp_path / "merged")
    args = parse("ExportArguments", words[1:])
    assert (args.merge_lora, args.adapters, args.output_dir) == (True, [str(files["lora"])], str(tmp_path / "merged.part"))


def test_full_tuning_goes_on_from_a_full_checkpoint(files: dict[str, Path], parse: Any) -> None:
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


def test_the_callers_flags_win_over_profile_and_recipe() -> None:
    _, words = command("sft_qwen32b", "--learning_rate", "1e-3", "--dataloader_num_workers=2", "--system", "a b", PROFILE="cpu")
    assert words.count("--learning_rate") == 1
    assert words[words.index("--learning_rate") + 1] == "1e-3"
    assert words[words.index("--dataloader_num_workers") + 1] == "2"
    assert words[words.index("--system") + 1] == "a b"


def test_paths_are_read_where_the_user_stands_and_become_absolute(files: dict[str, Path]) -> None:
    here = files["lora"].parent
    result = run("sft_qwen32b", cwd=here, DRY_RUN=1, PROFILE="cpu", MODEL="full", DATASET="train.jsonl", OUTPUT_DIR="runs/a")
    for path in ("full", "train.jsonl", "val.jsonl", "runs/a"):
        assert f" {here / path}" in result.stdout


def test_the_last_checkpoint_is_the_one_with_the_highest_step(files: dict[str, Path], tmp_path: Path) -> None:
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
def test_the_profile_is_found_from_the_cards(cards: list[int], profile: str, tmp_path: Path) -> None:
    result = run("sft_qwen32b", DRY_RUN=1, PATH=f"{fake_cards(tmp_path, cards)}:{os.environ['PATH']}")
    assert f"profile {profile} " in result.stderr


def fake_cards(folder: Path, cards: list[int]) -> Path:
    (folder / "bin").mkdir(exist_ok=True)
    program = folder / "bin/nvidia-smi"
    program.write_text("#!/bin/sh\n" + "".join(f"echo {memory}\n" for memory in cards), encoding="utf-8")
    program.chmod(0o755)
    return folder / "bin"


def test_missing_hardware_is_one_clear_error(tmp_path: Path) -> None:
    path = f"{fake_cards(tmp_path, [24564])}:{os.environ['PATH']}"
    result = run("sft_qwen32b", PROFILE="4x80g", PATH=path)
    assert result.returncode == 2
    assert result.stderr.strip() == (
        "error: PROFILE=4x80g wants 4 x 80 GB; found: 1 GPUs, the smallest of 24564 MiB. "
        "Set PROFILE=1x24g, or DRY_RUN=1 to see the command only"
    )


def test_no_gpu_and_no_profile_names_the_cpu_profile() -> None:
    result = run("grpo_rag", CUDA_VISIBLE_DEVICES="")
    assert result.returncode == 2
    assert "Set PROFILE=cpu" in result.stderr


@pytest.mark.parametrize("recipe", TRAINING)
def test_missing_rows_are_refused_before_anything_is_loaded(recipe: str, files: dict[str, Path], tmp_path: Path) -> None:
    missing = tmp_path / "none.jsonl"
    result = run(recipe, PROFILE="cpu", MODEL=files["full"], SFT_ADAPTER=files["full"], DATASET=missing, OUTPUT_DIR=files["OUTPUT_DIR"])
    assert result.returncode == 2
    assert f"{missing} does not exist or is empty. Make it: python tools/convert.py" in result.stderr


def test_export_refuses_an_existing_folder(files: dict[str, Path]) -> None:
    result = run("export", ADAPTER=files["lora"], OUTPUT_DIR=files["full"])
    assert result.returncode == 2
    assert "already exists" in result.stderr


def test_a_full_checkpoint_is_exported_without_the_optimiser(files: dict[str, Path], tmp_path: Path) -> None:
    for name in ("model.safetensors", "tokenizer.json", "optimizer.pt", "rng_state_0.pth", "trainer_state.json"):
        (files["full"] / name).write_text("x", encoding="utf-8")
    assert run("export", ADAPTER=files["full"], OUTPUT_DIR=tmp_path / "new").returncode == 0
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"args.json", "config.json", "model.safetensors", "tokenizer.json"}


def test_the_retrieval_service_takes_bases_or_the_samples() -> None:
    samples = run("serve_rag", DRY_RUN=1).stdout
    assert f"{ROOT}/datasets/query_rewrite/fivedoctors --host 127.0.0.1 --port 8900" in samples or "query_rewrite/fivedoctors " in samples
    own = run("serve_rag", "a", "b", "--port", "9000", DRY_RUN=1, cwd=ROOT).stdout
    assert f"serve_rag.py {ROOT}/a {ROOT}/b --host 127.0.0.1 --port 8900 --port 9000" in own


def test_the_two_stacks_agree_on_every_version() -> None:
    def pins(name: str) -> dict[str, str]:
        lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
        return {m[1]: m[2] for line in lines if (m := re.match(r"([\w.-]+)(?:\[\w+\])?==(\S+)", line))}

    gpu, cpu = pins("requirements.txt"), pins("requirements-cpu.txt")
    assert {name: version for name, version in gpu.items() if name != "vllm"}.items() <= cpu.items()


def done(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout + result.stderr


@pytest.mark.slow
def test_the_recipes_run_one_after_the_other(tiny: Path) -> None:
    """SFT, GRPO with a built-in reward, export and deployment of a tiny model on this CPU, one to two minutes."""
    steps = ["--max_steps", "2", "--save_steps", "2", "--eval_steps", "2"]
    base = {"PROFILE": "cpu", "cwd": tiny}
    said = done(
        run(
            "sft_qwen32b",
            *steps,
            "--model_type",
            "qwen3",
            "--template",
            "qwen3",
            MODEL="tiny",
            DATASET="train.jsonl",
            OUTPUT_DIR="sft",
            **base,
        )
    )
    assert "listing failed" not in said  # the hub was not asked
    rewards = ["--reward_funcs", "repetition", "--reward_weights", "1", "--max_completion_length", "16"]
    done(run("grpo_rag", *steps, *rewards, SFT_ADAPTER="sft/checkpoint-2", DATASET="rl_train.jsonl", OUTPUT_DIR="grpo", **base))
    done(run("export", ADAPTER="grpo/checkpoint-2", OUTPUT_DIR="merged", **base))

    # What the recipes wrote is ms-swift's own: its plain command works on it, from any folder.
    (tiny / "elsewhere").mkdir()
    plain = ["swift", "export", "--adapters", str(tiny / "grpo/checkpoint-2"), "--merge_lora", "true", "--output_dir", "plain"]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done(subprocess.run(plain, cwd=tiny / "elsewhere", env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False))
    assert (tiny / "elsewhere/plain/model.safetensors").read_bytes() == (tiny / "merged/model.safetensors").read_bytes()

    with socket.socket() as probe:
        probe.bind(("", 0))
        port = probe.getsockname()[1]
        # Held by somebody else, the port is refused; ms-swift itself would take the next one.
        assert "is busy" in run("deploy", MODEL="merged", PORT=port, **base).stderr
    env = os.environ | {"PROFILE": "cpu", "MODEL": "merged", "PORT": str(port), "PATH": path}
    server = subprocess.Popen(["bash", str(ROOT / "recipes/deploy.sh")], cwd=tiny, env=env, stdout=subprocess.DEVNULL)
    try:
        for _ in range(120):
            with contextlib.suppress(httpx.HTTPError):
                models = httpx.get(f"http://127.0.0.1:{port}/v1/models").json()["data"]
                break
            time.sleep(1)
        assert [model["id"] for model in models] == ["query-rewrite"]
    finally:
        server.terminate()
        server.wait(60)
    with pytest.raises(httpx.ConnectError):  # nothing was left behind
        httpx.get(f"http://127.0.0.1:{port}/v1/models")
