"""Ablation, what each stage of training adds: base, SFT and RL on the same held-out rows, or the variants that a plan names."""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from overtake.data.tables import BadInput, write_aside
from overtake.evaluation import comparing, plans
from overtake.evaluation.summaries import describe
from overtake.task import Row, Task

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


def ablate(task: Task, args: argparse.Namespace, root: Path) -> int:
    """Compare the candidates and write the summary under the name of the task; commands of a plan run in `root`. Returns the exit code."""
    if args.plan:
        summary = by_plan(task, plans.read_plan(args.plan), args, root)
    else:
        if not (args.base and args.sft and args.grpo):
            raise BadInput("give --base, --sft and --grpo, or --plan FILE")
        specs = [f"{name}={spec}" for option, name in SYSTEMS.items() if (spec := getattr(args, option))]
        summary = comparing.compare(task, comparing.parse(task, specs, "ablation"), args)
    content = json.dumps(summary, ensure_ascii=False, indent=1, default=vars).encode()
    write_aside({args.out / f"ablation_summary_{task.called}.json": content})
    return 0


def by_plan(task: Task, plan: plans.Plan, args: argparse.Namespace, root: Path) -> dict[str, Any]:
    """Run what the plan has not run yet, measure every run, print the table of variants; returns the summary."""
    unknown = [name for name in plan.metrics if name not in task.measures()]
    if unknown:
        raise BadInput(f"{args.plan}: {', '.join(unknown)} is no metric of {task.called}; there are {', '.join(task.measures())}")
    task_of = {variant.name: _prompted(task, args.plan.parent / variant.prompt) if variant.prompt else task for variant in plan.variants}
    rows = task.evaluation.read(args)
    merged: dict[str, comparing.Scores] = {}
    by_seed: dict[str, list[dict[str, float]]] = {}
    costs: dict[str, dict[str, float]] = {}
    for name, specs in plans.trained(plan, args.out, root).items():
        runs = [f"{name}={spec}" if len(specs) == 1 else f"{name} {at}={spec}" for at, spec in enumerate(specs, 1)]
        systems = comparing.fetched(comparing.parse(task, runs, "plan"))
        scores, seconds = comparing.measure(task_of[name], systems, rows, args)
        costs |= seconds
        merged[name] = plans.over_seeds(list(scores.values()), plan.metrics)
        of_runs = comparing.summarise(scores, plan.metrics, None)["means"].values()
        by_seed[name] = [{metric: interval.mean for metric, interval in means.items()} for means in of_runs]
    summary = comparing.summarise(merged, plan.metrics, plan.against)
    describe(summary, task)
    print(plans.words(summary, by_seed))
    return {**summary, "seeds": plan.seeds, "by_seed": by_seed, "costs": costs}


def _prompted(task: Task, file: Path) -> Task:
    """The task with another system prompt."""
    text = file.read_text(encoding="utf-8").strip()

    def messages(row: Row) -> list[dict[str, str]]:
        return [{"role": "system", "content": text}, *(turn for turn in task.evaluation.messages(row) if turn["role"] != "system")]

    return replace(task, evaluation=replace(task.evaluation, messages=messages))
