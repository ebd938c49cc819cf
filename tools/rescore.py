"""Score the samples of a run again with other weights, from its trace: nothing is generated, no service is asked.

    python tools/rescore.py output/query_rewrite/grpo/trace.jsonl                       # as the run scored them
    python tools/rescore.py output/query_rewrite/grpo/trace.jsonl --weight-judge 0 --reward-weights 1.0 0.5 --out totals.jsonl

Prints the mean rewards of each step then and now. What was not measured then cannot be weighed now: without a verdict the other
weights grow, without a recall list a sample abstains.
"""

import argparse
import sys
from pathlib import Path

from overtake.cli import run
from overtake.data.tables import json_lines, write_aside
from overtake.tasks.query_rewrite.rescore import leaders_changed, read, rescore, table

PARTS = ("judge", "retrieval", "win")


def show(arguments: argparse.Namespace) -> int:
    """Print the table and write the new totals."""
    found = read(arguments.trace)
    weights = {part: getattr(arguments, f"weight_{part}") for part in PARTS}
    rescored = rescore(found, {part: weight for part, weight in weights.items() if weight is not None}, arguments.reward_weights)
    lines = table(rescored)
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))
    changed, told = leaders_changed(rescored)
    print(f"{changed} of {told} groups have another best rewrite now")
    if found.torn:
        print(f"lines left half by a kill, left out: {found.torn}")
    if arguments.out:
        kept = ("run", "mode", "step", "sample", "group", "query_id", "rewrite")
        rows = [
            {**{name: one.sample.get(name) for name in kept}, "rewards": one.rewards, "total": one.total, "total_then": one.sample["total"]}
            for one in rescored
        ]
        write_aside({arguments.out: json_lines(rows)})
    return 0


def weight(text: str) -> float:
    """A number of at least 0, for argparse."""
    if not 0 <= (number := float(text)) < float("inf"):
        raise ValueError
    return number


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trace", type=Path, help="trace.jsonl in a training run's output folder")
    for part in PARTS:
        parser.add_argument(f"--weight-{part}", type=weight, metavar="W", help=f"of {part} in RagCompetition; else the run's")
    parser.add_argument("--reward-weights", type=weight, nargs="+", metavar="W", help="of the rewards, in the run's order; else the run's")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write each sample's rewards and totals, then and now (.jsonl)")
    arguments = parser.parse_args(argv)
    return run(lambda: show(arguments))


if __name__ == "__main__":
    sys.exit(main())
