"""Scoring a trace again with other weights: the rewards' own functions on what was measured then; nothing is generated or asked."""

import argparse
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from overtake import text_table
from overtake.data.tables import BadInput, json_lines, write_aside
from overtake.rewards import trace
from overtake.tasks.query_rewrite.measuring import Retrieval
from overtake.tasks.query_rewrite.rewards.rag_competition import Weights, parts

COMPOSITE = "RagCompetition"
PARTS = ("judge", "retrieval", "win")
"""What the composite weighs."""


class Rescored(NamedTuple):
    """One sample of a trace with its rewards then and now; None where it abstains."""

    sample: Mapping[str, Any]
    rewards: dict[str, float | None]
    total: float | None


def read(path: Path) -> trace.Trace:
    """The trace in a file. Raises BadInput when it is absent or holds no samples."""
    if not path.is_file():
        raise BadInput(f"{path} does not exist: name the trace.jsonl in the output folder of a run with --callbacks overtake_metrics")
    recorded = trace.read(path)
    if not recorded.samples:
        raise BadInput(f"{path} holds no samples: has the run done a step yet?")
    return recorded


def rescore(recorded: trace.Trace, weights: Mapping[str, float], reward_weights: Sequence[float] | None = None) -> list[Rescored]:
    """Each sample with the composite's `weights` (of judge, retrieval, win) and the rewards' replaced; what is not named stays the run's.

    Raises BadInput when there are not as many reward weights as rewards, or composite weights and no composite.
    """
    rescored = []
    for sample in recorded.samples:
        run = recorded.runs[sample["run"]]
        of_rewards = dict(run["reward_weights"])
        if reward_weights is not None:
            if len(reward_weights) != len(of_rewards):
                names = " ".join(of_rewards)
                raise BadInput(f"--reward-weights holds {len(reward_weights)} numbers: give one each for {names}")
            of_rewards = dict(zip(of_rewards, reward_weights, strict=True))
        rewards = dict(sample["rewards"])
        if COMPOSITE in rewards:
            mix = run["weights"] | dict(weights)
            rewards[COMPOSITE] = _composite(sample, (mix["judge"], mix["retrieval"], mix["win"]))
        elif weights:
            raise BadInput(f"the run had no {COMPOSITE}, only {' '.join(rewards)}: weigh these with --reward-weights")
        rescored.append(Rescored(sample, rewards, trace.total(rewards, of_rewards)))
    return rescored


def _composite(sample: Mapping[str, Any], weights: Weights) -> float | None:
    return parts(Retrieval.of(sample), sample["points"], sample["teacher_points"]).score(weights, sample["judge_needed"])


def table(rescored: Iterable[Rescored]) -> list[list[str]]:
    """A line for each step and evaluation: how many samples, how many were scored, mean total then, mean total and rewards now."""
    steps: dict[str, list[Rescored]] = defaultdict(list)
    for row in rescored:
        steps[f"{'eval ' * (row.sample['mode'] == 'eval')}{row.sample['step']}"].append(row)
    names = list(next(iter(steps.values()))[0].rewards)
    lines = [["step", "samples", "scored", "total then", "total now", *names]]
    for step, ones in steps.items():
        scored = sum(member.total is not None for member in ones)
        then, now = _mean(member.sample["total"] for member in ones), _mean(member.total for member in ones)
        lines.append([step, str(len(ones)), str(scored), then, now, *(_mean(member.rewards[name] for member in ones) for name in names)])
    return lines


def _mean(values: Iterable[float | None]) -> str:
    measured = [value for value in values if value is not None]
    return f"{fmean(measured):+.4f}" if measured else "–"


def leaders_changed(rescored: Iterable[Rescored]) -> tuple[int, int]:
    """Return (groups of which another rewrite comes first now, groups of which two rewrites or more are scored then and now)."""
    groups: dict[tuple[Any, ...], list[tuple[float, float]]] = defaultdict(list)
    for row in rescored:
        then, sample = row.sample["total"], row.sample
        if row.total is not None and then is not None and sample["group"] is not None:
            groups[sample["mode"], sample["step"], sample["group"]].append((then, row.total))
    comparable = [members for members in groups.values() if len(members) > 1]
    changed = 0
    for members in comparable:
        best = [max(column) for column in zip(*members, strict=True)]
        changed += not any(then == best[0] and now == best[1] for then, now in members)
    return changed, len(comparable)


def work(args: argparse.Namespace) -> int:
    """Print the table and write the new totals; 0 done. Raises BadInput."""
    recorded = read(args.trace)
    weights = {part: weight for part in PARTS if (weight := getattr(args, f"weight_{part}")) is not None}
    rescored = rescore(recorded, weights, args.reward_weights)
    print("\n".join(text_table.fitted(table(rescored), ">")))
    changed, comparable = leaders_changed(rescored)
    print(f"{changed} of {comparable} groups have another best rewrite now")
    if recorded.torn:
        print(f"lines left half by a kill, left out: {recorded.torn}")
    if args.out:
        columns = ("run", "mode", "step", "sample", "group", "query_id", "rewrite")
        rows = [
            {
                **{name: row.sample.get(name) for name in columns},
                "rewards": row.rewards,
                "total": row.total,
                "total_then": row.sample["total"],
            }
            for row in rescored
        ]
        write_aside({args.out: json_lines(rows)})
    return 0


def weight(text: str) -> float:
    """A number of at least 0, for argparse."""
    if not 0 <= (number := float(text)) < float("inf"):
        raise ValueError
    return number


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the tool's options."""
    parser.add_argument("trace", type=Path, help="trace.jsonl in a training run's output folder")
    for part in PARTS:
        parser.add_argument(f"--weight-{part}", type=weight, metavar="W", help=f"of {part} in RagCompetition; else the run's")
    parser.add_argument("--reward-weights", type=weight, nargs="+", metavar="W", help="of the rewards, in the run's order; else the run's")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write each sample's rewards and totals, then and now (.jsonl)")
