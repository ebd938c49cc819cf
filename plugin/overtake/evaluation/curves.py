"""Reading ms-swift's logging.jsonl: whether the training reward rose, and how long training took."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from overtake.data.tables import BadInput


def read_log(run: Path) -> list[dict[str, Any]]:
    """The rows of RUN/logging.jsonl. Raises BadInput when the run has none, or half a line."""
    file = run / "logging.jsonl"
    if not file.is_file():
        raise BadInput(f"{file} does not exist: name the output folder of a finished training run")
    try:
        return [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line.strip()]
    except ValueError as error:
        raise BadInput(f"{file} is not JSON ({error}): is the run still writing it?") from None


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
    """(seconds of training, steps) of a finished run; start-up and loading are not in it. Raises BadInput for an unfinished one."""
    for row in reversed(rows):
        if "train_runtime" in row:
            return float(row["train_runtime"]), int(str(row["global_step/max_steps"]).split("/")[0])
    raise BadInput("the run did not finish: no row of logging.jsonl holds train_runtime; wait for it or start it again")
