"""Measure what it saves to compute a group's prompt once and nothing for nothing: against ms-swift's own trainer, the ways interleaved.

    python benchmarks/bench_prompt_once.py step --model ~/.cache/overtake-models/Qwen2.5-Coder-0.5B-Instruct
    python benchmarks/bench_prompt_once.py step --model quickstart -- --use_vllm false
    python benchmarks/bench_prompt_once.py cells --model ~/.cache/overtake-models/SmolLM2-135M-Instruct --layers 6

`step` is one real run of recipes/grpo_rag.sh with PROFILE=cpu-vllm. In each round there is one step of every way, in an order drawn by
--seed, on the same questions; each samples for itself, and then all train on what the round's first step wrote, so the work is the same:

    A        ms-swift's trainer as it is, beta 0.04: old, reference and training
    A once   the same with the prompt once, no old log-probabilities, batches by length
    B        ms-swift's with the old log-probabilities left out and beta 0: training alone
    B once   the same with the prompt once, batches by length

`cells` times forward and backward of one group for each of --groups x --prompts x --completions, with gradient checkpointing unless
--no-checkpointing, and says where the prompt once stops paying.

Seconds are by the clock, and in brackets this process's on the cores (of all its threads), which other work on the machine does not
lengthen. Memory is the most that the process held during the part, less what it held before. Prints Markdown. Exit code 0
whatever is found, 2 when it could not be measured.
"""

import argparse
import ctypes
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

from overtake.cli import Abort, positive, run
from overtake.data.tables import BadInput, json_lines

# Loaded by its path, a script finds no sibling by itself.
sys.path.insert(0, str(Path(__file__).parent))
from bench_grpo import ROOT, SAMPLE, read_lines, rows, train

WAYS = ("A", "A once", "B", "B once")
PARTS = ("generation", "old", "reference", "training")
GROUP = 8
AIMS = {"A": (3.0, 2.2), "B": (2.4, 1.8)}
"""Of training and log-probabilities, and of the whole step."""
FAMILIES = {"LlamaForCausalLM": ("llama", "chatml"), "Qwen2ForCausalLM": ("qwen2", "qwen2_5"), "Qwen3ForCausalLM": ("qwen3", "qwen3")}


# ---------------------------------------------------------------- a meter


def resident(field: str) -> float:
    """MB that the process holds (VmRSS) or held at most since `forget_peak` (VmHWM)."""
    match = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    if match is None:
        raise Abort(f"/proc/self/status names no {field}: memory can be measured on Linux only")
    return int(match[1]) / 1024


def forget_peak() -> None:
    """Give back what was freed, and let VmHWM begin anew."""
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


@contextmanager
def metered(into: dict[str, dict[str, float]], part: str) -> Iterator[None]:
    """Add what the block takes to into[part]: seconds, cpu (seconds) and mb (the most of all blocks)."""
    forget_peak()
    held, clock, cores = resident("VmRSS"), time.perf_counter(), time.process_time()
    yield
    total = into.setdefault(part, {"seconds": 0.0, "cpu": 0.0, "mb": 0.0})
    total["seconds"] += time.perf_counter() - clock
    total["cpu"] += time.process_time() - cores
    total["mb"] = max(total["mb"], resident("VmHWM") - held)


# ---------------------------------------------------------------- cells


def group_of(size: int, prompt: int, completion: int, words: int, seed: int) -> tuple[Any, Any, Any]:
    """(input_ids, attention_mask, completion mask) of a group of random tokens, completions of half to the whole length."""
    import torch

    drawn = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, words, (size, prompt + completion), generator=drawn)
    ids[:, :prompt] = ids[0, :prompt]
    lengths = torch.randint(max(1, completion // 2), completion + 1, (size, 1), generator=drawn)
    lengths[0] = completion
    attended = torch.arange(prompt + completion) < prompt + lengths
    return ids * attended, attended.long(), attended[:, prompt:]


def one_cell(model: Any, size: int, prompt: int, completion: int, rounds: int) -> dict[str, dict[str, float]]:
    """Return what forward and backward of one group take, by way: medians over the rounds, in which the ways take turns."""
    import torch
    from overtake.trainers import prompt_once
    from swift.rlhf_trainers import GRPOTrainer as SwiftGRPOTrainer

    ids, attended, mask = group_of(size, prompt, completion, model.config.vocab_size, seed=size)
    asked = SimpleNamespace(temperature=1.0, model_kwarg_keys={"use_cache", "logits_to_keep"}, template=SimpleNamespace(padding_free=False))

    def plain() -> Any:
        given = {"input_ids": ids, "attention_mask": attended}
        return SwiftGRPOTrainer._get_logps_via_local_forward(asked, model, given, mask.shape[1], ids)[0]

    def once() -> Any:
        packed = prompt_once.pack(ids, attended, mask)
        return prompt_once.log_probabilities(model, packed, 1.0, torch.zeros(mask.shape))[0]

    by_way: dict[str, list[dict[str, float]]] = {"plain": [], "once": []}
    for _ in range(rounds):
        for way, taken in (("plain", plain), ("once", once)):
            model.zero_grad()
            meter: dict[str, dict[str, float]] = {}
            with metered(meter, way):
                (taken() * mask).sum().backward()
            by_way[way].append(meter[way])
    return {way: {name: median(timing[name] for timing in each) for name in each[0]} for way, each in by_way.items()}


def cells(options: argparse.Namespace) -> int:
    """Measure and print the table of cells."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(options.model)
    if options.layers:
        config.num_hidden_layers = options.layers
    dtype = getattr(torch, options.dtype)
    model = AutoModelForCausalLM.from_pretrained(options.model, config=config, dtype=dtype, attn_implementation="sdpa").train()
    if options.checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    print(
        f"{Path(options.model).name}, {config.num_hidden_layers} layers, {options.dtype}, all weights trained, gradient checkpointing "
        f"{'on' if options.checkpointing else 'off'}; {options.rounds} rounds; {where()}\n",
    )
    print("| group | prompt | completion | tokens, plain -> once | plain, s | once, s | x faster | plain, MB | once, MB |")
    print("|---|---|---|---|---|---|---|---|---|")
    one_cell(model, 2, 16, 16, 1)
    for size, prompt, completion in product(options.groups, options.prompts, options.completions):
        measured = one_cell(model, size, prompt, completion, options.rounds)
        _, attended, mask = group_of(size, prompt, completion, 10, seed=size)
        packed = prompt + int(mask.sum()) - size
        plain, once = measured["plain"], measured["once"]
        print(
            f"| {size} | {prompt} | {completion} | {attended.numel()} -> {packed} | {shown(plain)} | {shown(once)} | "
            f"**{plain['cpu'] / once['cpu']:.2f}** | {plain['mb']:.0f} | {once['mb']:.0f} |",
            flush=True,
        )
    return 0


def where() -> str:
    """The machine, in words."""
    import torch

    return f"{torch.get_num_threads()} threads of {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} when it began"


def shown(taken: Mapping[str, float]) -> str:
    """Seconds by the clock, those on the cores in brackets."""
    return f"{taken['seconds']:.2f} ({taken['cpu']:.2f})"


# ---------------------------------------------------------------- steps: inside the training process

PLUGIN = """\
import sys

sys.path.insert(0, {tools!r})
import bench_prompt_once

bench_prompt_once.register({folder!r})
"""


def register(folder: str) -> None:
    """Put a trainer that takes the ways in turn in the place of ours; called by the plugin that `step` writes."""
    import overtake
    from overtake.trainers import grpo
    from swift.callbacks import callbacks_map
    from swift.rewards import orms

    overtake.register()
    orms["bench_length"] = Length
    callbacks_map["bench_prompt_once"] = lambda args, trainer: clock(Path(folder), trainer)
    grpo.GRPOTrainer = taking_turns(grpo.GRPOTrainer)


class Length:
    """A reward that costs nothing and differs within a group."""

    def __init__(self, args: Any = None, **_: Any) -> None:
        pass

    def __call__(self, completions: Sequence[str], **columns: Any) -> list[float]:
        """A hundredth of the number of different characters."""
        return [len(set(text)) / 100 for text in completions]


def taking_turns(trainer: type) -> type:
    """The trainer, which goes the way that `self.way` names, meters its parts and trains all ways of a round on the same completions."""

    class Turns(trainer):  # type: ignore[misc, valid-type]
        way, parts, written, part = "A", {}, None, "old"

        def _generate_completions(self, samples: Any) -> Any:
            """Write, and go on with what the round's first step wrote."""
            with metered(self.parts, "generation"):
                samples = super()._generate_completions(samples)
            kept = ("response_token_ids", "rollout_logprobs", "finish_reason")
            if self.written is None:
                Turns.written = [[getattr(sample, name) for name in kept] + [sample.messages[-1]] for sample in samples]
            for drawn, (*values, reply) in zip(samples, self.written, strict=True):
                drawn.__dict__.update(zip(kept, values, strict=True))
                drawn.messages[-1] = dict(reply)
            return samples

        def _prepare_batch_inputs(self, samples: Any) -> Any:
            self.beta = 0.04 if self.way.startswith("A") else 0.0
            self._prompt_once = self.way.endswith("once")
            return super()._prepare_batch_inputs(samples)

        def _needs_old(self, samples: Any) -> bool:
            return self.way == "A"

        def _by_length(self, samples: Any) -> Any:
            return super()._by_length(samples) if self._prompt_once else None

        def null_ref_context(self) -> Any:
            """Context in which log-probabilities are the reference's."""
            return metered_context(super().null_ref_context(), self)

        def _get_per_token_logps_and_entropies_single(self, *args: Any, **kwargs: Any) -> Any:
            import torch

            if torch.is_grad_enabled():
                return super()._get_per_token_logps_and_entropies_single(*args, **kwargs)
            with metered(self.parts, self.part):
                return super()._get_per_token_logps_and_entropies_single(*args, **kwargs)

        def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
            """Begin the part of training; backward comes right after, and the callback ends it."""
            Turns.training = metered(self.parts, "training")
            self.training.__enter__()
            return super().compute_loss(*args, **kwargs)

    return Turns


@contextmanager
def metered_context(context: Any, trainer: Any) -> Iterator[None]:
    """The context, in which log-probabilities are the reference's."""
    with context:
        trainer.part = "reference"
        try:
            yield
        finally:
            trainer.part = "old"


def clock(folder: Path, trainer: Any) -> Any:
    """The callback that sets each step's way as plan.json says, and writes what it took into steps.jsonl."""
    from transformers import TrainerCallback

    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))

    class Clock(TrainerCallback):
        step: dict[str, Any] | None = None
        begun = (0.0, 0.0)

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if not args.use_vllm:
                trainer.engine.generation_config.suppress_tokens = trainer.processing_class.all_special_ids

        def on_pre_optimizer_step(self, *_: Any, **__: Any) -> None:
            trainer.training.__exit__(None, None, None)

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            clock, cores = time.perf_counter(), time.process_time()
            if self.step:
                tokens = sum(len(ids) if isinstance(ids, list) else 1 for part in trainer.written for ids in part[0])
                row = {
                    **self.step,
                    "seconds": clock - self.begun[0],
                    "cpu": cores - self.begun[1],
                    "parts": trainer.parts,
                    "tokens": tokens,
                }
                with (folder / "steps.jsonl").open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
            # One step more than is measured, whose beginning is the end of the last.
            self.step = plan[state.global_step] if state.global_step < len(plan) else None
            trainer.way, trainer.parts = self.step["way"] if self.step else "B once", {}
            if self.step and self.step["first"]:
                type(trainer).written = None
            self.begun = (time.perf_counter(), time.process_time())

    return Clock()


# ---------------------------------------------------------------- steps: the run


def order(rounds: int, seed: int) -> list[dict[str, Any]]:
    """The steps of a run: {"round", "way", "first"}, each way once a round in random order; one step, of round -1, warms up.

    >>> [step["first"] for step in order(1, seed=0)]
    [True, True, False, False, False]
    """
    drawn = random.Random(seed)
    turns = [(number, place, way) for number in range(rounds) for place, way in enumerate(drawn.sample(WAYS, len(WAYS)))]
    return [{"round": number, "way": way, "first": not place} for number, place, way in [(-1, 0, WAYS[-1]), *turns]]


def report(steps: Sequence[Mapping[str, Any]]) -> str:
    """The table, and for each baseline what was gained against the aim: medians of the rounds' ratios."""
    rounds = sorted({step["round"] for step in steps if step["round"] >= 0})
    of = {(step["round"], step["way"]): step for step in steps}
    empty = {"seconds": 0.0, "cpu": 0.0, "mb": 0.0}

    def part(way: str, name: str, field: str) -> float:
        return median(of[number, way]["parts"].get(name, empty)[field] for number in rounds)

    def trained(step: Mapping[str, Any], field: str) -> float:
        return sum(cost[field] for name, cost in step["parts"].items() if name != "generation")

    lines = [
        "| way | step, s | generation, s | old, s | reference, s | training, s | tokens/s, trained | MB, log-probabilities | training |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for way in WAYS:
        whole = {field: median(of[number, way][field] for number in rounds) for field in ("seconds", "cpu")}
        rate = median(of[number, way]["tokens"] / trained(of[number, way], "seconds") for number in rounds)
        each = [shown({field: part(way, name, field) for field in ("seconds", "cpu")}) for name in PARTS]
        memory = [max(part(way, name, "mb") for name in ("old", "reference")), part(way, "training", "mb")]
        lines.append(f"| {way} | {shown(whole)} | {' | '.join(each)} | {rate:.0f} | {memory[0]:.0f} | {memory[1]:.0f} |")
    lines.append("")
    for way, (aim, aim_whole) in AIMS.items():
        for name, target, value in (
            ("training and log-probabilities", aim, trained),
            ("the whole step", aim_whole, lambda step, field: step[field]),
        ):
            gains = [
                median(value(of[number, way], field) / value(of[number, f"{way} once"], field) for number in rounds)
                for field in ("cpu", "seconds")
            ]
            lines.append(f"{way}: {name} x {gains[0]:.2f} on the cores, x {gains[1]:.2f} by the clock; aim {target:g}")
    return "\n".join(lines)


def step(options: argparse.Namespace) -> int:
    """Run, measure and print."""
    if options.completions % GROUP:
        raise BadInput(f"--completions is {options.completions}: give a multiple of {GROUP}, whole groups")
    python, load = sys.executable, where()
    with tempfile.TemporaryDirectory(prefix="bench_prompt_once_") as name:
        folder = Path(name)
        model = options.model
        if model == "quickstart":
            model = str(folder / "model")
            student = [
                python,
                "-m",
                "demo.tiny_students.tiny_model",
                model,
                "--corpus",
                str(SAMPLE),
                "--tenant",
                SAMPLE.name,
                "--steps",
                "0",
            ]
            subprocess.run(student, check=True, stdout=sys.stderr)
        config = json.loads((Path(model) / "config.json").read_text(encoding="utf-8"))
        model_type, template = FAMILIES[config["architectures"][0]]
        plan = order(options.rounds, options.seed)
        (folder / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
        (folder / "plugin.py").write_text(PLUGIN.format(tools=str(Path(__file__).parent), folder=name), encoding="utf-8")
        count = options.completions // GROUP
        questions = list(rows())
        asked = []
        for entry in plan:
            start = (entry["round"] + 1) * count % (len(questions) - count)
            asked += questions[start : start + count]
        asked += questions[:count]  # of the step that ends the last one measured
        (folder / "rows.jsonl").write_bytes(json_lines(asked))
        env = {key: value for key, value in os.environ.items() if not key.startswith("OVERTAKE_")}
        env |= {"PATH": f"{Path(python).parent}:{env['PATH']}", "OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false"}
        env |= {"PROFILE": "cpu-vllm", "SFT_ADAPTER": "none", "MODEL": model, "DOCTOR": "0", "OUTPUT_DIR": str(folder / "run")}
        env |= {"DATASET": str(folder / "rows.jsonl"), "OVERTAKE_CACHE_DIR": str(folder / "cache")}
        flags = ["--external_plugins", str(folder / "plugin.py"), "--callbacks", "bench_prompt_once"]
        flags += ["--reward_funcs", "bench_length", "--reward_weights", "1", "--model_type", model_type, "--template", template]
        flags += ["--dataset_shuffle", "false", "--train_dataloader_shuffle", "false", "--torch_dtype", options.dtype]
        flags += ["--per_device_train_batch_size", str(options.completions), "--gradient_accumulation_steps", "1"]
        flags += ["--max_steps", str(len(plan) + 1), "--num_generations", str(GROUP), "--temperature", "1.0", "--top_p", "1.0"]
        flags += ["--max_completion_length", str(options.length), "--max_length", "1024", "--truncation_strategy", "left"]
        flags += ["--vllm_max_model_len", str(1024 + options.length)]
        flags += ["--eval_strategy", "no", "--save_strategy", "no"]
        train(["bash", str(ROOT / "recipes/grpo_rag.sh"), *flags, *options.flags], env, folder, len(plan))
        recorded = read_lines(folder / "steps.jsonl")
        logged = [line for line in read_lines(folder / "run/logging.jsonl") if "completions/mean_length" in line]
        print(
            f"{Path(options.model).name}, {options.dtype}, LoRA on all linear layers, {options.completions} completions in groups of "
            f"{GROUP}, {median(line['completions/mean_length'] for line in logged):.0f} tokens long at the median; "
            f"{options.rounds} rounds after a step to warm up; {load}\n\n{report(recorded)}"
        )
    return 0


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="kind", required=True)
    steps = kinds.add_parser("step", help="whole steps of a real run, four ways in turn")
    steps.add_argument("--completions", type=positive, default=32, help="of a step, whole groups of 8 (default %(default)s)")
    steps.add_argument("--length", type=positive, default=32, help="most tokens of a completion (default %(default)s)")
    steps.add_argument("--seed", type=int, default=0, help="of the order of steps (default %(default)s)")
    steps.add_argument("flags", nargs="*", metavar="-- FLAG", help="for the recipe, e.g. -- --gradient_checkpointing true")
    table = kinds.add_parser("cells", help="one group, forward and backward, by its size and lengths")
    table.add_argument("--groups", type=positive, nargs="+", default=[2, 8, 32])
    table.add_argument("--prompts", type=positive, nargs="+", default=[64, 512])
    table.add_argument("--completions", type=positive, nargs="+", default=[32, 256])
    table.add_argument("--layers", type=positive, help="of the model's, the first so many (default: all)")
    table.add_argument("--checkpointing", action=argparse.BooleanOptionalAction, default=True)
    for command, rounds in ((steps, 3), (table, 1)):
        command.add_argument(
            "--model", required=True, help="a model's folder; `step` also takes quickstart: its student, with random weights"
        )
        command.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
        command.add_argument("--rounds", type=positive, default=rounds, help="measured (default %(default)s)")
    options = parser.parse_args(argv)
    return run(lambda: step(options) if options.kind == "step" else cells(options))


if __name__ == "__main__":
    sys.exit(main())
