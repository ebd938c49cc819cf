"""Every recipe under every profile says what ms-swift takes: its printed command goes through ms-swift's own argument classes.

Only the device probe, the process group and the hub look-up are replaced. Run: python -m pytest tests/recipes
"""

import ast
import contextlib
import hashlib
import importlib.util
import json
import math
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from overtake.data import conversations
from overtake.reading.tags import strip_think
from overtake.rewards.rewrite_rules import fault

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


@pytest.mark.parametrize("profile", PROFILES)
def test_ms_swift_takes_the_sampling(profile: str, files: dict[str, Path], parse: Any) -> None:
    write_adapter(files["lora"], BASES[profile])
    (files["lora"] / "adapter_config.json").write_text('{"r": 24}', encoding="utf-8")
    cpu = profile == "cpu"
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
def test_every_row_is_in_a_full_batch(rows: int, batch: int, drawn: int, size: int, files: dict[str, Path]) -> None:
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
def test_what_sampling_could_not_use_is_refused(flags: list[str], words: str, files: dict[str, Path]) -> None:
    result = run("sample_rag", *flags, DRY_RUN=1, PROFILE="cpu", DATASET=files["DATASET"], SFT_ADAPTER=files["full"])
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ") and words in result.stderr


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


@pytest.mark.parametrize("recipe", [*TRAINING, "sample_rag"])
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


# ---------------------------------------------------------------- drawing and keeping


def worth(text: str) -> float:
    """What a rewrite finds, and by half of that what the judge says: anything, as long as it differs."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:4], 16) % 997 / 1000


def points(text: str) -> float:
    return round(worth("judge " + text) * 5, 1)


def lost(text: str) -> bool:
    """One text in seven is refused by the retrieval service, until it is mended."""
    return int(hashlib.sha256(text.encode()).hexdigest()[4:8], 16) % 7 == 0


@pytest.fixture
def services(serve: Any, tmp_path: Path) -> Any:
    """A RAG service and a judge that know every text, and the settings that name them; `mended` makes them answer everything."""
    known = SimpleNamespace(mended=False)

    def answer(body: dict[str, Any]) -> tuple[int, Any]:
        if "rewritten_query" in body:
            text = body["rewritten_query"]
            if lost(text) and not known.mended and text != body["query"]:
                return 422, {"error": "no such words"}
            return 200, {"data": {"recall": [{"doc_id": "d", "reranker_score": worth(text)}]}}
        verdict = json.dumps({"综合得分": points(body["messages"][-1]["content"].split("改写：")[1]), "评分理由": "好"}, ensure_ascii=False)
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": verdict}}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        return 200, {"id": "x", "object": "chat.completion", "created": 1, "model": "judge", "choices": [choice], "usage": usage}

    known.server = serve(answer)
    url = known.server.url
    known.settings = {"OVERTAKE_RAG_URL": url, "OVERTAKE_TEACHER_BASE_URL": f"{url}/v1", "OVERTAKE_TEACHER_MODEL": "judge"}
    known.settings |= {"OVERTAKE_CACHE_DIR": tmp_path / "cache", "MODELSCOPE_CACHE": tmp_path / "modelscope"}
    return known


@pytest.fixture
def rows(tmp_path: Path) -> dict[str, dict[str, Any]]:
    """Eleven prompt-only rows by question, in rl.jsonl; of the last one the question itself cannot be beaten."""
    texts = dict.fromkeys(conversations.COLUMNS, "")
    made = {}
    for number in range(11):
        query = f"question {number}"
        turns = [{"role": "system", "content": "rewrite"}, {"role": "user", "content": query}]
        known = {"rag_query_id": f"q{number}", "rag_query": query, "rag_tenant": "default", "rag_kb": "default", "extra": number}
        known |= {"rag_teacher_rewrite": f"teacher {number}", "rag_teacher_recall": '[["t", 0.5]]', "rag_teacher_judge": "2.5"}
        made[query] = {**texts, **known, "messages": turns, "rag_original_recall": json.dumps([["o", 1.0 if number == 10 else 0.1]])}
    (tmp_path / "rl.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made.values()), encoding="utf-8")
    return made


def competition(text: str) -> float:
    """The composite reward of a rewrite against a teacher of 0.5 and 2.5 points, spelt out."""
    judge, retrieval = math.tanh(3 * (points(text) / 5 - 0.5)), math.tanh(3 * (worth(text) - 0.5))
    return 0.35 * judge + 0.40 * retrieval + 0.25 * (0.5 if worth(text) > 0.5 else -0.3 if worth(text) < 0.5 else 0.0)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def by_question(drawn: list[dict[str, Any]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in drawn:
        found.setdefault(line["messages"][1]["content"], []).append(strip_think(line["messages"][-1]["content"]))
    return found


MODEL = ["--model_type", "qwen3", "--template", "qwen3"]


@pytest.mark.slow
def test_swift_sample_itself_keeps_the_best_by_our_process_reward(tiny: Path, rows: dict[str, Any], services: Any) -> None:
    """A plain `swift sample` on prompt-only rows: what it writes is the draw with the highest score, if that beats the teacher."""
    services.mended = True
    said = ["swift", "sample", "--model", "tiny", *MODEL, "--engine_kwargs", '{"template_type": "qwen3"}', "--torch_dtype", "float32"]
    said += ["--external_plugins", str(ROOT / "plugin/register.py"), "--dataset", "overtake/sample:rl.jsonl"]
    said += ["--num_sampling_batch_size", "11", "--num_return_sequences", "4", "--max_new_tokens", "8", "--n_best_to_keep", "1"]
    said += ["--prm_model", "rag_competition", "--output_dir", "sampled", "--output_file", "kept.jsonl"]
    env = {name: value for name, value in os.environ.items() if not name.startswith("OVERTAKE_")}
    env |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "CUDA_VISIBLE_DEVICES": "", "OVERTAKE_JUDGE_SHARE": "1"}
    env |= {name: str(value) for name, value in services.settings.items()}
    done(subprocess.run(said, cwd=tiny, env=env, capture_output=True, text=True, check=False))

    asked: dict[str, set[str]] = {query: set() for query in rows}
    for request in services.server.requests:
        if "rewritten_query" in request.body:
            asked[request.body["query"]].add(request.body["rewritten_query"])
    assert {query: f"teacher {row['extra']}" in asked[query] for query, row in rows.items()} == dict.fromkeys(rows, True)
    # The teacher's own rewrite is one of the candidates: for ms-swift the row's answer is.
    best = {query: max(texts, key=competition) for query, texts in asked.items()}
    kept = by_question(lines(tiny / "sampled/kept.jsonl"))
    assert kept == {query: [text] for query, text in best.items() if competition(text) > 0}
    assert len(kept) > 0


@pytest.mark.slow
def test_sampling_keeps_the_best_draw_of_every_question(tiny: Path, rows: dict[str, Any], services: Any) -> None:
    """Draws on 11 rows in batches of 4, a refusal of some, a second start, and a run that was interrupted; about a minute."""
    flags = [*MODEL, "--num_sampling_batch_size", "4", "--num_return_sequences", "5", "--max_new_tokens", "8"]
    base = {"PROFILE": "cpu", "SFT_ADAPTER": "none", "MODEL": "tiny", "DATASET": "rl.jsonl", "OUTPUT_DIR": "out", "cwd": tiny}

    def start() -> subprocess.CompletedProcess[str]:
        return run("sample_rag", *flags, **base, **services.settings)

    def expected(measured: Callable[[str], bool]) -> dict[str, str]:
        sound = {query: [text for text in texts if not fault(text, query) and measured(text)] for query, texts in drawn.items()}
        better = {
            query: [text for text in texts if worth(text) > (1.0 if query == "question 10" else 0.1)] for query, texts in sound.items()
        }
        return {query: max(texts, key=competition) for query, texts in better.items() if texts}

    first = start()
    assert first.returncode == 1, first.stdout[-3000:] + first.stderr[-3000:]
    assert "run the same command again" in first.stderr
    drawn = by_question(lines(tiny / "out/draws.jsonl"))
    assert drawn.keys() == rows.keys(), "no tail is lost"
    assert sorted(map(len, drawn.values())) == [5] * 10 + [10], "one row fills the last batch"

    def kept() -> dict[str, str]:
        found = lines(tiny / "out/train.jsonl")
        for row in found:
            query = row["rag_query"]
            assert row["messages"][:-1] == rows[query]["messages"]
            assert {name: row[name] for name in rows[query] if name != "messages"} == {
                name: value for name, value in rows[query].items() if name != "messages"
            }
            assert row["metadata"]["source"].endswith("/tiny")
            assert row["metadata"]["score"] == pytest.approx(competition(row["messages"][-1]["content"]), abs=1e-6)
        return {row["rag_query"]: row["messages"][-1]["content"] for row in found}

    assert kept() == expected(lambda text: not lost(text))
    left_out = {row["query_id"]: row["reason"] for row in lines(tiny / "out/train.jsonl.left_out.jsonl")}
    assert left_out.keys() == {row["rag_query_id"] for query, row in rows.items() if query not in kept()}
    assert left_out["q10"] == "no better than the question"
    asked = len(services.server.requests)

    services.mended = True
    again = done(start())
    assert "nothing is drawn again" in again
    texts = {text for query, found in drawn.items() for text in found if not fault(text, query)}
    assert any(map(lost, texts))
    resent = [request.body["rewritten_query"] for request in services.server.requests[asked:] if "rewritten_query" in request.body]
    assert set(resent) == {text for text in texts if lost(text)}
    assert kept() == expected(lambda text: True)

    # As an interruption leaves it: the first batch whole, the copy of the second cut off in a line.
    whole = (tiny / "out/draws.jsonl").read_text("utf-8").splitlines(keepends=True)
    (tiny / "out/draws.jsonl").unlink()
    (tiny / "out/draws.jsonl.resume").write_text("".join(whole[:20]) + whole[20][:50], encoding="utf-8")
    (tiny / "out/ckpt_state.json").write_text('{"index": 0}', encoding="utf-8")
    done(start())
    resumed = (tiny / "out/draws.jsonl").read_text("utf-8").splitlines(keepends=True)
    assert (resumed[:20], len(resumed)) == (whole[:20], 60)
    assert by_question(list(map(json.loads, resumed))).keys() == rows.keys()

    flags[-1] = "7"
    other = start()
    assert other.returncode == 2 and "holds draws by another command or on other rows" in other.stderr
    assert (tiny / "out/draws.jsonl").read_text("utf-8").splitlines(keepends=True) == resumed


@pytest.mark.slow
def test_an_adapter_draws_and_not_its_base(tiny: Path, rows: dict[str, Any], services: Any) -> None:
    """ms-swift alone would take the base model without a word."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    base = AutoModelForCausalLM.from_pretrained(tiny / "tiny")
    model = get_peft_model(base, LoraConfig(r=4, lora_alpha=64, target_modules=["o_proj", "down_proj"], init_lora_weights=False))
    model.save_pretrained(tiny / "adapter")
    saved = {"swift_version": "4.6.0", "model": str(tiny / "tiny"), "model_type": "qwen3", "template": "qwen3", "tuner_type": "lora"}
    (tiny / "adapter/args.json").write_text(json.dumps(saved), encoding="utf-8")
    services.mended = True
    flags = ["--num_return_sequences", "1", "--max_new_tokens", "8", "--temperature", "0"]
    base_run = {"PROFILE": "cpu", "DATASET": "rl.jsonl", "cwd": tiny, **services.settings}
    drawn = {}
    for name, settings in (("adapter", {"SFT_ADAPTER": "adapter"}), ("base", {"SFT_ADAPTER": "none", "MODEL": "tiny"})):
        run("sample_rag", *flags, *(MODEL if name == "base" else []), OUTPUT_DIR=name, **settings, **base_run)
        drawn[name] = by_question(lines(tiny / name / "draws.jsonl"))
    assert drawn["adapter"].keys() == drawn["base"].keys() == rows.keys()
    assert all(drawn["adapter"][query] != drawn["base"][query] for query in rows)
