"""Estimate of the peak memory of a training run, part by part; all in GB of 10^9 bytes."""

import json
import re
from pathlib import Path
from typing import NamedTuple

from overtake.doctor.command import Command

SHARE = 0.9
"""Of a card's memory that may be planned with."""
CARDS = {16: 16.1, 24: 24.1, 80: 85.0}
"""GB on a card that is sold as so many GB."""
_GATHERED = 1e9
"""Weights that ZeRO-3 holds whole at a time (stage3_max_live_parameters)."""
_VLLM_OWN = 1.5
"""Assumed: what the training process holds beside its weights while vLLM samples."""
_PROCESSES = 20.0
"""Assumed: host memory of the processes themselves, where models are set aside in it."""
_FOUR_BITS = 0.516
"""Bytes of a weight in NF4, its double-quantised scales included."""
_AT_ONCE = 16
"""Assumed: rows that transformers samples at once."""
_SFT_ANSWER = 512
"""Assumed: tokens of a row in SFT whose logits are needed; a prompt's are not."""


class Shape(NamedTuple):
    """A decoder's sizes, by the names of its config.json."""

    hidden: int
    layers: int
    intermediate: int
    heads: int
    kv_heads: int
    head: int
    vocab: int
    tied: bool
    """Whether the head is the embedding again."""

    @property
    def weights(self) -> float:
        """Number of weights.

        >>> round(SHAPES["Qwen/Qwen2.5-32B-Instruct"].weights / 1e9, 2)
        32.76
        """
        attention = 2 * self.hidden * self.head * (self.heads + self.kv_heads)
        return self.vocab * self.hidden * (1 if self.tied else 2) + self.layers * (attention + 3 * self.hidden * self.intermediate)

    @property
    def headless(self) -> float:
        """Weights without a language head: a critic's."""
        return self.weights - (0 if self.tied else self.vocab * self.hidden)

    def lora(self, rank: float) -> float:
        """Weights of LoRA on all linear layers.

        >>> round(SHAPES["Qwen/Qwen2.5-3B-Instruct"].lora(16) / 1e6, 1)
        29.9
        """
        ends = 2 * (self.hidden + self.heads * self.head) + 2 * (self.hidden + self.kv_heads * self.head)
        return rank * self.layers * (ends + 3 * (self.hidden + self.intermediate))


# The models that profiles and recipes name, so that they are known before they are fetched.
SHAPES = {
    "Qwen/Qwen2.5-0.5B-Instruct": Shape(896, 24, 4864, 14, 2, 64, 151936, True),
    "Qwen/Qwen2.5-1.5B-Instruct": Shape(1536, 28, 8960, 12, 2, 128, 151936, True),
    "Qwen/Qwen2.5-3B-Instruct": Shape(2048, 36, 11008, 16, 2, 128, 151936, True),
    "Qwen/Qwen2.5-7B-Instruct": Shape(3584, 28, 18944, 28, 4, 128, 152064, False),
    "Qwen/Qwen2.5-32B-Instruct": Shape(5120, 64, 27648, 40, 8, 128, 152064, False),
    "Qwen/Qwen3-0.6B": Shape(1024, 28, 3072, 16, 8, 128, 151936, True),
    "Qwen/Qwen3-1.7B": Shape(2048, 28, 6144, 16, 8, 128, 151936, True),
    "Qwen/Qwen3-4B": Shape(2560, 36, 9728, 32, 8, 128, 151936, True),
    "Qwen/Qwen3-8B": Shape(4096, 36, 12288, 32, 8, 128, 151936, False),
    "Qwen/Qwen3-32B": Shape(5120, 64, 25600, 64, 8, 128, 151936, False),
}


def shape(model: str) -> Shape | None:
    """The sizes of a model: a folder's by its config.json, a default model's from the table; None where they are not known."""
    config = Path(model) / "config.json"
    if not config.is_file():
        return SHAPES.get(model)
    try:
        sizes = json.loads(config.read_text(encoding="utf-8"))
        heads, hidden = sizes["num_attention_heads"], sizes["hidden_size"]
        return Shape(
            *(hidden, sizes["num_hidden_layers"], sizes["intermediate_size"], heads, sizes.get("num_key_value_heads") or heads),
            *(sizes.get("head_dim") or hidden // heads, sizes["vocab_size"], bool(sizes.get("tie_word_embeddings"))),
        )
    except (ValueError, KeyError, TypeError):
        return None


class Need(NamedTuple):
    """Peak memory of a run, in GB."""

    training: dict[str, float]
    """Of each card, by part."""
    sampling: float
    """Of each card while vLLM samples; 0.0 without vLLM in the training process."""
    host: float
    """Of this machine's own memory, for what is set aside in it, or for all of it on a CPU."""
    moving: float = 0.0
    """Of each card while ZeRO-3's shards are gathered, a part of the model at a time, on their way to vLLM; 0.0 where they are not."""

    @property
    def card(self) -> float:
        """The largest of them."""
        return max(sum(self.training.values()), self.sampling, self.moving)


class Cache(NamedTuple):
    """Room that vLLM's share of a card leaves for its cache."""

    share: float
    """GB of the card that are vLLM's."""
    size: float
    """GB of the cache."""
    tokens: int
    rows: float
    """Rows at their longest that it holds at once."""


def need(command: Command, policy: Shape, critic: Shape | None, card: float) -> Need:
    """Count a run. `critic`: PPO's; `card`: a card's whole memory in GB, of which vLLM takes its share.

    rows of prompt + completion tokens at their longest; bf16 weights; gradient checkpointing unless it is switched off.
    """
    full, zero3, zero2 = command.get("tuner_type") == "full", "zero3" in command.get("deepspeed"), "zero2" in command.get("deepspeed")
    shards = command.processes if zero3 else 1
    # bf16 weight, its gradient, and in float32 weight and Adam's two moments; ZeRO-2 shards all but the first.
    trained = 2 + 14 / command.processes if zero2 else 16 / shards
    rows, rank = command.number("per_device_train_batch_size", 1), command.number("lora_rank", 8)
    prompt = command.number("max_length", 2048)
    answer = command.number("max_completion_length", 512) if command.rl else min(_SFT_ANSWER, prompt)
    on_cpu = not command.environment.get("CUDA_VISIBLE_DEVICES", "all")
    # On a card each completion counts with its prompt, as where it must be computed so; what refuses a run there is not to be too low.
    prompts = max(1, rows / _sharing(command)) if on_cpu else rows
    tokens = prompts * prompt + (rows * answer if command.rl else 0)
    layer = tokens * (8 * policy.intermediate + 12 * policy.hidden) * 2
    checkpointing = command.get("gradient_checkpointing", "true") != "false"
    weights = policy.weights * (trained if full else 2 / shards)
    if command.get("quant_bits") == "4":
        embeddings = policy.vocab * policy.hidden * (1 if policy.tied else 2)
        weights = (policy.weights - embeddings) * _FOUR_BITS + embeddings * 2
    parts = {
        "weights": weights,
        "LoRA": 0.0 if full else policy.lora(rank) * trained,
        "gathered layers": _GATHERED * 2 if zero3 else 0.0,
        "kept activations": tokens * policy.layers * policy.hidden * 2 if checkpointing else layer * policy.layers,
        "one layer's own": layer,
        "logits": rows * answer * policy.vocab * 12,
        "CUDA, fragments, vLLM asleep": (2.5 if policy.weights < 5e9 else 3.0 if policy.weights < 16e9 else 4.0) * 1e9,
    }
    if command.rl and full:
        parts["the reference's weights"] = policy.weights * 2 / shards
    if command.rl and command.get("use_vllm", "false") != "true":
        parts["cache of rollouts"] = _AT_ONCE * (prompt + answer) * 4 * policy.layers * policy.kv_heads * policy.head
    beside = 0.0
    if teacher := teacher_of(command):
        # Sharded as the policy is; set aside between its passes where that is asked for.
        shared = teacher.weights * 2 / shards
        parts["teacher"] = shared + rows * answer * teacher.vocab * 4
        beside = 0.0 if command.get("offload_teacher_model") == "true" else shared
    if command.rl == "ppo" and critic:
        beside = critic.headless * (trained if full else 2 / shards) + (0 if full else critic.lora(rank) * trained)
        parts["critic"] = beside + tokens * critic.layers * critic.hidden * 2
        parts["entropy"] = rows * answer * policy.vocab * 8
    training = {name: size / 1e9 for name, size in parts.items() if size}
    vllm = command.get("use_vllm") == "true" and command.get("vllm_mode") == "colocate"
    aside = command.get("offload_model") == "true"
    engine = _VLLM_OWN + (0 if aside else training["weights"] + training.get("LoRA", 0.0) + beside / 1e9)
    sampling = engine + command.number("vllm_gpu_memory_utilization", 0.9) * card if vllm else 0.0
    if on_cpu:
        wider = 1 if command.get("torch_dtype") == "bfloat16" else 2
        beside_it = policy.weights * 2 * wider + 2**30 * float(command.environment.get("VLLM_CPU_KVCACHE_SPACE", 1)) if vllm else 0.0
        return Need({}, 0.0, wider * sum(size for name, size in training.items() if "CUDA" not in name) + beside_it / 1e9 + 1)
    moving = 0.0
    if zero3 and command.get("use_vllm") == "true":
        gathered = policy.weights * 2 / 1e9 / command.number("move_model_batches", 1)
        vllm_share = command.number("vllm_gpu_memory_utilization", 0.9) * card if vllm else 0.0
        moving = training["weights"] + training.get("LoRA", 0.0) + beside / 1e9 + _VLLM_OWN + gathered + vllm_share
    host = (2 * policy.weights + (critic.headless if command.rl == "ppo" and critic else 0)) * 2 / 1e9 + _PROCESSES if vllm and aside else 0
    if teacher and command.get("offload_teacher_model") == "true":
        host = max(host, _PROCESSES) + teacher.weights * 2 / 1e9
    return Need(training, sampling, host, moving)


def _sharing(command: Command) -> float:
    """Completions that share one computed prompt."""
    once = command.variable("OVERTAKE_PROMPT_ONCE", "1") != "0"
    return command.number("num_generations", 8) if command.rl == "grpo" and once else 1


def cache(command: Command, policy: Shape, card: float) -> Cache | None:
    """Return what vLLM's cache holds where it shares the card with the training; None where it does not."""
    if command.get("use_vllm") != "true" or command.get("vllm_mode") != "colocate":
        return None
    split = command.number("vllm_tensor_parallel_size", 1)
    share = command.number("vllm_gpu_memory_utilization", 0.9) * card
    size = share - policy.weights * 2 / 1e9 / split - _VLLM_OWN
    tokens = size * 1e9 / (4 * policy.layers * policy.kv_heads / split * policy.head)
    longest = command.number("max_length", 2048) + command.number("max_completion_length", 512)
    return Cache(share, size, int(tokens), tokens / longest)


def report(command: Command, card: float) -> list[str]:
    """The arithmetic of a run in lines: its parts, their sum, what is held while vLLM samples, and host memory."""
    model = command.get("model")
    policy = shape(model)
    if not policy:
        return [f"the sizes of {model} are not known: name a folder with a config.json, or a default model"]
    critic = critic_of(command, policy)
    parts, vllm = need(command, policy, critic, card), cache(command, policy, card)
    rows = f"{command.get('per_device_train_batch_size')} rows of {command.get('max_length')}"
    head = f"{model}, {rows}{' + ' + command.get('max_completion_length') if command.rl else ''} tokens"
    if not parts.training:
        return [head, f"  {'host memory':<30}{parts.host:>6.1f}"]
    of_card = f" of {card:.1f}"
    lines = [(name, f"{size:.1f}", "") for name, size in parts.training.items()]
    lines.append(("training", f"{sum(parts.training.values()):.1f}", of_card))
    if vllm:
        lines.append(("sampling", f"{parts.sampling:.1f}", of_card))
        cache_line = f" of it the cache {vllm.size:.1f}: {vllm.tokens:,} tokens, {vllm.rows:.0f} rows at once"
        lines.append(("vLLM's share", f"{vllm.share:.1f}", cache_line))
    if parts.moving:
        lines.append(("weights' way to vLLM", f"{parts.moving:.1f}", of_card))
    if parts.host:
        lines.append(("host memory", f"{parts.host:.1f}", ""))
    return [head, *(f"  {name:<30}{size:>6}{rest}" for name, size, rest in lines)]


def critic_of(command: Command, policy: Shape) -> Shape | None:
    """The sizes of PPO's critic: the one that OVERTAKE_CRITIC names, by the command or the environment, else the policy's own base."""
    named = command.variable("OVERTAKE_CRITIC", "")
    return shape(named) if named else policy


def teacher_of(command: Command) -> Shape | None:
    """The sizes of a teacher that is loaded beside the policy; None for none, a served one, and the policy without its adapters."""
    named = command.get("teacher_model")
    if command.rl not in ("grpo", "gkd") or not named:
        return None
    itself = named == command.get("model") and command.get("tuner_type") == "lora" and not command.flags.get("teacher_adapters")
    return None if itself else shape(named)


def card_of(profile: Path) -> float:
    """The memory of a profile's card, by its name or by that of the profile that it builds on; 0.0 where it has none.

    >>> card_of(Path("recipes/profiles/1x24g-4bit.sh")), card_of(Path("cpu.sh"))
    (24.1, 0.0)
    """
    built_on = profile.read_text(encoding="utf-8") if profile.is_file() else ""
    named = re.search(r"[0-9]x([0-9]+)g", profile.stem) or re.search(r"^source .*/[0-9]x([0-9]+)g\.sh", built_on, re.MULTILINE)
    return CARDS.get(int(named[1]), 0.0) if named else 0.0
