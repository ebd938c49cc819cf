"""Reading ms-swift's logging.jsonl: whether the training reward rose, and how long training took."""

import argparse
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from overtake.data.outputs import reading
from overtake.data.tables import BadInput, read_objects


def read_log(run: Path) -> list[dict[str, Any]]:
    """The rows of RUN/logging.jsonl. Raises BadInput when the run has none, or half a line."""
    file = run / "logging.jsonl"
    if not file.is_file():
        raise BadInput(f"{file} does not exist: name the output folder of a finished training run")
    try:
        return list(filter(None, read_objects(reading(file))))
    except BadInput as error:
        raise BadInput(f"{error}; is the run still writing it?") from None


def first_and_last_fifth(values: Sequence[float]) -> tuple[float, float]:
    """Mean of the first and of the last fifth of a curve. Raises BadInput for fewer than five points.

    >>> first_and_last_fifth([0.0, 1.0, 1.0, 1.0, 2.0])
    (0.0, 2.0)
    """
    if len(values) < 5:
        raise BadInput(f"a curve of {len(values)} points has no fifths: train for at least five logged steps")
    size = len(values) // 5
    return sum(values[:size]) / size, sum(values[-size:]) / size


def train_seconds(rows: Sequence[dict[str, Any]]) -> tuple[float, int]:
    """Return (seconds of training, steps) of a finished run; start-up and loading are not in it. Raises BadInput for an unfinished one."""
    for row in reversed(rows):
        if "train_runtime" in row:
            return float(row["train_runtime"]), int(str(row["global_step/max_steps"]).split("/")[0])
    raise BadInput("the run did not finish: no row of logging.jsonl holds train_runtime; wait for it or start it again")


def summary(run: Path) -> Iterator[str]:
    """A line with steps and seconds and, where the log holds rewards, one with their means at the start and at the end. Raises BadInput."""
    rows = read_log(run)
    seconds, steps = train_seconds(rows)
    yield f"{run}: {steps} steps in {seconds:.0f} s"
    # A step in which nothing could be measured has no reward (NaN).
    rewards = [float(row["reward"]) for row in rows if not math.isnan(row.get("reward", math.nan))]
    if rewards:
        first, last = first_and_last_fifth(rewards)
        yield f"mean training reward: first fifth {first:+.3f}, last fifth {last:+.3f} ({last - first:+.3f})"


def steps_to_match(run: Path, other: Path) -> int:
    """Number of steps RUN would have done in the time that the other run took, at least one. Raises BadInput."""
    seconds, steps = train_seconds(read_log(run))
    return max(1, round(train_seconds(read_log(other))[0] * steps / seconds))


def work(args: argparse.Namespace) -> int:
    """Print the summary of a run, or the number of steps that takes as long as another; 0 done. Raises BadInput."""
    for line in [steps_to_match(args.run, args.steps_to_match)] if args.steps_to_match else summary(args.run):
        print(line)
    return 0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the tool's options."""
    parser.add_argument("run", type=Path, help="output folder of a training run")
    parser.add_argument("--steps-to-match", type=Path, metavar="RUN", help="print how many steps fit into the time that run took")
