"""What each stage of training adds: base, SFT, SFT + GRPO and GRPO by rules alone on the same held-out rows, or what a plan names.

    python tools/ablate.py data/test.jsonl out/ablation --task finance --base Qwen/Qwen2.5-1.5B --sft out/sft/checkpoint-90 \\
        --grpo out/grpo/checkpoint-200 --rules-only out/grpo-rules/checkpoint-200 --no-judge

Each is what tools/evaluate.py takes behind NAME=: a folder, MODEL@BASE_URL or a .jsonl of answers. Writes what that tool writes, and the
summary once more as ablation_summary_<TASK>.json; differences are of SFT+GRPO to each other one.

    python tools/ablate.py data/test.jsonl out/ablation --plan recipes/plans/query_rewrite.yaml

A plan names variants, each a system that is there or a command that trains one, seeds and metrics. Commands that have ended are not run
again, answers that are there are not asked for again. The table says of each difference, in words, what it shows.
"""

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from overtake import cli
from overtake.data.tables import BadInput, write_aside
from overtake.evaluation import comparing, plans
from overtake.tasks import EVALUATE as TASKS

ROOT = Path(__file__).resolve().parent.parent

SYSTEMS = {"base": "base", "sft": "SFT", "grpo": "SFT+GRPO", "rules_only": "SFT+GRPO rules"}
"""Option -> the name in the table."""
AGAINST = "SFT+GRPO"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of every task."""
    parser.add_argument("test", type=Path, help="the held-out rows, test.jsonl")
    parser.add_argument("out", type=Path, help="folder for answers, details and summary")
    parser.add_argument("--base", metavar="SYSTEM", help="the model before training")
    parser.add_argument("--sft", metavar="SYSTEM", help="after SFT")
    parser.add_argument("--grpo", metavar="SYSTEM", help="after SFT and GRPO")
    parser.add_argument("--rules-only", metavar="SYSTEM", help="after SFT and GRPO whose reward asked no judge")
    parser.add_argument("--plan", type=Path, metavar="FILE", help="variants, seeds and metrics in YAML, in the place of the four")
    comparing.add_engine(parser)
    parser.set_defaults(against=AGAINST)


def ablate(task: comparing.Task, args: argparse.Namespace) -> int:
    """Compare the systems and write the summary under the name of the task; returns the exit code."""
    if args.plan:
        summary = by_plan(task, plans.read_plan(args.plan), args)
    else:
        if not (args.base and args.sft and args.grpo):
            raise BadInput("give --base, --sft and --grpo, or --plan FILE")
        given = [f"{name}={spec}" for option, name in SYSTEMS.items() if (spec := getattr(args, option))]
        summary = comparing.compare(task, comparing.parse(task, given, "ablation"), args)
    made = json.dumps(summary, ensure_ascii=False, indent=1, default=vars).encode()
    write_aside({args.out / f"ablation_summary_{args.task}.json": made})
    return 0


def by_plan(task: comparing.Task, plan: plans.Plan, args: argparse.Namespace) -> dict[str, Any]:
    """Run what the plan has not run yet, measure every run, print the table of variants; returns the summary."""
    unknown = [name for name in plan.metrics if name not in task.metrics]
    if unknown:
        raise BadInput(f"{args.plan}: {', '.join(unknown)} is no metric of {args.task}; there are {', '.join(task.metrics)}")
    asked = {one.name: _prompted(task, args.plan.parent / one.prompt) if one.prompt else task for one in plan.variants}
    rows = task.read(args)
    merged: dict[str, comparing.Scores] = {}
    by_seed: dict[str, list[dict[str, float]]] = {}
    costs: dict[str, dict[str, float]] = {}
    for name, specs in plans.trained(plan, args.out, ROOT).items():
        runs = [f"{name}={spec}" if len(specs) == 1 else f"{name} {at}={spec}" for at, spec in enumerate(specs, 1)]
        systems = comparing.fetched(comparing.parse(task, runs, "plan"))
        scores, taken = comparing.measure(asked[name], systems, rows, args)
        costs |= taken
        merged[name] = plans.over_seeds(list(scores.values()), plan.metrics)
        of_runs = comparing.summarise(scores, plan.metrics, None)["means"].values()
        by_seed[name] = [{metric: one.mean for metric, one in means.items()} for means in of_runs]
    summary = comparing.summarise(merged, plan.metrics, plan.against)
    print(plans.words(summary, by_seed))
    return {**summary, "seeds": plan.seeds, "by_seed": by_seed, "costs": costs}


def _prompted(task: comparing.Task, file: Path) -> comparing.Task:
    """The task with another system prompt."""
    text = file.read_text(encoding="utf-8").strip()

    def messages(row: comparing.Row) -> list[dict[str, str]]:
        return [{"role": "system", "content": text}, *(turn for turn in task.messages(row) if turn["role"] != "system")]

    return dataclasses.replace(task, messages=messages)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool; 0 done, 2 bad input or a dead service, 130 interrupted."""
    module, args = cli.by_task(argv, TASKS, __doc__ or "", add_arguments)
    return cli.run(lambda: ablate(module.TASK, args), args.out)


if __name__ == "__main__":
    sys.exit(main())
