"""Ablation, what each stage of training adds: base, SFT, SFT + GRPO and GRPO by rules alone on the same held-out rows, or what a plan
names.

    python tools/ablate.py data/test.jsonl out/ablation --task finance --base Qwen/Qwen2.5-1.5B --sft out/sft/checkpoint-90 \\
        --grpo out/grpo/checkpoint-200 --rules-only out/grpo-rules/checkpoint-200 --no-judge

Each is what tools/evaluate.py takes behind NAME=: a folder, MODEL@BASE_URL or a .jsonl of answers. Writes what that tool writes, and the
summary once more as ablation_summary_<TASK>.json; differences are of SFT+GRPO to each other one.

    python tools/ablate.py data/test.jsonl out/ablation --plan recipes/plans/query_rewrite.yaml

A plan names variants, each a system that is there or a command that trains one, seeds and metrics. Commands that have ended are not run
again, answers that are there are not asked for again. The table says of each difference, in words, what it shows.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from overtake import cli, tasks
from overtake.evaluation import ablation

ROOT = Path(__file__).resolve().parent.parent


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; 0 done, 2 bad input or a dead service, 130 interrupted."""
    task, args = tasks.choose(argv, "evaluate", __doc__ or "", ablation.add_arguments)
    return cli.run(lambda: ablation.ablate(task, args, ROOT), args.out)


if __name__ == "__main__":
    sys.exit(main())
