"""What each stage of training adds: base, SFT, SFT + GRPO and GRPO by rules alone on the same held-out rows, in one table.

    python tools/ablate.py data/test.jsonl out/ablation --task finance --base Qwen/Qwen2.5-1.5B --sft out/sft/checkpoint-90 \\
        --grpo out/grpo/checkpoint-200 --rules-only out/grpo-rules/checkpoint-200 --no-judge

Each is what tools/evaluate.py takes behind NAME=: a folder, MODEL@BASE_URL or a .jsonl of answers. Writes what that tool writes, and the
summary once more as ablation_summary_<TASK>.json; differences are of SFT+GRPO to each other one.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from overtake.data import cli
from overtake.data.tables import write_aside
from overtake.evaluation import TASKS, comparing

SYSTEMS = {"base": "base", "sft": "SFT", "grpo": "SFT+GRPO", "rules_only": "SFT+GRPO rules"}
"""Option -> the name in the table."""
AGAINST = "SFT+GRPO"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of every task."""
    parser.add_argument("test", type=Path, help="the held-out rows, test.jsonl")
    parser.add_argument("out", type=Path, help="folder for answers, details and summary")
    parser.add_argument("--base", required=True, metavar="SYSTEM", help="the model before training")
    parser.add_argument("--sft", required=True, metavar="SYSTEM", help="after SFT")
    parser.add_argument("--grpo", required=True, metavar="SYSTEM", help="after SFT and GRPO")
    parser.add_argument("--rules-only", metavar="SYSTEM", help="after SFT and GRPO whose reward asked no judge")
    parser.set_defaults(against=AGAINST)


def ablate(task: comparing.Task, args: argparse.Namespace) -> int:
    """Compare the systems and write the summary under the name of the task; returns the exit code."""
    given = [f"{name}={spec}" for option, name in SYSTEMS.items() if (spec := getattr(args, option))]
    summary = comparing.compare(task, comparing.parse(task, given, "ablation"), args)
    made = json.dumps(summary, ensure_ascii=False, indent=1, default=vars).encode()
    write_aside({args.out / f"ablation_summary_{args.task}.json": made})
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; 0 done, 2 bad input or a dead service, 130 interrupted."""
    module, args = cli.by_task(argv, TASKS, __doc__ or "", add_arguments)
    return cli.run(lambda: ablate(module.TASK, args), args.out)


if __name__ == "__main__":
    sys.exit(main())
