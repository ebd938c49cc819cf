"""Measure how long the products of one decoding step take on this CPU: as vLLM without packed weights does them, and as rollouts here do.

    python benchmarks/bench_on_cpu.py                       # the shapes of Qwen2.5-0.5B, 2 GB of random weights in float32
    python benchmarks/bench_on_cpu.py --rows 8 32 --rounds 9

A decoding step has one row for each rollout under way. Both ways take turns; prints a table in Markdown: milliseconds a step (median,
lowest and highest) and the ratio of medians. Exit code 0.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Sequence

import torch
from overtake.cli import positive, run
from overtake.trainers.on_cpu import product
from torch.nn.functional import linear

HIDDEN, INNER, KEYS_AND_VALUES, WORDS, LAYERS = 896, 4864, 256, 151936, 24
"""Qwen2.5-0.5B's."""
WAYS = {"rows x weight": linear, "ours": product}


def weights() -> list[torch.Tensor]:
    """Every matrix that a token is multiplied by."""
    layer = [(HIDDEN + KEYS_AND_VALUES, HIDDEN), (HIDDEN, HIDDEN), (2 * INNER, HIDDEN), (HIDDEN, INNER)]
    return [torch.randn(shape) for shape in [*layer * LAYERS, (WORDS, HIDDEN)]]


@torch.no_grad()
def work(args: argparse.Namespace) -> int:
    """Print the table; 0."""
    matrices = weights()
    print("| rows | rows x weight, ms a step | ours | ratio |\n|---|---|---|---|")
    for count in args.rows:
        inputs = {width: torch.randn(count, width) for width in (HIDDEN, INNER)}
        took: dict[str, list[float]] = {name: [] for name in WAYS}
        for at in range(args.rounds + 1):
            for name, multiply in WAYS.items():
                begun = time.perf_counter()
                for weight in matrices:
                    multiply(inputs[weight.shape[1]], weight)
                if at:  # the first touches the memory
                    took[name].append(1000 * (time.perf_counter() - begun))
        middle = {name: statistics.median(values) for name, values in took.items()}
        cells = [f"{middle[name]:.0f} [{min(values):.0f}, {max(values):.0f}]" for name, values in took.items()]
        print(f"| {count} | {' | '.join(cells)} | {middle['rows x weight'] / middle['ours']:.2f} |", flush=True)
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
