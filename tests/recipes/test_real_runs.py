"""The recipes really train a tiny model on this CPU: one after the other, and GRPO in every layout that the GPU profiles have.

Five minutes on two idle cores. Run: python -m pytest -m slow tests/recipes/test_real_runs.py
"""

import contextlib
import json
import math
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from overtake.evaluation.curves import read_log

ROOT = Path(__file__).resolve().parents[2]

# A reward with spread in every group, which also notes on which rank it was asked for how many rewrites.
EVEN = """
import os
from pathlib import Path
from swift.rewards import ORM, orms


class Even(ORM):
    def __call__(self, completions, **_):
        with (Path(os.environ["SEEN"]) / os.environ.get("RANK", "0")).open("a") as file:
            file.write(f"{len(completions)} ")
        return [sum(ord(letter) % 2 == 0 for letter in text) / max(len(text), 1) for text in completions]


orms["even"] = Even
"""

# What a rollout server and its trainer need of GPUs: their number, and NCCL, in whose place the group's own TCP store carries the weights.
STAND_IN = """
import contextlib
import swift.arguments.deploy_args
import torch
from overtake.trainers.on_cpu import keep_weights_for_sync
from vllm.distributed.device_communicators.pynccl import PyNcclCommunicator


def broadcast(self, tensor, src, stream=None):
    tensor.copy_(self.group.broadcast_obj(tensor if self.rank == src else None, src))


PyNcclCommunicator.broadcast = broadcast
PyNcclCommunicator.device = torch.device("cpu")
swift.arguments.deploy_args.get_device_count = lambda: 1
torch.cuda.synchronize = lambda device=None: None
torch.cpu.device = lambda device: contextlib.nullcontext()
keep_weights_for_sync()
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory, write_tiny: Any) -> Path:
    """The folder of `write_tiny`, with the plugins of these tests."""
    folder = write_tiny(tmp_path_factory.mktemp("runs"), {"train": 64, "val": 8, "rl_train": 64, "rl_val": 8})
    (folder / "even.py").write_text(EVEN, encoding="utf-8")
    (folder / "stand_in.py").write_text(STAND_IN, encoding="utf-8")
    return folder


def done(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    return result.stdout + result.stderr


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


# ---------------------------------------------------------------- one after the other


@pytest.mark.slow
def test_the_recipes_run_one_after_the_other(tiny: Path, run: Any, environment: Any) -> None:
    """SFT, GRPO with a built-in reward, export and deployment of a tiny model on this CPU, one to two minutes."""
    steps = ["--max_steps", "2", "--save_steps", "2", "--eval_steps", "2"]
    base = {"PROFILE": "cpu", "cwd": tiny}
    own = ["--model_type", "qwen3", "--template", "qwen3"]
    said = done(run("sft_qwen32b", *steps, *own, MODEL="tiny", DATASET="train.jsonl", OUTPUT_DIR="chain/sft", **base))
    assert "listing failed" not in said  # the hub was not asked
    rewards = ["--reward_funcs", "repetition", "--reward_weights", "1", "--max_completion_length", "16"]
    done(run("grpo_rag", *steps, *rewards, SFT_ADAPTER="chain/sft/checkpoint-2", DATASET="rl_train.jsonl", OUTPUT_DIR="chain/grpo", **base))
    done(run("export", ADAPTER="chain/grpo/checkpoint-2", OUTPUT_DIR="merged", **base))

    # What the recipes wrote is ms-swift's own: its plain command works on it, from any folder.
    (tiny / "elsewhere").mkdir()
    plain = ["swift", "export", "--adapters", str(tiny / "chain/grpo/checkpoint-2"), "--merge_lora", "true", "--output_dir", "plain"]
    done(subprocess.run(plain, cwd=tiny / "elsewhere", env=environment(), capture_output=True, text=True, check=False))
    assert (tiny / "elsewhere/plain/model.safetensors").read_bytes() == (tiny / "merged/model.safetensors").read_bytes()

    with socket.socket() as probe:
        probe.bind(("", 0))
        port = probe.getsockname()[1]
        # Held by somebody else, the port is refused; ms-swift itself would take the next one.
        assert "is busy" in run("deploy", MODEL="merged", PORT=port, **base).stderr
    env = environment(PROFILE="cpu", MODEL="merged", PORT=port, INFER="transformers")
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


@pytest.mark.slow
def test_ppo_goes_on_from_sft_and_is_exported(tiny: Path, sft: Path, run: Any) -> None:
    """A round of four epochs and the beginning of another; evaluated, its checkpoint with the critic, its export without."""
    from safetensors.torch import load_file

    seen = tiny / "ppo-seen"
    seen.mkdir()
    flags = ["--max_steps", "24", "--save_steps", "16", "--eval_steps", "16", "--reward_funcs", "even", "--reward_weights", "1"]
    flags += ["--max_completion_length", "16", "--learning_rate", "1e-3", "--external_plugins", str(ROOT / "plugin/register.py"), "even.py"]
    base = {"PROFILE": "cpu", "cwd": tiny}
    done(run("ppo_rag", *flags, SFT_ADAPTER=sft, DATASET="rl_train.jsonl", OUTPUT_DIR="ppo", SEEN=seen, **base))
    log = [row for row in read_log(tiny / "ppo") if "loss" in row]
    assert len(log) == 24
    assert [at for at, row in enumerate(log, 1) if "reward" in row] == [1, 17], "a rollout is used for 16 updates"
    # Two rounds of 32 rewrites, and an evaluation of the eight held-out rows after the first and at the end.
    assert (seen / "0").read_text().split() == ["32", "8", "32", "8"]
    assert log[0]["objective/kl"] == pytest.approx(0, abs=1e-6), "the SFT model is the reference"
    assert log[0]["policy/clipfrac_avg"] == 0 and log[15]["policy/approxkl_avg"] > 0
    assert log[16]["objective/kl"] != 0
    assert all(math.isfinite(row["loss"]) and row["grad_norm"] > 0 for row in log)
    assert [row["eval_reward"] for row in read_log(tiny / "ppo") if "eval_reward" in row]
    assert (tiny / "ppo/checkpoint-16/critic/model.safetensors").is_file()
    start, end = adapter(sft), adapter(tiny / "ppo/checkpoint-16")
    assert start.keys() == end.keys()
    assert max((end[name] - start[name]).abs().max().item() for name in start) > 1e-3

    done(run("export", ADAPTER="ppo/checkpoint-16", OUTPUT_DIR="merged-ppo", **base))
    exported = load_file(tiny / "merged-ppo/model.safetensors")
    assert exported.keys() == load_file(tiny / "tiny/model.safetensors").keys()


# ---------------------------------------------------------------- in every layout

STEPS = 5
SFT = ["--model_type", "qwen3", "--template", "qwen3", "--max_steps", "4", "--save_steps", "4", "--eval_strategy", "no"]
SFT += ["--learning_rate", "5e-3", "--warmup_ratio", "0", "--lr_scheduler_type", "constant", "--logging_steps", "1"]
# Steps large enough to leave the start behind; sampled as the model is, so that vLLM's probabilities can be compared with the trainer's.
GRPO = ["--max_steps", str(STEPS), "--save_steps", str(STEPS), "--eval_strategy", "no", "--reward_funcs", "even", "--reward_weights", "1"]
GRPO += ["--max_completion_length", "16", "--temperature", "1", "--top_p", "1"]
GRPO += ["--learning_rate", "3e-2", "--warmup_ratio", "0", "--lr_scheduler_type", "constant"]
GRPO += ["--external_plugins", str(ROOT / "plugin/register.py"), "even.py"]
# Where the processor has bf16 the profile takes it, and equal would be equal to three digits only.
PRECISE = ["--torch_dtype", "float32"]
GRPO += [*PRECISE, "--bf16", "false"]


def adapter(checkpoint: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return dict(load_file(checkpoint / "adapter_model.safetensors"))


def zero_stages(checkpoint: Path) -> list[int]:
    """The ZeRO stage that each rank's share of the optimiser's states was written under; empty without DeepSpeed."""
    import torch

    shards = sorted(checkpoint.glob("global_step*/*_optim_states.pt"))
    return [torch.load(shard, weights_only=False)["optimizer_state_dict"]["zero_stage"] for shard in shards]


@pytest.fixture(scope="module")
def sft(tiny: Path, run: Any) -> Path:
    """The checkpoint of an SFT run in one process, on which GRPO goes on."""
    done(run("sft_qwen32b", *SFT, PROFILE="cpu", MODEL="tiny", DATASET="train.jsonl", OUTPUT_DIR="sft", cwd=tiny))
    return tiny / "sft/checkpoint-4"


@pytest.fixture(scope="module")
def grpo(tiny: Path, sft: Path, run: Any) -> Any:
    """grpo(name, *flags, **settings): a run from the SFT checkpoint: its log, its checkpoint, and what each rank was asked to score."""

    def grpo(name: str, *flags: str, **settings: Any) -> SimpleNamespace:
        seen = tiny / f"{name}-seen"
        seen.mkdir()
        done(run("grpo_rag", *GRPO, *flags, SFT_ADAPTER=sft, DATASET="rl_train.jsonl", OUTPUT_DIR=name, SEEN=seen, cwd=tiny, **settings))
        log = [row for row in read_log(tiny / name) if "loss" in row]
        ranks = {file.name: file.read_text().split() for file in seen.iterdir()}
        return SimpleNamespace(log=log, checkpoint=tiny / f"{name}/checkpoint-{STEPS}", ranks=ranks)

    return grpo


def left_the_sft_model(run: SimpleNamespace, sft: Path) -> None:
    """The run began at the SFT model, the KL term's reference, and its checkpoint is another one that loads."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    assert len(run.log) == STEPS
    assert all(math.isfinite(row["loss"]) and row["grad_norm"] > 0 for row in run.log)
    assert run.log[0]["kl"] == pytest.approx(0, abs=1e-6)
    assert run.log[-1]["kl"] > 1e-3
    start, end = adapter(sft), adapter(run.checkpoint)
    assert start.keys() == end.keys()
    assert max((end[name] - start[name]).abs().max().item() for name in start) > 1e-3
    base = AutoModelForCausalLM.from_pretrained(sft.parents[1] / "tiny")
    loaded = PeftModel.from_pretrained(base, run.checkpoint).state_dict()
    assert all(bool((loaded[name.replace(".weight", ".default.weight")] == end[name]).all()) for name in end)


def vllm_followed(run: SimpleNamespace) -> None:
    """vLLM's probability of each token that it sampled is the trained model's, though that moves away from the start: see its `kl`."""
    assert [row["rollout_correction/kl"] for row in run.log] == pytest.approx([0] * STEPS, abs=1e-5)
    assert [row["rollout_correction/k3_kl"] for row in run.log] == pytest.approx([0] * STEPS, abs=1e-5)


@pytest.mark.slow
@pytest.mark.release
def test_two_machines_under_zero2_learn_what_one_process_learns(tiny: Path, sft: Path, command: Any, environment: Any) -> None:
    """The launch on every machine, with one process on each of two; both stand on this one."""
    base = {"MODEL": tiny / "tiny", "DATASET": tiny / "train.jsonl", "OUTPUT_DIR": tiny / "sft-zero2"}
    env, words = command("sft_qwen32b", *SFT, PROFILE="cpu-zero2", **base)
    launch = {"NNODES": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    machines = []
    for rank in range(2):
        told = environment(**env | launch | {"NPROC_PER_NODE": 1, "NODE_RANK": rank})
        with (tiny / f"machine-{rank}.log").open("w") as file:
            machines.append(subprocess.Popen(["swift", *words], env=told, cwd=tiny, stdout=file, stderr=subprocess.STDOUT))
    assert [machine.wait(600) for machine in machines] == [0, 0], (tiny / "machine-0.log").read_text(encoding="utf-8")[-3000:]

    assert zero_stages(tiny / "sft-zero2/checkpoint-4") == [2, 2]
    one, two = ([row for row in read_log(folder) if "loss" in row] for folder in (sft.parent, tiny / "sft-zero2"))
    assert [row["loss"] for row in two] == pytest.approx([row["loss"] for row in one], rel=1e-5)
    assert one[0]["loss"] - one[-1]["loss"] > 0.3
    ours, theirs = adapter(sft), adapter(tiny / "sft-zero2/checkpoint-4")
    assert ours.keys() == theirs.keys()
    # Adam makes a full step of rounding noise where a gradient is nought, so some weights differ by more than rounding.
    assert max((ours[name] - theirs[name]).abs().max().item() for name in ours) < 1e-3
    assert max(ours[name].abs().max().item() for name in ours if "lora_B" in name) > 1e-2


@pytest.mark.slow
def test_vllm_in_the_training_process_follows_the_training(grpo: Any, sft: Path) -> None:
    run = grpo("vllm", PROFILE="cpu-vllm")
    left_the_sft_model(run, sft)
    vllm_followed(run)
    assert run.ranks == {"0": ["8"] * STEPS}


@pytest.mark.slow
@pytest.mark.release
def test_grpo_under_zero2_in_two_processes(grpo: Any, sft: Path) -> None:
    run = grpo("zero2", PROFILE="cpu-zero2")
    left_the_sft_model(run, sft)
    assert run.ranks == {"0": ["4"] * STEPS, "1": ["4"] * STEPS}
    assert zero_stages(run.checkpoint) == [2, 2]


@pytest.mark.slow
def test_grpo_laid_out_as_on_four_gpus(grpo: Any, sft: Path) -> None:
    """ZeRO-3, vLLM split over both processes, weights moved to it in parts, the model set aside while it samples."""
    run = grpo("zero3", PROFILE="cpu-zero3")
    left_the_sft_model(run, sft)
    vllm_followed(run)
    assert run.ranks == {"0": ["4"] * STEPS, "1": ["4"] * STEPS}
    assert zero_stages(run.checkpoint) == [3, 3]


# Notes when each rollout and each reward call began and ended; a reward is waited for as for a judge.
TIMED = """
import json, os, time
from pathlib import Path
from swift.rewards import orms
from swift.rlhf_trainers.vllm_client import VLLMClient


def timed(what, function):
    def call(*args, **kwargs):
        begun = time.monotonic()
        try:
            return function(*args, **kwargs)
        finally:
            with (Path(os.environ["SEEN"]) / f"times-{what}").open("a") as file:
                print(json.dumps([begun, time.monotonic()]), file=file)

    return call


VLLMClient.infer = timed("rollout", VLLMClient.infer)
Even = orms["even"]
score = Even.__call__
Even.__call__ = timed("reward", lambda self, completions, **columns: (time.sleep(1.5), score(self, completions, **columns))[1])
"""


@contextlib.contextmanager
def rollout_server(tiny: Path, sft: Path, environment: Any) -> Iterator[SimpleNamespace]:
    """rollout.sh as a program of its own over HTTP, STAND_IN in the place of NCCL; `flags` for its training, `log` when it has ended."""
    port, group = free_port(), free_port()
    env = environment(PROFILE="cpu-vllm", SFT_ADAPTER=sft, PORT=port, GROUP_PORT=group, VLLM_ENABLE_V1_MULTIPROCESSING=0)
    words = ["bash", str(ROOT / "recipes/rollout.sh"), "--external_plugins", "stand_in.py", *PRECISE]
    with (tiny / f"rollout-{port}.log").open("w") as file:
        server = subprocess.Popen(words, cwd=tiny, env=env, stdout=file, stderr=subprocess.STDOUT)
    flags = ["--vllm_mode", "server", "--vllm_server_host", "127.0.0.1", "--vllm_server_port", str(port)]
    flags += ["--vllm_server_group_port", str(group), "--external_plugins", str(ROOT / "plugin/register.py"), "even.py", "stand_in.py"]
    running = SimpleNamespace(flags=flags, log="")
    try:
        yield running
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(90)
        running.log = (tiny / f"rollout-{port}.log").read_text(encoding="utf-8")
    with pytest.raises(httpx.ConnectError):  # nothing was left behind
        httpx.get(f"http://127.0.0.1:{port}/health/")


@pytest.mark.slow
@pytest.mark.release
def test_grpo_with_a_rollout_server(tiny: Path, grpo: Any, sft: Path, environment: Any) -> None:
    with rollout_server(tiny, sft, environment) as server:
        run = grpo("server", *server.flags, PROFILE="cpu-vllm")
    left_the_sft_model(run, sft)
    vllm_followed(run)
    assert server.log.count("POST /update_flattened_params/") == STEPS


@pytest.mark.slow
def test_rollouts_beside_training_are_written_while_the_step_before_is_scored(tiny: Path, grpo: Any, sft: Path, environment: Any) -> None:
    """As PROFILE=multinode does it; then without, for how long a step takes (-s prints both)."""
    (tiny / "timed.py").write_text(TIMED, encoding="utf-8")
    seconds, beside = {}, ["--async_generate", "true", "--rollout_importance_sampling_mode", "token_truncate"]
    for name, flags in {"beside": beside, "in-turn": []}.items():
        with rollout_server(tiny, sft, environment) as server:
            run = grpo(name, *server.flags, "timed.py", *flags, PROFILE="cpu-vllm")
        left_the_sft_model(run, sft)
        rollouts, rewards = (
            [json.loads(line) for line in (tiny / f"{name}-seen/times-{what}").read_text().splitlines()] for what in ("rollout", "reward")
        )
        assert len(rewards) == STEPS
        # Each step's reward call, and whether the rollout of the step after had begun before it did.
        early = [after[0] < reward[0] for reward, after in zip(rewards, rollouts[1:], strict=False)]
        assert early == [name == "beside"] * len(early) and len(early) >= STEPS - 1
        assert server.log.count("POST /update_flattened_params/") == STEPS
        seconds[name] = (rewards[-1][0] - rewards[1][0]) / (STEPS - 2)
        lag = [row["rollout_correction/k3_kl"] for row in run.log]
        assert all(math.isfinite(value) for value in lag)
        # The first two rollouts are by the start's weights; then each is one update behind, or none.
        assert (max(lag[2:]) > 1e-4) == (name == "beside"), lag
    print(f"a step: {seconds['beside']:.1f} s with rollouts beside training, {seconds['in-turn']:.1f} s in turn")


@pytest.mark.slow
@pytest.mark.release
def test_without_the_reference_adapter_the_kl_would_be_against_the_base_model(
    tiny: Path, sft: Path, command: Any, environment: Any
) -> None:
    """What the recipe's --ref_adapters is for: its own runs begin at a KL of 0."""
    base = {"SFT_ADAPTER": sft, "DATASET": tiny / "rl_train.jsonl", "OUTPUT_DIR": tiny / "no-reference"}
    env, words = command("grpo_rag", *GRPO, "--max_steps", "1", PROFILE="cpu", **base)
    at = words.index("--ref_adapters")
    assert words[at + 1] == str(sft)
    (tiny / "no-reference-seen").mkdir()
    told = environment(**env, SEEN=tiny / "no-reference-seen")
    done(subprocess.run(["swift", *words[:at], *words[at + 2 :]], env=told, cwd=tiny, capture_output=True, text=True, check=False))
    assert read_log(tiny / "no-reference")[0]["kl"] > 0.01
