"""Measure how long parts of one decoding step take on this CPU: as vLLM does them, and as rollouts here do.

    python benchmarks/bench_on_cpu.py                       # the shapes of Qwen2.5-0.5B, 2 GB of random weights in float32
    python benchmarks/bench_on_cpu.py --rows 8 32 --rounds 9

A decoding step has one row for each rollout under way. Products: every matrix of the model in float32, by vLLM where it must not pack its
weights, and by ours. Top-p: the nucleus of 0.9, by sorting the vocabulary and out of the likeliest tokens. Both ways take turns; prints a
table in Markdown: milliseconds a step (median, lowest and highest) and the ratio of medians. Exit code 0.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch
from overtake.cli import positive, run
from overtake.trainers.on_cpu import nuclei, product
from torch import Tensor
from torch.nn.functional import linear

HIDDEN, INNER, KEYS_AND_VALUES, WORDS, LAYERS = 896, 4864, 256, 151936, 24
"""Qwen2.5-0.5B's."""


def weights() -> list[Tensor]:
    """Every matrix that a token is multiplied by."""
    layer = [(HIDDEN + KEYS_AND_VALUES, HIDDEN), (HIDDEN, HIDDEN), (2 * INNER, HIDDEN), (HIDDEN, INNER)]
    return [torch.randn(shape) for shape in [*layer * LAYERS, (WORDS, HIDDEN)]]


def compared(ways: dict[str, Callable[[], object]], rounds: int) -> str:
    """Cells of a line: milliseconds of each way, and how many times longer the first took."""
    took: dict[str, list[float]] = {name: [] for name in ways}
    for at in range(rounds + 1):
        for name, way in ways.items():
            begun = time.perf_counter()
            way()
            if at:  # the first touches the memory
                took[name].append(1000 * (time.perf_counter() - begun))
    first, second = (statistics.median(values) for values in took.values())
    cells = [f"{statistics.median(values):.0f} [{min(values):.0f}, {max(values):.0f}]" for values in took.values()]
    return f"| {' | '.join(cells)} | {first / second:.2f} |"


@torch.no_grad()
def work(args: argparse.Namespace) -> int:
    """Print the table; 0."""
    from vllm.v1.sample.ops.topk_topp_sampler import apply_top_k_top_p_pytorch as by_sorting

    matrices = weights()

    def multiply(how: Callable[[Tensor, Tensor], Tensor], count: int) -> Callable[[], object]:
        inputs = {width: torch.randn(count, width) for width in (HIDDEN, INNER)}
        return lambda: [how(inputs[weight.shape[1]], weight) for weight in matrices]

    def cut(how: Callable[..., Tensor], count: int) -> Callable[[], object]:
        # Words as frequent as Zipf's: some sixty of them hold nine tenths.
        logits, p = -1.5 * torch.stack([torch.randperm(WORDS) + 1.0 for _ in range(count)]).log(), torch.full((count,), 0.9)
        return lambda: how(logits.clone(), None, p)

    print("| part | rows | vLLM, ms a step | ours | ratio |\n|---|---|---|---|---|")
    for part, prepare, theirs, ours in (("products", multiply, linear, product), ("top-p", cut, by_sorting, partial(nuclei, by_sorting))):
        for count in args.rows:
            cells = compared({"vLLM": prepare(theirs, count), "ours": prepare(ours, count)}, args.rounds)
            print(f"| {part} | {count} {cells}", flush=True)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; 0, or 2 for bad input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--rows", type=positive, nargs="+", default=[1, 8, 32, 64, 128, 256], metavar="N", help="rollouts under way")
    parser.add_argument("--rounds", type=positive, default=7, help="(default: %(default)s)")
    args = parser.parse_args(argv)
    return run(lambda: work(args))


if __name__ == "__main__":
    sys.exit(main())
