"""Measure PPO's rollout, tokens a second and peak memory: ours, TRL's PPOTrainer as it comes, and GRPO's beside, in one run.

    python benchmarks/bench_ppo.py
    python benchmarks/bench_ppo.py --vocabulary 151936 --rows 32 --tokens 48
    python benchmarks/bench_ppo.py --model my/Qwen3 --model-type qwen3 --device gpu --rows 64 --tokens 150

A rollout is all that lies between two updates: completions, log-probabilities of policy and reference, values, advantages (GRPO has no
values). TRL's `generate` keeps the logits of every new token of all rows until then (trl#1900); ms-swift, and so ours, throws them away
and takes log-probabilities anew, --batch rows at a time. All train the same model whole, in float32, with a reference of its own and
the same prompts; every completion has --tokens tokens. Rewards cost nothing in ours; TRL's is a model of the same size.

In each round every trainer runs once, in an order drawn by --seed, as a process of its own: the first rollout is not measured. Memory is
resident memory on a CPU and torch's allocations on a GPU: the peak within rollouts, less what stood before the first. Without --model
it is a Qwen3 of two layers with random weights and a vocabulary large enough that logits outweigh the rest, as in a real one.

Prints a table in Markdown. A benchmark: exit code 0 whatever it finds, 2 when it could not be measured.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from overtake.cli import Abort, positive, run
from overtake.data.tables import BadInput, read_objects
from tqdm import tqdm

KINDS = {"trl": "TRL PPOTrainer", "ppo": "ours, PPO", "grpo": "GRPO"}
_MIB = 2**20


# ---------------------------------------------------------------- statistics


def report(rollouts: Sequence[Mapping[str, Any]]) -> str:
    """The table: medians over all measured rollouts with their range, and ratios of medians to TRL's.

    >>> one = {"seconds": 2.0, "tokens": 100, "peak": 300 * 2**20, "before": 100 * 2**20}
    >>> print(report([{"kind": "trl"} | one, {"kind": "ppo"} | one | {"seconds": 1.0}]).splitlines()[3])
    | ours, PPO | 100 [100, 100] | 2.00 | 200 [200, 200] | 1.00 |
    """

    def show(values: Sequence[float]) -> str:
        return f"{statistics.median(values):,.0f} [{min(values):,.0f}, {max(values):,.0f}]"

    speed = {kind: [rollout["tokens"] / rollout["seconds"] for rollout in rollouts if rollout["kind"] == kind] for kind in KINDS}
    memory = {kind: [(rollout["peak"] - rollout["before"]) / _MIB for rollout in rollouts if rollout["kind"] == kind] for kind in KINDS}
    lines = ["| trainer | rollout, tokens/s | x TRL | peak memory of a rollout, MiB | x TRL |", "|---|---|---|---|---|"]
    for kind in KINDS:
        if speed[kind]:
            faster = statistics.median(speed[kind]) / statistics.median(speed["trl"])
            larger = statistics.median(memory[kind]) / max(statistics.median(memory["trl"]), 1e-9)
            lines.append(f"| {KINDS[kind]} | {show(speed[kind])} | {faster:.2f} | {show(memory[kind])} | {larger:.2f} |")
    return "\n".join(lines)


# ---------------------------------------------------------------- inside a measured process


class Clock:
    """Writes what each rollout took; memory is asked of the GPU where there is one."""

    def __init__(self, kind: str, plan: Mapping[str, Any], file: Path) -> None:
        self.kind, self.plan, self.file = kind, plan, file
        self.count = 0
        self.standing: int | None = None
        self.begun = 0.0

    def begin(self) -> None:
        """A rollout begins."""
        if self.standing is None:
            self.standing = self._memory("now")
        self._forget_peak()
        self.begun = time.perf_counter()

    def end(self) -> None:
        """It has ended; the first one is left out."""
        if self.plan["device"] == "gpu":
            import torch

            torch.cuda.synchronize()
        seconds = time.perf_counter() - self.begun
        row = {"kind": self.kind, "seconds": seconds, "tokens": self.plan["rows"] * self.plan["tokens"]}
        row |= {"peak": self._memory("peak"), "before": self.standing}
        if self.count:
            with self.file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        self.count += 1

    def _memory(self, which: str) -> int:
        if self.plan["device"] == "gpu":
            import torch

            return int(torch.cuda.memory_allocated() if which == "now" else torch.cuda.max_memory_allocated())
        name = {"now": "VmRSS:", "peak": "VmHWM:"}[which]
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

    def _forget_peak(self) -> None:
        if self.plan["device"] == "gpu":
            import torch

            torch.cuda.reset_peak_memory_stats()
        else:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def measured(kind: str, folder: str) -> None:
    """Train by this trainer as plan.json says, with a clock on its rollouts."""
    plan = json.loads((Path(folder) / "plan.json").read_text(encoding="utf-8"))
    clock = Clock(kind, plan, Path(folder) / "rollouts.jsonl")
    if plan["threads"]:
        import torch

        torch.set_num_threads(plan["threads"])
    (_trl if kind == "trl" else _swift)(plan, clock, Path(folder))


def _swift(plan: Mapping[str, Any], clock: Clock, folder: Path) -> None:
    import overtake
    from overtake.trainers import grpo, ppo
    from swift.pipelines import rlhf_main
    from swift.rewards import orms

    class Nothing:
        def __init__(self, *_: Any, **__: Any) -> None: ...

        def __call__(self, completions: Sequence[str], **_: Any) -> list[float]:
            return [float(len(text) % 7) for text in completions]

    overtake.register()
    orms["nothing"] = Nothing
    trainer = grpo.GRPOTrainer if clock.kind == "grpo" else ppo.PPOTrainer
    whole: Callable[..., Any] = trainer._generate_and_score_completions

    def timed(self: Any, inputs: Any) -> Any:
        self.engine.generation_config.suppress_tokens = self.processing_class.all_special_ids
        clock.begin()
        batches = whole(self, inputs)
        clock.end()
        lengths = {int(length) for batch in batches for length in batch["grpo_batch"].completion_mask.sum(1)}
        if lengths != {plan["tokens"]}:
            raise SystemExit(f"completions of {sorted(lengths)} tokens instead of {plan['tokens']}")
        return batches

    trainer._generate_and_score_completions = timed
    size = plan["rows"] // plan["batch"]
    own = {"ppo": ["--num_generations", "1", "--num_ppo_epochs", "1"], "grpo": ["--num_generations", "2", "--beta", "0.04"]}[clock.kind]
    own += ["--use_cpu", "true"] if plan["device"] == "cpu" else []
    flags = ["--rlhf_type", clock.kind, "--model", plan["model"], "--model_type", plan["model_type"], "--template", plan["template"]]
    flags += ["--tuner_type", "full", "--torch_dtype", "float32", "--fp16", "false", "--bf16", "false", "--check_model", "false"]
    flags += ["--dataset", str(folder / "rows.jsonl"), "--output_dir", str(folder / "run"), "--reward_funcs", "nothing"]
    flags += ["--max_completion_length", str(plan["tokens"]), "--max_length", "4096", "--temperature", "1.0", "--learning_rate", "0"]
    flags += ["--per_device_train_batch_size", str(plan["batch"]), "--gradient_accumulation_steps", str(size), "--report_to", "none"]
    flags += ["--max_steps", str(plan["rollouts"] + 1), "--save_strategy", "no", "--eval_strategy", "no", "--dataset_shuffle", "false"]
    flags += ["--gradient_checkpointing", "false", "--dataloader_num_workers", "0", "--truncation_strategy", "left"]
    rlhf_main([*flags, *own])


def _trl(plan: Mapping[str, Any], clock: Clock, folder: Path) -> None:
    import torch
    from swift.model import get_processor
    from swift.template import get_template
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification
    from trl.experimental import ppo as stock
    from trl.experimental.ppo import ppo_trainer as module

    processor = get_processor(plan["model"], model_type=plan["model_type"])
    template = get_template(processor, template_type=plan["template"])
    template.set_mode("transformers")
    rows = [row["messages"] for row in read_objects(folder / "rows.jsonl")]
    ids: Any = [{"input_ids": template.encode({"messages": messages})["input_ids"]} for messages in rows]
    tokenizer = template.tokenizer
    tokenizer.padding_side = "left"
    models = [AutoModelForCausalLM.from_pretrained(plan["model"], dtype=torch.float32) for _ in range(2)]
    heads = [AutoModelForSequenceClassification.from_pretrained(plan["model"], num_labels=1, dtype=torch.float32) for _ in range(2)]
    for head in heads:
        head.config.pad_token_id = tokenizer.pad_token_id
    generate, whiten = module.batch_generation, module.masked_whiten

    def first(*args: Any, **kwargs: Any) -> Any:
        clock.begin()
        return generate(*args, **kwargs)

    def last(values: Any, mask: Any, shift_mean: bool = True) -> Any:
        advantages = whiten(values, mask, shift_mean)
        clock.end()
        return advantages

    # The first and the last thing that a rollout does.
    module.batch_generation, module.masked_whiten = first, last
    config = stock.PPOConfig(
        output_dir=str(folder / "trl"),
        per_device_train_batch_size=plan["batch"],
        gradient_accumulation_steps=plan["rows"] // plan["batch"],
        num_mini_batches=1,
        num_ppo_epochs=1,
        total_episodes=plan["rows"] * (plan["rollouts"] + 1),
        response_length=plan["tokens"],
        temperature=1.0,
        learning_rate=0.0,
        num_sample_generations=0,
        save_strategy="no",
        report_to="none",
        use_cpu=plan["device"] == "cpu",
        bf16=False,
        gradient_checkpointing=False,
    )
    trainer = stock.PPOTrainer(
        args=config,
        processing_class=tokenizer,
        model=models[0],
        ref_model=models[1],
        reward_model=heads[0],
        value_model=heads[1],
        train_dataset=ids,
        eval_dataset=ids[:1],
    )
    trainer.train()


# ---------------------------------------------------------------- the run


def make_model(folder: Path, vocabulary: int) -> None:
    """A Qwen3 of two layers with random weights, and a tokenizer of so many words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<unk>", *(f"w{number}" for number in range(vocabulary - 4))]
    words = Tokenizer(models.WordLevel({name: place for place, name in enumerate(names)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token="<|im_end|>", pad_token="<|endoftext|>", unk_token="<unk>", extra_special_tokens=["<|im_start|>"]
    ).save_pretrained(folder)
    torch.manual_seed(0)
    size: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 2, "head_dim": 16}
    size |= {"num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True, "dtype": "float32"}
    config = Qwen3Config(vocab_size=vocabulary, eos_token_id=2, pad_token_id=0, **size)
    Qwen3ForCausalLM(config).save_pretrained(folder)


def measure(options: argparse.Namespace, folder: Path) -> list[dict[str, Any]]:
    """Run every trainer in every round; returns the measured rollouts. Raises Abort when one fails."""
    drawn = random.Random(options.seed)
    count = options.rows * (options.rollouts + 1)
    prompts = [" ".join(f"w{drawn.randrange(1000)}" for _ in range(options.prompt)) for _ in range(count)]
    rows = [{"messages": [{"role": "user", "content": prompt}]} for prompt in prompts]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    model = options.model
    if not model:
        model = str(folder / "model")
        make_model(Path(model), options.vocabulary)
    plan = {name: getattr(options, name) for name in ("rows", "tokens", "batch", "rollouts", "device", "model_type", "threads")}
    (folder / "plan.json").write_text(json.dumps(plan | {"model": model, "template": options.model_type}), encoding="utf-8")
    here = str(Path(__file__).parent)
    env = {name: value for name, value in os.environ.items() if not name.startswith("OVERTAKE_")}
    env |= {"TOKENIZERS_PARALLELISM": "false", "VLLM_PLUGINS": "none", "TRL_EXPERIMENTAL_SILENCE": "1"}
    env |= {"CUDA_VISIBLE_DEVICES": ""} if options.device == "cpu" else {}
    runs = [kind for _ in range(options.rounds) for kind in drawn.sample(list(KINDS), len(KINDS))]
    for number, kind in enumerate(tqdm(runs, desc="training", unit="run", file=sys.stderr)):
        code = f"import sys; sys.path.insert(0, {here!r}); import bench_ppo; bench_ppo.measured({kind!r}, {str(folder)!r})"
        log = folder / f"{number}-{kind}.log"
        with log.open("w") as file:
            done = subprocess.run([sys.executable, "-c", code], env=env, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)
        if done.returncode:
            raise Abort(f"the run of {KINDS[kind]} failed: {' '.join(log.read_text('utf-8', errors='replace')[-600:].split())}")
    return list(read_objects(folder / "rollouts.jsonl"))


def bench(options: argparse.Namespace) -> int:
    """Measure and print."""
    if options.rows % options.batch or options.rows % 2:
        raise BadInput(f"--rows is {options.rows}: give an even multiple of --batch {options.batch}")
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="bench_ppo_") as folder:
        rollouts = measure(options, Path(folder))
    model = options.model or f"Qwen3 of two layers, {options.vocabulary:,} tokens (random weights)"
    print(
        f"{model}; {options.rows} completions of {options.tokens} tokens after prompts of some {options.prompt}, {options.batch} rows a "
        f"batch; {options.rounds} rounds of {options.rollouts} rollouts\n{os.cpu_count()} cores, load {load:.1f} before it began: others' "
        "work, if any",
        report(rollouts),
        sep="\n\n",
    )
    return 0


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="folder or hub name; else a tiny Qwen3 is made")
    parser.add_argument("--model-type", default="qwen3", help="ms-swift's name of its kind and template (default qwen3)")
    parser.add_argument("--device", choices=["cpu", "gpu"], default="cpu", help="where it is measured (default cpu)")
    parser.add_argument("--vocabulary", type=positive, default=32_768, help="tokens of the tiny model (default 32768)")
    parser.add_argument("--rows", type=positive, default=32, help="completions of a rollout (default 32)")
    parser.add_argument("--tokens", type=positive, default=64, help="new tokens of each (default 64)")
    parser.add_argument("--prompt", type=positive, default=32, help="words of a prompt (default 32)")
    parser.add_argument("--batch", type=positive, default=4, help="rows of which log-probabilities are taken at once (default 4)")
    parser.add_argument("--rollouts", type=positive, default=3, help="measured in each run (default 3)")
    parser.add_argument("--rounds", type=positive, default=3, help="runs of each trainer (default 3)")
    parser.add_argument("--threads", type=int, default=0, help="of torch in each run; 0: its own choice")
    parser.add_argument("--seed", type=int, default=0, help="of prompts and order")
    options = parser.parse_args(argv)
    return run(lambda: bench(options))


if __name__ == "__main__":
    sys.exit(main())
