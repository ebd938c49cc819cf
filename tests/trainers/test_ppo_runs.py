"""`swift rlhf --rlhf_type ppo --reward_funcs` really trains a tiny model: LoRA and full, resumed, on two ranks, with vLLM (slow)."""

import json
import math
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from overtake.trainers import critic
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]
FLAGS = """
    --rlhf_type ppo --model_type qwen3 --template qwen3 --torch_dtype float32 --fp16 false --bf16 false --check_model false
    --add_version false --truncation_strategy left --max_length 256 --reward_funcs watching --report_to none
    --num_generations 1 --max_completion_length 8 --temperature 1.0 --num_ppo_epochs 2 --num_mini_batches 2
    --gradient_accumulation_steps 1 --max_grad_norm 0.5 --learning_rate 1e-3 --lr_scheduler_type constant --warmup_ratio 0
    --logging_steps 1 --save_strategy no --eval_strategy no --gradient_checkpointing false --dataloader_num_workers 0 --seed 7
"""
LORA = ["--tuner_type", "lora", "--lora_rank", "4", "--lora_dropout", "0"]

# Rows 2n and 2n + 1 share a prompt. A reward that is given another row's column ends the run.
PLUGIN = """
import json, os
from pathlib import Path
import overtake
from overtake.rewards.measuring import Outage
from overtake.trainers import ppo
from swift.rewards import orms


class Watching:
    calls = 0

    def __init__(self, args=None, **_):
        pass

    def __call__(self, completions, place, secret, messages, trainer_state, **columns):
        type(self).calls += 1
        for text, one, other, turns in zip(completions, place, secret, messages):
            assert turns[-2]["content"] == f"{one // 2} 问" and other == one * 7 and turns[-1]["content"] == text
        if trainer_state.global_step >= int(os.environ.get("DOWN_FROM", 10**9)):
            raise Outage("The service stays down. Start it and resume.")
        return [None if one % 8 == 7 else len(set(text)) / 8 for text, one in zip(completions, place)]


class Watched(ppo.PPOTrainer):
    def _postprocess_batch(self, samples, batch_encoded_inputs):
        super()._postprocess_batch(samples, batch_encoded_inputs)
        batches = [encoded["grpo_batch"] for encoded in batch_encoded_inputs]
        # In the order of the batches.
        samples = [sample for batch in self.split_by_mini_batches(samples) for sample in batch]
        seen = dict(
            mode="train" if self.model.training else "eval",
            step=self.state.global_step,
            places=[sample.extra["place"] for sample in samples],
            texts=[sample.messages[-1]["content"] for sample in samples],
            counted=[bool(row.any()) for batch in batches for row in batch.completion_mask],
        )
        if self.args.use_vllm:
            # vLLM's probabilities of what it sampled, and the trainer's.
            rows = [(one, row) for batch in batches for one, row in zip(batch.old_per_token_logps, batch.completion_mask)]
            pairs = [(abs(a - b.item())) for sample, (old, mask) in zip(samples, rows)
                     for a, b in zip(sum(sample.rollout_logprobs, []), old[mask]) if mask.any()]
            seen["apart"] = max(pairs)
        with (Path(os.environ["SEEN"]) / f"{self.accelerator.process_index}.jsonl").open("a") as file:
            file.write(json.dumps(seen) + "\\n")


overtake.register()
orms["watching"] = Watching
ppo.PPOTrainer = Watched
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory, student):
    """A random tiny Qwen3, an adapter on it as SFT leaves one, 32 rows, and the plugin."""
    from peft import LoraConfig, TaskType, get_peft_model
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("ppo-runs")
    torch.manual_seed(5)
    config = LoraConfig(task_type=TaskType.CAUSAL_LM, r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained(student(20, 32)), config).save_pretrained(folder / "sft")
    rows = [{"messages": [{"role": "user", "content": f"{place // 2} 问"}], "place": place, "secret": place * 7} for place in range(32)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "watched.py").write_text(PLUGIN, encoding="utf-8")
    return SimpleNamespace(folder=folder, model=student(20, 32), sft=folder / "sft")


def swift(base, out, *flags, ranks=1, deepspeed=False, code=0, **env):
    """The run's output, what it logged for each step and evaluation, and what each rank's trainer saw."""
    with socket.socket() as probe:  # torchrun's own choice is 29500, whoever holds it
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    seen = out.with_name(out.name + "-seen")
    seen.mkdir()
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("OVERTAKE_")}
    told = inherited | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "VLLM_PLUGINS": "none"}
    told |= {"NPROC_PER_NODE": str(ranks), "MASTER_PORT": str(port), "SEEN": str(seen), "OVERTAKE_CRITIC_LR": "1e-2"}
    # Under use_cpu accelerate leaves DeepSpeed aside without a word.
    place = [] if deepspeed else ["--use_cpu", "true", *(["--ddp_backend", "gloo"] if ranks > 1 else [])]
    files = ["--model", base.model, "--dataset", base.folder / "rows.jsonl", "--val_dataset", base.folder / "rows.jsonl"]
    files += ["--external_plugins", base.folder / "watched.py", "--output_dir", out]
    words = [Path(sys.executable).parent / "swift", "rlhf", *FLAGS.split(), *place, *files, *flags]
    done = subprocess.run(list(map(str, words)), cwd=base.folder, env=told | env, capture_output=True, text=True, check=False, timeout=900)
    assert (done.returncode == 0) == (code == 0), done.stdout[-3000:] + done.stderr[-6000:]
    lines = [json.loads(line) for line in (out / "logging.jsonl").read_text(encoding="utf-8").splitlines()]
    return SimpleNamespace(
        said=done.stdout + done.stderr,
        log=[line for line in lines if "loss" in line],
        evaluations=[line for line in lines if "eval_reward" in line],
        seen=[[json.loads(line) for line in file.read_text().splitlines()] for file in sorted(seen.iterdir())],
        out=out,
    )


def optimiser(checkpoint):
    """(step, tensors) of a plain optimiser's state."""
    state = torch.load(checkpoint / "optimizer.pt", weights_only=True)
    return [group["lr"] for group in state["param_groups"]], [
        tensor for one in state["state"].values() for tensor in one.values() if torch.is_tensor(tensor)
    ]


# ---------------------------------------------------------------- one rank, LoRA from an SFT adapter

TRACKED = [*LORA, "--per_device_train_batch_size", "8", "--per_device_eval_batch_size", "16", "--max_steps", "8"]
TRACKED += ["--save_strategy", "steps", "--save_steps", "4", "--eval_strategy", "steps", "--eval_steps", "4", "--early_stop_interval", "3"]


@pytest.fixture(scope="module")
def tracked(base, tmp_path_factory):
    """Two rollouts of sixteen, each gone through twice in two mini-batches, with evaluation and a checkpoint after each."""
    out = tmp_path_factory.mktemp("tracked") / "run"
    return swift(base, out, *TRACKED, "--adapters", base.sft, "--ref_adapters", base.sft, OVERTAKE_TARGET_KL="0.01")


@pytest.mark.slow
def test_from_an_sft_adapter_policy_and_critic_learn_and_the_best_checkpoint_is_kept(tracked, base):
    assert len(tracked.log) == 8
    assert all(math.isfinite(line["loss"]) and line["grad_norm"] > 0 for line in tracked.log)
    rollouts = [line for line in tracked.log if "reward" in line]
    assert rollouts[0]["objective/kl"] == pytest.approx(0, abs=1e-6), "the reference is the SFT adapter"
    assert abs(rollouts[1]["objective/kl"]) > 1e-4
    assert [line["objective/kl_coef"] for line in rollouts] == pytest.approx([0.05, 0.04]), "the KL of 0 was under its target"
    trained = [one for one in tracked.seen[0] if one["mode"] == "train"]
    assert sorted(trained[0]["places"] + trained[1]["places"]) == list(range(32)), "both rows of each prompt, each with its own column"
    for one, line in zip(trained, rollouts, strict=True):
        assert one["counted"] == [place % 8 != 7 for place in one["places"]]
        assert line["reward_abstain/Watching"] == one["counted"].count(False) / 16 and False in one["counted"]

    # Held-out rows are measured by the same reward, and the state names the checkpoint with the best.
    measured = [line["eval_reward"] for line in tracked.evaluations]
    assert len(measured) == 2 and measured[0] != measured[1]
    state = json.loads((tracked.out / "checkpoint-8/trainer_state.json").read_text(encoding="utf-8"))
    assert state["best_metric"] == pytest.approx(max(measured))
    assert Path(state["best_model_checkpoint"]).name == f"checkpoint-{4 * (1 + measured.index(max(measured)))}"

    start, end = (load_file(folder / "adapter_model.safetensors") for folder in (base.sft, tracked.out / "checkpoint-8"))
    assert start.keys() == end.keys(), "of the critic nothing is in the adapter"
    assert all((start[name] - end[name]).abs().max() > 1e-4 for name in start)
    trained = load_file(tracked.out / "checkpoint-8/critic/model.safetensors")
    assert all("lora_" in name or "score" in name for name in trained)
    head = next(tensor for name, tensor in trained.items() if name.endswith("score.modules_to_save.default.weight"))
    assert head.abs().max() > 1e-3, "it began at zero"
    assert json.loads((tracked.out / "checkpoint-8/ppo.json").read_text())["kl_coef"] == pytest.approx(
        0.05 * 0.8 * (1 + max(-0.2, min(0.2, rollouts[1]["objective/kl"] / 0.01 - 1)))
    )
    assert json.loads((tracked.out / "args.json").read_text(encoding="utf-8"))["rlhf_type"] == "ppo"


@pytest.mark.slow
@pytest.mark.release
def test_a_resumed_run_goes_on_as_if_it_had_never_stopped(tracked, base, tmp_path):
    """Rollouts are sampled anew, with the random state of the checkpoint; then weights, optimiser and coefficient are the same."""
    shutil.copytree(tracked.out / "checkpoint-4", tmp_path / "checkpoint-4")
    resumed = swift(
        *(base, tmp_path / "run", *TRACKED, "--resume_from_checkpoint", tmp_path / "checkpoint-4", "--ref_adapters", base.sft),
        OVERTAKE_TARGET_KL="0.01",
    )
    one, other = ([line for line in run.seen[0] if line["mode"] == "train" and line["step"] == 4] for run in (tracked, resumed))
    assert one == other and len(other) == 1
    before = tracked.log[4:]
    assert [line["loss"] for line in resumed.log] == pytest.approx([line["loss"] for line in before], abs=1e-6)
    assert [line["grad_norm"] for line in resumed.log] == pytest.approx([line["grad_norm"] for line in before], rel=1e-4)
    for name in ("adapter_model.safetensors", "critic/model.safetensors"):
        whole, again = (load_file(run.out / "checkpoint-8" / name) for run in (tracked, resumed))
        assert whole.keys() == again.keys()
        assert max((whole[key] - again[key]).abs().max().item() for key in whole) < 1e-6
    (rates, whole), (same, again) = (optimiser(run.out / "checkpoint-8") for run in (tracked, resumed))
    assert rates == same and sorted({*rates}) == [1e-3, 1e-2]
    assert len(whole) == len(again) > 0 and all(torch.allclose(a, b, atol=1e-7) for a, b in zip(whole, again, strict=True))
    assert (resumed.out / "checkpoint-8/ppo.json").read_text() == (tracked.out / "checkpoint-8/ppo.json").read_text()


@pytest.mark.slow
@pytest.mark.release
def test_swift_export_merges_the_policy_alone(tracked, base, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    checkpoint = tracked.out / "checkpoint-8"
    words = [Path(sys.executable).parent / "swift", "export", "--adapters", checkpoint, "--merge_lora", "true"]
    env = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "VLLM_PLUGINS": "none"}
    words += ["--output_dir", tmp_path / "m"]
    done = subprocess.run(list(map(str, words)), env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert not any("critic" in name or "score" in name for name in load_file(tmp_path / "m/model.safetensors"))
    assert not (tmp_path / "m/critic").exists()
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "m", dtype=torch.float32)
    trained = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base.model, dtype=torch.float32), checkpoint)
    ids = torch.tensor([[300, 301, 302]])
    assert torch.allclose(merged(ids).logits, trained(ids).logits, atol=1e-5)


@pytest.mark.slow
@pytest.mark.release
def test_an_outage_stops_the_run_with_a_checkpoint_of_policy_and_critic(base, tmp_path):
    flags = [*LORA, "--per_device_train_batch_size", "8", "--max_steps", "8"]
    stopped = swift(base, tmp_path / "run", *flags, code=1, DOWN_FROM="4")
    said = (tmp_path / "run/stopped.txt").read_text(encoding="utf-8")
    checkpoint = tmp_path / "run/checkpoint-4"
    assert said == f"error: stopped at step 4. The service stays down. Start it and resume. The run stands at {checkpoint}.\n"
    assert said in stopped.said
    assert all(
        (checkpoint / name).is_file() for name in ("adapter_model.safetensors", "critic/model.safetensors", "optimizer.pt", "ppo.json")
    )


# ---------------------------------------------------------------- full tuning


@pytest.mark.slow
@pytest.mark.release
def test_full_tuning_with_a_smaller_critic_that_the_tool_made(base, student, tmp_path):
    tool = [sys.executable, ROOT / "tools/critic.py", student(22, 16), tmp_path / "small", "--policy", base.model]
    subprocess.run(list(map(str, tool)), check=True, env=os.environ | {"PYTHONPATH": str(ROOT / "plugin")})
    flags = ["--tuner_type", "full", "--per_device_train_batch_size", "8", "--per_device_eval_batch_size", "16", "--max_steps", "4"]
    flags += ["--save_strategy", "steps", "--save_steps", "4", "--eval_strategy", "steps", "--eval_steps", "4"]
    run = swift(base, tmp_path / "run", *flags, "--load_best_model_at_end", "true", OVERTAKE_CRITIC=str(tmp_path / "small"))
    assert len(run.log) == 4 and all(line["grad_norm"] > 0 for line in run.log)
    from transformers import AutoModelForCausalLM

    checkpoint = tmp_path / "run/checkpoint-4"
    policy, report = AutoModelForCausalLM.from_pretrained(checkpoint, output_loading_info=True)
    assert not report["unexpected_keys"] and not report["missing_keys"]
    started = AutoModelForCausalLM.from_pretrained(base.model)
    assert all((one - other).abs().max() > 1e-5 for one, other in zip(policy.parameters(), started.parameters(), strict=True))
    made = critic.from_model(str(checkpoint / "critic"))
    assert made.config.hidden_size == 16
    assert made.score.weight.abs().max() > 1e-3
    before = critic.from_model(str(tmp_path / "small"))
    assert all((one - other).abs().max() > 1e-5 for one, other in zip(made.parameters(), before.parameters(), strict=True))


# ---------------------------------------------------------------- two ranks


@pytest.fixture(scope="module")
def two_ranks(base, tmp_path_factory):
    """Four steps of plain data parallelism."""
    flags = [*LORA, "--per_device_train_batch_size", "4", "--max_steps", "4", "--save_strategy", "steps", "--save_steps", "4"]
    adapters = ["--adapters", base.sft, "--ref_adapters", base.sft]
    return flags + adapters, swift(base, tmp_path_factory.mktemp("ddp") / "run", *flags, *adapters, ranks=2)


def learned_the_same(one, other):
    """Two runs of two ranks: losses within 1e-5, weights of policy and critic by no more than Adam makes of rounding."""
    assert one.seen == other.seen and len(one.seen) == 2
    for name in ("loss", "loss/policy_avg", "loss/value_avg", "policy/entropy_avg"):
        assert [line[name] for line in other.log] == pytest.approx([line[name] for line in one.log], abs=1e-5), name
    for name in ("adapter_model.safetensors", "critic/model.safetensors"):
        ours, theirs = (load_file(run.out / "checkpoint-4" / name) for run in (one, other))
        assert ours.keys() == theirs.keys()
        assert max((ours[key] - theirs[key]).abs().max().item() for key in ours) < 1e-3
    head = next(tensor for name, tensor in theirs.items() if name.endswith("score.modules_to_save.default.weight"))
    assert head.abs().max() > 1e-3


def zero_stages(checkpoint):
    """The ZeRO stage that each rank's share of the optimiser's states was written under."""
    shards = sorted(checkpoint.glob("global_step*/*_optim_states.pt"))
    return [torch.load(shard, weights_only=False)["optimizer_state_dict"]["zero_stage"] for shard in shards]


@pytest.mark.slow
@pytest.mark.release
def test_two_ranks_under_zero2_learn_what_two_ranks_learn(base, two_ranks, tmp_path):
    flags, plain = two_ranks
    sharded = swift(base, tmp_path / "run", *flags, "--deepspeed", "zero2", ranks=2, deepspeed=True)
    assert zero_stages(tmp_path / "run/checkpoint-4") == [2, 2]
    learned_the_same(plain, sharded)


@pytest.mark.slow
@pytest.mark.release
def test_two_ranks_under_zero3_learn_what_two_ranks_learn(base, two_ranks, tmp_path):
    flags, plain = two_ranks
    sharded = swift(base, tmp_path / "run", *flags, "--deepspeed", "zero3", ranks=2, deepspeed=True)
    assert zero_stages(tmp_path / "run/checkpoint-4") == [3, 3]
    learned_the_same(plain, sharded)


@pytest.mark.slow
@pytest.mark.release
def test_full_tuning_under_zero3_is_saved_whole_and_goes_on_from_its_checkpoint(base, tmp_path):
    flags = ["--tuner_type", "full", "--per_device_train_batch_size", "4", "--max_steps", "8", "--save_strategy", "steps"]
    flags += ["--save_steps", "4", "--deepspeed", "zero3"]
    whole = swift(base, tmp_path / "run", *flags, ranks=2, deepspeed=True)
    checkpoint = tmp_path / "run/checkpoint-4"
    policy, value_model = (load_file(checkpoint / name) for name in ("model.safetensors", "critic/model.safetensors"))
    before = load_file(base.model / "model.safetensors")
    assert {name: tensor.shape for name, tensor in policy.items()} == {name: tensor.shape for name, tensor in before.items()}
    assert value_model.keys() - before.keys() == {"score.weight", "score.bias"}
    resumed = swift(base, tmp_path / "again", *flags, "--resume_from_checkpoint", checkpoint, ranks=2, deepspeed=True)
    for name in ("loss", "grad_norm"):
        assert [line[name] for line in resumed.log] == pytest.approx([line[name] for line in whole.log[4:]], abs=1e-6), name
    for name in ("model.safetensors", "critic/model.safetensors"):
        one, other = (load_file(tmp_path / run / "checkpoint-8" / name) for run in ("run", "again"))
        assert one.keys() == other.keys() and all(torch.allclose(one[key], other[key], atol=1e-6) for key in one)


# ---------------------------------------------------------------- vLLM


@pytest.mark.slow
@pytest.mark.release
def test_vllm_in_the_training_process_follows_the_policy(base, student, tmp_path):
    """Its probability of each token that it sampled is the trainer's, at first and after the policy has moved."""
    # vLLM's attention on CPUs wants heads of 32.
    base = SimpleNamespace(folder=base.folder, model=student())
    flags = ["--tuner_type", "full", "--per_device_train_batch_size", "8", "--max_steps", "8", "--learning_rate", "1e-2"]
    flags += ["--use_vllm", "true", "--vllm_mode", "colocate", "--vllm_enforce_eager", "true", "--vllm_max_model_len", "256"]
    run = swift(base, tmp_path / "run", *flags, VLLM_CPU_KVCACHE_SPACE="1")
    assert [one["step"] for one in run.seen[0]] == [0, 4]
    assert max(one["apart"] for one in run.seen[0]) < 1e-3
    assert abs([line for line in run.log if "objective/kl" in line][1]["objective/kl"]) > 0.05
